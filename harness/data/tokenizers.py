"""Tokenizers as the byte ledger needs them: ids, and for each id the raw UTF-8 bytes of the document that it spells.

Byte and tiktoken vocabularies spell the raw bytes themselves. A SentencePiece model, BPE or unigram, sees a normalised
text (nmt_nfkc, U+2581 for space, runs of spaces joined). Its normaliser tells for each normalised byte where it came
from; that map, refined inside unchanged characters, turns piece boundaries into raw byte offsets. So the bytes of a
document's tokens always sum to its raw size, whatever the normaliser did.

Case operators are a lossless transform of the text before a tokenizer. Letters are written small, and private-use
characters say where they were not: U+E001 before a word that began with a capital, U+E002 before a word in capitals,
U+E003 before one capital inside a word, U+E004 before a source character that is itself one of the four. An operator
accounts for no raw byte; every other character for those of its source.
"""

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sentencepiece

from harness.errors import CouldNotCheck, UsageError

Ids = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int64]
Encoded = tuple[Ids, Bytes]
SPACE = "\u2581"
THREADS = 2
TITLE, UPPER, CAPITAL, ESCAPE = "\ue001", "\ue002", "\ue003", "\ue004"
OPERATORS = TITLE + UPPER + CAPITAL + ESCAPE
TRANSFORM = "case operators"
_PART = re.compile(rf"[^\W\d_]+|[{OPERATORS}]")
_WRITTEN = re.compile(rf"(?s){ESCAPE}(.?)|[{TITLE}{CAPITAL}](.?)|{UPPER}([^\W\d_]*)")


class Tokenizer(ABC):
    """One tokenizer. ``file`` is what a data set keeps of it, ``name`` what people call it.

    sizes: bytes of each piece where these are always the same, int64 (vocab,); 0 for special ids
    """

    name: str
    sizes: Bytes
    file: bytes
    vocab_size: int
    bos_id: int

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids of each document (without BOS), and the raw bytes that each id accounts for.

        The bytes of a document sum to ``len(text.encode())``, unless it has no token at all.
        """

    @abstractmethod
    def decode(self, ids: Ids) -> bytes:
        """The UTF-8 text that the ids spell, as the tokenizer itself decodes it. Special ids spell nothing."""

    def table(self) -> "PieceTable":
        """What the look-up-table method of the public script knows of each id; exact where pieces spell raw bytes."""
        none = np.zeros(self.vocab_size, np.bool_)
        return PieceTable(self.sizes, none, self.sizes == 0, none)


class PieceTable(NamedTuple):
    """Columns of the public script's method, one row an id.

    bytes:    int64, UTF-8 length of the piece without leading U+2581; 1 for byte fallback; 0 for special ids
    space:    bool, the piece began with U+2581
    boundary: bool, control, unknown or unused: the piece after it gets no space byte
    fallback: bool, a byte-fallback piece
    """

    bytes: Bytes
    space: npt.NDArray[np.bool_]
    boundary: npt.NDArray[np.bool_]
    fallback: npt.NDArray[np.bool_]

    def target_bytes(self, tokens: npt.NDArray[np.integer]) -> Bytes:
        """Bytes of each target ``tokens[1:]`` by the public method, int64 (N - 1,)."""
        before, target = tokens[:-1], tokens[1:]
        sizes: Bytes = self.bytes[target] + (self.space[target] & ~self.boundary[before])
        return sizes


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model from the bytes of its ``.model`` file."""

    def __init__(self, file: bytes, name: str) -> None:
        self.file, self.name = file, name
        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_proto=file)
        except RuntimeError:
            text = f"{name} is not a SentencePiece model."
            raise UsageError(text, remedy="Give the tokenizer's .model file.") from None
        self.vocab_size, self.bos_id = int(self._model.get_piece_size()), int(self._model.bos_id())
        if self.bos_id < 0:
            text = f"{name} has no BOS piece; the shard format needs one before each document."
            raise UsageError(text, remedy="Train the tokenizer with a BOS piece (bos_id 1).")
        ids = range(self.vocab_size)
        tests = self._model.is_byte, self._model.is_control, self._model.is_unknown, self._model.is_unused
        found = (np.array([is_one(i) for i in ids]) for is_one in tests)
        self._byte_pieces, self._control, self._unknown, self._unused = found
        self._pieces = [str(self._model.id_to_piece(i)) for i in ids]
        spelt = np.array([len(piece.encode()) for piece in self._pieces], np.int64)
        self._spelt = np.where(self._byte_pieces, 1, np.where(self._control, 0, spelt))  # in the normalised text

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids, and their raw bytes through the normaliser's offsets."""
        found = self._model.encode(list(texts), out_type=int, num_threads=THREADS)
        encoded = [np.array(ids, np.int64) for ids in found]
        return [(ids, self._account(text.encode(), ids)) for text, ids in zip(texts, encoded, strict=True)]

    def decode(self, ids: Ids) -> bytes:
        """The model's own decoding, byte pieces joined to characters where they form UTF-8."""
        decoded: str = self._model.decode([int(i) for i in ids if not self._control[i]])
        return decoded.encode()

    def table(self) -> PieceTable:
        """The public script's columns, from the pieces' types and texts."""
        boundary = self._control | self._unknown | self._unused
        space = np.array([piece.startswith(SPACE) for piece in self._pieces]) & ~boundary & ~self._byte_pieces
        sizes = np.array([len(piece.removeprefix(SPACE).encode()) for piece in self._pieces], np.int64)
        sizes = np.where(boundary, 0, np.where(self._byte_pieces, 1, sizes))
        return PieceTable(sizes, space, boundary, self._byte_pieces)

    def _account(self, raw: bytes, ids: Ids) -> Bytes:
        """The raw bytes of each id: cuts of the text that the model sees, taken back to the raw text."""
        if len(ids) == 0:
            return np.zeros(0, np.int64)
        normal, offsets = self._model.normalize(raw, with_offsets=True)
        ends = np.cumsum(self._spelt[ids])
        if not self._unknown[ids].any() and ends[-1] == len(normal):
            cuts = refine(np.array(offsets, np.int64), len(normal))[ends]
        else:  # the slow way, for unknown pieces, whose length only the encoder knows: each piece's own surface
            pieces = self._model.encode(raw, return_type="proto").pieces
            if [piece.id for piece in pieces] != ids.tolist():
                text = f"{self.name} encodes a document differently as ids and as text, so its bytes can't be told."
                raise CouldNotCheck(text, remedy="Use a tokenizer without unknown pieces (byte_fallback).")
            cuts = np.array([piece.end for piece in pieces], np.int64)
        cuts[-1] = len(raw)
        sizes: Bytes = np.diff(cuts, prepend=0)
        return sizes


def refine(offsets: Bytes, normal_bytes: int) -> Bytes:
    """Raw offsets for every byte boundary of the normalised text, int64 (normal_bytes + 1,), never falling.

    The normaliser gives all bytes of one normalised character the offset where its source begins. A character's bytes
    are dealt out left to right, one raw byte each, and the last takes what is left: so byte-fallback pieces of an
    unchanged character account for one byte each, and joined spaces count with the piece that shows them.
    """
    begins = np.diff(offsets, prepend=-1) != 0
    starts = np.flatnonzero(begins)
    chunk = np.cumsum(begins) - 1
    within = np.arange(normal_bytes + 1) - starts[chunk]
    next_start = np.append(offsets[starts[1:]], offsets[-1])
    refined: Bytes = np.minimum(offsets + within, next_start[chunk])
    return refined


def train_bpe(lines: Sequence[str], vocab_size: int) -> bytes:
    """Train a BPE model with the settings of the published tokenizers; the same lines give the same bytes.

    lines: whole lines of the train side; the trainer is told to skip none for its length
    """
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=0.999,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="nmt_nfkc",
        add_dummy_prefix=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        hard_vocab_limit=False,
        max_sentence_length=max((len(line.encode()) for line in lines), default=0) + 1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


class ByteTokenizer(Tokenizer):
    """byte260: ids 0 to 3 are special (pad, bos, eos, unk), id 4 + b is the byte b."""

    offset = 4

    def __init__(self) -> None:
        self.name, self.vocab_size, self.bos_id = "byte260.json", 260, 1
        config = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "byte_offset": 4, "byte_count": 256}
        content = {"tokenizer_type": "pure_byte", "config": config, "vocab_size": 260}
        self.file = (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
        self.sizes = (np.arange(self.vocab_size) >= self.offset).astype(np.int64)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """One id a byte."""
        raw = [np.frombuffer(text.encode(), np.uint8).astype(np.int64) for text in texts]
        return [(data + self.offset, np.ones(len(data), np.int64)) for data in raw]

    def decode(self, ids: Ids) -> bytes:
        """The bytes."""
        kept = np.asarray(ids)[np.asarray(ids) >= self.offset]
        return (kept - self.offset).astype(np.uint8).tobytes()


class TiktokenTokenizer(Tokenizer):
    """A tiktoken encoding, from a file of its mergeable ranks: lines of base64 token and rank.

    ``<|endoftext|>`` takes the id after the last rank and stands before each document.
    """

    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"  # GPT-2's split

    def __init__(self, file: bytes, name: str) -> None:
        import tiktoken

        try:
            pairs = [line.split() for line in file.splitlines() if line]
            ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
        except ValueError:
            text = f"{name} is not a tiktoken rank file (lines of base64 and rank)."
            raise UsageError(text, remedy="Give the vocabulary file as tiktoken publishes it.") from None
        if {bytes([b]) for b in range(256)} - set(ranks):
            text = f"{name} lacks some of the 256 single bytes: it could not encode every text."
            raise UsageError(text, remedy="Use a vocabulary with all single bytes.")
        self.file, self.name = file, name
        self.bos_id = max(ranks.values()) + 1
        self.vocab_size = self.bos_id + 1
        special = {"<|endoftext|>": self.bos_id}
        self._encoding = tiktoken.Encoding(name, pat_str=self.pattern, mergeable_ranks=ranks, special_tokens=special)
        self.sizes = np.zeros(self.vocab_size, np.int64)
        for token, rank in ranks.items():
            self.sizes[rank] = len(token)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids spell the raw bytes one after another."""
        encoded = self._encoding.encode_ordinary_batch(list(texts), num_threads=2)
        return [(ids, self.sizes[ids]) for ids in (np.asarray(e, np.int64) for e in encoded)]

    def decode(self, ids: Ids) -> bytes:
        """The bytes."""
        decoded: bytes = self._encoding.decode_bytes([int(i) for i in ids if i != self.bos_id])
        return decoded


def apply_operators(text: str) -> str:
    """The text with case written as operators."""

    def write(match: re.Match[str]) -> str:
        if (part := match[0]) in OPERATORS:
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
