"""Numbers as they are written: how many digits stand there, and whether a printed number can be a computed one."""

from __future__ import annotations

import math

FINEST = 8
"""Decimals of a score in a log. A claim with more is compared at these."""


class Figure(float):
    """A number of a text, with its spelling: ``1.10`` and ``1.1`` are equal, but claim different digits."""

    text: str

    def __new__(cls, text: str) -> Figure:
        """``text`` as JSON or a table writes it. Raises ``ValueError`` when it is no number."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    @property
    def decimals(self) -> int:
        """Decimals that the spelling claims; the exponent counts: 2.1e-5 has six."""
        return decimals_of(self.text)


def figure(value: float) -> Figure:
    """``value`` with its spelling, or the shortest one when it has none (whole numbers have no decimals)."""
    return value if isinstance(value, Figure) else Figure(repr(value))


def decimals_of(text: str) -> int:
    """Decimals of a number as text, never negative."""
    mantissa, _, exponent = text.lower().partition("e")
    return max(len(mantissa.partition(".")[2]) - (int(exponent) if exponent else 0), 0)


def significant(value: float, decimals: int) -> int:
    """Significant digits of ``value`` when it is written with ``decimals``; 0 for a value that rounds to zero."""
    if value == 0 or not math.isfinite(value):
        return 0
    return max(decimals + math.floor(math.log10(abs(value))) + 1, 0)


def fits(claimed: float, decimals: int, computed: float, slack: float = 0.0) -> bool:
    """Whether ``computed``, rounded or cut to ``decimals``, is ``claimed``; the sign counts.

    slack: by how much ``computed`` itself may be off, because its inputs were printed
    """
    unit, tiny = 10.0**-decimals, 4 * math.ulp(max(abs(claimed), abs(computed)))
    cut = math.copysign(1.0, claimed) * (computed - claimed)
    return abs(cut) <= 0.5 * unit + tiny + slack or 0 <= cut < unit - tiny


def agrees(claimed: float, decimals: int, computed: float, printed: int = FINEST) -> bool:
    """:func:`fits` for scores: ``computed`` comes from numbers that were printed with ``printed`` decimals."""
    return fits(claimed, min(decimals, FINEST), computed, 0.51 * 10.0 ** -min(printed, FINEST))
