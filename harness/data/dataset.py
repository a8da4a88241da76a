"""A built data set on disk: shards, byte ledger, tokenizer, and ``dataset.json``, which names each file's digest.

``dataset.json`` is written last. A folder without it is not a data set, and a file that differs from it is refused.

Shards are of the published format: 256 little-endian int32 of header (magic, version, count), then the values. Version
1 holds uint16 values: tokens, or the raw bytes of each token beside them. Version 2 holds uint32 and is used only for
a byte ledger in which one token accounts for more than 65,535 bytes.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import file_digest, read_regular, write_atomic
from harness.progress import Reporter
from harness.protocol.session import SHARD_HEAD, SHARD_HEADER_BYTES, SHARD_MAGIC
from harness.rules import Finding

MANIFEST = "dataset.json"
VERIFIED = "verified.json"
REBUILD = "Remove the folder and build or fetch it again."
DTYPES: dict[int, np.dtype[np.unsignedinteger]] = {1: np.dtype("<u2"), 2: np.dtype("<u4")}
SHARD_NAME = re.compile(r"(?P<prefix>.+)_(?P<part>train|val|val_bytes)_(?P<index>\d{6})\.bin")

Values = npt.NDArray[np.unsignedinteger]


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
            said = f"data set {self.name} has a vocabulary of {self.vocab_size:,}; {wanted_by} wants {vocab_size:,}"
            remedy = f"Choose another track or data set, or build one with a tokenizer of {vocab_size:,} pieces."
            raise UsageError(f"{said}: wrong tokenizer for these shards.", remedy=remedy)


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
    write_atomic(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n", replace=True)


def read_manifest(folder: Path) -> Manifest:
    """``dataset.json``. Raises ``CouldNotCheck`` when it is missing or malformed."""
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        text = f"{folder} is not a data set: it has no {MANIFEST}."
        raise CouldNotCheck(text, remedy="`harness data build` or `fetch` makes one.") from None
    except msgspec.DecodeError as error:
        raise CouldNotCheck(f"{path}: {error}.", remedy=REBUILD) from None
    if manifest.version != 1:
        raise CouldNotCheck(f"{path} is of version {manifest.version}; this referee knows version 1.", remedy=REBUILD)
    if strays := [name for name in manifest.files if Path(name).name != name or name.startswith(".")]:
        raise CouldNotCheck(f"{path} names a file outside its folder: {strays[0]!r}.", remedy=REBUILD)
    return manifest


def open_folder(folder: Path, progress: Reporter) -> Dataset:
    """Open a built data set: headers, sizes, digests.

    A file whose size, time and inode are those of its last full check is not read again.
    Raises ``CouldNotCheck`` for a missing, changed, truncated or foreign file.
    """
    manifest = read_manifest(folder)
    _check_files(folder, manifest.files, progress)
    shards = [find_shards(folder, part) for part in ("train", "val", "val_bytes")]
    if unlisted := [path.name for part in shards for path in part if path.name not in manifest.files]:
        raise CouldNotCheck(f"{folder / unlisted[0]} is not listed in {MANIFEST}.", remedy="Remove the foreign shard.")
    counts = [sum(read_head(path)[1] for path in part) for part in shards]
    wanted = [manifest.train_tokens, manifest.val_tokens, manifest.val_tokens]
    if counts != wanted or manifest.val_tokens < 2:
        raise CouldNotCheck(f"{folder}: shards hold {counts} values, {MANIFEST} says {wanted}.", remedy=REBUILD)
    return Dataset(**msgspec.structs.asdict(manifest), folder=folder, train_shards=tuple(shards[0]))


def load_validation(dataset: Dataset) -> Validation:
    """The validation stream and its byte ledger, whose sum is proved against the raw size once more.

    Raises ``RuleBroken`` (A7-BYTES) when the ledger does not sum to the documents' bytes, ``CouldNotCheck`` for a token
    outside the vocabulary.
    """
    tokens = join_values(find_shards(dataset.folder, "val"))
    ledger = join_values(find_shards(dataset.folder, "val_bytes"))
    refuse_foreign_tokens(tokens, dataset.vocab_size, dataset.folder)
    if (total := int(ledger[1:].sum(dtype=np.int64))) != dataset.val_bytes or ledger[0] != 0:
        text = f"the byte ledger of {dataset.folder} sums to {total:,}; the documents hold {dataset.val_bytes:,} bytes."
        raise RuleBroken("A7-BYTES", text, remedy=REBUILD)
    return Validation(tokens.astype(np.uint16, copy=False), ledger[1:])


def _check_files(folder: Path, files: Mapping[str, str], progress: Reporter) -> None:
    stamp, states = folder / VERIFIED, dict[str, list[str | int]]()
    try:
        known = msgspec.json.decode(read_regular(stamp, 1 << 24), type=dict[str, list[str | int]])
    except (OSError, msgspec.DecodeError):
        known = {}
    todo, done = dict[str, int](), 0
    for name, digest in files.items():
        if not (path := folder / name).is_file():
            raise CouldNotCheck(f"{path} is missing.", remedy=REBUILD)
        status = path.stat()
        states[name] = [digest, status.st_size, status.st_mtime_ns, status.st_ino]
        if known.get(name) != states[name]:
            todo[name] = status.st_size
    if not todo:
        return
    with progress.stage(f"digests of {folder.name}", sum(todo.values()), "bytes") as stage:
        for name, size in todo.items():
            if (found := file_digest(folder / name)) != files[name]:
                text = f"{folder / name} has changed: its sha256 is {found[:16]}…, wanted {files[name][:16]}…."
                raise CouldNotCheck(text, remedy=REBUILD)
            done += size
            stage.update(done, name)
    with suppress(OSError):  # a folder that is read-only, full or without modes is checked each time
        write_atomic(stamp, json.dumps(states).encode(), replace=True)


def shard_name(prefix: str, part: str, index: int) -> str:
    """``sotu_train_000003.bin``; ``part`` is ``train``, ``val`` or ``val_bytes``."""
    return f"{prefix}_{part}_{index:06d}.bin"


def write_shard(path: Path, values: npt.NDArray[np.integer]) -> str:
    """Write one shard, of version 2 only where a value is over 65,535, and put it on the disk; returns its SHA-256."""
    version = 1 if int(values.max(initial=0)) < 2**16 else 2
    header = SHARD_HEAD.pack(SHARD_MAGIC, version, len(values)).ljust(SHARD_HEADER_BYTES, b"\0")
    body = np.ascontiguousarray(values, DTYPES[version])
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for part in (header, body.data):
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def read_head(path: Path) -> tuple[int, int]:
    """(version, count) of a shard whose size agrees with its header.

    Raises ``CouldNotCheck`` for a foreign, truncated or padded file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SHARD_HEAD.size)
    magic, version, count = SHARD_HEAD.unpack(head) if len(head) == SHARD_HEAD.size else (0, 0, 0)
    if magic != SHARD_MAGIC or version not in DTYPES or count < 0 or size < SHARD_HEADER_BYTES:
        found = f"magic {magic}, version {version}, {size:,} bytes; wanted magic {SHARD_MAGIC}"
        remedy = "Remove the foreign file, or build the data set again."
        raise CouldNotCheck(f"{path} is not a token shard: {found}.", remedy=remedy)
    if size != (wanted := SHARD_HEADER_BYTES + count * DTYPES[version].itemsize):
        kind = "truncated" if size < wanted else "longer than its header says"
        text = f"{path} is {kind}: {size:,} bytes, {wanted:,} wanted for {count:,} values."
        raise CouldNotCheck(text, remedy="Fetch or build it again.")
    return version, count


def map_values(path: Path) -> Values:
    """The values of one shard, memory-mapped and read-only, (count,). Raises like :func:`read_head`."""
    version, count = read_head(path)
    dtype = DTYPES[version]
    return np.asarray(np.memmap(path, dtype, "r", SHARD_HEADER_BYTES, (count,)) if count else [], dtype)


def join_values(paths: Iterable[Path]) -> Values:
    """The values of several shards as one stream; a single shard stays mapped."""
    parts = [map_values(path) for path in paths]
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, DTYPES[1])


def find_shards(folder: Path, part: str) -> list[Path]:
    """The shards of one part in stream order. Raises ``CouldNotCheck`` when an index is missing from the middle."""
    found = {}
    for path in sorted(folder.iterdir()):
        if (match := SHARD_NAME.fullmatch(path.name)) and match["part"] == part:
            found[int(match["index"])] = path
    if gaps := sorted(set(range(max(found, default=-1) + 1)) - set(found)):
        text = f"{folder}: {part} shard {gaps[0]:06d} is missing ({len(found)} of {max(found) + 1} are there)."
        raise CouldNotCheck(text, remedy="Fetch or build the data set again.")
    return [found[index] for index in sorted(found)]


def refuse_foreign_tokens(tokens: Values, vocab_size: int, where: Path, remedy: str = "") -> None:
    """Raises ``CouldNotCheck`` if ``where`` holds a token outside a vocabulary of that size."""
    if (largest := int(tokens.max(initial=0))) >= vocab_size:
        text = f"{where} holds token {largest}, the tokenizer has {vocab_size:,}: wrong tokenizer for these shards."
        raise CouldNotCheck(text, remedy=remedy or "Build or fetch shards and tokenizer together.")
