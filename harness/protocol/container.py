"""The artifact container: named byte sections, no code, no pickle; used for ``model.bin`` and ``code.bundle``.

Layout, little-endian, version 1::

    offset 0   4 bytes   magic "PGA1"
    offset 4   u8        codec: 0 none, 1 LZMA
    offset 5   u64       size of the body before compression
    offset 13  u64       size of the stored body
    offset 21  32 bytes  SHA-256 of bytes 0 to 20 and of the stored body
    offset 53            stored body, to the end of the file

    body: u32 number of sections, then for each u8 name length, name, u64 size; then the sections' bytes in that order.

Names are sorted, so equal sections give equal bytes. Every size is checked against the file and against the caller's
bound before anything is allocated, and every byte of the file is covered by the digest.
"""

import hashlib
import lzma
import os
import re
import struct
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Literal

Codec = Literal["none", "lzma"]

MAGIC = b"PGA1"
MAX_SECTIONS = 4096
_CODECS: dict[str, int] = {"none": 0, "lzma": 1}
_HEAD = struct.Struct("<4sBQQ")
_DIGEST_BYTES = 32
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<Q")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_BLOCK = 1 << 20
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0}]


class ContainerError(ValueError):
    """Bytes that are not a well-formed container; the text says what is wrong."""


def write_container(path: Path | None, sections: Mapping[str, bytes], *, codec: Codec) -> bytes:
    """Pack ``sections`` and, with a ``path``, write them there whole (temporary file, fsync, rename).

    Returns the bytes. Raises ``ContainerError`` for a bad name or too many sections.
    """
    if len(sections) > MAX_SECTIONS:
        raise ContainerError(f"{len(sections)} sections; at most {MAX_SECTIONS} are allowed.")
    index = [_COUNT.pack(len(sections))]
    for name in sorted(sections):
        _check_name(name)
        index.append(bytes([len(name)]) + name.encode("ascii") + _SIZE.pack(len(sections[name])))
    body = b"".join((*index, *(sections[name] for name in sorted(sections))))
    stored = body if codec == "none" else _compress(body)
    head = _HEAD.pack(MAGIC, _CODECS[codec], len(body), len(stored))
    data = head + hashlib.sha256(head + stored).digest() + stored
    if path is not None:
        write_whole(path, data)
    return data


def read_container(data: bytes, *, max_unpacked_bytes: int) -> dict[str, bytes]:
    """The sections of a container whose body is at most ``max_unpacked_bytes``. Raises ``ContainerError``."""
    start = _HEAD.size + _DIGEST_BYTES
    if len(data) < start:
        raise ContainerError(f"{len(data)} bytes are too few for a container's head of {start}.")
    magic, codec, body_size, stored_size = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ContainerError(f"magic is {magic!r}, wanted {MAGIC!r}.")
    if stored_size != len(data) - start:
        raise ContainerError(f"the head promises {stored_size:,} bytes, the file holds {len(data) - start:,}.")
    if body_size > max_unpacked_bytes:
        raise ContainerError(f"the body unpacks to {body_size:,} bytes; at most {max_unpacked_bytes:,} are allowed.")
    stored = memoryview(data)[start:]
    digest = hashlib.sha256(data[: _HEAD.size])
    digest.update(stored)
    if digest.digest() != data[_HEAD.size : start]:
        raise ContainerError("the checksum does not fit the content: the file is damaged.")
    return _sections(_unpack(stored, codec, body_size))


def _compress(body: bytes) -> bytes:
    """One LZMA2 stream, compressed block by block on all cores.

    A stream is a run of chunks and a zero byte, and a block's first chunk resets dictionary and state: so the chunks of
    all blocks, one after another, are a stream. Blocks do not depend on the machine, hence neither do the bytes.
    """
    blocks = [body[at : at + _BLOCK] for at in range(0, len(body), _BLOCK)]
    filters = [_FILTERS[0] | {"dict_size": _BLOCK}]  # an encoder takes and clears twelve times its dictionary
    with ThreadPoolExecutor(min(len(blocks), len(os.sched_getaffinity(0)))) as pool:
        parts = pool.map(lambda block: lzma.compress(block, format=lzma.FORMAT_RAW, filters=filters), blocks)
        return b"".join(part[:-1] for part in parts) + b"\0"


def _unpack(stored: memoryview, codec: int, body_size: int) -> bytes:
    if codec == _CODECS["none"]:
        body = bytes(stored)
    elif codec == _CODECS["lzma"]:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTERS)
        try:
            body = decoder.decompress(bytes(stored), max_length=body_size + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise ContainerError(f"the compressed body is damaged ({error}).") from error
        if decoder.unused_data or not decoder.eof:
            raise ContainerError("the compressed body does not end where the head says.")
    else:
        raise ContainerError(f"unknown codec {codec}.")
    if len(body) != body_size:
        raise ContainerError(f"the head promises a body of {body_size:,} bytes, found {len(body):,}.")
    return body


def _sections(body: bytes) -> dict[str, bytes]:
    if len(body) < _COUNT.size:
        raise ContainerError("the body has no section count.")
    (count,) = _COUNT.unpack_from(body)
    if count > MAX_SECTIONS:
        raise ContainerError(f"{count} sections; at most {MAX_SECTIONS} are allowed.")
    at = _COUNT.size
    sizes: dict[str, int] = {}
    for _ in range(count):
        end = at + 1 + int.from_bytes(body[at : at + 1])
        if end + _SIZE.size > len(body):
            raise ContainerError("the section index is cut short.")
        name = body[at + 1 : end].decode("latin-1")  # the check leaves ASCII alone
        _check_name(name)
        if sizes and name <= next(reversed(sizes)):
            raise ContainerError(f"section {name!r} is out of order or appears twice.")
        (sizes[name],) = _SIZE.unpack_from(body, end)
        at = end + _SIZE.size
    if at + sum(sizes.values()) != len(body):
        raise ContainerError("the sections' sizes do not add up to the body.")
    ends = accumulate(sizes.values(), initial=at)
    return {name: body[start : start + size] for start, (name, size) in zip(ends, sizes.items(), strict=False)}


def _check_name(name: str) -> None:
    if len(name) > 200 or not _NAME.fullmatch(name):
        raise ContainerError(f"section name {name[:80]!r} is not a plain relative path.")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all: temporary file, fsync, rename."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".partial-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)
