"""Level 3: does a run, repeated from scratch, give what its record says?

On the same kind of CPU with the same packages every bit must agree. Elsewhere kernels and speed differ, so the final
bpb must agree within the track's tolerance, which is part of the signed review. A rule that the repetition breaks, or
an audit that fails in it, is never a repetition of a good run: it is not reproduced, whatever its score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

import harness
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.record.arithmetic import terms_for
from harness.record.canonical import utc_now
from harness.record.entries import Review
from harness.record.predicate import RunRecord
from harness.rules import Finding, Verdict
from harness.text import without_places

REASON_CHARACTERS = 400
WATCHED_PACKAGES = ("torch", "numpy", "triton", "mamba-ssm", "flash-attn")


@dataclass(frozen=True)
class Reproduction:
    """A record and its repetition; ``against`` is every FAIL and ERROR of the repetition, ``lines`` are for people."""

    outcome: Literal["same", "within-tolerance", "different"]
    tolerance_bpb: float
    difference_bpb: float
    against: tuple[Finding, ...]
    lines: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether the repetition supports the record."""
        return self.outcome != "different"

    @property
    def unchecked(self) -> bool:
        """Whether nothing speaks against it but what could not be checked."""
        errors = {finding.verdict for finding in self.against} == {Verdict.ERROR}
        return errors and abs(self.difference_bpb) <= self.tolerance_bpb


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


def tolerance_of(record: RunRecord, wanted: float | None = None) -> float:
    """The tolerance in bpb: the track's, or less where the reviewer wants less. The record's signer has no say in it.

    Raises ``UsageError`` for more than the track allows, ``CouldNotCheck`` for a track that nobody here knows.
    """
    terms = terms_for(record)
    if terms is None:
        raise CouldNotCheck(
            f"track {record.track.name} of the record is not known here, so no tolerance is.",
            remedy="Use the version of the referee that the record names.",
        )
    if wanted is not None and wanted > terms.rerun_bpb:
        raise UsageError(
            f"--tolerance is {wanted:g} bpb; track {record.track.name} allows {terms.rerun_bpb:g} at most.",
            remedy="Give less, or leave it out.",
        )
    return terms.rerun_bpb if wanted is None else wanted


def compare_runs(record: RunRecord, again: RunRecord, tolerance_bpb: float) -> Reproduction:
    """Compare a repetition with its record; the tolerance counts only where machines differ or have GPUs.

    Raises ``UsageError`` when it was not a repetition of the same thing.
    """
    _refuse_other_run(record, again)
    old, new = record.final, again.final
    if old is None or new is None:
        raise UsageError(
            f"the {'record' if old is None else 'repetition'} has no final score, so there is nothing to compare.",
            remedy="Compare runs that were scored to their end.",
        )
    same = (record.artifact_digest, old.nats, old.bytes) == (again.artifact_digest, new.nats, new.bytes)
    difference = new.bpb - old.bpb
    machines = machine_differences(record, again)
    tolerance = tolerance_bpb if machines or record.machine.gpus else 0.0
    against = tuple(f for f in again.findings if f.verdict in (Verdict.FAIL, Verdict.ERROR))
    outcome: Literal["same", "within-tolerance", "different"] = "different"
    if not against and (same or abs(difference) <= tolerance):
        outcome = "same" if same else "within-tolerance"
    lines = [
        f"artifact: {record.artifact_digest[:16]}… recorded, {again.artifact_digest[:16]}… now",
        f"nats:     {old.nats!r} recorded, {new.nats!r} now",
        f"bpb:      {old.bpb:.6f} recorded, {new.bpb:.6f} now ({difference:+.6f}; tolerance {tolerance:.6f})",
        *(f"differs:  {text}" for text in machines),
        *(f"against:  {f.rule} {f.verdict.value}: {f.message}" for f in against),
    ]
    return Reproduction(outcome, tolerance, difference, against, tuple(lines))


def ended_without_score(error: RuleBroken) -> Reproduction:
    """The comparison with a repetition that broke a rule before it had a score."""
    found = Finding(error.rule, Verdict.FAIL, without_places(error.message), remedy=error.remedy)
    return Reproduction("different", 0.0, 0.0, (found,), (f"against:  {error.rule} FAIL: {error.message}",))


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


def make_review(record_digest: str, again: RunRecord | None, comparison: Reproduction, note: str) -> Review:
    """The review to sign about ``record_digest``, from the repetition's own figures; ``None``: it had no score."""
    final = again.final if again else None
    machine = again.machine if again else None
    return Review(
        record=record_digest,
        level=3,
        outcome=comparison.outcome,
        reviewed_at=utc_now(),
        artifact_digest=again.artifact_digest if again else "",
        nats=final.nats if final else 0.0,
        bytes=final.bytes if final else 0,
        bpb=final.bpb if final else 0.0,
        tolerance_bpb=comparison.tolerance_bpb,
        harness_version=harness.__version__,
        cpu=machine.cpu if machine else "",
        gpus=machine.gpus if machine else [],
        note=note,
        findings=[msgspec.structs.replace(f, message=f.message[:REASON_CHARACTERS]) for f in comparison.against],
    )
