"""Counter-signatures: does a review's outcome follow from its figures and those of the record it is about?

A review supports a record only if its signer is somebody else than the record's [R6-REPRODUCED].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.record.arithmetic import terms_for
from harness.record.chain import Link
from harness.record.entries import Review
from harness.record.predicate import RunRecord
from harness.record.trust import Accepted, compare_owners
from harness.rules import Finding, Verdict, rule
from harness.units import bits_per_byte

RULE = "R6-REPRODUCED"


def outcome_of(record: RunRecord, review: Review) -> str:
    """What the figures say: "same" (artifact and nats to the bit), "within-tolerance" (in bpb), or "different".

    A rule that the repetition broke, or could not check, makes it "different". A second scoring (level 2) of a part
    can't compare with the record's sum; there the reviewer's word stands.
    """
    final = record.final
    if final is None or review.findings:
        return "different"
    bits = (record.artifact_digest, final.nats, final.bytes)
    if bits == (review.artifact_digest, review.nats, review.bytes):
        return "same"
    return "within-tolerance" if abs(review.bpb - final.bpb) <= review.tolerance_bpb else "different"


def check_reviews(links: Sequence[Link], accepted: Accepted) -> Iterator[Finding]:
    """Findings on reviews, and on the records that they speak about. ``links`` are all sound entries of a folder."""
    records = {link.entry.digest: link for link in links if isinstance(link.entry.predicate, RunRecord)}
    for link in links:
        review = link.entry.predicate
        if isinstance(review, Review):
            about = records.get(review.record)
            if about is None:
                text = f"reviews the record {review.record[:16]}…, which is not in this folder"
                yield Finding(RULE, Verdict.WARN, text, where=link.name)
                continue
            assert isinstance(about.entry.predicate, RunRecord)
            if problem := _inconsistency(review, about.entry.predicate):
                yield Finding(RULE, Verdict.FAIL, f"{problem} (review of {about.name})", where=link.name)
            else:
                final = about.entry.predicate.final if review.bytes else None
                far = final is not None and abs(review.bpb - final.bpb) > review.tolerance_bpb
                yield _judge(review, link.entry.signer, about.entry.signer, about.name, accepted, far=far)


def _judge(review: Review, reviewer: str, signer: str, there: str, accepted: Accepted, *, far: bool) -> Finding:
    text = f"reviewed at level {review.level} by {reviewer[:16]}: {review.outcome}"
    if review.outcome == "different":
        reasons = [f"{f.rule} {f.verdict.value} in the repetition" for f in review.findings]
        reasons += [review.note] if review.note else []
        text = "; ".join([text, *reasons])
        checked = far or not review.findings or any(finding.verdict is Verdict.FAIL for finding in review.findings)
        return Finding(RULE, Verdict.FAIL if checked else Verdict.ERROR, text, there, remedy=rule(RULE).remedy)
    same, how = compare_owners(accepted.keys[reviewer], accepted.keys[signer], accepted)
    whose = {True: ", but by the record's own owner", None: "; whether by another owner is not known"}
    told = whose.get(same, "; by another owner")
    return Finding(RULE, Verdict.PASS if same is False else Verdict.WARN, f"{text}{told}: {how}", there)


def _inconsistency(review: Review, record: RunRecord) -> str:
    if any(finding.verdict not in (Verdict.FAIL, Verdict.ERROR) for finding in review.findings):
        return "lists findings that speak against nothing"
    if not review.bytes and review.findings:  # the repetition ended without a score
        return "" if review.outcome == "different" else f"says {review.outcome!r} without a score"
    try:
        bpb = bits_per_byte(review.nats, review.bytes)
    except ValueError as error:
        return str(error)
    if not math.isclose(bpb, review.bpb, rel_tol=1e-12):
        return f"bpb is given as {review.bpb!r}; its nats and bytes give {bpb!r}"
    if review.level == 3 and review.outcome != outcome_of(record, review):
        return f"says {review.outcome!r}; its figures and the record's say {outcome_of(record, review)!r}"
    terms = terms_for(record)
    if terms and review.outcome == "within-tolerance" and review.tolerance_bpb > terms.rerun_bpb:
        return f"allows {review.tolerance_bpb:g} bpb; track {record.track.name} allows {terms.rerun_bpb:g} at most"
    return ""
