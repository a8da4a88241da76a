"""The one verdict on three numbers against the published counts of the validation text (:mod:`harness.fineweb`).

A claim of val_loss, val_bpb and val_tokens says how many bytes its author divided by, val_loss / ln 2 · val_tokens /
val_bpb. For the published variants these are known to a few kilobytes, so a wrong count shows without any data.
"""

import math

from harness.fineweb import CEILING, FLOOR, KNOWN_BAD, LEGACY_BYTES, LEGACY_TOKENS, VARIANTS, Variant
from harness.review.number import Number, Range
from harness.rules import Finding, Verdict
from harness.units import LN2

LONGEST_WINDOW = 32_768
TAIL = 4 * LONGEST_WINDOW
"""Tokens of the longest window seen in public, and their bytes at most: what a dropped tail can cost."""
SURPLUS = 8_192
"""Tokens by which the whole split exceeds a published count, which leaves out a tail itself."""
SUBSET_TOKENS = 0.6 * min(v.val_tokens for v in VARIANTS)
"""No tokenizer covers the split with fewer: it would take more than six bytes a token."""
NEAR = 0.006
CERTAIN = 0.01
"""A gap of this share of the bytes is no tail, no normalisation of the text and no rounding."""
MOST_SLACK = 250_000
"""Bytes beyond which rounding could hide a known bug or a dropped document."""


def implied_bytes(val_loss: Number, val_bpb: Number, val_tokens: float) -> Range:
    """Bytes that the three numbers imply. Raises ``ValueError`` for numbers that are not positive and finite."""
    if not all(math.isfinite(n) and n > 0 for n in (val_loss.value, val_bpb.value, float(val_tokens))):
        text = f"val_loss {val_loss.text}, val_bpb {val_bpb.text}, val_tokens {val_tokens}"
        raise ValueError(f"{text}: wanted positive numbers")
    scale = val_tokens / LN2
    low = scale * max(val_loss.low, 0) / val_bpb.high
    return Range(scale * val_loss.value / val_bpb.value, low, scale * val_loss.high / max(val_bpb.low, 1e-12))


def variant_of(val_tokens: float) -> Variant | None:
    """The published variant of this token count, up to a window in the tail."""
    near = min(VARIANTS, key=lambda v: abs(v.val_tokens - val_tokens))
    return near if -SURPLUS <= near.val_tokens - val_tokens <= 2 * LONGEST_WINDOW else None


def judge_bytes(total: Range, val_tokens: float, low: int = FLOOR, high: int = CEILING) -> Finding:
    """A7-BYTES or C4-COVERAGE on implied bytes. ``found`` names the cause where a known one fits.

    FAIL only beyond :data:`CERTAIN` of the text; a smaller gap is WARN. low, high: for the text without a tail.
    """
    rule, low = "A7-BYTES", low - round(LONGEST_WINDOW * total.value / val_tokens)
    text = f"loss, bpb and token count imply {total.value:,.0f} bytes (rounding ± {total.slack:,.0f})"
    if total.slack > MOST_SLACK and total.low <= high and total.high >= low:
        return Finding(rule, Verdict.UNKNOWN, f"{text}: too few digits to tell; give five or more.")
    if total.low <= high and total.high >= low:
        return Finding(rule, Verdict.PASS, f"{text}: the published split.")
    if abs(total.value - LEGACY_BYTES) <= total.slack + 60_000 and abs(val_tokens - LEGACY_TOKENS) <= LONGEST_WINDOW:
        return Finding(rule, Verdict.WARN, f"{text}: the older validation set of #837.", found="legacy")
    share = total.value / VARIANTS[0].bytes - 1
    text = f"{text}, {100 * share:+.2f} % against the raw text's 151.08 million"
    verdict = Verdict.FAIL if abs(share) > CERTAIN + total.slack / total.value else Verdict.WARN
    if total.value < low:
        cause = "a part of the split, another text, or a loss and a bpb of different passes"
        part = "subset" if total.value < 0.9 * low else "unknown"
        return Finding("C4-COVERAGE", verdict, f"{text}; likely causes: {cause}.", found=part)
    known = next((item for item in KNOWN_BAD if abs(total.value / item[0] - 1) <= NEAR), None)
    cause = known[2] if known else "bytes counted wrong, another text, or a loss and a bpb of different passes"
    return Finding(rule, verdict, f"{text}; likely causes: {cause}.", found=known[1] if known else "unknown")


def judge_tokens(val_tokens: int) -> Finding:
    """C4-COVERAGE on a token count alone."""
    rule, near = "C4-COVERAGE", min(VARIANTS, key=lambda v: abs(v.val_tokens - val_tokens))
    if variant_of(val_tokens):
        gap = near.val_tokens - val_tokens
        tail = f"{gap:,} in the tail" if gap >= 0 else f"and {-gap:,} more"
        return Finding(rule, Verdict.PASS, f"{val_tokens:,} tokens: the count of {near.name} ({tail}).")
    if abs(val_tokens - LEGACY_TOKENS) <= LONGEST_WINDOW:
        return Finding(rule, Verdict.WARN, f"{val_tokens:,} tokens: the older validation set of #837.", found="legacy")
    if val_tokens < SUBSET_TOKENS:
        text = f"{val_tokens:,} tokens: far fewer than any published variant holds; a part is reported as the whole"
        return Finding(rule, Verdict.FAIL, f"{text} (#1835, #1854).", found="subset")
    text = f"{val_tokens:,} tokens: the count of no published variant (nearest {near.name}, {near.val_tokens:,})"
    text = f"{text}; own shards need a proof, see `harness check bytes --docs`."
    return Finding(rule, Verdict.WARN, text, found="unknown-count")


def judge_claim(val_loss: str, val_bpb: str, val_tokens: int) -> list[Finding]:
    """The invariant of the published split, from the claim alone. Numbers are text, so that their rounding is known.

    Raises ``ValueError`` for what is not a positive number.
    """
    total = implied_bytes(Number.of(val_loss), Number.of(val_bpb), val_tokens)
    return [judge_tokens(val_tokens), judge_bytes(total, val_tokens)]
