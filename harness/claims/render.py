"""Claims as text for people and as one JSON document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import msgspec

from harness.claims.claim import LEFT_OUT, ORDER, Claim
from harness.rules import Verdict
from harness.text import printable

WORDS = {
    Verdict.FAIL: "WRONG",
    Verdict.WARN: "DISPUTED",
    Verdict.PASS: "holds",
    Verdict.UNKNOWN: "not checkable",
}


def tally(claims: Sequence[Claim]) -> str:
    """ "5 wrong, 3 disputed, 16 hold, 13 not checkable"."""
    count = Counter(claim.verdict for claim in claims)
    return (
        f"{count[Verdict.FAIL]} wrong, {count[Verdict.WARN]} disputed, {count[Verdict.PASS]} hold, "
        f"{count[Verdict.UNKNOWN]} not checkable"
    )


def render_claims(name: str, claims: Sequence[Claim], *, every: bool = True) -> str:
    """One block a verdict, worst first, one claim a line with its line number. ``every`` also shows what holds.

    What was not read is always shown.
    """
    lines = [f"{printable(name)}: {tally(claims)}"]
    for verdict in ORDER:
        chosen = [claim for claim in claims if claim.verdict is verdict]
        if not every and verdict in (Verdict.PASS, Verdict.UNKNOWN):
            chosen = [claim for claim in chosen if claim.what == LEFT_OUT]
        if not chosen:
            continue
        lines += ["", WORDS[verdict]]
        for claim in chosen:
            claimed = f" {printable(claim.claimed.strip(), 40)}" if claim.claimed else ""
            lines.append(f"  line {claim.line}: {printable(claim.what, 60)}{claimed}: {printable(claim.message, 300)}")
            lines.append(f"      “{printable(claim.quote, 100)}”")
    return "\n".join(lines)


def claims_document(name: str, claims: Sequence[Claim]) -> dict[str, object]:
    """The same as plain data: file, counts by verdict, every claim."""
    count = Counter(claim.verdict.value for claim in claims)
    return {"file": name, "counts": dict(sorted(count.items())), "claims": msgspec.to_builtins(list(claims))}


def claims_json(documents: Sequence[dict[str, object]]) -> str:
    """Several files as one JSON document."""
    return json.dumps({"files": list(documents)}, indent=1, ensure_ascii=False)
