"""Documents from files: JSON lines (plain, .gz or .xz), text files, or a folder of either; one at a time, in order."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any

from harness.data.tokenizers import utf8
from harness.errors import CouldNotCheck, UsageError

JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.xz")
UNPACKED: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".xz": lzma.open}
MOST_LINE_BYTES = 1 << 30


class Documents:
    """An iterable of documents. ``position`` of ``size`` bytes of the files are read so far, for progress.

    sources: files or folders; a folder gives its JSON-lines files, or else its ``*.txt`` files, sorted by path
    field:   key of the text in a JSON line; a text file is one document
    """

    def __init__(self, sources: Iterable[Path], field: str = "text") -> None:
        self.files = [file for source in sources for file in _expand(source)]
        self._field = field
        self._before = 0
        self._open_file: IO[bytes] | None = None
        self.size = sum(file.stat().st_size for file in self.files)

    @property
    def position(self) -> int:
        """Bytes of the files read so far, as they lie on the disk."""
        return self._before + (self._open_file.tell() if self._open_file else 0)

    def __iter__(self) -> Iterator[str]:
        """The texts. Raises ``CouldNotCheck`` that names file and line for what is no document."""
        self._before = 0
        for path in self.files:
            with path.open("rb") as file, UNPACKED.get(path.suffix, nullcontext)(file) as content:
                self._open_file = file
                try:
                    if path.name.endswith(JSON_LINES):
                        lines = iter(partial(content.readline, MOST_LINE_BYTES), b"")
                        yield from (self._text(line, f"{path}, line {at:,}") for at, line in enumerate(lines, start=1))
                    else:
                        yield content.read().decode()
                except UnicodeDecodeError as error:
                    text = f"{path} is not UTF-8 (byte {error.start:,})."
                    raise CouldNotCheck(text, remedy="Convert the text first.") from None
                except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
                    raise CouldNotCheck(f"{path} is damaged or cut: {error}.", remedy="Fetch it again.") from None
                finally:
                    self._open_file = None
            self._before += path.stat().st_size

    def _text(self, line: bytes, where: str) -> str:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise CouldNotCheck(f"{where} is no JSON.", remedy="Wanted one JSON object a line.") from None
        text = value.get(self._field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            remedy = "--field names the key of the text."
            raise CouldNotCheck(f"{where} has no text under {self._field!r}.", remedy=remedy)
        try:
            utf8(text)
        except CouldNotCheck as error:
            raise CouldNotCheck(f"{where}: {error.message}", remedy=error.remedy) from None
        return text


def _expand(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f"{source} is neither a file nor a folder.", remedy="Give a file or a folder of documents.")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    found = [path for path in files if path.name.endswith(JSON_LINES)] or [p for p in files if p.suffix == ".txt"]
    if not found:
        raise UsageError(
            f"{source} holds neither {', '.join(JSON_LINES)} nor .txt files.", remedy="Give JSON lines or text files."
        )
    return found
