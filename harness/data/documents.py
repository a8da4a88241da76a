"""Documents from files (JSON lines, .gz or .xz or plain; text files; a folder of either), and to tokens and bytes.

Reading holds one document at a time; a few batches are tokenised ahead by threads.
"""

import gzip
import json
import lzma
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data import tokenizers
from harness.data.dataset import MANIFEST, read_manifest
from harness.data.tokenizers import Tokenizer
from harness.errors import CouldNotCheck, UsageError
from harness.text import printable

JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.xz")
UNPACKED: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".xz": lzma.open}
MOST_DOCUMENT_BYTES = 64_000_000  # unpacked: a few kilobytes of .xz can hold gigabytes, and a document is held whole
BATCH_CHARACTERS = 2_000_000
AHEAD = 2


class Documents:
    """An iterable of documents. ``position`` of ``size`` bytes of the files are read so far, for progress.

    sources: files or folders; a folder gives its JSON-lines files, or else its ``*.txt`` files, sorted by path
    field:   key of the text in a JSON line; a text file is one document. A document has 64 MB at most
    """

    def __init__(self, sources: Iterable[Path], field: str = "text") -> None:
        self.files = [file for source in sources for file in _expand(source)]
        self._field, self.position = field, 0
        self.size = sum(file.stat().st_size for file in self.files)

    def __iter__(self) -> Iterator[str]:
        """The texts. Raises ``CouldNotCheck`` that names file and line for what is not a document."""
        before = 0
        for path in self.files:
            with path.open("rb") as file, UNPACKED.get(path.suffix, nullcontext)(file) as content:
                try:
                    most, in_lines = MOST_DOCUMENT_BYTES + 1, path.name.endswith(JSON_LINES)
                    found = iter(partial(content.readline, most), b"") if in_lines else [content.read(most)]
                    for at, data in enumerate(found, start=1):
                        self.position, where = before + file.tell(), f"{path}, line {at:,}" if in_lines else f"{path}"
                        if len(data) > MOST_DOCUMENT_BYTES:
                            text = f"{where} is longer than a document may be ({MOST_DOCUMENT_BYTES:,} bytes unpacked)."
                            raise CouldNotCheck(text, remedy="Split it into several documents, or leave it out.")
                        yield self._text(data, where) if in_lines else data.decode()
                except UnicodeDecodeError as error:
                    text = f"{path} is not UTF-8 (byte {error.start:,})."
                    raise CouldNotCheck(text, remedy="Convert the text first.") from None
                except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
                    raise CouldNotCheck(f"{path} is damaged or cut: {error}.", remedy="Fetch it again.") from None
            self.position = before = before + path.stat().st_size

    def _text(self, line: bytes, where: str) -> str:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise CouldNotCheck(f"{where} is not JSON.", remedy="Wanted one JSON object a line.") from None
        text = value.get(self._field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            remedy = "--field names the key of the text."
            raise CouldNotCheck(f"{where} has no text under {self._field!r}.", remedy=remedy)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            found = f"a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start:,})"
            remedy = "Remove or replace it in the source."
            raise CouldNotCheck(f"{where}: {found} has no UTF-8 bytes to count.", remedy=remedy) from None
        return text


def _expand(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UsageError(f"{source} is neither a file nor a folder.", remedy="Give a file or a folder of documents.")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    found = [path for path in files if path.name.endswith(JSON_LINES)] or [p for p in files if p.suffix == ".txt"]
    if not found:
        text = f"{source} holds neither {', '.join(JSON_LINES)} nor .txt files."
        raise UsageError(text, remedy="Give JSON lines or text files.")
    return found


def encode_documents(
    documents: Iterable[str], tokenizer: Tokenizer, *, first: int = 0
) -> Iterator[tuple[str, tokenizers.Encoded]]:
    """Each document with its ids and the raw bytes of each id.

    The bytes of a document whose text the tokenizer drops entirely count with the next token. Two batches are in work
    while the caller takes a third: the tokenizers compute outside Python's lock.

    first: the number of the first document
    Raises what :meth:`Tokenizer.encode` raises, when the document's turn comes, and ``CouldNotCheck``, which names the
    document, when the tokenizer's own code breaks on it or its tokens do not account for its bytes.
    """
    waiting: deque[tuple[list[str], Future[list[tokenizers.Encoded]]]] = deque()
    numbers, owed = count(first), 0
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="tokenize") as pool:
        batches = _batches(documents)
        while True:
            for batch in islice(batches, AHEAD + 1 - len(waiting)):
                waiting.append((batch, pool.submit(_encode, tokenizer, batch, first)))
                first += len(batch)
            if not waiting:
                return
            texts, encoded = waiting.popleft()
            for (text, (ids, sizes)), number in zip(zip(texts, encoded.result(), strict=True), numbers, strict=False):
                raw_bytes, counted = len(text.encode()), int(sizes.sum())
                if len(sizes) and (counted != raw_bytes or int(sizes.min()) < 0):
                    raise CouldNotCheck(
                        f"the tokens of document {number:,} account for {counted:,} of its {raw_bytes:,} bytes.",
                        remedy="Its bytes can't be counted with this tokenizer: use another one, or take it out.",
                    )
                owed += raw_bytes - counted
                if len(sizes):
                    sizes[0], owed = sizes[0] + owed, 0
                yield text, (ids, sizes)


def ledger_of(
    documents: Iterable[str], tokens: npt.NDArray[np.integer], tokenizer: Tokenizer, counted: Callable[[int, str], None]
) -> tuple[tokenizers.Bytes, int, int]:
    """The raw bytes of each of ``tokens``, (N,), up to the first document that is not what stands there.

    counted: called with number, from 1 on, and text of each document
    Returns also how many tokens and documents agree, BOS for BOS and token for token.
    """
    ledger, end, seen = np.zeros(len(tokens), np.int64), 0, 0
    for text, (ids, sizes) in encode_documents(documents, tokenizer):
        at, after = end + 1, end + 1 + len(ids)
        if after > len(tokens) or tokens[end] != tokenizer.bos_id or not np.array_equal(tokens[at:after], ids):
            break
        ledger[at:after] = sizes
        end, seen = after, seen + 1
        counted(seen, text)
    return ledger, end, seen


def _encode(tokenizer: Tokenizer, batch: list[str], first: int) -> list[tokenizers.Encoded]:
    """``first`` is the number of the batch's first document."""
    try:
        return tokenizer.encode(batch)
    except BaseException as error:
        # native tokenizers report a failure of their own as RuntimeError or, from Rust, as a panic
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        if len(batch) > 1:
            return [encoded for at, text in enumerate(batch) for encoded in _encode(tokenizer, [text], first + at)]
        text = batch[0]
        raise CouldNotCheck(
            f"tokenizer {tokenizer.name} breaks on document {first:,} ({len(text):,} characters, beginning with "
            f"{printable(text, 40)!r}): {printable(str(error))}.",
            remedy="Split that document or leave it out; very long runs of one character are a known cause.",
        ) from None


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of about 2 million characters."""
    batch, size = list[str](), 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a file (``*.model``, ``*.tiktoken``, ``*.json`` of byte260), or ``byte260`` by name.

    Raises ``UsageError`` for a missing or foreign file.
    """
    if str(path) == "byte260":
        return tokenizers.ByteTokenizer()
    path = Path(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        text = f"tokenizer {path} is not a file."
        raise UsageError(text, remedy="Give a .model, .tiktoken or byte260 .json file, or byte260.") from None
    if path.suffix == ".tiktoken":
        return tokenizers.TiktokenTokenizer(content, path.name)
    if path.suffix != ".json":
        return tokenizers.SentencePieceTokenizer(content, path.name)
    tokenizer = tokenizers.ByteTokenizer()
    with suppress(ValueError, AttributeError):
        if json.loads(content).get("config") == json.loads(tokenizer.file)["config"]:
            tokenizer.file = content
            return tokenizer
    raise UsageError(f"{path} does not describe the byte260 tokenizer.", remedy="Only that JSON form is known.")


def folder_tokenizer(folder: Path, given: str | None) -> Tokenizer | None:
    """The ``given`` tokenizer, or else that of the data set in ``folder`` with its transform; ``None`` without both."""
    if given:
        return load_tokenizer(given)
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    tokenizer = load_tokenizer(folder / manifest.tokenizer)
    cased = manifest.source.get("transform") == tokenizers.TRANSFORM
    return tokenizers.CaseTokenizer(tokenizer) if cased else tokenizer
