"""A claim of three numbers (val_loss, val_bpb, val_tokens) says how many bytes its author divided by.

B = val_loss / ln 2 · val_tokens / val_bpb. For the published variants B is known to a few kilobytes, so a wrong count
shows without any data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from harness.rules import Finding, Verdict

FLOOR, CEILING = 151_060_000, 151_090_000
LONGEST_TAIL = 32_768 * 4  # bytes of the longest window seen in public: what a dropped tail can cost


class Variant(NamedTuple):
    """A published tokenisation of the validation split and its fingerprint."""

    name: str
    val_tokens: int
    bytes: int


VARIANTS = (
    Variant("sp1024", 62_021_632, 151_079_964),
    Variant("sp4096 (kevclark)", 45_508_608, 151_074_052),
    Variant("sp4096 (#1285)", 45_514_752, 151_074_925),
    Variant("sp8192", 40_540_160, 151_078_222),
    Variant("CaseOps sp8192", 47_851_520, 151_074_499),
    Variant("byte260", 151_130_112, 151_080_112),
    Variant("ByteJEPA", 151_076_864, 151_076_864),
)

KNOWN_BAD = (
    (
        164_594_398,
        "operators-counted",
        "case operators counted as text, or the plain table on CaseOps shards (#2071, #2138)",
    ),
    (157_319_833, "fallback-as-3", "byte-fallback tokens counted as 3 bytes, as in Scylla (#1143, #1271)"),
    (176_332_748, "double-space", "the leading space counted twice (#1545, #1719)"),
    (181_300_000, "space-as-3", "U+2581 counted as its own 3 bytes (#755, #897)"),
)
LEGACY = (155_769_746, 63_779_840)
NEAR = 0.006
MOST_SLACK = 250_000  # bytes; beyond it rounding could hide a known bug or a dropped document


def implied_bytes(val_loss: float, val_bpb: float, val_tokens: int) -> float:
    """Bytes that the three numbers imply. Raises ``ValueError`` for numbers that are not positive and finite."""
    numbers = (val_loss, val_bpb, float(val_tokens))
    if not all(math.isfinite(n) and n > 0 for n in numbers):
        raise ValueError(f"val_loss {val_loss}, val_bpb {val_bpb}, val_tokens {val_tokens}: wanted positive numbers")
    return val_loss / math.log(2) * val_tokens / val_bpb


def rounding(val_loss: str, val_bpb: str, total: float) -> float:
    """How far the last printed digits can move the implied total, in bytes."""
    return total * sum(0.5 * _last_digit(text) / float(text) for text in (val_loss, val_bpb))


def _last_digit(text: str) -> float:
    return float(10.0 ** -len(text.partition(".")[2].strip())) if "e" not in text.lower() else 0.0


def judge_claim(val_loss: str, val_bpb: str, val_tokens: int) -> list[Finding]:
    """The invariant of the published split, from the claim alone. Numbers are text, so that their rounding is known.

    Raises ``ValueError`` for what is no positive number.
    """
    total = implied_bytes(float(val_loss), float(val_bpb), val_tokens)
    slack = rounding(val_loss, val_bpb, total)
    return [_coverage(val_tokens), _denominator(total, slack, val_tokens)]


def judge_denominators(first: tuple[str, str, int], second: tuple[str, str, int]) -> Finding:
    """Whether two scores of one log divide by the same bytes (#2138 used two)."""
    totals = [implied_bytes(float(loss), float(bpb), tokens) for loss, bpb, tokens in (first, second)]
    slack = sum(rounding(c[0], c[1], t) for c, t in zip((first, second), totals, strict=True))
    share = 100 * (totals[1] / totals[0] - 1)
    text = f"two scores divide by {totals[0]:,.0f} and {totals[1]:,.0f} bytes ({share:+.2f} %)"
    same = abs(totals[1] - totals[0]) <= slack
    return Finding(
        "A7-BYTES", Verdict.PASS if same else Verdict.FAIL, text + ".", found="" if same else "two-denominators"
    )


def _coverage(val_tokens: int) -> Finding:
    near = min(VARIANTS, key=lambda v: abs(v.val_tokens - val_tokens))
    gap = near.val_tokens - val_tokens
    if abs(gap) <= 65_536:
        return Finding(
            "C4-COVERAGE", Verdict.PASS, f"{val_tokens:,} tokens: the count of {near.name} ({gap:+,} in the tail)."
        )
    if val_tokens == LEGACY[1]:
        return Finding("C4-COVERAGE", Verdict.WARN, f"{val_tokens:,} tokens: the older validation set of #837.")
    if val_tokens < 0.6 * min(v.val_tokens for v in VARIANTS):
        text = f"{val_tokens:,} tokens: far fewer than any published variant holds; a part is reported as the whole"
        return Finding("C4-COVERAGE", Verdict.FAIL, f"{text} (#1835, #1854).", found="subset")
    text = f"{val_tokens:,} tokens: the count of no published variant (nearest {near.name}, {near.val_tokens:,})"
    return Finding(
        "C4-COVERAGE",
        Verdict.WARN,
        f"{text}; own shards need a proof, see `harness check bytes --docs`.",
        found="unknown-count",
    )


def _denominator(total: float, slack: float, val_tokens: int) -> Finding:
    text = f"val_loss, val_bpb and val_tokens imply {total:,.0f} bytes (rounding ± {slack:,.0f})"
    if slack > MOST_SLACK and abs(total - VARIANTS[0].bytes) <= slack:
        return Finding("A7-BYTES", Verdict.UNKNOWN, f"{text}: too few digits to tell; give five or more.")
    if FLOOR - slack <= total <= CEILING + slack:
        return Finding("A7-BYTES", Verdict.PASS, f"{text}: the published split.")
    if abs(total - LEGACY[0]) <= slack + 10_000 and val_tokens == LEGACY[1]:
        return Finding("A7-BYTES", Verdict.WARN, f"{text}: the older validation set of #837.")
    if FLOOR - LONGEST_TAIL - slack <= total < FLOOR:
        return Finding("A7-BYTES", Verdict.WARN, f"{text}: within one long window of the published split.")
    for known, name, explanation in KNOWN_BAD:
        if abs(total / known - 1) <= NEAR:
            share = 100 * (total / VARIANTS[0].bytes - 1)
            return Finding("A7-BYTES", Verdict.FAIL, f"{text}, {share:+.2f} %: {explanation}.", found=name)
    if total < 0.9 * FLOOR:
        return Finding("A7-BYTES", Verdict.FAIL, f"{text}: only a part of the split's 151.08 million.", found="subset")
    return Finding(
        "A7-BYTES", Verdict.FAIL, f"{text}; the published split holds 151.06 to 151.09 million.", found="unknown"
    )
