"""Documents and a tokenizer to a data set: shards, byte ledger, baselines, overlap audit, manifest.

One pass over the documents, in order; memory holds a few batches of text and one shard of tokens.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.data.baselines import TextSizes, baselines_bpb
from harness.data.dataset import MANIFEST, Manifest, write_manifest
from harness.data.encoding import Debt, encode_documents
from harness.data.overlap import OverlapAudit
from harness.data.shards import shard_name, write_ledger, write_shard
from harness.data.tokenizers import Encoded, Tokenizer
from harness.errors import CouldNotCheck
from harness.files import locked, write_atomic
from harness.progress import Reporter

SHARD_TOKENS = 100_000_000
SHOW_EVERY = 16


@dataclass
class Side:
    """One part of a data set while it is written: the tokens of full shards are on disk, the rest is held here."""

    prefix: str
    part: str
    folder: Path
    shard_tokens: int
    keeps_bytes: bool
    vocab_size: int
    documents: int = 0
    raw_bytes: int = 0
    tokens: int = 0
    files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._held: list[npt.NDArray[np.uint16]] = []
        self._sizes: list[npt.NDArray[np.uint32]] = []
        self._held_tokens = self._shards = 0
        self._debt = Debt()
        self.counts = np.zeros(self.vocab_size, np.int64)

    def add(self, bos_id: int, raw_bytes: int, encoded: Encoded) -> None:
        """Append one document, BOS first."""
        ids, sizes = encoded
        if len(sizes) and (int(sizes.sum()) != raw_bytes or int(sizes.min()) < 0):
            raise CouldNotCheck(
                f"the tokens of {self.part} document {self.documents} account for {int(sizes.sum()):,} of its "
                f"{raw_bytes:,} bytes.",
                remedy="Its bytes can't be counted with this tokenizer: use another one, or take the document out.",
            )
        self.documents += 1
        self.raw_bytes += raw_bytes
        self._append(np.concatenate(([bos_id], ids)), np.concatenate(([0], self._debt.settle(raw_bytes, sizes))))
        while self._held_tokens >= self.shard_tokens:
            self._write(self.shard_tokens)

    def finish(self) -> None:
        """Write what is left. Raises ``CouldNotCheck`` when no token could take the bytes of token-less documents."""
        if self._held_tokens or not self._shards:
            self._write(self._held_tokens)
        if self._debt.owed and self.keeps_bytes:
            raise CouldNotCheck(
                f"the last documents of {self.part} hold {self._debt.owed:,} bytes and no token to account for them.",
                remedy="Remove documents that the tokenizer drops (white space only), or put them before others.",
            )

    def _append(self, ids: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> None:
        self.tokens += len(ids)
        self._held_tokens += len(ids)
        self._held.append(ids.astype(np.uint16))
        self.counts += np.bincount(ids, minlength=self.vocab_size)
        if self.keeps_bytes:
            self._sizes.append(sizes.astype(np.uint32))

    def _write(self, count: int) -> None:
        tokens = np.concatenate(self._held) if self._held else np.zeros(0, np.uint16)
        name = shard_name(self.prefix, self.part, self._shards)
        self.files[name] = write_shard(self.folder / name, tokens[:count])
        self._held, self._held_tokens = [tokens[count:]], len(tokens) - count
        if self.keeps_bytes:
            sizes = np.concatenate(self._sizes) if self._sizes else np.zeros(0, np.uint32)
            name = shard_name(self.prefix, f"{self.part}_bytes", self._shards)
            self.files[name] = write_ledger(self.folder / name, sizes[:count])
            self._sizes = [sizes[count:]]
        self._shards += 1


def build_dataset(
    folder: Path,
    *,
    name: str,
    prefix: str,
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
        raise CouldNotCheck(
            f"{tokenizer.name} has {tokenizer.vocab_size:,} ids; a token of a shard has 16 bits, room for 65,536.",
            remedy="Use a smaller tokenizer.",
        )
    with new_folder(folder) as partial:
        sides = [
            Side(prefix, part, partial, shard_tokens, part == "val", tokenizer.vocab_size) for part in ("val", "train")
        ]
        texts, overlap = TextSizes(), OverlapAudit(near=near)
        with progress.stage(f"tokenize {name}", total, "bytes") as stage:
            for side, documents in zip(sides, (validation, train), strict=True):
                for text, encoded in encode_documents(documents, tokenizer, first=sides[0].documents):
                    raw = text.encode()
                    side.add(tokenizer.bos_id, len(raw), encoded)
                    if side.documents % SHOW_EVERY == 0:
                        done = position() if position else sides[0].raw_bytes + sides[1].raw_bytes
                        stage.update(done, f"{side.documents:,} {side.part} documents")
                    if side.part == "val":
                        texts.add(raw)
                        overlap.add_validation(raw)
                    else:
                        overlap.add_train(raw)
                side.finish()
        texts.finish()
        _finish(partial, name, sides, tokenizer, source, texts, overlap)


def _finish(
    partial: Path,
    name: str,
    sides: list[Side],
    tokenizer: Tokenizer,
    source: dict[str, str],
    texts: TextSizes,
    overlap: OverlapAudit,
) -> None:
    val, train = sides
    for side in sides:
        if side.documents == 0 or side.tokens < 2:
            raise CouldNotCheck(f"{name}: the {side.part} side is empty.", remedy="Check the source and the split.")
    write_atomic(partial / tokenizer.name, tokenizer.file, replace=True)
    targets = val.counts.copy()
    targets[tokenizer.bos_id] -= 1  # the first BOS is never a target
    write_manifest(
        partial,
        Manifest(
            version=1,
            name=name,
            source=source,
            tokenizer=tokenizer.name,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            val_documents=val.documents,
            val_bytes=val.raw_bytes,
            val_tokens=val.tokens,
            train_documents=train.documents,
            train_bytes=train.raw_bytes,
            train_tokens=train.tokens,
            baselines_bpb=baselines_bpb(texts, train.counts, targets),
            disjoint=overlap.result.finding(),
            files={**val.files, **train.files, tokenizer.name: tokenizer.digest},
        ),
    )


@contextmanager
def folder_lock(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a data set's folder against a second builder.

    Raises ``CouldNotCheck`` when another process still holds it after ``wait_s`` seconds.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    with locked(path, wait_s=wait_s) as mine:
        if not mine:
            raise CouldNotCheck(
                f"another process builds {folder} (it holds {path}).",
                remedy="Wait until it has finished, then run again.",
            )
        yield


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends well; leftovers of killed builders are removed."""
    if (folder / MANIFEST).exists():
        raise CouldNotCheck(f"{folder} holds a data set already.", remedy="Choose another folder, or remove it first.")
    if folder.exists() and any(folder.iterdir()):
        raise CouldNotCheck(f"{folder} exists and is not empty.", remedy="Choose another folder, or remove it first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".partial-{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
