"""Printed numbers: value, rounding interval and unit. "1.1456 bpb" stands for anything from 1.14555 to 1.14565."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,12}|\d{1,40})(?:\.\d{1,40})?(?:[eE][-+]?\d{1,2}(?!\d))?"
SIGN = r"[-+\u2212\u2013\u00b1]?"

_UNITS: dict[str, tuple[str, float]] = {
    "bpb": ("bpb", 1.0),
    "bits/byte": ("bpb", 1.0),
    "bits per byte": ("bpb", 1.0),
    "mbpb": ("bpb", 1e-3),
    "nats/token": ("nats", 1.0),
    "nats per token": ("nats", 1.0),
    "nats": ("nats", 1.0),
    "nat": ("nats", 1.0),
    "bytes": ("bytes", 1.0),
    "byte": ("bytes", 1.0),
    "b": ("bytes", 1.0),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "kib": ("bytes", 1024.0),
    "mib": ("bytes", 1024.0**2),
    "gib": ("bytes", 1024.0**3),
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1.0),
    "sec": ("seconds", 1.0),
    "secs": ("seconds", 1.0),
    "seconds": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "minutes": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "hours": ("seconds", 3600.0),
    "%": ("percent", 1.0),
}
UNIT = r"(?:" + "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True)) + r")(?![A-Za-z0-9/])"
QUANTITY = re.compile(
    rf"(?<![\w.#])(?P<about>~|≈|about |roughly )?\s?(?P<sign>{SIGN})(?P<number>{NUMBER})(?P<scale>[MKk](?![\w/]))?"
    rf"(?:[\s*`]?(?P<unit>{UNIT}))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Quantity:
    """One printed number, in the base unit of its kind (bpb, nats, bytes, seconds, percent; "" without a unit).

    half:   half of the rounding interval; 0 for whole numbers that are counts
    step:   the base-unit value of one unit of the last printed digit
    start, end: place in the text it was read from
    """

    text: str
    value: float
    half: float
    step: float
    kind: str
    unit: str
    signed: bool
    about: bool
    whole: bool
    start: int = 0
    end: int = 0

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
        return _UNITS[self.unit.lower()][1] if self.unit else 1.0

    def admits(self, low: float, high: float) -> bool:
        """Whether some number of [low, high] prints like this."""
        slack = 1e-9 * max(abs(self.value), abs(low), abs(high), 1e-300)
        return self.low - slack <= high and low <= self.high + slack

    def like(self, value: float) -> str:
        """``value`` printed with this number's unit and precision."""
        places = 0
        shown, step = value / self.scale, self.step / self.scale
        if not self.unit and self.text.rstrip().endswith(("M", "K", "k")):
            return f"{value:,.0f}"
        while places < 12 and step * 10**places < 0.999999:
            places += 1
        unit = f" {self.unit}" if self.unit and self.unit != "%" else self.unit
        sign = "+" if self.signed else ""
        return f"{shown:{sign},.{places}f}{unit}"


def read_quantities(text: str) -> list[Quantity]:
    """Every number in ``text``, from left to right. Identifiers such as "#1644", "int6" or "H100" are none."""
    return [_quantity(match) for match in QUANTITY.finditer(text)]


def read_one(text: str) -> Quantity | None:
    """The first number of a table cell, when the cell begins with one."""
    match = QUANTITY.match(text.strip())
    return _quantity(match) if match else None


def _quantity(match: re.Match[str]) -> Quantity:
    digits = match["number"].replace(",", "")
    number = Decimal(digits)
    unit = match["unit"] or ""
    kind, factor = _UNITS[unit.lower()] if unit else ("", 1.0)
    scale = {"M": 1e6, "K": 1e3, "k": 1e3}.get(match["scale"] or "", 1.0)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    step = 10.0**exponent * factor * scale
    whole = exponent >= 0 and scale == 1.0 and factor == 1.0
    about = bool(match["about"])
    if about:
        step = _coarse_step(digits, step)
    sign = -1.0 if match["sign"] in ("-", "\u2212", "\u2013") else 1.0
    return Quantity(
        text=match[0].strip(),
        value=sign * float(number) * factor * scale,
        half=step if about else step / 2,
        step=step,
        kind=kind,
        unit=unit,
        signed=bool(match["sign"]),
        about=about,
        whole=whole and not about,
        start=match.start("number") - len(match["sign"]),
        end=match.end(),
    )


def _coarse_step(digits: str, step: float) -> float:
    """ "~8,300" is meant to the hundred: trailing zeros of an approximate whole number carry nothing."""
    if "." in digits or set(digits) <= {"0"}:
        return step
    zeros = len(digits) - len(digits.rstrip("0"))
    return float(step * 10**zeros)
