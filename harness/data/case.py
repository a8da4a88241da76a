"""Case operators: a lossless transform of the text before a tokenizer, with the raw bytes carried through it.

Letters are written small, and private-use characters say where they were not: U+E001 before a word that began with a
capital, U+E002 before a word in capitals, U+E003 before one capital inside a word, U+E004 before a source character
that is itself one of the four. An operator accounts for no raw byte; every other character for those of its source.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from harness.data.tokenizers import Bytes, Encoded, Ids, PieceTable, Tokenizer

TITLE, UPPER, CAPITAL, ESCAPE = "\ue001", "\ue002", "\ue003", "\ue004"
OPERATORS = TITLE + UPPER + CAPITAL + ESCAPE
TRANSFORM = "case operators"
_PART = re.compile(rf"[^\W\d_]+|[{OPERATORS}]")
_WRITTEN = re.compile(rf"(?s){ESCAPE}(.?)|[{TITLE}{CAPITAL}](.?)|{UPPER}([^\W\d_]*)")


def apply_operators(text: str) -> str:
    """The text with case written as operators."""

    def write(match: re.Match[str]) -> str:
        part = match[0]
        if part in OPERATORS:
            return ESCAPE + part
        capital = [_foldable(character) for character in part]
        if all(capital) and len(part) > 1:
            return UPPER + part.lower()
        if capital[0] and not any(capital[1:]):
            return TITLE + part[0].lower() + part[1:]
        return "".join(CAPITAL + c.lower() if folds else c for c, folds in zip(part, capital, strict=True))

    return _PART.sub(write, text)


def undo_operators(text: str) -> str:
    """The source text again. Unknown sequences pass through."""
    return _WRITTEN.sub(lambda part: part[1] or (part[2] or part[3] or "").upper(), text)


def raw_offsets(text: str, written: str) -> Bytes:
    """For each UTF-8 byte boundary of ``written`` the byte offset in ``text``, int64, never falling."""
    sizes = _utf8_sizes(written)
    operator = np.zeros(len(written), np.bool_)
    # an escaped character is a part of its operator's match, and so not an operator itself
    operator[[match.start() for match in re.finditer(f"(?s){ESCAPE}.|[{OPERATORS}]", written)]] = True
    raw = np.zeros(len(written), np.int64)
    raw[~operator] = _utf8_sizes(text)
    starts = np.concatenate(([0], np.cumsum(raw)))
    first = np.concatenate(([0], np.cumsum(sizes)))
    character = np.repeat(np.arange(len(written)), sizes)
    within = np.arange(first[-1]) - first[character]
    return np.append(starts[character] + np.minimum(within, raw[character]), starts[-1])


def without_operators(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, or the one behind the case operators."""
    return tokenizer.inner if isinstance(tokenizer, CaseTokenizer) else tokenizer


class CaseTokenizer(Tokenizer):
    """A tokenizer behind the case operators. Its file is the inner tokenizer's."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        self.name, self.file = inner.name, inner.file
        self.vocab_size, self.bos_id = inner.vocab_size, inner.bos_id

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids of the written text, raw bytes of the source."""
        written = [apply_operators(text) for text in texts]
        encoded = self.inner.encode(written)
        for at, (ids, sizes) in enumerate(encoded):
            if len(ids):
                cuts = raw_offsets(texts[at], written[at])[np.cumsum(sizes)]
                cuts[-1] = len(texts[at].encode())
                encoded[at] = ids, np.diff(cuts, prepend=0)
        return encoded

    def decode(self, ids: Ids) -> bytes:
        """The source text."""
        return undo_operators(self.inner.decode(ids).decode(errors="replace")).encode()

    def table(self) -> PieceTable:
        """The inner tokenizer's table: it knows nothing of operators, and counts their bytes."""
        return self.inner.table()


def _foldable(character: str) -> bool:
    small = character.lower()
    return small != character and re.fullmatch(r"[^\W\d_]", small) is not None and small.upper() == character


def _utf8_sizes(text: str) -> Bytes:
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
