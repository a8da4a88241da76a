"""Text that others wrote, on its way to a terminal, a pipe or a log.

Two guards. :func:`printable` puts one foreign string on one line; whoever composes a message uses it. And the standard
streams of the command line are wrapped, so that nothing that was forgotten moves a cursor, changes a colour or hides a
letter: a terminal obeys what it is sent, and names of files and lines of logs are a stranger's.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from jinja2 import Environment

_INVISIBLE = (
    *range(0x00, 0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0),  # control characters but tab and line end
    *range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A),  # line ends and directions of writing
)  # fmt: skip
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^/\s'\",;:]+/)+")
_ESCAPED = {code: f"\\u{code:04x}" for code in _INVISIBLE}  # JSON's own escape: a document stays the same document


def printable(text: str, limit: int = 200) -> str:
    """``text`` on one line without control and format characters, at most ``limit`` characters."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def without_places(text: str) -> str:
    """A message for what is signed and published: of paths the last name alone.

    >>> without_places("no file '/home/ada/data/val.bin'")
    "no file 'val.bin'"
    """
    return printable(_FOLDERS.sub("", text), 1000)


@cache
def templates(folder: Path) -> Environment:
    """The templates in ``folder``. HTML is escaped; the filter ``plain`` makes foreign text fit for everything else."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    files, html = FileSystemLoader(folder), select_autoescape(("html.jinja",))
    found = Environment(loader=files, autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters["plain"] = lambda text, limit=300: printable(str(text), limit)
    return found


class _Guarded:
    """A text stream that escapes control characters, replaces what its encoding lacks, and outlives its reader.

    bare: the stream itself, for bars and colours of our own
    result: whether a result goes there, which must not get lost without a word; what is said beside it may
    """

    encoding = "utf-8"  # of the bytes that click writes: it encodes by this name, whatever the stream's own encoding is

    def __init__(self, bare: TextIO, *, result: bool) -> None:
        self.bare, self.result = bare, result
        if (reconfigure := getattr(bare, "reconfigure", None)) is not None:
            reconfigure(errors="replace")

    def write(self, text: str | bytes) -> int:
        with self._until_nobody_reads():
            self.bare.write((text if isinstance(text, str) else text.decode()).translate(_ESCAPED))
        return len(text)

    def flush(self) -> None:
        with self._until_nobody_reads():
            self.bare.flush()

    @contextlib.contextmanager
    def _until_nobody_reads(self) -> Iterator[None]:
        """The verdict does not depend on who reads it: after a broken pipe the rest goes nowhere.

        Nor do words that a full disk does not take end a run.
        """
        try:
            yield
        except OSError as error:
            if self.result and not isinstance(error, BrokenPipeError):
                raise
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), self.bare.fileno())

    def __getattr__(self, name: str) -> Any:
        if name in ("bare", "result", "buffer"):  # without a buffer nobody writes around the guard
            raise AttributeError(name)
        return getattr(self.bare, name)


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Standard output and error behind a guard for the block. A stream that was closed leads nowhere."""
    for descriptor in range(3):  # one that the caller closed: the next file that is opened must not become an output
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        cast(TextIO, _Guarded(stream or os.fdopen(number, "w", closefd=False), result=number == 1))
        for number, stream in enumerate(before, start=1)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
