"""All checks over one text, in the order of its lines."""

from __future__ import annotations

from harness.claims.check_bytes import check_bytes
from harness.claims.check_extremes import check_extremes
from harness.claims.check_headlines import check_headlines
from harness.claims.check_parts import check_parts
from harness.claims.check_prose import check_prose
from harness.claims.check_tables import check_tables
from harness.claims.claim import LEFT_OUT, ORDER, Claim, unknown
from harness.claims.document import Document
from harness.claims.model_size import check_model_size

CHECKS = (check_tables, check_headlines, check_extremes, check_prose, check_parts, check_bytes, check_model_size)


def check_text(text: str) -> list[Claim]:
    """Every claim found in ``text``; one number is judged once for each thing that it is said to be.

    Of a text beyond the limits of :mod:`harness.claims.document` an UNKNOWN claim says what was not checked.
    """
    document = Document(text)
    found: dict[tuple[int, str, str, str], Claim] = {}
    for check in CHECKS:
        for claim in check(document):
            found.setdefault((claim.line, claim.what, claim.claimed, claim.quote), claim)
    for line, words in document.left_out:
        found[line, LEFT_OUT, "", words] = unknown(line, words, LEFT_OUT, words)
    return sorted(found.values(), key=lambda claim: (claim.line, ORDER.index(claim.verdict)))
