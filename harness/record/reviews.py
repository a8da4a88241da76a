"""Counter-signatures: does a review's outcome follow from its figures and those of the record it is about?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.record.chain import Link
from harness.record.entries import Review
from harness.record.figures import bits_per_byte, final_score
from harness.record.predicate import RunRecord
from harness.rules import Finding, Verdict, rule

RULE = "R6-REPRODUCED"


def outcome_of(record: RunRecord, review: Review) -> str:
    """What the figures say: "same" (artifact and nats to the bit), "within-tolerance" (in bpb), or "different".

    A second scoring (level 2) of a part can't compare with the record's sum; there the reviewer's word stands.
    """
    final = final_score(record)
    if final is None:
        return "different"
    bits = (record.artifact_digest, final.nats, final.bytes)
    if bits == (review.artifact_digest, review.nats, review.bytes):
        return "same"
    return "within-tolerance" if abs(review.bpb - final.bpb) <= review.tolerance_bpb else "different"


def check_reviews(links: Sequence[Link], records_dir: Path) -> Iterator[Finding]:
    """Findings on reviews, and on the records that they speak about. ``links`` are all sound entries of a folder."""
    records = {link.entry.digest: link for link in links if isinstance(link.entry.predicate, RunRecord)}
    for link in links:
        review = link.entry.predicate
        if isinstance(review, Review):
            here = link.path.relative_to(records_dir).as_posix()
            about = records.get(review.record)
            if about is None:
                text = f"reviews the record {review.record[:16]}…, which is not in this folder"
                yield Finding(RULE, Verdict.WARN, text, where=here)
            else:
                yield from _judge(review, link, about, here, about.path.relative_to(records_dir).as_posix())


def _judge(review: Review, link: Link, about: Link, here: str, there: str) -> Iterator[Finding]:
    record = about.entry.predicate
    assert isinstance(record, RunRecord)
    problem = _inconsistency(review, record)
    if problem:
        yield Finding(RULE, Verdict.FAIL, f"{problem} (review of {there})", where=here)
        return
    own = ", by the record's own signer" if link.entry.signer == about.entry.signer else ""
    text = f"reviewed at level {review.level} by {link.entry.signer[:16]}{own}: {review.outcome}"
    if review.outcome == "different":
        yield Finding(RULE, Verdict.FAIL, f"{text}; {review.note}".rstrip("; "), there, remedy=rule(RULE).remedy)
    else:
        yield Finding(RULE, Verdict.PASS, text, where=there)


def _inconsistency(review: Review, record: RunRecord) -> str:
    try:
        bpb = bits_per_byte(review.nats, review.bytes)
    except ValueError as error:
        return str(error)
    if abs(bpb - review.bpb) > 1e-12 * bpb:
        return f"bpb is given as {review.bpb!r}; its nats and bytes give {bpb!r}"
    if review.level == 3 and review.outcome != outcome_of(record, review):
        return f"says {review.outcome!r}; its figures and the record's say {outcome_of(record, review)!r}"
    return ""
