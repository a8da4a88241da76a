"""A built data set on disk: shards, byte ledger, tokenizer, and ``dataset.json``, which names each file's digest.

``dataset.json`` is written last. A folder without it is not a data set, and a file that differs from it is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from harness.data.shards import find_shards, join_values, read_head, refuse_foreign_tokens
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import file_digest, write_atomic
from harness.progress import Reporter
from harness.rules import Finding

MANIFEST = "dataset.json"
VERIFIED = "verified.json"
REBUILD = "Remove the folder and build or fetch it again."


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of ``dataset.json``. Sizes in bytes are of raw UTF-8 text; files: file name → SHA-256."""

    version: int
    name: str
    source: dict[str, str]
    tokenizer: str
    vocab_size: int
    bos_id: int
    val_documents: int
    val_bytes: int
    val_tokens: int
    train_documents: int
    train_bytes: int | None
    train_tokens: int
    baselines_bpb: dict[str, float]
    disjoint: Finding
    files: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and digests of all files; the same content has the same fingerprint anywhere."""
        return hashlib.sha256(json.dumps(dict(sorted(self.files.items()))).encode()).hexdigest()


class Dataset(Manifest, frozen=True, kw_only=True):
    """A data set whose files agree with their digests: what its ``dataset.json`` says, and where it lies."""

    folder: Path
    train_shards: tuple[Path, ...]

    def require_vocab(self, vocab_size: int, wanted_by: str) -> None:
        """Refuse shards of another tokenizer than ``wanted_by`` (a track) asks for. Raises ``UsageError``."""
        if self.vocab_size != vocab_size:
            raise UsageError(
                f"data set {self.name} has a vocabulary of {self.vocab_size:,}; {wanted_by} wants {vocab_size:,}: "
                "wrong tokenizer for these shards.",
                remedy=f"Choose another track or data set, or build one with a tokenizer of {vocab_size:,} pieces.",
            )


@dataclass(frozen=True)
class Validation:
    """The validation stream.

    tokens:       uint16 (N,), all documents with the BOS before each
    target_bytes: unsigned (N - 1,), raw bytes that target ``tokens[i + 1]`` accounts for; 0 for BOS
    """

    tokens: npt.NDArray[np.uint16]
    target_bytes: npt.NDArray[np.unsignedinteger]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``dataset.json``; from now on the folder is a data set."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_atomic(folder / MANIFEST, text + b"\n", replace=True)


def read_manifest(folder: Path) -> Manifest:
    """``dataset.json``. Raises ``CouldNotCheck`` when it is missing or malformed."""
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise CouldNotCheck(
            f"{folder} is not a data set: it has no {MANIFEST}.", remedy="`harness data build` or `fetch` makes one."
        ) from None
    except msgspec.DecodeError as error:
        raise CouldNotCheck(f"{path}: {error}.", remedy=REBUILD) from None
    if manifest.version != 1:
        raise CouldNotCheck(f"{path} is of version {manifest.version}; this referee knows version 1.", remedy=REBUILD)
    strays = [name for name in manifest.files if Path(name).name != name or name.startswith(".")]
    if strays:
        raise CouldNotCheck(f"{path} names a file outside its folder: {strays[0]!r}.", remedy=REBUILD)
    return manifest


def open_folder(folder: Path, progress: Reporter) -> Dataset:
    """Open a built data set: headers, sizes, digests.

    A file whose size, time and inode are those of its last full check is not read again.
    Raises ``CouldNotCheck`` for a missing, changed, truncated or foreign file.
    """
    manifest = read_manifest(folder)
    _check_files(folder, manifest.files, progress)
    train, val = find_shards(folder, "train"), find_shards(folder, "val")
    ledger = find_shards(folder, "val_bytes")
    unlisted = [p.name for p in (*train, *val, *ledger) if p.name not in manifest.files]
    if unlisted:
        raise CouldNotCheck(f"{folder / unlisted[0]} is not listed in {MANIFEST}.", remedy="Remove the foreign shard.")
    counts = [sum(read_head(path)[1] for path in part) for part in (train, val, ledger)]
    wanted = [manifest.train_tokens, manifest.val_tokens, manifest.val_tokens]
    if counts != wanted or manifest.val_tokens < 2:
        raise CouldNotCheck(f"{folder}: shards hold {counts} values, {MANIFEST} says {wanted}.", remedy=REBUILD)
    return Dataset(**msgspec.structs.asdict(manifest), folder=folder, train_shards=tuple(train))


def load_validation(dataset: Dataset) -> Validation:
    """The validation stream and its byte ledger, whose sum is proved against the raw size once more.

    Raises ``RuleBroken`` (A7-BYTES) when the ledger does not sum to the documents' bytes, ``CouldNotCheck`` for a token
    outside the vocabulary.
    """
    tokens = join_values(find_shards(dataset.folder, "val"))
    ledger = join_values(find_shards(dataset.folder, "val_bytes"))
    refuse_foreign_tokens(tokens, dataset.vocab_size, dataset.folder)
    total = int(ledger[1:].sum(dtype=np.int64))
    if total != dataset.val_bytes or ledger[0] != 0:
        raise RuleBroken(
            "A7-BYTES",
            f"the byte ledger of {dataset.folder} sums to {total:,}; the documents hold {dataset.val_bytes:,} bytes.",
            remedy=REBUILD,
        )
    return Validation(tokens.astype(np.uint16, copy=False), ledger[1:])


def _check_files(folder: Path, files: Mapping[str, str], progress: Reporter) -> None:
    stamp, states = folder / VERIFIED, dict[str, list[str | int]]()
    try:
        known = msgspec.json.decode(stamp.read_bytes(), type=dict[str, list[str | int]])
    except (OSError, msgspec.DecodeError):
        known = {}
    for name, digest in files.items():
        if not (path := folder / name).is_file():
            raise CouldNotCheck(f"{path} is missing.", remedy=REBUILD)
        status = path.stat()
        states[name] = [digest, status.st_size, status.st_mtime_ns, status.st_ino]
    todo = {name: (folder / name).stat().st_size for name in files if known.get(name) != states[name]}
    if not todo:
        return
    done = 0
    with progress.stage(f"digests of {folder.name}", sum(todo.values()), "bytes") as stage:
        for name, size in todo.items():
            found = file_digest(folder / name)
            if found != files[name]:
                raise CouldNotCheck(
                    f"{folder / name} has changed: its sha256 is {found[:16]}…, wanted {files[name][:16]}….",
                    remedy=REBUILD,
                )
            done += size
            stage.update(done, name)
    with suppress(OSError):  # a folder that is read-only, full or without modes is checked each time
        write_atomic(stamp, json.dumps(states).encode(), replace=True)
