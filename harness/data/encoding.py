"""A tokenizer from its file; documents to tokens and bytes, in order, a few batches tokenised ahead by threads."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from harness.data.case import TRANSFORM, CaseTokenizer
from harness.data.dataset import MANIFEST, read_manifest
from harness.data.spm import SentencePieceTokenizer
from harness.data.tokenizers import Bytes, ByteTokenizer, Encoded, TiktokenTokenizer, Tokenizer
from harness.errors import CouldNotCheck, UsageError
from harness.text import printable

BATCH_CHARACTERS = 2_000_000
AHEAD = 2


class Debt:
    """The bytes of documents whose text the tokenizer drops entirely: the next token accounts for them.

    owed: bytes that no token has taken yet
    """

    def __init__(self) -> None:
        self.owed = 0

    def settle(self, raw_bytes: int, sizes: Bytes) -> Bytes:
        """Bytes a token of one document, with what was owed before it."""
        if len(sizes) == 0:
            self.owed += raw_bytes
            return sizes
        settled: Bytes = sizes.copy()
        settled[0] += self.owed
        self.owed = 0
        return settled


def encode_documents(
    documents: Iterable[str], tokenizer: Tokenizer, *, first: int = 0
) -> Iterator[tuple[str, Encoded]]:
    """Each document with its ids and the raw bytes of each id.

    Two batches are in work while the caller takes a third: the tokenizers compute outside Python's lock.

    first: the number of the first document
    Raises what :meth:`Tokenizer.encode` raises, when the document's turn comes, and ``CouldNotCheck``, which names the
    document, when the tokenizer's own code breaks on it.
    """
    waiting: deque[tuple[list[str], Future[list[Encoded]]]] = deque()
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="tokenize") as pool:
        batches = _batches(documents)
        while True:
            for batch in islice(batches, AHEAD + 1 - len(waiting)):
                waiting.append((batch, pool.submit(_encode, tokenizer, batch, first)))
                first += len(batch)
            if not waiting:
                return
            texts, encoded = waiting.popleft()
            yield from zip(texts, encoded.result(), strict=True)


def _encode(tokenizer: Tokenizer, batch: list[str], first: int) -> list[Encoded]:
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


def _taken(batch: list[str], encoded: Future[list[Encoded]]) -> Iterator[tuple[str, Encoded]]:
    return zip(batch, encoded.result(), strict=True)


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in lists of about 2 million characters."""
    batch: list[str] = []
    size = 0
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
        return ByteTokenizer()
    path = Path(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(
            f"tokenizer {path} is not a file.", remedy="Give a .model, .tiktoken or byte260 .json file, or byte260."
        ) from None
    if path.suffix == ".tiktoken":
        return TiktokenTokenizer(content, path.name)
    if path.suffix != ".json":
        return SentencePieceTokenizer(content, path.name)
    tokenizer = ByteTokenizer()
    try:
        same = json.loads(content).get("config", {}) == json.loads(tokenizer.file)["config"]
    except (ValueError, AttributeError):
        same = False
    if not same:
        raise UsageError(f"{path} does not describe the byte260 tokenizer.", remedy="Only that JSON form is known.")
    tokenizer.file = content
    return tokenizer


def folder_tokenizer(folder: Path, given: str | None) -> Tokenizer | None:
    """The ``given`` tokenizer, or else that of the data set in ``folder`` with its transform; ``None`` without both."""
    if given:
        return load_tokenizer(given)
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    tokenizer = load_tokenizer(folder / manifest.tokenizer)
    return CaseTokenizer(tokenizer) if manifest.source.get("transform") == TRANSFORM else tokenizer
