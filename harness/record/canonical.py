"""Bytes and digests: canonical JSON (RFC 8785), SHA-256, times as text, strict reading; the lock of a folder."""

import hashlib
import json
import re
from collections import Counter
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import rfc8785

from harness import files
from harness.errors import CouldNotCheck

MAX_FILE_BYTES = 16_000_000
LOCK_TIMEOUT_S = 60.0
CLOCK_SLACK = timedelta(minutes=10)  # a clock that is set, a writer that waits for the folder's lock
HEX64 = re.compile(r"[0-9a-f]{64}")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def canonical_bytes(value: object) -> bytes:
    """The one RFC 8785 form of JSON data or of a msgspec struct.

    Raises ``ValueError`` for what JSON cannot carry exactly: NaN, infinities, integers above 2^53, other types.
    """
    try:
        return rfc8785.dumps(msgspec.to_builtins(value))
    except (rfc8785.CanonicalizationError, TypeError) as error:
        raise ValueError(f"no canonical JSON form: {error}") from error


def canonical_digest(value: object) -> str:
    """SHA-256, as 64 hex digits, of :func:`canonical_bytes`."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def utc_now() -> str:
    """The time in UTC to the second: "2026-11-24T17:00:00Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> datetime:
    """The time that :func:`utc_now` wrote. Raises ``ValueError`` for any other form."""
    if not _UTC.fullmatch(text):
        raise ValueError(f"time {text!r} is not of the form 2026-11-24T17:00:00Z")
    return datetime.fromisoformat(text)


def strict_json(data: bytes) -> Any:
    """Parse JSON, refusing what parsers disagree on: equal keys, NaN, infinities, whole numbers over 2^53, wrong UTF-8.

    Raises ``ValueError`` with the reason.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise ValueError(f"key {twice!r} appears twice in one object")
        return found

    def refuse(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")

    def exact(text: str) -> int:
        if abs(number := int(text)) > 2**53:
            raise ValueError(f"a whole number of {len(text)} digits is over 2^53")
        return number

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse, parse_int=exact)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def read_bounded(path: Path) -> bytes:
    """A regular file's bytes. Raises ``CouldNotCheck`` when it can't be read or is larger than any record may be.

    A pipe or a device under the name of a record must hold nobody up, so it is opened without waiting and not read.
    """
    try:
        data = files.read_regular(path, MAX_FILE_BYTES, links=True)
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror}."
        raise CouldNotCheck(text, remedy="Check its name and its permissions.") from error
    if len(data) > MAX_FILE_BYTES:
        text = f"{path} is larger than {MAX_FILE_BYTES:,} bytes; no record is."
        raise CouldNotCheck(text, remedy="Name a record, not its artifact.")
    return data


def locked(records_dir: Path, *, shared: bool = False) -> AbstractContextManager[bool]:
    """Hold a records folder: alone for writing, or ``shared`` for reading. Raises ``CouldNotCheck`` after a minute.

    The lock is a file and not the folder itself, because network file systems lock only what is open for writing.
    """
    if not shared:
        records_dir.mkdir(parents=True, exist_ok=True)
    text = f"{records_dir} stayed locked by another process for {LOCK_TIMEOUT_S:.0f} s."
    taken = CouldNotCheck(text, remedy="Wait until that process has ended, then sign again.")
    return files.locked(records_dir / ".lock", wait_s=LOCK_TIMEOUT_S, shared=shared, taken=taken)
