"""One claim of a text and what became of it."""

from __future__ import annotations

import msgspec

from harness.rules import Verdict

LEFT_OUT = "limit of what is read"
"""What a claim is about that only says that a part of the text was not checked."""
ORDER = (Verdict.FAIL, Verdict.WARN, Verdict.PASS, Verdict.UNKNOWN)


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number that the text claims.

    line:    1-based line of the text; quote: the words that make the claim
    what:    what the number is said to be, such as "std of Total submission"
    verdict: PASS it follows, FAIL it does not, WARN it follows only under a disputed reading, UNKNOWN not checkable
    right:   the right value, where the text or the records give one
    """

    line: int
    quote: str
    what: str
    verdict: Verdict
    message: str
    claimed: str = ""
    right: str = ""


def passed(line: int, quote: str, what: str, message: str, claimed: str = "") -> Claim:
    """A claim that holds."""
    return Claim(line, quote, what, Verdict.PASS, message, claimed)


def failed(line: int, quote: str, what: str, message: str, claimed: str, right: str) -> Claim:
    """A claim that is wrong; ``right`` is what it should say."""
    return Claim(line, quote, what, Verdict.FAIL, message, claimed, right)


def disputed(line: int, quote: str, what: str, message: str, claimed: str, right: str) -> Claim:
    """A claim that holds only under a reading that should be named."""
    return Claim(line, quote, what, Verdict.WARN, message, claimed, right)


def unknown(line: int, quote: str, what: str, message: str, claimed: str = "") -> Claim:
    """A claim that nothing at hand can confirm or refute."""
    return Claim(line, quote, what, Verdict.UNKNOWN, message, claimed)
