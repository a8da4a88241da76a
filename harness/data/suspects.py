"""Known ways to miscount, as arithmetic: what total each would give on these tokens, compared with a claimed total.

Each is a bug that public submissions had; numbers like #1143 are pull requests of the challenge.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from harness.data.byte_table import Tokens, fallback_pieces
from harness.data.case import OPERATORS, CaseTokenizer
from harness.data.tokenizers import Bytes, Tokenizer
from harness.rules import Finding, Verdict

MOST_ROUNDING = 2e-3


class Suspect(msgspec.Struct, frozen=True):
    """One way to count, and its total over the claimed targets."""

    name: str
    explanation: str
    bytes: int
    legal: bool


def suspects(tokens: Tokens, target_bytes: Bytes, tokenizer: Tokenizer, raw_bytes: int) -> list[Suspect]:
    """Every known way to count the bytes of these targets, the exact one first."""
    table = tokenizer.table()
    before, target = tokens[:-1], tokens[1:]
    exact, public = int(target_bytes.sum(dtype=np.int64)), int(table.target_bytes(tokens).sum())
    spaces = int(table.space[target].sum())
    after_bos = int((table.space[target] & table.boundary[before]).sum())
    fallback = int(fallback_pieces(tokenizer)[target].sum())
    documents = int((target == tokenizer.bos_id).sum())
    inner = tokenizer.inner if isinstance(tokenizer, CaseTokenizer) else tokenizer
    text = inner.decode(np.asarray(target, np.int64)).decode(errors="replace")
    marks = sum(map(text.count, OPERATORS))  # however the vocabulary spells them
    totals = (
        ("exact", "raw bytes of the documents", exact, True),
        ("raw-documents", "raw bytes of all documents, the first BOS included", raw_bytes, True),
        ("public-table", "the public script's look-up table", public, True),
        ("fallback-as-3", "each byte-fallback token counted as 3 bytes (#1143, #1271)", public + 2 * fallback, False),
        ("fallback-as-text", "each byte-fallback token counted as its 6 letters", public + 5 * fallback, False),
        ("space-as-3", "U+2581 counted as its own 3 bytes (#755, #897)", public + after_bos + 2 * spaces, False),
        ("double-space", "the leading space counted twice (#1545, #1719)", public + spaces, False),
        ("no-space", "the leading space not counted", public + after_bos - spaces, False),
        ("space-after-bos", "a space byte for the first word of a document", public + after_bos, False),
        ("bos-as-piece", "BOS counted as the 3 letters of its piece", public + 3 * documents, False),
        ("operators-counted", "case operators counted as text (#2071, #2138)", exact + 3 * marks, False),
        ("table-on-operators", "the plain table on shards with case operators (#2071)", public, not marks),
    )
    seen: dict[int, Suspect] = {}
    for suspect in (Suspect(*row) for row in totals):
        if suspect.bytes not in seen or (marks and suspect.name == "table-on-operators"):
            seen[suspect.bytes] = suspect
    return list(seen.values())


def judge_total(claimed: float, tolerance: float, ways: list[Suspect]) -> Finding:
    """Name the way to count that a claimed total of bytes follows from.

    tolerance: how far rounding in the claim can move the total, in bytes
    """
    exact = ways[0].bytes
    share = 100 * (claimed / exact - 1) if exact else math.inf
    near = [way for way in ways if abs(way.bytes - claimed) <= tolerance]
    text = f"{claimed:,.0f} bytes claimed, {exact:,} are exact ({share:+.2f} %)"
    legal = next((way for way in near if way.legal), None)
    if legal and tolerance > MOST_ROUNDING * exact:
        text += f", rounding ± {tolerance:,.0f}: too few digits to tell"
        return Finding("A7-BYTES", Verdict.UNKNOWN, f"{text}; give five or more.")
    if legal:
        verdict = Verdict.PASS if legal.name in ("exact", "raw-documents") else Verdict.WARN
        return Finding("A7-BYTES", verdict, f"{text}: {legal.explanation}.", found=legal.name)
    if near:
        best = min(near, key=lambda way: abs(way.bytes - claimed))
        return Finding("A7-BYTES", Verdict.FAIL, f"{text}: {best.explanation}.", found=best.name, wanted="exact")
    closest = min(ways, key=lambda way: abs(way.bytes - claimed))
    text += f": no known way to count gives this; the closest is {closest.name} with {closest.bytes:,}."
    return Finding("A7-BYTES", Verdict.FAIL, text, found="unknown", wanted="exact")


def judge_coverage(claimed_targets: int, tokens: Tokens, bos_id: int, window: int = 0) -> Finding:
    """Whether a claimed count of scored tokens is the whole set; at most one window may be left at its end."""
    total = len(tokens) - 1
    text = f"{claimed_targets:,} of {total:,} targets are claimed as scored"
    if claimed_targets == total or (window and claimed_targets == total // window * window):
        tail = total - claimed_targets
        return Finding("C4-COVERAGE", Verdict.WARN if tail else Verdict.PASS, f"{text}; {tail:,} in the dropped tail.")
    starts = np.append(np.flatnonzero(tokens == bos_id), len(tokens))
    within = max(window, 1)
    cut = np.flatnonzero((starts - 1 >= claimed_targets) & (starts - 1 - claimed_targets < within))
    if claimed_targets > total:
        how, name = "more than there are: tokens are scored twice, or the set is another", "too-many"
    elif len(cut) and cut[-1]:
        how = f"only the first {int(cut[-1]):,} of {len(starts) - 1:,} documents (#1854, #2039)"
        name = "first-documents"
    else:
        how, name = f"a part of {100 * claimed_targets / total:.1f} % is reported as the whole (#1835, #1785)", "subset"
    return Finding("C4-COVERAGE", Verdict.FAIL, f"{text}: {how}.", found=name, remedy="Score every target.")
