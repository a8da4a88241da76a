"""Bytes, counted twice: the exact ledger against the public look-up table, each difference with its cause [A7-BYTES].

What a table counts depends on the vocabulary alone; the ledger counts raw bytes of documents. Where they differ,
it is for one of five reasons: white space that the normaliser joins or drops, other normalisation, byte fallback, BOS,
or a tail that a windowed evaluation never scores. And known ways to miscount, as arithmetic: what total each would give
on these tokens, compared with a claimed one. Each is a bug that public submissions had; numbers like #1143 are pull
requests of the challenge.
"""

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt
import sentencepiece

from harness.data.tokenizers import OPERATORS, Bytes, SentencePieceTokenizer, Tokenizer, without_operators
from harness.rules import Finding, Verdict

MOST_ROUNDING = 2e-3
CAUSES = ("space handling", "normalisation", "byte fallback", "BOS", "tail")
Tokens = npt.NDArray[np.integer]


class Difference(msgspec.Struct, frozen=True):
    """One cause: how many targets it touches, bytes too many (+) or too few (-), and what that does to a score.

    bpb: change of a score of ``at_bpb`` when this cause alone is let in
    """

    cause: str
    targets: int
    bytes: int
    bpb: float


class TableComparison(msgspec.Struct, frozen=True):
    """Table against ledger over the same targets. ``table - exact`` is the sum of the differences."""

    targets: int
    exact_bytes: int
    table_bytes: int
    at_bpb: float
    differences: list[Difference]


def compare_table(
    tokens: Tokens,
    target_bytes: Bytes,
    tokenizer: Tokenizer,
    raw: bytes | None = None,
    *,
    window: int = 0,
    at_bpb: float = 1.0,
) -> TableComparison:
    """Attribute every byte by which the public table differs from the ledger.

    raw:    all documents joined; with it white space and other normalisation are told apart inside one token, without
            it by the piece alone
    window: sequence length of the public evaluation, which drops the last incomplete window; 0 for none
    """
    table, exact = tokenizer.table(), target_bytes.astype(np.int64)
    counted = table.target_bytes(tokens)
    by_cause = {cause: [0, 0] for cause in CAUSES}
    scored = len(exact) // window * window if window else len(exact)
    if scored < len(exact):
        by_cause["tail"] = [len(exact) - scored, -int(exact[scored:].sum())]
    starts = np.concatenate(([0], np.cumsum(exact)))
    for place in np.flatnonzero(counted[:scored] != exact[:scored]):
        target, missing = int(tokens[place + 1]), int(counted[place] - exact[place])
        space, after_boundary = bool(table.space[target]), bool(table.boundary[tokens[place]])
        if table.boundary[target]:
            causes = {"BOS": missing}
        elif table.fallback[target]:
            causes = {"byte fallback": missing}
        elif raw is None:
            by_bos = space and after_boundary and missing < 0
            causes = {"BOS" if by_bos else "space handling" if space else "normalisation": missing}
        else:  # white space at the token's ends, and what else its piece lacks
            piece = raw[starts[place] : starts[place + 1]]
            text = piece.decode(errors="replace")
            white = len(piece) - len(text.strip().encode()) if text != text.strip() else 0
            by_space, by_bos = int(space and not after_boundary) - white, bool(space and after_boundary and white)
            causes = {"space handling": by_space + by_bos, "normalisation": missing - by_space, "BOS": -by_bos}
        for cause, amount in causes.items():
            by_cause[cause][0] += bool(amount)
            by_cause[cause][1] += amount
    total = int(exact.sum())
    differences = [
        Difference(cause, count, amount, at_bpb * (total / (total + amount) - 1) if total + amount > 0 else math.inf)
        for cause, (count, amount) in by_cause.items()
    ]
    return TableComparison(len(exact), total, int(counted[:scored].sum()), at_bpb, differences)


def judge_space_marker(tokenizer: Tokenizer, found: TableComparison) -> list[Finding]:
    """FAIL for a SentencePiece vocabulary without U+2581: the table counts each space as three bytes (#755)."""
    if not isinstance(without_operators(tokenizer), SentencePieceTokenizer) or tokenizer.table().space.any():
        return []
    share = 100 * (found.table_bytes / max(1, found.exact_bytes) - 1)
    text = (
        f"{tokenizer.name} has no piece with U+2581: each space is spelt as its three bytes, and the look-up table "
        f"counts {found.table_bytes:,} bytes for {found.exact_bytes:,} ({share:+.1f} %) (#755, #897)."
    )
    return [Finding("A7-BYTES", Verdict.FAIL, text, found="no-space-marker", remedy="Divide by the ledger's bytes.")]


def round_trip(documents: Iterable[str], tokenizer: Tokenizer) -> Finding:
    """Decode what the tokenizer made of each document and compare: FAIL when text is lost, WARN when it is changed.

    NFKC and joined white space only change it; the public challenge tolerates them. Shown are the first offender, the
    byte in it, and what all of them cost.
    """
    tolerated = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc", remove_extra_whitespaces=True, add_dummy_prefix=False
    )
    count = changed = lossy = raw_bytes = lost = 0
    where = how = ""
    for text in documents:
        raw = text.encode()
        decoded = tokenizer.decode(tokenizer.encode([text])[0][0])
        if decoded != raw:
            changed += 1
            lost += len(raw) - len(decoded)
            expected = str(tolerated.normalize(text.replace("\u2581", " "))).replace("\u2581", " ")
            found = decoded.decode(errors="replace")
            if not where or (found != expected and not lossy):
                shared = enumerate(zip(raw, decoded, strict=False))
                offset = next((i for i, (a, b) in shared if a != b), min(len(raw), len(decoded)))
                where, how = f"document {count:,}, byte {offset:,}", "text is lost"
                if found == expected:
                    how = "NFKC and white space"
                elif found.casefold() == expected.casefold():
                    how = "case is folded: not reversible to the source bytes"
                elif "\u2047" in found:
                    how = "unknown characters are lost"
            lossy += found != expected
        count += 1
        raw_bytes += len(raw)
    if not changed:
        return Finding("A7-BYTES", Verdict.PASS, f"{tokenizer.name} gives back all {count:,} documents byte for byte.")
    text = (
        f"{tokenizer.name} does not give back {lossy or changed:,} of {count:,} documents ({how}): first at {where}; "
        f"what it decodes is {lost:+,} bytes shorter ({100 * lost / max(1, raw_bytes):+.3f} % of the bytes, and as "
        "much of the bpb)."
    )
    remedy = "Count the raw documents' bytes, or keep what is lost in a sidecar."
    return Finding("A7-BYTES", Verdict.FAIL if lossy else Verdict.WARN, text, where=where, remedy=remedy)


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
    fallback = int(table.fallback[target].sum())
    documents = int((target == tokenizer.bos_id).sum())
    text = without_operators(tokenizer).decode(np.asarray(target, np.int64)).decode(errors="replace")
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
    closest = min(near or ways, key=lambda way: abs(way.bytes - claimed))
    if near:
        return Finding("A7-BYTES", Verdict.FAIL, f"{text}: {closest.explanation}.", found=closest.name, wanted="exact")
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
    cut = np.flatnonzero((starts - 1 >= claimed_targets) & (starts - 1 - claimed_targets < max(window, 1)))
    if claimed_targets > total:
        how, name = "more than there are: tokens are scored twice, or the set is another", "too-many"
    elif len(cut) and cut[-1]:
        how = f"only the first {int(cut[-1]):,} of {len(starts) - 1:,} documents (#1854, #2039)"
        name = "first-documents"
    else:
        how, name = f"a part of {100 * claimed_targets / total:.1f} % is reported as the whole (#1835, #1785)", "subset"
    return Finding("C4-COVERAGE", Verdict.FAIL, f"{text}: {how}.", found=name, remedy="Score every target.")
