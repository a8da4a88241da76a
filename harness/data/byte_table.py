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
from harness.data.tokenizers import Bytes, PieceTable, Tokenizer
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
    table = tokenizer.table()
    counted = table.target_bytes(tokens)
    exact = target_bytes.astype(np.int64)
    by_cause = {cause: [0, 0] for cause in CAUSES}
    scored = len(exact) // window * window if window else len(exact)
    if scored < len(exact):
        by_cause["tail"] = [len(exact) - scored, -int(exact[scored:].sum())]
    differs = np.flatnonzero(counted[:scored] != exact[:scored])
    starts = np.concatenate(([0], np.cumsum(exact)))
    is_fallback = fallback_pieces(tokenizer)
    for place in differs:
        target, previous = int(tokens[place + 1]), int(tokens[place])
        missing = int(counted[place] - exact[place])
        piece = raw[starts[place] : starts[place + 1]] if raw is not None else None
        for cause, amount in _causes(table, is_fallback, target, previous, missing, piece):
            by_cause[cause][0] += 1
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


def _causes(
    table: PieceTable,
    is_fallback: npt.NDArray[np.bool_],
    target: int,
    previous: int,
    missing: int,
    piece: bytes | None,
) -> list[tuple[str, int]]:
    """(cause, bytes) of one target; the bytes sum to ``missing``."""
    if table.boundary[target]:
        return [("BOS", missing)]
    if is_fallback[target]:
        return [("byte fallback", missing)]
    if table.space[target] and table.boundary[previous] and missing < 0 and piece is None:
        return [("BOS", missing)]
    if piece is None:
        return [("space handling" if table.space[target] else "normalisation", missing)]
    counted_space = int(table.space[target] and not table.boundary[previous])
    text = piece.decode(errors="replace")
    white = len(text) - len(text.lstrip()) + (len(text) - len(text.rstrip()) if text.strip() else 0)
    white_bytes = len(piece) - len(text.strip().encode()) if white else 0
    space = counted_space - white_bytes
    if table.space[target] and table.boundary[previous] and white_bytes:
        parts = [("BOS", -1), ("space handling", space + 1), ("normalisation", missing - space)]
    else:
        parts = [("space handling", space), ("normalisation", missing - space)]
    return [(cause, amount) for cause, amount in parts if amount]


def judge_space_marker(tokenizer: Tokenizer, found: TableComparison) -> Finding | None:
    """FAIL for a SentencePiece vocabulary without U+2581: the table counts each space as three bytes (#755)."""
    if tokenizer.kind != "sentencepiece" or tokenizer.table().space.any():
        return None
    share = 100 * (found.table_bytes / max(1, found.exact_bytes) - 1)
    return Finding(
        "A7-BYTES",
        Verdict.FAIL,
        f"{tokenizer.name} has no piece with U+2581: each space is spelt as its three bytes, and the look-up table "
        f"counts {found.table_bytes:,} bytes for {found.exact_bytes:,} ({share:+.1f} %) (#755, #897).",
        found="no-space-marker",
        remedy="Divide by the ledger's bytes.",
    )


class Loss(msgspec.Struct, frozen=True):
    """What a tokenizer does to documents.

    changed:  documents whose decoded text differs from the raw text
    lossy:    those that differ by more than NFKC and joined white space, which the public challenge tolerates
    document, offset: the first offender and the byte in it (None when there is none)
    bytes:    raw bytes less decoded bytes, over all documents
    """

    documents: int
    raw_bytes: int
    changed: int
    lossy: int
    document: int | None
    offset: int | None
    bytes: int
    how: str

    def finding(self, name: str) -> Finding:
        """FAIL when text is lost, WARN when it is only normalised."""
        if self.document is None:
            text = f"{name} gives back all {self.documents:,} documents byte for byte."
            return Finding("A7-BYTES", Verdict.PASS, text)
        cost = self.bytes / max(1, self.raw_bytes)
        where = f"document {self.document:,}, byte {self.offset:,}"
        text = (
            f"{name} does not give back {self.lossy or self.changed:,} of {self.documents:,} documents "
            f"({self.how}): first at {where}; what it decodes is {self.bytes:+,} bytes shorter "
            f"({100 * cost:+.3f} % of the bytes, and as much of the bpb)."
        )
        remedy = "Count the raw documents' bytes, or keep what is lost in a sidecar."
        return Finding("A7-BYTES", Verdict.FAIL if self.lossy else Verdict.WARN, text, where=where, remedy=remedy)


def round_trip(documents: Iterable[str], tokenizer: Tokenizer) -> Loss:
    """Decode what the tokenizer made of each document and compare."""
    import sentencepiece

    tolerated = sentencepiece.SentencePieceNormalizer(
        rule_name="nmt_nfkc", remove_extra_whitespaces=True, add_dummy_prefix=False
    )
    count = changed = lossy = raw_bytes = lost = 0
    first: tuple[int, int, str] | None = None
    for text in documents:
        raw = text.encode()
        decoded = tokenizer.decode(tokenizer.encode([text])[0][0])
        if decoded != raw:
            changed += 1
            lost += len(raw) - len(decoded)
            expected = str(tolerated.normalize(text.replace("\u2581", " "))).replace("\u2581", " ")
            worse = decoded.decode(errors="replace") != expected
            if (worse and lossy == 0) or first is None:
                first = (
                    count,
                    _first_difference(raw, decoded),
                    _how(expected, decoded) if worse else "NFKC and white space",
                )
            lossy += worse
        count += 1
        raw_bytes += len(raw)
    document, offset, how = first or (None, None, "")
    return Loss(count, raw_bytes, changed, lossy, document, offset, lost, how)


def _first_difference(one: bytes, other: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _how(expected: str, decoded: bytes) -> str:
    found = decoded.decode(errors="replace")
    if found.casefold() == expected.casefold():
        return "case is folded: not reversible to the source bytes"
    if "\u2047" in found:
        return "unknown characters are lost"
    return "text is lost"
