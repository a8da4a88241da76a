"""Bits per byte, and one conversion between nats a token, nats a byte and bits a byte; every other module uses it.

"0.005 nats" is read in three ways in public (rules, A8). A margin here always carries its unit.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.errors import UsageError

LN2 = math.log(2)
Unit = Literal["nats/token", "nats/byte", "bpb"]
UNITS: tuple[Unit, ...] = ("nats/token", "nats/byte", "bpb")


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """bpb = nats / (ln 2 · bytes) [A7-BPB]. Raises ``ValueError`` unless bytes >= 1 and nats is finite and >= 0.

    >>> bits_per_byte(8 * math.log(2), 8)
    1.0
    """
    if n_bytes < 1 or not math.isfinite(nats) or nats < 0:
        raise ValueError(f"no bpb from {nats} nats over {n_bytes:,} bytes")
    return nats / (LN2 * n_bytes)


@dataclass(frozen=True)
class Text:
    """The scored text: number of targets (tokens) and UTF-8 bytes. Both are at least 1."""

    targets: int
    n_bytes: int

    def __post_init__(self) -> None:
        if self.targets < 1 or self.n_bytes < 1:
            text = f"a text of {self.targets} targets and {self.n_bytes} bytes has no score; both must be 1 or more."
            raise UsageError(text, remedy="Compare records with a final score.")


class Margin(NamedTuple):
    """By how much a score must be beaten: a finite ``value`` >= 0 in ``unit``."""

    value: float
    unit: Unit


def to_bpb(value: float, unit: Unit, text: Text) -> float:
    """A loss, or a difference of losses, in bits per byte of ``text``.

    >>> round(to_bpb(0.005, "nats/token", Text(62_021_632, 151_079_964)), 5)
    0.00296
    >>> round(to_bpb(0.005, "nats/byte", Text(1, 1)), 5)
    0.00721
    """
    if unit == "bpb":
        return value
    nats_per_byte = value * text.targets / text.n_bytes if unit == "nats/token" else value
    return nats_per_byte / LN2


def from_bpb(value: float, unit: Unit, text: Text) -> float:
    """The inverse of :func:`to_bpb`."""
    return value / to_bpb(1.0, unit, text)
