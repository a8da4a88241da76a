"""The published shard format: 256 little-endian int32 of header (magic, version, count), then the values.

Version 1 holds uint16 values: tokens, or the raw bytes of each token beside them. Version 2 holds uint32 and is used
only for a byte ledger in which one token accounts for more than 65,535 bytes.
"""

import hashlib
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import CouldNotCheck
from harness.protocol.session import SHARD_HEADER_BYTES as HEADER_BYTES
from harness.protocol.session import SHARD_MAGIC as MAGIC

DTYPES: dict[int, np.dtype[np.unsignedinteger]] = {1: np.dtype("<u2"), 2: np.dtype("<u4")}
SHARD_NAME = re.compile(r"(?P<prefix>.+)_(?P<part>train|val|val_bytes)_(?P<index>\d{6})\.bin")
_HEAD = struct.Struct("<3i")

Values = npt.NDArray[np.unsignedinteger]


def shard_name(prefix: str, part: str, index: int) -> str:
    """``sotu_train_000003.bin``; ``part`` is ``train``, ``val`` or ``val_bytes``."""
    return f"{prefix}_{part}_{index:06d}.bin"


def write_shard(path: Path, values: npt.NDArray[np.integer], *, version: int = 1) -> str:
    """Write one shard and put it on the disk; the result is its SHA-256.

    Raises ``ValueError`` for a value outside the version's range: nothing is cut off silently.
    """
    dtype = DTYPES[version]
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) <= np.iinfo(dtype).max:
        raise ValueError(f"{path.name}: values reach {int(values.max()):,}; version {version} holds {dtype}.")
    header = np.zeros(HEADER_BYTES // 4, "<i4")
    header[:3] = MAGIC, version, len(values)
    body = np.ascontiguousarray(values, dtype)
    digest = hashlib.sha256(header.tobytes())
    digest.update(body.data)
    with path.open("xb") as file:
        file.write(header.tobytes())
        file.write(body.data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def write_ledger(path: Path, sizes: npt.NDArray[np.integer]) -> str:
    """Write a shard of the byte ledger, of version 2 only where one token accounts for more than 65,535 bytes."""
    return write_shard(path, sizes, version=1 if int(sizes.max(initial=0)) < 2**16 else 2)


def read_head(path: Path) -> tuple[int, int]:
    """(version, count) of a shard whose size agrees with its header.

    Raises ``CouldNotCheck`` for a missing, foreign, truncated or padded file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
    except FileNotFoundError:
        raise CouldNotCheck(f"{path} is missing.", remedy="Build or fetch the data set again.") from None
    magic, version, count = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0, 0)
    if magic != MAGIC or version not in DTYPES or count < 0 or size < HEADER_BYTES:
        raise CouldNotCheck(
            f"{path} is not a token shard: magic {magic}, version {version}, {size:,} bytes; wanted magic {MAGIC}.",
            remedy="Remove the foreign file, or build the data set again.",
        )
    wanted = HEADER_BYTES + count * DTYPES[version].itemsize
    if size != wanted:
        kind = "truncated" if size < wanted else "longer than its header says"
        raise CouldNotCheck(
            f"{path} is {kind}: {size:,} bytes, {wanted:,} wanted for {count:,} values.",
            remedy="Fetch or build it again.",
        )
    return version, count


def map_values(path: Path) -> Values:
    """The values of one shard, memory-mapped and read-only, (count,). Raises like :func:`read_head`."""
    version, count = read_head(path)
    return np.asarray(np.memmap(path, DTYPES[version], "r", HEADER_BYTES, (count,)) if count else [], DTYPES[version])


def join_values(paths: Iterable[Path]) -> Values:
    """The values of several shards as one stream; a single shard stays mapped."""
    parts = [map_values(path) for path in paths]
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, DTYPES[1])


def find_shards(folder: Path, part: str) -> list[Path]:
    """The shards of one part in stream order. Raises ``CouldNotCheck`` when an index is missing from the middle."""
    found = {}
    for path in sorted(folder.iterdir()):
        match = SHARD_NAME.fullmatch(path.name)
        if match and match["part"] == part:
            found[int(match["index"])] = path
    gaps = sorted(set(range(max(found, default=-1) + 1)) - set(found))
    if gaps:
        raise CouldNotCheck(
            f"{folder}: {part} shard {gaps[0]:06d} is missing ({len(found)} of {max(found) + 1} are there).",
            remedy="Fetch or build the data set again.",
        )
    return [found[index] for index in sorted(found)]


def refuse_foreign_tokens(tokens: Values, vocab_size: int, where: Path, remedy: str = "") -> None:
    """Raises ``CouldNotCheck`` if ``where`` holds a token outside a vocabulary of that size."""
    largest = int(tokens.max(initial=0))
    if largest >= vocab_size:
        raise CouldNotCheck(
            f"{where} holds token {largest}, the tokenizer has {vocab_size:,}: wrong tokenizer for these shards.",
            remedy=remedy or "Build or fetch shards and tokenizer together.",
        )
