"""A signed run, or the seeds of one, in the forms that others read: a folder of the public challenge, a Hub result.

Every figure comes from the records. A log is written from its record, since a record keeps no lines of the submission.
"""

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import file_digest, write_atomic
from harness.record.store import kept_file
from harness.record.trust import load_trust
from harness.report.figures import Pool, Report
from harness.report.page import TEMPLATES, render_markdown
from harness.rules import Verdict
from harness.run.artifact import LARGEST_FILE_BYTES, unpack_code
from harness.text import printable

ENTRIES = ("intents", "runs", "reviews", "heads", "keys")
SCRIPT = "train_gpt.py"


def the_pool(report: Report) -> Pool:
    """The one set of seeds of a report, fit to be shown elsewhere.

    Raises ``UsageError`` for several sets, ``RuleBroken`` for a record that fails.
    """
    if len(report.pools) > 1:
        newest = max(report.pools, key=lambda pool: max(run.record.started_at for run in pool.runs))
        names = ", ".join(run.stored.path.name for run in newest.runs)
        text = f"these records are of {len(report.pools)} sets; the newest holds {printable(names, 900)}."
        raise UsageError(text, remedy="Name the files of one: `harness report` lists them.")
    (pool,) = report.pools
    heads = [f for f in report.folder_findings if f.where in {f"heads/{run.stored.signer}.json" for run in pool.runs}]
    for finding in (*(finding for run in pool.runs for finding in run.findings), *heads):
        if finding.verdict is Verdict.FAIL:
            words = f"{printable(f'{finding.where}: {finding.message}', 300).rstrip('.')}."
            raise RuleBroken(finding.rule, words, remedy="Leave this record out, or repeat the run.")
    if pool.statistics is None or len(pool.statistics.seeds) < len(pool.runs):
        raise UsageError("a seed appears twice, or a run has no score.", remedy="Name the files of one run a seed.")
    return pool


def write_public_folder(report: Report, out: Path, *, author: str, github_id: str) -> None:
    """Write README.md, submission.json, a log a seed, the code, and the signed records into ``out``, or nothing.

    author, github_id: "" for what the list of keys tells of the signer
    Raises what :func:`the_pool` does, ``UsageError`` where ``out`` is there, ``CouldNotCheck`` without the
    code's bundle.
    """
    shown, out = _Shown(report), out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already.", remedy="Name a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        shown.copy_records(folder)
        shown.write_code(folder)
        texts = {f"train_seed{run.seed}.log": shown.text("folder.log.jinja", run=run) for run in shown.pool.runs}
        author = author or shown.author()
        meta = shown.text("folder.json.jinja", author=author, github_id=github_id or author)
        texts["submission.json"] = json.dumps(json.loads(meta), indent=2, ensure_ascii=False)
        texts["README.md"] = shown.text("folder.md.jinja", tables=render_markdown(shown.report))
        for name, text in texts.items():
            (folder / name).write_text(text + "\n", encoding="utf-8")
        folder.replace(out)


def write_hub_result(report: Report, out: Path, *, benchmark: str, source: str) -> Path:
    """Write ``.eval_results/parameter-golf-TRACK.yaml`` into the model repository ``out``; returns the file.

    benchmark: id of the data set on the Hub that hosts the benchmark; its task is the track
    source:    address of the records or of the exported folder, "" for none
    """
    shown = _Shown(report)
    track, dates = shown.first.track.name, [run.record.started_at for run in shown.pool.runs]
    said = f"bits per byte, lower is better; {shown.kind}; {shown.spread}; data {shown.first.data.name}"
    result = {"dataset": {"id": benchmark, "task_id": track}, "value": round(shown.bpb.mean, 8), "date": max(dates)}
    result |= {"source": {"url": source, "name": "signed run records"}} if source else {}
    text = json.dumps([result | {"notes": printable(said)}], indent=2, ensure_ascii=False)  # JSON is YAML
    path = out.absolute() / ".eval_results" / f"parameter-golf-{track}.yaml"
    write_atomic(path, f"{text}\n".encode(), replace=True)
    return path


class _Shown:
    """The one pool of a report, in the words and figures that others read."""

    def __init__(self, report: Report) -> None:
        self.pool = the_pool(report)
        self.report = Report((self.pool,), tuple(f for f in report.folder_findings if f.where.startswith("intents/")))
        assert self.pool.statistics is not None  # the_pool saw to it
        self.bpb = self.pool.statistics.bpb
        self.run = self.pool.runs[0]
        self.first = self.run.record
        refereed = self.first.kind == "refereed"
        self.kind = "measured and signed by the referee" if refereed else "self-reported by the script"
        self.spread = "one seed"
        if self.bpb.sample_std is not None:
            self.spread = f"mean of {self.bpb.n} seeds, sample std {self.bpb.sample_std:.5f}"
        if count := len(self.report.folder_findings):
            self.spread += f", {count} announced without a result"

    def text(self, template: str, **values: object) -> str:
        """What a template makes of this pool."""
        shown = {"pool": self.pool, "kind": self.kind, "spread": self.spread, "script": SCRIPT}
        return TEMPLATES.get_template(template).render(shown | values)

    def copy_records(self, folder: Path) -> None:
        """The signed files as they are: a signer's chain is whole or fails, so all of it goes along.

        Records may be a stranger's: what a link in them, or in their place, leads to is none of them; nor is a pipe.
        """
        for run in self.pool.runs:
            source = run.stored.path.absolute().parent.parent
            for top in (source / name for name in ENTRIES if not (source / name).is_symlink()):
                for path in (Path(place, name) for place, _, names in os.walk(top) for name in names):
                    if stat.S_ISREG(path.lstat().st_mode):
                        copy = folder / "records" / path.relative_to(source)
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(path, copy)
            for digest in run.record.artifact_files.values():
                kept = kept_file(source, digest)
                whole = kept.is_file() and not kept.is_symlink() and kept.stat().st_size <= LARGEST_FILE_BYTES
                if whole and file_digest(kept) == digest:
                    (folder / "records" / "artifacts").mkdir(exist_ok=True)
                    shutil.copyfile(kept, kept_file(folder / "records", digest))

    def write_code(self, folder: Path) -> None:
        """The code as it ran, and a script that repeats a run; of a script that scored itself, the script."""
        digest = self.first.submission.code_digest
        bundle = kept_file(folder / "records", digest)
        if not bundle.is_file():
            place = kept_file(self.run.stored.path.absolute().parent.parent, digest)
            words = f"{place}, the code of these runs, is not there whole."
            raise CouldNotCheck(words, remedy="Copy the run's artifact/code.bundle to that name.")
        code = folder / "submission"
        code.mkdir()
        unpack_code(bundle.read_bytes(), code)
        for path in (code, *code.rglob("*")):  # it is unpacked read-only for cells; here it is for people
            path.chmod(0o755 if path.is_dir() else 0o644)
        if (code / SCRIPT).is_file():
            (code / SCRIPT).rename(folder / SCRIPT)
            code.rmdir()
        else:
            (folder / SCRIPT).write_text(self.text("folder.py.jinja", run=self.run) + "\n", encoding="utf-8")

    def author(self) -> str:
        """Whom the list of keys names as the signer's owner."""
        signer = self.run.stored.signer
        key = load_trust(self.run.stored.path.absolute().parent.parent / "keys")[0].get(signer)
        return (key.owner if key else "") or f"key {signer[:8]}"
