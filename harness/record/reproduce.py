"""Level 3: does a run, repeated from scratch, give what its record says?

On the same kind of CPU with the same packages every bit must agree. Elsewhere kernels and speed differ, so the final
bpb must agree within a tolerance: three sample deviations of the record's own seeds where three or more are at hand,
else :data:`DEFAULT_TOLERANCE_BPB`. The tolerance is part of the signed review.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import harness
from harness.errors import UsageError
from harness.record.canonical import utc_now
from harness.record.entries import Review
from harness.record.figures import final_score
from harness.record.predicate import RunRecord

DEFAULT_TOLERANCE_BPB = 0.002
SEED_DEVIATIONS = 3.0
WATCHED_PACKAGES = ("torch", "numpy", "triton", "mamba-ssm", "flash-attn")


@dataclass(frozen=True)
class Comparison:
    """A record and its repetition; ``lines`` are for people."""

    outcome: Literal["same", "within-tolerance", "different"]
    tolerance_bpb: float
    difference_bpb: float
    lines: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether the repetition supports the record."""
        return self.outcome != "different"


def environment_for(record: RunRecord, accepted: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with the submission's own variables set to the recorded configuration, and no others of them.

    accepted: the names the submission's manifest lets through; recorded keys map to them in upper case
    """
    clean = {name: value for name, value in environ.items() if name not in accepted}
    for key, value in record.submission.config.items():
        name = key.upper()
        if name in accepted and value is not None:
            clean[name] = str(int(value)) if isinstance(value, bool) else str(value)
    return clean


def check_code(record: RunRecord, digest: str, files: Mapping[str, str]) -> None:
    """Raise ``UsageError`` that names the files unless the code at hand is the recorded code."""
    if digest == record.submission.code_digest:
        return
    ours, theirs = dict(files), record.submission.files
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise UsageError(
        f"the code at hand ({digest[:16]}…) is not the recorded code ({record.submission.code_digest[:16]}…); "
        f"files that differ: {shown or 'none; it was packed in another way'}.",
        remedy="Check out the commit of the record, or give its code.bundle: --code FILE.",
    )


def seed_tolerance(record: RunRecord, others: Sequence[RunRecord]) -> float:
    """The tolerance in bpb, from the spread of the seeds that belong with ``record`` among ``others``."""
    from harness.stats import aggregate, pools
    from harness.stats.seeds import pool_fields

    for pool in pools(others):
        if len(pool) > 2 and pool_fields(pool[0]) == pool_fields(record):
            return SEED_DEVIATIONS * (aggregate(pool).bpb.sample_std or 0.0)
    return DEFAULT_TOLERANCE_BPB


def compare_runs(record: RunRecord, again: RunRecord, tolerance_bpb: float) -> Comparison:
    """Compare a repetition with its record; the tolerance counts only where machines differ or have GPUs.

    Raises ``UsageError`` when it was not a repetition of the same thing.
    """
    _refuse_other_run(record, again)
    old, new = final_score(record), final_score(again)
    if old is None or new is None:
        raise UsageError(
            f"the {'record' if old is None else 'repetition'} has no final score, so there is nothing to compare.",
            remedy="Compare runs that were scored to their end.",
        )
    same = (record.artifact_digest, old.nats, old.bytes) == (again.artifact_digest, new.nats, new.bytes)
    difference = new.bpb - old.bpb
    machines = machine_differences(record, again)
    tolerance = tolerance_bpb if machines or record.machine.gpus else 0.0
    outcome: Literal["same", "within-tolerance", "different"] = "different"
    if same or abs(difference) <= tolerance:
        outcome = "same" if same else "within-tolerance"
    lines = [
        f"artifact: {record.artifact_digest[:16]}… recorded, {again.artifact_digest[:16]}… now",
        f"nats:     {old.nats!r} recorded, {new.nats!r} now",
        f"bpb:      {old.bpb:.6f} recorded, {new.bpb:.6f} now ({difference:+.6f}; tolerance {tolerance:.6f})",
        *(f"differs:  {text}" for text in machines),
    ]
    return Comparison(outcome, tolerance, difference, tuple(lines))


def _refuse_other_run(record: RunRecord, again: RunRecord) -> None:
    pairs = {
        "code": (record.submission.code_digest, again.submission.code_digest),
        "configuration": (record.submission.config_digest, again.submission.config_digest),
        "data": (record.data.fingerprint, again.data.fingerprint),
        "seed": (record.submission.seed, again.submission.seed),
    }
    wrong = [name for name, (recorded, now) in pairs.items() if recorded != now]
    if wrong:
        raise UsageError(
            f"the repetition differs from the record in its {', '.join(wrong)}, so it proves nothing.",
            remedy="Repeat with the record's track, code and data: `harness rerun RECORD` takes them from it.",
        )


def machine_differences(record: RunRecord, again: RunRecord) -> list[str]:
    """What about the machines may move the result: processor, GPUs, Python, numerical packages, the track's limits."""
    pairs: dict[str, tuple[object, object]] = {
        "processor": (record.machine.cpu, again.machine.cpu),
        "processor cores": (record.machine.cpu_cores, again.machine.cpu_cores),
        "GPUs": (record.machine.gpus, again.machine.gpus),
        "Python": (record.machine.python, again.machine.python),
        "track": (record.track.digest[:16], again.track.digest[:16]),
    }
    for name in WATCHED_PACKAGES:
        pairs[name] = (record.machine.packages.get(name), again.machine.packages.get(name))
    return [f"{name}: {recorded} recorded, {now} now" for name, (recorded, now) in pairs.items() if recorded != now]


def make_review(record_digest: str, again: RunRecord, comparison: Comparison, note: str) -> Review:
    """The review to sign about ``record_digest``, from the repetition's own figures."""
    final = final_score(again)
    if final is None:
        raise UsageError(
            "a repetition without a final score is no review.",
            remedy="Repeat the run; sign when it was scored to its end.",
        )
    return Review(
        record=record_digest,
        level=3,
        outcome=comparison.outcome,
        reviewed_at=utc_now(),
        artifact_digest=again.artifact_digest,
        nats=final.nats,
        bytes=final.bytes,
        bpb=final.bpb,
        tolerance_bpb=comparison.tolerance_bpb,
        harness_version=harness.__version__,
        cpu=again.machine.cpu,
        gpus=again.machine.gpus,
        note=note,
    )
