"""Reports as text, JSON, GitHub annotations and SARIF 2.1.0; baselines; files that are whole or not there.

Every text from a folder is made harmless before it is shown. What repeats is told once.
"""

import json
import os
import shutil
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

import harness
from harness.errors import UsageError
from harness.files import write_atomic
from harness.review.findings import FolderReport, Found, Readings
from harness.rules import SEVERITY, Verdict, rule
from harness.text import printable

VERSION = 2
SHOWN = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN)
LEVELS = {Verdict.FAIL: "error", Verdict.ERROR: "error", Verdict.WARN: "warning", Verdict.UNKNOWN: "note"}
NAMED = 4
"""So many further places of one finding are shown as text; JSON has them all."""


def plain(text: str, limit: int = 300) -> str:
    """:func:`harness.text.printable` with the length of a finding."""
    return printable(text, limit)


def _values(item: Found) -> str:
    return "; ".join(f"{n} {plain(v)}" for n, v in (("found", item.found), ("computed", item.computed)) if v)


def _sentence(item: Found) -> str:
    """A finding in one line of text, with its further places."""
    values, more = _values(item), f"(and {len(item.more)} more)" if item.more else ""
    parts = (plain(item.message), f"({values})" if values else "", more, plain(item.remedy))
    return " ".join(part for part in parts if part)


def as_text(reports: list[FolderReport], *, show_all: bool = False) -> str:
    """One block a folder, and for several a table sorted by gravity; why and way out of a rule stand once."""
    told: set[str] = set()
    blocks = [_block(report, told, show_all=show_all) for report in reports]
    blocks += [summary(reports)] if len(reports) > 1 else []
    return "\n\n".join(blocks)


def _block(report: FolderReport, told: set[str], *, show_all: bool) -> str:
    counts = ", ".join(f"{report.count(v)} {v.value}" for v in SEVERITY if report.count(v))
    lines = [f"{plain(report.folder)}: {report.verdict.value} ({counts or 'nothing new'}; track {report.track})"]
    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 140))
    for item in (item for item in report.findings if show_all or item.verdict in SHOWN):
        place = plain(f"{item.file}:{item.line}" if item.line else item.file)
        lines.append(f"  {item.verdict.value:<7} {item.rule}  {place}".rstrip())
        values = (_values(item), f"confidence: {item.confidence}" if item.confidence != "certain" else "")
        body = [plain(item.message), "; ".join(filter(None, values))]
        body += [f"also {plain(more, 160)}" for more in item.more[:NAMED]]
        if len(item.more) > NAMED:
            body.append(f"and {len(item.more) - NAMED} more of the kind (--json names them)")
        if item.verdict in SHOWN and item.remedy:
            body.append(f"fix: {plain(item.remedy)}")
        if item.verdict in SHOWN and item.rule not in told:
            told.add(item.rule)
            body.append(f"Why: {rule(item.rule).lesson.why}")
        for text in body:
            lines += textwrap.wrap(text, width - 10, initial_indent=" " * 10, subsequent_indent=" " * 10)
    return "\n".join(lines)


def summary(reports: list[FolderReport]) -> str:
    """A table over folders: gravest first, then most findings, then by name."""
    from tabulate import tabulate

    ranked = sorted(
        reports, key=lambda r: (SEVERITY.index(r.verdict), -r.count(Verdict.FAIL), -r.count(Verdict.WARN), r.folder)
    )
    forms = {"claimed_bpb": ".5f", "logged_mean_bpb": ".5f", "seeds": "d", "largest_bytes": ",d"}
    forms |= {"longest_train_s": ".1f", "longest_eval_s": ".1f"}
    head = ("verdict", "FAIL", "WARN", "UNKN", "claimed", "logged", "seeds", "bytes", "train s", "eval s", "folder")
    rows = []
    for report in ranked:
        counts = (report.count(v) for v in (Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN))
        values = ((report.facts.get(name), form) for name, form in forms.items())
        figures = (format(v, form) if isinstance(v, int | float) else "-" for v, form in values)
        rows.append((report.verdict.value, *counts, *figures, plain(Path(report.folder).name, 60)))
    sides = ("left", *["right"] * 9, "left")
    return tabulate(rows, head, tablefmt="plain", disable_numparse=True, colalign=sides)


def folder_json(report: FolderReport) -> dict[str, Any]:
    """One folder in the JSON form."""
    found = [
        {name: getattr(item, name) for name in Found.__struct_fields__}
        | {"verdict": item.verdict.value, "more": list(item.more), "why": rule(item.rule).lesson.why, "key": item.key}
        for item in report.findings
    ]
    head = {"folder": report.folder, "verdict": report.verdict.value, "track": report.track}
    counts = {v.value: report.count(v) for v in SEVERITY}
    return head | {"counts": counts, "facts": report.facts, "written": report.written, "findings": found}


def as_json(reports: list[FolderReport], readings: Readings) -> str:
    """The JSON form (``report.schema.json``), in ASCII, so that no control character of a folder reaches a terminal."""
    whole = {
        "version": VERSION,
        "verdict": min((r.verdict for r in reports), key=SEVERITY.index, default=Verdict.PASS).value,
        "readings": msgspec.to_builtins(readings),
        "folders": [folder_json(report) for report in reports],
    }
    return json.dumps(whole, indent=1, ensure_ascii=True)


def as_annotations(reports: list[FolderReport]) -> str:
    """GitHub workflow commands: errors for FAIL, warnings for WARN, notices for UNKNOWN."""
    lines = []
    for report, item in ((of, item) for of in reports for item in of.findings if item.verdict in LEVELS):
        path = _escaped(plain(f"{report.folder.rstrip('/')}/{item.file}".rstrip("/")), properties=True)
        line, level = f",line={item.line}" if item.line else "", LEVELS[item.verdict].replace("note", "notice")
        lines.append(f"::{level} file={path}{line},title={item.rule}::{_escaped(_sentence(item))}")
    return "\n".join(lines)


def _escaped(text: str, *, properties: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if properties else text


def write_sarif(reports: list[FolderReport], path: Path) -> None:
    """Write everything but PASS as one run of one tool, whole or not at all."""
    results = [(report, item) for report in reports for item in report.findings if item.verdict in LEVELS]
    ids = sorted({item.rule for _, item in results})
    rules = [
        {
            "id": item.id,
            "name": "".join(word.title() for word in item.id.split("-")),
            "shortDescription": {"text": item.title},
            "fullDescription": {"text": item.text},
            "help": {"text": " ".join(filter(None, (item.lesson.why, item.remedy, f"Source: {item.source}")))},
        }
        for item in map(rule, ids)
    ]
    driver = {"name": "harness check folder", "semanticVersion": harness.__version__, "rules": rules}
    found = [_result(report, item, ids.index(item.rule)) for report, item in results]
    run = {"tool": {"driver": driver}, "results": found, "columnKind": "unicodeCodePoints"}
    whole = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    write_atomic(path.absolute(), json.dumps(whole, indent=1, ensure_ascii=True).encode(), replace=True, mode=None)


def _result(report: FolderReport, item: Found, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(report.folder, item.file)}}
    if item.line:
        location["region"] = {"startLine": item.line}
    judged = item.verdict is not Verdict.UNKNOWN
    # Viewers turn "[text](target)" into links: take the brackets' meaning away.
    text = _sentence(item).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return {
        "ruleId": item.rule,
        "ruleIndex": index,
        "level": LEVELS[item.verdict] if judged else "none",
        "kind": "fail" if judged else "informational",
        "message": {"text": text},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"finding/v1": item.key},
        "properties": {"verdict": item.verdict.value, "confidence": item.confidence},
    }


def _uri(folder: str, file: str) -> str:
    """Of the file, else of one that is there; a viewer opens nothing else."""
    known = (name for name in ("submission.json", "README.md", "train_gpt.py") if (Path(folder) / name).exists())
    path = f"{folder.rstrip('/')}/{file or next(known, '')}".rstrip("/")
    uri = quote(os.fsencode(path.removeprefix("./")), safe="/")
    return f"file://{uri}" if path.startswith("/") else uri


def read_baseline(path: Path) -> set[tuple[str, str]]:
    """Folder name and key of every finding in an earlier ``--json`` output. Raises ``UsageError`` for another file."""
    try:
        data = json.loads(path.read_bytes())
        return {(_name(f["folder"]), item["key"]) for f in data["folders"] for item in f["findings"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        remedy = "Make one with --json > FILE."
        raise UsageError(f"{path} is not output of `harness check folder --json`.", remedy=remedy) from error


def _name(folder: str) -> str:
    """The folder's own name, also of ``.`` and ``..``."""
    return Path(folder).name if Path(folder).name not in ("", "..") else Path(folder).resolve().name


def only_new(report: FolderReport, known: set[tuple[str, str]]) -> FolderReport:
    """The report without the findings that the baseline has."""
    name = _name(report.folder)
    return msgspec.structs.replace(report, findings=[i for i in report.findings if (name, i.key) not in known])


def record_folders(paths: Iterable[Path]) -> list[Path]:
    """The folders to check: each path as given, or every record below it where it is a folder of tracks."""
    found: list[Path] = []
    for path in paths:
        one = any((path / n).is_file() for n in ("submission.json", "README.md", "train_gpt.py"))
        forms = ["track_*/*"] if one else ["**/track_*/*", *["*"] * path.resolve().name.startswith("track_")]
        below = (sorted(p for p in path.glob(form) if p.is_dir() and not p.is_symlink()) for form in forms)
        found += next(filter(None, below), [path])
    return list(dict.fromkeys(found))
