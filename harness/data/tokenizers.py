"""Tokenizers as the byte ledger needs them: ids, and for each id the raw UTF-8 bytes of the document that it spells.

SentencePiece models (``spm.py``) normalise the text, so their tokens are mapped back to the raw bytes through the
normaliser's own offsets; byte and tiktoken vocabularies spell the raw bytes themselves.
"""

from __future__ import annotations

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.errors import CouldNotCheck, UsageError

Ids = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int64]
Encoded = tuple[Ids, Bytes]


class Tokenizer(ABC):
    """One tokenizer. ``file`` is what a data set keeps of it, ``name`` what people call it."""

    kind: str
    name: str
    file: bytes
    vocab_size: int
    bos_id: int

    @property
    def digest(self) -> str:
        """SHA-256 of the tokenizer's file."""
        return hashlib.sha256(self.file).hexdigest()

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids of each document (without BOS), and the raw bytes that each id accounts for.

        The bytes of a document sum to ``len(text.encode())``, unless it has no token at all.
        Raises ``CouldNotCheck`` for text that has no UTF-8 (lone surrogates).
        """

    @abstractmethod
    def decode(self, ids: Ids) -> bytes:
        """The UTF-8 text that the ids spell, as the tokenizer itself decodes it. Special ids spell nothing."""

    @abstractmethod
    def table(self) -> PieceTable:
        """What the look-up-table method of the public script knows of each id."""


class PieceTable(NamedTuple):
    """Columns of the public script's method, one row an id.

    bytes:    int64, UTF-8 length of the piece without leading U+2581; 1 for byte fallback; 0 for special ids
    space:    bool, the piece began with U+2581
    boundary: bool, control, unknown or unused: the piece after it gets no space byte
    """

    bytes: Bytes
    space: npt.NDArray[np.bool_]
    boundary: npt.NDArray[np.bool_]

    def target_bytes(self, tokens: npt.NDArray[np.integer]) -> Bytes:
        """Bytes of each target ``tokens[1:]`` by the public method, int64 (N - 1,)."""
        before, target = tokens[:-1], tokens[1:]
        sizes: Bytes = self.bytes[target] + (self.space[target] & ~self.boundary[before])
        return sizes


def utf8(text: str) -> bytes:
    """UTF-8 of a document. Raises ``CouldNotCheck`` for lone surrogates, which have none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise CouldNotCheck(
            f"a document holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start:,}); "
            "it has no UTF-8 bytes to count.",
            remedy="Remove or replace it in the source.",
        ) from None


class ByteTokenizer(Tokenizer):
    """byte260: ids 0 to 3 are special (pad, bos, eos, unk), id 4 + b is the byte b."""

    kind = "byte"
    offset = 4

    def __init__(self) -> None:
        self.name, self.vocab_size, self.bos_id = "byte260.json", 260, 1
        config = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "byte_offset": 4, "byte_count": 256}
        content = {"tokenizer_type": "pure_byte", "config": config, "vocab_size": 260}
        self.file = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """One id a byte."""
        raw = [np.frombuffer(utf8(text), np.uint8).astype(np.int64) for text in texts]
        return [(data + self.offset, np.ones(len(data), np.int64)) for data in raw]

    def decode(self, ids: Ids) -> bytes:
        """The bytes."""
        kept = np.asarray(ids)[np.asarray(ids) >= self.offset]
        return (kept - self.offset).astype(np.uint8).tobytes()

    def table(self) -> PieceTable:
        """One byte an id, no spaces."""
        special = np.arange(self.vocab_size) < self.offset
        return PieceTable((~special).astype(np.int64), np.zeros(self.vocab_size, np.bool_), special)


class TiktokenTokenizer(Tokenizer):
    """A tiktoken encoding, from a file of its mergeable ranks: lines of base64 token and rank.

    ``<|endoftext|>`` takes the id after the last rank and stands before each document.
    """

    kind = "tiktoken"
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"  # GPT-2's split

    def __init__(self, file: bytes, name: str) -> None:
        try:
            import tiktoken
        except ModuleNotFoundError:
            raise UsageError(
                f"{name} needs the package tiktoken.",
                remedy="Install it: pip install 'parameter-golf-referee[tiktoken]'.",
            ) from None

        try:
            pairs = [line.split() for line in file.splitlines() if line]
            ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
        except ValueError:
            raise UsageError(
                f"{name} is no tiktoken rank file (lines of base64 and rank).",
                remedy="Give the vocabulary file as tiktoken publishes it.",
            ) from None
        if {bytes([b]) for b in range(256)} - set(ranks):
            raise UsageError(
                f"{name} lacks some of the 256 single bytes: it could not encode every text.",
                remedy="Use a vocabulary with all single bytes.",
            )
        self.file, self.name = file, name
        self.bos_id = max(ranks.values()) + 1
        self.vocab_size = self.bos_id + 1
        self._encoding = tiktoken.Encoding(
            name, pat_str=self.pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": self.bos_id}
        )
        self._sizes = np.zeros(self.vocab_size, np.int64)
        for token, rank in ranks.items():
            self._sizes[rank] = len(token)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids spell the raw bytes one after another."""
        for text in texts:
            utf8(text)
        encoded = self._encoding.encode_ordinary_batch(list(texts), num_threads=2)
        return [(ids, self._sizes[ids]) for ids in (np.asarray(e, np.int64) for e in encoded)]

    def decode(self, ids: Ids) -> bytes:
        """The bytes."""
        decoded: bytes = self._encoding.decode_bytes([int(i) for i in ids if i != self.bos_id])
        return decoded

    def table(self) -> PieceTable:
        """Sizes are exact: a leading space is part of the token."""
        special = np.arange(self.vocab_size) == self.bos_id
        return PieceTable(self._sizes, np.zeros(self.vocab_size, np.bool_), special)
