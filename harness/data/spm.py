"""SentencePiece models, BPE and unigram: ids, and the raw bytes behind each id.

The model sees a normalised text (nmt_nfkc, U+2581 for space, runs of spaces joined). Its normaliser tells for each
normalised byte where it came from; that map, refined inside unchanged characters, turns piece boundaries into raw
byte offsets. So the bytes of a document's tokens always sum to its raw size, whatever the normaliser did.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import sentencepiece

from harness.data.tokenizers import Bytes, Encoded, Ids, PieceTable, Tokenizer, utf8
from harness.errors import CouldNotCheck, UsageError

SPACE = "\u2581"
THREADS = 2


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model from the bytes of its ``.model`` file.

    byte_pieces: which ids are byte-fallback pieces, bool (vocab,)
    """

    kind = "sentencepiece"

    def __init__(self, file: bytes, name: str) -> None:
        self.file, self.name = file, name
        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_proto=file)
        except RuntimeError:
            raise UsageError(f"{name} is no SentencePiece model.", remedy="Give the tokenizer's .model file.") from None
        self.vocab_size, self.bos_id = int(self._model.get_piece_size()), int(self._model.bos_id())
        if self.bos_id < 0:
            raise UsageError(
                f"{name} has no BOS piece; the shard format needs one before each document.",
                remedy="Train the tokenizer with a BOS piece (bos_id 1).",
            )
        ids = range(self.vocab_size)
        self.byte_pieces = np.array([bool(self._model.is_byte(i)) for i in ids])
        self._control = np.array([self._model.is_control(i) for i in ids])
        self._unknown = np.array([self._model.is_unknown(i) for i in ids])
        self._unused = np.array([self._model.is_unused(i) for i in ids])
        self._pieces = [str(self._model.id_to_piece(i)) for i in ids]
        sizes = np.array([len(piece.encode()) for piece in self._pieces], np.int64)
        self._spelt = np.where(self.byte_pieces, 1, np.where(self._control, 0, sizes))  # in the normalised text

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Ids, and their raw bytes through the normaliser's offsets."""
        raw = [utf8(text) for text in texts]
        found = self._model.encode(list(texts), out_type=int, num_threads=THREADS)
        encoded = [np.array(ids, np.int64) for ids in found]
        return [(ids, self._account(text, len(data), ids)) for text, data, ids in zip(texts, raw, encoded, strict=True)]

    def decode(self, ids: Ids) -> bytes:
        """The model's own decoding, byte pieces joined to characters where they form UTF-8."""
        decoded: str = self._model.decode([int(i) for i in ids if not self._control[i]])
        return decoded.encode()

    def table(self) -> PieceTable:
        """The public script's columns, from the pieces' types and texts."""
        boundary = self._control | self._unknown | self._unused
        space = np.array([piece.startswith(SPACE) for piece in self._pieces]) & ~boundary & ~self.byte_pieces
        sizes = np.array([len(piece.removeprefix(SPACE).encode()) for piece in self._pieces], np.int64)
        return PieceTable(np.where(boundary, 0, np.where(self.byte_pieces, 1, sizes)), space, boundary)

    def _account(self, text: str, raw_bytes: int, ids: Ids) -> Bytes:
        """The raw bytes of each id: cuts of the text that the model sees, taken back to the raw text."""
        if len(ids) == 0:
            return np.zeros(0, np.int64)
        normal, offsets = self._model.normalize(text.encode(), with_offsets=True)
        ends = np.cumsum(self._spelt[ids])
        if not self._unknown[ids].any() and ends[-1] == len(normal):
            cuts = refine(np.array(offsets, np.int64), len(normal))[ends]
        else:  # the slow way, for unknown pieces, whose length only the encoder knows: each piece's own surface
            pieces = self._model.encode(text.encode(), return_type="proto").pieces
            if [piece.id for piece in pieces] != ids.tolist():
                raise CouldNotCheck(
                    f"{self.name} encodes a document in one way as ids and in another as text, so its bytes can't be "
                    "told.",
                    remedy="Use a tokenizer without unknown pieces (byte_fallback).",
                )
            cuts = np.array([piece.end for piece in pieces], np.int64)
        cuts[-1] = raw_bytes
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
