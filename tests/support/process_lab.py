"""Runs a small submission of the zoo through the real phases, in real cells, as far as its case needs.

A file of ``tests/zoo/processes`` becomes the module ``animal`` of the submission in ``tests/zoo/base``, whose entries
call ``animal.cheat`` (or ``animal.cheat_one`` …) or ``animal.honest`` at the place that the file names.
"""

import runpy
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from lab import cheats_in, markov_stream

from harness.clock.spans import Ledger
from harness.config.tracks import Track, load_track
from harness.data.dataset import write_shard
from harness.errors import HarnessError
from harness.progress import Reporter
from harness.rules import Finding, Verdict
from harness.run.artifact import judge_sizes, seal_submission
from harness.run.cells import RunContext
from harness.run.evaluate import Told, audit, compile_once, evaluate
from harness.run.phases import describe, package, train
from harness.scoring.audit import audit_findings
from harness.scoring.ledger import Stream

BASE = Path(__file__).parents[1] / "zoo" / "base"
VOCAB = 32
CANARY = "canary-of-the-validation-set"


@dataclass
class Met:
    """How a run ended: rules that fired, what the cells' kernel refused, what got through, and words for people."""

    fired: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    got_in: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """A cheat, and its twin, which it may share; ``told`` is what its file says.

    name, cheat: as the table and the file call it
    RULE: what has to stop it; UNTIL: the last phase that runs; BY_REFUSAL: the system refuses, and nothing else happens
    LIMITS: of the track, for the cheat that overruns them; its twin has the zoo's ordinary ones, which no busy machine
    overruns
    ENVIRON: animal -> variables that its user sets beyond the usual; MANIFEST: further lines of submission.toml
    """

    path: Path
    name: str
    cheat: str
    told: dict

    @classmethod
    def read(cls, path: Path) -> "list[Case]":
        told = runpy.run_path(str(path))
        return [cls(path, name, cheat, told) for name, cheat in cheats_in(path).items()]

    @property
    def rule(self) -> str:
        return self.told["RULE"]

    @property
    def by_refusal(self) -> bool:
        return self.told.get("BY_REFUSAL", False)

    @property
    def text(self) -> str:
        return (self.told[self.cheat].__doc__ or self.told["__doc__"]).splitlines()[0]


def zoo_track(limits: dict[str, float]) -> Track:
    smoke = load_track("smoke")
    ours = {"describe_s": 600.0, "train_s": 600.0, "message_s": 300.0, "artifact_bytes": 100_000, "chunk_tokens": 512}
    ours |= {"unpacked_bytes": 1_000_000, "checkpoint_bytes": 2_000_000} | limits
    plan = msgspec.structs.replace(smoke.audit, chunks=2, positions=8, floor_bpb=0.1)
    return msgspec.structs.replace(
        smoke, vocab_size=VOCAB, limits=msgspec.structs.replace(smoke.limits, **ours), audit=plan
    )


def meet(case: Case, animal: str, folder: Path) -> Met:
    """Run one animal: "honest" or ``case.cheat``. ``folder`` is empty and stays behind for a look at the logs."""
    data = folder / "data"
    data.mkdir()
    stream = markov_stream(VOCAB, targets=1500)
    shard = data / "tiny_train_000000.bin"
    write_shard(shard, stream.tokens)
    (data / "tiny_val_000000.bin").write_text(CANARY)
    (folder / "keys").mkdir()
    (folder / "keys" / "private.pem").write_text(CANARY)
    submission = folder / "submission"
    shutil.copytree(BASE, submission, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(case.path, submission / "animal.py")
    shutil.copy(Path(__file__).with_name("tries.py"), submission)
    toml = submission / "submission.toml"
    toml.write_text(f"{case.told.get('MANIFEST', '')}\n{toml.read_text()}")
    (submission / "which.py").write_text(f'WHICH = "{animal}"\n')
    run_dir = folder / "run"
    run_dir.mkdir()
    environ = {"ZOO_DATA": str(data), "ZOO_SHARED": str(folder / "shared"), "ZOO_KEYS": str(folder / "keys")}
    environ |= case.told.get("ENVIRON", {}).get(animal, {})
    (folder / "shared").mkdir()
    met = Met()
    context = None
    try:
        sealed = seal_submission(submission, run_dir)
        limits = {} if animal == "honest" else case.told.get("LIMITS", {})
        context = RunContext(zoo_track(limits), 1, run_dir, sealed, environ, Reporter(), Ledger())
        context.data_dir = data
        with (data / "tiny_val_000000.bin").open("rb"):  # so there is an open file of it to be found
            findings = _run(context, case.told["UNTIL"], shard, stream)
        met.fired = {f.rule for f in findings if f.verdict in (Verdict.FAIL, Verdict.WARN)}
    except HarnessError as error:
        met.fired = {getattr(error, "rule", error.label)}
        met.reason = str(error)
    _look_at_logs(run_dir, met)
    if context is not None:
        _look_for_survivors(context, run_dir, met)
    return met


def _run(context: RunContext, until: str, shard: Path, stream: Stream) -> list[Finding]:
    findings: list[Finding] = []
    for phase, found in _phases(context, shard, stream):
        findings += found
        if phase == until:
            break
    return findings


def _phases(context: RunContext, shard: Path, stream: Stream) -> Iterator[tuple[str, list[Finding]]]:
    """Each phase that is over, and what was found in it."""
    describe(context)
    yield "describe", []
    train(context, (shard,))
    yield "train", []
    yield "package", [judge_sizes(package(context, limit_s=context.track.limits.package_s, budget="eval"))]
    told = Told(context.track.limits.eval_s, stream.targets)
    compile_once(context, told)
    final = evaluate(context, "final", stream, told)
    yield "eval", []
    audits = audit(context, final, final, stream, told)
    yield "audit", audit_findings(audits, bpb=final.score.bpb, floor_bpb=0.1, degenerate=final.keeper.degenerate())


def _look_at_logs(run_dir: Path, met: Met) -> None:
    for log in sorted(run_dir.glob("logs/*.log")):
        for line in log.read_text("utf-8", "replace").splitlines():
            if line.startswith("zoo refused "):
                met.refused.append(f"{log.stem}: {line.removeprefix('zoo refused ')}")
            elif line.startswith("zoo got in "):
                met.got_in.append(f"{log.stem}: {line.removeprefix('zoo got in ')}")


def _look_for_survivors(context: RunContext, run_dir: Path, met: Met) -> None:
    """A daemon writes its heart beat into the checkpoint folder: does it still beat, and does the report know?"""
    if sum(report.survivors for report in context.kills):
        met.got_in.append("the kill report counts survivors")
    beat = run_dir / "checkpoint" / "beat"
    if not beat.exists():
        return
    before = beat.stat().st_size
    time.sleep(0.3)
    if beat.stat().st_size > before:
        met.got_in.append("a process outlived its phase")
    else:
        met.refused.append("it was dead when its phase was over")
