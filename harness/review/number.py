"""A printed number: value, digits, unit and the interval of numbers that print like it; means and deviations of such.

"1.1456 bpb" stands for anything from 1.14555 to 1.14565. JSON, logs, README tables and prose all read into this class.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from harness.review.patterns import PATTERNS

_MINUS = "-\u2212\u2013"
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺\u2212\u2013", "0123456789-+--")
_POWER = rf"\s?(?:[×·x*]|\\times|\\cdot)\s?10(?:(?:\^|\*\*)\{{?[{_MINUS}+]?\d{{1,2}}\}}?|[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{{1,2}})"
NUMBER = (
    r"(?:\d{1,3}(?:,\d{3}){1,12}|\d{1,40})(?:\.\d{1,40})?"
    rf"(?:[eE][-+\u2212]?0{{0,3}}\d{{1,2}}(?!\d)|{_POWER})?(?!\d)"
)
SIGN = r"[-+\u2212\u2013\u00b1]?"
UNIT = r"(?:" + "|".join(re.escape(n) for n in sorted(PATTERNS.units, key=len, reverse=True)) + r")(?![A-Za-z0-9/])"
QUANTITY = re.compile(
    rf"(?<![\w.#])(?P<about>~|≈|about |roughly )?\s?(?P<sign>{SIGN})(?P<number>{NUMBER})(?P<scale>[MKk](?![\w/]))?"
    rf"(?:[\s*`]?(?P<unit>{UNIT}))?",
    re.IGNORECASE,
)
_SCALES = {"M": 1e6, "K": 1e3, "k": 1e3}


@dataclass(frozen=True, slots=True)
class Number:
    """One printed number, in the base unit of its kind (bpb, nats, bytes, seconds, percent; "" without a unit).

    half:   half of the rounding interval; 0 for counts
    step:   the base-unit value of one unit of the last printed digit
    start, end: place in the text it was read from
    """

    text: str
    value: float
    half: float = 0.0
    step: float = 0.0
    kind: str = ""
    unit: str = ""
    signed: bool = False
    about: bool = False
    whole: bool = False
    start: int = 0
    end: int = 0

    @classmethod
    def of(cls, text: str) -> Number:
        """A bare number as JSON, a log or code writes it; "nan" and "inf" too. Raises ``ValueError`` for others."""
        value = float(text)
        if not math.isfinite(value):
            return cls(text, value)
        exponent = Decimal(text).as_tuple().exponent
        assert isinstance(exponent, int)
        step = float(Decimal(1).scaleb(exponent)) if abs(exponent) < 300 else 0.0
        return cls(text, value, step / 2, step, signed=text[0] in "+-", whole=exponent >= 0)

    @property
    def low(self) -> float:
        """Smallest number that prints like this."""
        return self.value - self.half

    @property
    def high(self) -> float:
        """Largest number that prints like this."""
        return self.value + self.half

    @property
    def scale(self) -> float:
        """Base units in one printed unit."""
        return PATTERNS.units[self.unit.lower()][1] if self.unit else 1.0

    @property
    def decimals(self) -> int:
        """Decimals that the spelling claims; the exponent counts: 2.1e-5 has six."""
        return max(0, round(-math.log10(self.step / self.scale))) if self.step > 0 else 0

    def admits(self, low: float, high: float) -> bool:
        """Whether some number of [low, high] prints like this."""
        slack = 1e-9 * max(abs(self.value), abs(low), abs(high), 1e-300)
        return self.low - slack <= high and low <= self.high + slack

    def gives(self, computed: float, slack: float = 0.0) -> bool:
        """Whether ``computed`` is printed like this: rounded (once, or first to a digit more) or cut; its sign counts.

        slack: by how much ``computed`` itself may be off. Nothing is compared beyond eight decimals.
        """
        unit = max(self.step, 1e-8)
        tiny = 4 * math.ulp(max(abs(self.value), abs(computed)))
        cut = math.copysign(1.0, self.value) * (computed - self.value)
        return abs(cut) <= 0.55 * unit + tiny + slack or 0 <= cut < unit - tiny

    def like(self, value: float) -> str:
        """``value`` printed with this number's unit and precision."""
        if not self.unit and self.text.rstrip()[-1:] in _SCALES:
            return f"{value:,.0f}"
        unit = f" {self.unit}" if self.unit and self.unit != "%" else self.unit
        return f"{value / self.scale:{'+' if self.signed else ''},.{self.decimals}f}{unit}"


def read_numbers(text: str) -> list[Number]:
    """Every number in ``text``, from left to right. Identifiers such as "#1644", "int6" or "H100" are none."""
    return [_number(match) for match in QUANTITY.finditer(text)]


def read_one(text: str) -> Number | None:
    """The first number of a table cell, when the cell begins with one."""
    match = QUANTITY.match(text.strip())
    return _number(match) if match else None


def _number(match: re.Match[str]) -> Number:
    digits = match["number"].replace(",", "").translate(_RAISED)
    power = re.search(r"\s?(?:[×·x*]|\\times|\\cdot)\s?10[\^*{]*([-+]?\d+)\}?$", digits)
    bare = Number.of(f"{digits[: power.start()]}e{power[1]}" if power else digits)
    unit, about = match["unit"] or "", bool(match["about"])
    kind, factor = PATTERNS.units[unit.lower()] if unit else ("", 1.0)
    factor *= _SCALES.get(match["scale"] or "", 1.0)
    step = bare.step * factor
    if about and bare.whole and bare.value:
        step *= 10.0 ** (len(digits) - len(digits.rstrip("0")))  # "~8,300" is meant to the hundred
    return Number(
        text=match[0].strip(),
        value=bare.value * (-factor if match["sign"] and match["sign"] in _MINUS else factor),
        half=step if about else step / 2,
        step=step,
        kind=kind,
        unit=unit,
        signed=bool(match["sign"]),
        about=about,
        whole=bare.whole and factor == 1.0 and not about,
        start=match.start("number") - len(match["sign"]),
        end=match.end(),
    )


@dataclass(frozen=True)
class Range:
    """A figure as the printed inputs give it, and its smallest and largest value over what prints like them."""

    value: float
    low: float
    high: float

    @property
    def slack(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


def mean_of(values: Sequence[Number]) -> Range:
    """The mean of at least one number."""
    n = len(values)
    return Range(*(math.fsum(part) / n for part in zip(*((v.value, v.low, v.high) for v in values), strict=True)))


def std_of(values: Sequence[Number], *, sample: bool) -> Range:
    """The standard deviation of at least two numbers: divisor n - 1 when ``sample``, else n.

    Taking the mean off a vector never makes it longer, so rounding moves the deviation by at most ``reach``.
    """
    divisor = len(values) - 1 if sample else len(values)
    printed = math.sqrt(statistics.pvariance([v.value for v in values]) * len(values) / divisor)
    reach = math.sqrt(math.fsum(v.half**2 for v in values) / divisor)
    return Range(printed, max(printed - reach, 0.0), printed + reach)


def student_tail(t: float, df: float) -> float:
    """The chance that Student's t with ``df`` degrees of freedom, at least 1, exceeds ``t``."""
    from scipy.special import stdtr  # scipy.stats takes a second to import

    return float(stdtr(max(df, 1.0), -t))
