"""Documents and a tokenizer to a data set: shards, byte ledger, baselines, overlap audit, manifest.

One pass over the documents, in order; memory holds a few batches of text and one shard of tokens.
"""

import lzma
import math
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.dataset import MANIFEST, Manifest, shard_name, write_manifest, write_shard
from harness.data.documents import encode_documents
from harness.data.overlap import OverlapAudit
from harness.data.tokenizers import Encoded, SentencePieceTokenizer, Tokenizer, apply_operators, train_bpe
from harness.errors import CouldNotCheck, UsageError
from harness.files import file_digest, locked, write_atomic
from harness.progress import Reporter
from harness.units import bits_per_byte

SHARD_TOKENS = 100_000_000
SHOW_EVERY = 16
TRAINING_CHARACTERS = 100_000_000


class Side:
    """One part of a data set while it is written: the tokens of full shards are on disk, the rest is held here.

    part: "val", which has a byte ledger, or "train"; counts: how often each id occurs, int64 (vocab_size,)
    """

    def __init__(self, prefix: str, part: str, folder: Path, shard_tokens: int, vocab_size: int) -> None:
        self.prefix, self.part, self.folder, self.shard_tokens = prefix, part, folder, shard_tokens
        self.documents = self.raw_bytes = self.tokens = 0
        self.files: dict[str, str] = {}
        self.counts = np.zeros(vocab_size, np.int64)
        self._held: dict[str, list[npt.NDArray[np.unsignedinteger]]] = defaultdict(list)  # by part of the shard's name
        self._held_tokens = self._shards = self._counted_bytes = 0

    def add(self, bos_id: int, raw_bytes: int, encoded: Encoded) -> None:
        """Append one document, BOS first."""
        ids, sizes = np.concatenate(([bos_id], encoded[0])), encoded[1]
        self._held[self.part].append(ids.astype(np.uint16))
        if self.part == "val":
            self._held["val_bytes"].append(np.concatenate(([0], sizes)).astype(np.uint32))
            self._counted_bytes += int(sizes.sum())
        self.documents, self.raw_bytes = self.documents + 1, self.raw_bytes + raw_bytes
        self.tokens, self._held_tokens = self.tokens + len(ids), self._held_tokens + len(ids)
        self.counts += np.bincount(ids, minlength=len(self.counts))
        while self._held_tokens >= self.shard_tokens:
            self._write(self.shard_tokens)

    def finish(self) -> None:
        """Write what is left. Raises ``CouldNotCheck`` for an empty side, or bytes that no token could take."""
        if self.part == "val" and (owed := self.raw_bytes - self._counted_bytes):
            raise CouldNotCheck(
                f"the last documents of {self.part} hold {owed:,} bytes and no token to account for them.",
                remedy="Remove documents that the tokenizer drops (white space only), or put them before others.",
            )
        if self.tokens < 2:
            text = f"{self.prefix}: the {self.part} side is empty."
            raise CouldNotCheck(text, remedy="Check the source and the split.")
        if self._held_tokens:
            self._write(self._held_tokens)

    def _write(self, count: int) -> None:
        for part, held in self._held.items():
            name, values = shard_name(self.prefix, part, self._shards), np.concatenate(held)
            self.files[name] = write_shard(self.folder / name, values[:count])
            self._held[part] = [values[count:]]
        self._held_tokens -= count
        self._shards += 1


class Baselines:
    """What the validation text costs without a model, document after document, joined without a separator.

    raw: bytes of the text so far
    """

    def __init__(self) -> None:
        self._packers: dict[str, Any] = {"zlib_9": zlib.compressobj(9), "xz_9": lzma.LZMACompressor(preset=9)}
        self._sizes = dict.fromkeys(self._packers, 0)
        self.raw = 0

    def add(self, document: bytes) -> None:
        """Take one document."""
        self.raw += len(document)
        for name, packer in self._packers.items():
            self._sizes[name] += len(packer.compress(document))

    def bpb(self, train_counts: npt.NDArray[np.int64], target_counts: npt.NDArray[np.int64]) -> dict[str, float]:
        """Bits per raw byte of each baseline, the scale beside a score, when no more documents come.

        train_counts, target_counts: int64 (vocab,), how often each id stands in the train set and among the targets.
        Train frequencies get one added to each count, so that an id that training lacks costs a finite price.
        """
        smoothed = train_counts + 1
        nats = -math.fsum(target_counts * np.log(smoothed / smoothed.sum()))
        packed = {name: self._sizes[name] + len(packer.flush()) for name, packer in self._packers.items()}
        return {
            "uniform_bytes": 8.0,
            "uniform_tokens": int(target_counts.sum()) * math.log2(len(target_counts)) / self.raw,
            "train_frequencies": bits_per_byte(nats, self.raw),
        } | {name: size * (8.0 / self.raw) for name, size in packed.items()}


def build_dataset(
    folder: Path,
    *,
    name: str,
    validation: Iterable[str],
    train: Iterable[str],
    tokenizer: Tokenizer,
    source: dict[str, str],
    progress: Reporter,
    shard_tokens: int = SHARD_TOKENS,
    total: float | None = None,
    position: Callable[[], float] | None = None,
    near: bool = True,
) -> None:
    """Build a data set under ``folder``, which appears complete or not at all. The caller holds the folder's lock.

    validation, train: documents in order; all of validation is read before train
    total, position:   size of the source and how much of it is read, for the progress bar
    near:              look for near-duplicates across the sides too, not only for equal documents
    """
    if tokenizer.vocab_size > 2**16:
        words = f"{tokenizer.name} has {tokenizer.vocab_size:,} ids; a token of a shard has 16 bits, room for 65,536."
        raise CouldNotCheck(words, remedy="Use a smaller tokenizer.")
    if folder.exists() and any(folder.iterdir()):
        what = "holds a data set already" if (folder / MANIFEST).exists() else "exists and is not empty"
        raise CouldNotCheck(f"{folder} {what}.", remedy="Choose another folder, or remove it first.")
    partial = folder.parent / f".partial-{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)  # of a builder that was killed
    partial.mkdir(parents=True)
    try:
        val, trained = (Side(name, part, partial, shard_tokens, tokenizer.vocab_size) for part in ("val", "train"))
        texts, overlap = Baselines(), OverlapAudit(near=near)
        with progress.stage(f"tokenize {name}", total, "bytes") as stage:
            for side, documents in ((val, validation), (trained, train)):
                for text, encoded in encode_documents(documents, tokenizer, first=val.documents):
                    raw = text.encode()
                    side.add(tokenizer.bos_id, len(raw), encoded)
                    if side.documents % SHOW_EVERY == 0:
                        done = position() if position else val.raw_bytes + trained.raw_bytes
                        stage.update(done, f"{side.documents:,} {side.part} documents")
                    if side is val:
                        texts.add(raw)
                        overlap.add_validation(raw)
                    else:
                        overlap.add_train(raw)
                side.finish()
        write_atomic(partial / tokenizer.name, tokenizer.file, replace=True)
        targets = val.counts.copy()
        targets[tokenizer.bos_id] -= 1  # the first BOS is never a target
        manifest = Manifest(
            version=1,
            name=name,
            source=source,
            tokenizer=tokenizer.name,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            val_documents=val.documents,
            val_bytes=val.raw_bytes,
            val_tokens=val.tokens,
            train_documents=trained.documents,
            train_bytes=trained.raw_bytes,
            train_tokens=trained.tokens,
            baselines_bpb=texts.bpb(trained.counts, targets),
            disjoint=overlap.finding(),
            files={**val.files, **trained.files, tokenizer.name: file_digest(partial / tokenizer.name)},
        )
        write_manifest(partial, manifest)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def folder_lock(folder: Path, *, wait_s: float = 0.0) -> AbstractContextManager[bool]:
    """Hold a data set's folder against a second builder.

    Raises ``CouldNotCheck`` when another process still holds it after ``wait_s`` seconds.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    text, remedy = f"another process builds {folder} (it holds {path}).", "Wait until it has finished, then run again."
    return locked(path, wait_s=wait_s, taken=CouldNotCheck(text, remedy=remedy))


def trained_tokenizer(
    size: int, documents: Iterable[str], name: str, val_documents: int, progress: Reporter, *, operators: bool
) -> Tokenizer:
    """A BPE of ``size`` pieces, of at most 100 million characters of the train side; of validation none.

    operators: of a text with case operators. Raises ``UsageError`` for too little text
    """
    with progress.stage(f"tokenizer of {size:,}", None):
        lines, seen = list[str](), 0
        for text in islice(documents, val_documents, None):
            lines += filter(str.strip, (apply_operators(text) if operators else text).splitlines())
            seen += len(text)
            if seen > TRAINING_CHARACTERS:
                break
        if not lines:
            words = f"nothing is left to train on: the sources hold at most {val_documents:,} documents."
            raise UsageError(words, remedy="Lower --val-docs.")
        try:
            return SentencePieceTokenizer(train_bpe(lines, size), f"{name}_{size}_bpe.model")
        except (RuntimeError, OSError) as error:
            words = f"a tokenizer of {size:,} pieces cannot be trained: {error}."
            raise UsageError(words, remedy="Ask for fewer pieces, or give more text.") from None
