"""Bytes, counted twice: the exact ledger against the public look-up table, each difference with its cause [A7-BYTES].

What a table counts depends on the vocabulary alone; the ledger counts raw bytes of documents. Where they differ,
it is for one of five reasons: white space that the normaliser joins or drops, other normalisation, byte fallback, BOS,
or a tail that a windowed evaluation never scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from harness.data.case import CaseTokenizer
from harness.data.spm import SentencePieceTokenizer
from harness.data.tokenizers import Bytes, Tokenizer
from harness.rules import Finding, Verdict

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
    table, is_fallback = tokenizer.table(), fallback_pieces(tokenizer)
    counted, exact = table.target_bytes(tokens), target_bytes.astype(np.int64)
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
        elif is_fallback[target]:
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


def fallback_pieces(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which ids are byte-fallback pieces, (vocab,); none outside SentencePiece."""
    inner = tokenizer.inner if isinstance(tokenizer, CaseTokenizer) else tokenizer
    return inner.byte_pieces if isinstance(inner, SentencePieceTokenizer) else np.zeros(inner.vocab_size, np.bool_)


def judge_space_marker(tokenizer: Tokenizer, found: TableComparison) -> list[Finding]:
    """FAIL for a SentencePiece vocabulary without U+2581: the table counts each space as three bytes (#755)."""
    if tokenizer.kind != "sentencepiece" or tokenizer.table().space.any():
        return []
    share = 100 * (found.table_bytes / max(1, found.exact_bytes) - 1)
    text = (
        f"{tokenizer.name} has no piece with U+2581: each space is spelt as its three bytes, and the look-up table "
        f"counts {found.table_bytes:,} bytes for {found.exact_bytes:,} ({share:+.1f} %) (#755, #897)."
    )
    remedy = "Divide by the ledger's bytes."
    return [Finding("A7-BYTES", Verdict.FAIL, text, found="no-space-marker", remedy=remedy)]


def round_trip(documents: Iterable[str], tokenizer: Tokenizer) -> Finding:
    """Decode what the tokenizer made of each document and compare: FAIL when text is lost, WARN when it is changed.

    NFKC and joined white space only change it; the public challenge tolerates them. Shown are the first offender, the
    byte in it, and what all of them cost.
    """
    import sentencepiece

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
