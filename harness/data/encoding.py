"""Documents to tokens and bytes, in order, with a few batches tokenised ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from harness.data.tokenizers import Encoded, Tokenizer

BATCH_CHARACTERS = 2_000_000
AHEAD = 2


def encode_documents(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[str, Encoded]]:
    """Each document with its ids and the raw bytes of each id.

    Two batches are in work while the caller takes a third: the tokenizers compute outside Python's lock. Raises what
    :meth:`Tokenizer.encode` raises, when the document's turn comes.
    """
    waiting: deque[tuple[list[str], Future[list[Encoded]]]] = deque()
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="tokenize") as pool:
        for batch in _batches(documents):
            waiting.append((batch, pool.submit(tokenizer.encode, batch)))
            if len(waiting) > AHEAD:
                yield from _taken(*waiting.popleft())
        while waiting:
            yield from _taken(*waiting.popleft())


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
