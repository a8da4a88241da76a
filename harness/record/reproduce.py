"""Level 3: does a run, repeated from scratch, give what its record says?

On the same kind of CPU with the same packages every bit must agree. Elsewhere kernels and speed differ, so the final
bpb must agree within the track's tolerance, which is part of the signed review. A rule that the repetition breaks, or
an audit that fails in it, is never a repetition of a good run: it is not reproduced, whatever its score.

A reviewer signs what his repetition gave; the review supports a record only if its signer is somebody else than the
record's, and if its outcome follows from its own figures [R6-REPRODUCED].
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

import harness
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.record.arithmetic import bpb_problem, terms_for
from harness.record.canonical import CLOCK_SLACK, parse_utc, utc_now
from harness.record.predicate import Review, RunRecord
from harness.record.statement import Entry
from harness.record.trust import Accepted, compare_owners
from harness.rules import Finding, Verdict, rule, worst
from harness.text import without_places

RULE = "R6-REPRODUCED"
Outcome = Literal["same", "within-tolerance", "different"]
REASON_CHARACTERS = 400
CUT = 0.9  # of the training clock: who used so much and did fewer steps was ended by it
WATCHED_PACKAGES = ("torch", "numpy", "triton", "mamba-ssm", "flash-attn")


def environment_for(record: RunRecord, accepted: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with the submission's own variables set to the recorded configuration, and no others of them.

    accepted: the names the submission's manifest lets through; recorded keys map to them in upper case
    """
    clean = {name: value for name, value in environ.items() if name not in accepted}
    for key, value in record.submission.config.items():
        if (name := key.upper()) in accepted and value is not None:
            clean[name] = str(int(value)) if isinstance(value, bool) else str(value)
    return clean


def check_code(record: RunRecord, digest: str, files: Mapping[str, str]) -> None:
    """Raise ``UsageError`` that names the files unless the code at hand is the recorded code."""
    if digest == record.submission.code_digest:
        return
    names = sorted({name for name, _ in files.items() ^ record.submission.files.items()})
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise UsageError(
        f"the code at hand ({digest[:16]}…) is not the recorded code ({record.submission.code_digest[:16]}…); "
        f"files that differ: {shown or 'none; it was packed in another way'}.",
        remedy="Check out the commit of the record, or give its code.bundle: --code FILE.",
    )


def tolerance_of(record: RunRecord) -> float:
    """The tolerance in bpb: the track's. Raises ``CouldNotCheck`` for a track that nobody here knows."""
    if (terms := terms_for(record)) is None:
        text = f"track {record.track.name} of the record is not known here, so no tolerance is."
        raise CouldNotCheck(text, remedy="Use the version of the referee that the record names.")
    return terms.rerun_bpb


def outcome_of(review: Review, record: RunRecord) -> Outcome:
    """What its figures say: the same bits, as near as the tolerance, or different; with findings always different."""
    if (final := record.final) is None or review.findings:
        return "different"
    if (record.artifact_digest, final.nats, final.bytes) == (review.artifact_digest, review.nats, review.bytes):
        return "same"
    near = review.bytes == final.bytes and abs(review.bpb - final.bpb) <= review.tolerance_bpb
    return "within-tolerance" if near else "different"


def verdict_of(review: Review, record: RunRecord) -> Verdict:
    """PASS for what supports the record, ERROR for what speaks against it only by what could not be checked."""
    if review.outcome != "different":
        return Verdict.PASS
    far = record.final and review.bytes and abs(review.bpb - record.final.bpb) > review.tolerance_bpb
    far = far and all(
        finding.rule != RULE for finding in review.findings
    )  # by which a machine of another speed is told
    return Verdict.FAIL if far or worst(review.findings) is not Verdict.ERROR else Verdict.ERROR


def compare_runs(
    digest: str, record: RunRecord, again: RunRecord, tolerance_bpb: float, note: str = ""
) -> tuple[Review, list[str]]:
    """The review to sign about a record (with its digest), from its repetition; and what it says, for people.

    The tolerance counts only where machines differ or have GPUs, or the clock ended a training earlier than the other.
    Raises ``UsageError`` when it was not a repetition of the same thing.
    """
    pairs = {
        "code": (record.submission.code_digest, again.submission.code_digest),
        "configuration": (record.submission.config_digest, again.submission.config_digest),
        "data": (record.data.fingerprint, again.data.fingerprint),
        "seed": (record.submission.seed, again.submission.seed),
    }
    if wrong := [name for name, (recorded, now) in pairs.items() if recorded != now]:
        raise UsageError(
            f"the repetition differs from the record in its {', '.join(wrong)}, so it proves nothing.",
            remedy="Repeat with the record's track, code and data: `harness rerun RECORD` takes them from it.",
        )
    old, new = record.final, again.final
    assert old is not None  # a record without a final score fails before it is repeated
    assert new is not None  # and a run without one ends before it has a record
    machines = machine_differences(record, again)
    against = [f for f in again.findings if f.verdict in (Verdict.FAIL, Verdict.ERROR)]
    short, long = sorted((record, again), key=lambda run: run.steps)
    if short.steps < long.steps and any(b.name == "train" and b.used_s > CUT * b.limit_s for b in short.clocks):
        machines.append(f"steps until the clock: {record.steps:,} recorded, {again.steps:,} now")
        if abs(new.bpb - old.bpb) > tolerance_bpb and (new.bpb > old.bpb) == (short is again):  # as speed explains
            text = f"the clock ended one training after {short.steps:,} steps, and the other had {long.steps:,}"
            against.append(Finding(RULE, Verdict.ERROR, text, remedy="Use a machine of the same speed."))
    review = Review(
        record=digest,
        level=3,
        outcome="different",
        reviewed_at=utc_now(),
        artifact_digest=again.artifact_digest,
        nats=new.nats,
        bytes=new.bytes,
        bpb=new.bpb,
        tolerance_bpb=tolerance_bpb if machines or record.machine.gpus else 0.0,
        harness_version=harness.__version__,
        cpu=again.machine.cpu,
        gpus=again.machine.gpus,
        note=note,
        findings=[msgspec.structs.replace(f, message=f.message[:REASON_CHARACTERS]) for f in against],
    )
    bpb = f"{old.bpb:.6f} recorded, {new.bpb:.6f} now ({new.bpb - old.bpb:+.6f}; tolerance {review.tolerance_bpb:.6f})"
    return msgspec.structs.replace(review, outcome=outcome_of(review, record)), [
        f"artifact: {record.artifact_digest[:16]}… recorded, {again.artifact_digest[:16]}… now",
        f"nats:     {old.nats!r} recorded, {new.nats!r} now",
        f"bpb:      {bpb}",
        *(f"differs:  {text}" for text in machines),
        *(f"against:  {f.rule} {f.verdict.value}: {f.message}" for f in against),
    ]


def ended_without_score(digest: str, error: RuleBroken, note: str) -> tuple[Review, list[str]]:
    """What :func:`compare_runs` gives, of a repetition that broke a rule before it had a score."""
    found = [Finding(error.rule, Verdict.FAIL, without_places(error.message)[:REASON_CHARACTERS], remedy=error.remedy)]
    review = Review(digest, 3, "different", utc_now(), "", 0.0, 0, 0.0, 0.0, harness.__version__, "", [], note)
    return msgspec.structs.replace(review, findings=found), [f"against:  {error.rule} FAIL: {error.message}"]


def machine_differences(record: RunRecord, again: RunRecord) -> list[str]:
    """What about the machines may move the result: processor, GPUs, Python, numerical packages, the track's limits."""
    pairs: dict[str, tuple[object, object]] = {
        "processor": (record.machine.cpu, again.machine.cpu),
        "processor cores": (record.machine.cpu_cores, again.machine.cpu_cores),
        "GPUs": (record.machine.gpus, again.machine.gpus),
        "Python": (record.machine.python, again.machine.python),
        "track": (record.track.digest[:16], again.track.digest[:16]),
        **{name: (record.machine.packages.get(name), again.machine.packages.get(name)) for name in WATCHED_PACKAGES},
    }
    return [f"{name}: {recorded} recorded, {now} now" for name, (recorded, now) in pairs.items() if recorded != now]


def check_reviews(entries: Sequence[Entry], accepted: Accepted) -> Iterator[Finding]:
    """Findings on reviews [R6-REPRODUCED], and on the records that they speak about. ``entries``: all sound ones."""
    records = {entry.digest: (entry, entry.predicate) for entry in entries if isinstance(entry.predicate, RunRecord)}
    for entry, review in ((entry, entry.predicate) for entry in entries if isinstance(entry.predicate, Review)):
        if review.record not in records:
            text = f"reviews the record {review.record[:16]}…, which is not in this folder"
            yield Finding(RULE, Verdict.WARN, text, where=entry.name)
            continue
        about, record = records[review.record]
        if problem := review_problem(review, record):
            yield Finding(RULE, Verdict.FAIL, f"{problem} (review of {about.name})", where=entry.name)
            continue
        text = f"reviewed at level {review.level} by {entry.signer[:16]}: {review.outcome}"
        if review.outcome == "different":
            reasons = [f"{f.rule} {f.verdict.value} in the repetition" for f in review.findings]
            text = "; ".join([text, *reasons, *([review.note] if review.note else [])])
            yield Finding(RULE, verdict_of(review, record), text, about.name, remedy=rule(RULE).remedy)
            continue
        same, how = compare_owners(accepted.keys[entry.signer], accepted.keys[about.signer], accepted)
        whose = {
            True: ", but by the record's own owner",
            None: "; whether by another owner is not known",
            False: "; by another owner",
        }
        known = review.outcome == "same" or terms_for(record) is not None
        text += "" if known else f" of {review.tolerance_bpb:g} bpb, and no version of this track is known here"
        verdict = Verdict.PASS if same is False and known else Verdict.WARN
        yield Finding(RULE, verdict, f"{text}{whose[same]}: {how}", about.name)


def review_problem(review: Review, record: RunRecord) -> str:
    """Why a review's outcome does not follow from its figures and the record's; "" when it does.

    A second scoring (level 2) of a part can't compare with the record's sum; there the reviewer's word stands.
    """
    if any(finding.verdict not in (Verdict.FAIL, Verdict.ERROR) for finding in review.findings):
        return "lists findings that speak against nothing"
    if parse_utc(record.started_at) - parse_utc(review.reviewed_at) > CLOCK_SLACK:
        return f"is dated {review.reviewed_at}, before the run"
    if review.outcome == "same" and review.artifact_digest != record.artifact_digest:
        return "says 'same' of another artifact"
    if not review.bytes and review.findings:  # the repetition ended without a score
        return "" if review.outcome == "different" else f"says {review.outcome!r} without a score"
    if problem := bpb_problem(review.nats, review.bytes, review.bpb):
        return problem
    if review.level == 3 and review.outcome != (wanted := outcome_of(review, record)):
        return f"says {review.outcome!r}; its figures and the record's say {wanted!r}"
    terms = terms_for(record)
    if terms and review.outcome == "within-tolerance" and review.tolerance_bpb > terms.rerun_bpb:
        return f"allows {review.tolerance_bpb:g} bpb; track {record.track.name} allows {terms.rerun_bpb:g} at most"
    return ""
