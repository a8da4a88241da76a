"""Claims of a text, recomputed from the numbers that the text itself prints, or from signed records.

check_text(text) -> list[Claim]                    tables, headlines, differences, sizes, model arithmetic
against_records.check_against_records(text, records)    the same figures against what the referee measured

A claim holds when some unrounded numbers that print like the inputs give a result that prints like the claim. The
engine says UNKNOWN where a text does not give the inputs; it never guesses. Nothing here is executed or fetched.
"""

from harness.claims.claim import Claim
from harness.claims.engine import check_text

__all__ = ["Claim", "check_text"]
