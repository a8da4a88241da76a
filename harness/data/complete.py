"""A fetched export and its documents to a data set: the shards are kept, the byte ledger comes from the documents."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from harness.data.baselines import TextSizes, baselines_bpb
from harness.data.byte_check import shard_overlap
from harness.data.byte_table import Tokens
from harness.data.dataset import Manifest, write_manifest
from harness.data.documents import Documents
from harness.data.encoding import Debt, encode_documents, load_tokenizer
from harness.data.export import DOCS, FetchRecord
from harness.data.shards import find_shards, join_values, map_values, write_ledger
from harness.data.tokenizers import Tokenizer
from harness.errors import CouldNotCheck
from harness.files import file_digest
from harness.progress import Reporter

COUNT_BLOCK = 1 << 24
SHOW_EVERY = 256


def complete(folder: Path, record: FetchRecord, progress: Reporter) -> None:
    """Write the ledger beside the validation shards, then ``dataset.json``.

    Raises ``CouldNotCheck`` when the documents, tokenised again, are not the validation shards token for token.
    """
    model = next(f.name for f in record.files if f.name.endswith((".model", ".json")) and f.name != "manifest.json")
    tokenizer = load_tokenizer(folder / model)
    shards = find_shards(folder, "val")
    tokens = join_values(shards)
    documents = int(np.count_nonzero(tokens == tokenizer.bos_id))
    ledger, raw_bytes = _ledger(folder, tokens, tokenizer, documents, progress)
    at, written = 0, {}
    for path in shards:
        count = len(map_values(path))
        part = ledger[at : at + count]
        name = path.name.replace("_val_", "_val_bytes_")
        (folder / name).unlink(missing_ok=True)
        written[name] = write_ledger(folder / name, part)
        at += count
    train = [_counts(path, tokenizer.vocab_size) for path in find_shards(folder, "train")]
    train_counts = np.sum(train, axis=0) if train else np.zeros(tokenizer.vocab_size, np.int64)
    sizes = TextSizes()
    with progress.stage("zlib -9 and xz -9", None):
        for text in islice(Documents([folder / DOCS]), documents):
            sizes.add(text.encode())
    sizes.finish()
    kept = {f.name for f in record.files} - {"manifest.json", DOCS}
    write_manifest(
        folder,
        Manifest(
            version=1,
            name=f"fineweb_{record.variant}",
            source={"repo": record.repo, "revision": record.revision, "prefix": record.prefix},
            tokenizer=model,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            val_documents=documents,
            val_bytes=raw_bytes,
            val_tokens=len(tokens),
            train_documents=int(train_counts[tokenizer.bos_id]),
            train_bytes=None,
            train_tokens=int(train_counts.sum()),
            baselines_bpb=baselines_bpb(
                sizes, train_counts, np.bincount(tokens[1:], minlength=tokenizer.vocab_size).astype(np.int64)
            ),
            disjoint=shard_overlap(folder, tokenizer, progress, near=False),
            files={name: file_digest(folder / name) for name in sorted(kept)} | written,
        ),
    )


def _ledger(
    folder: Path, tokens: Tokens, tokenizer: Tokenizer, documents: int, progress: Reporter
) -> tuple[Tokens, int]:
    ledger = np.zeros(len(tokens), np.uint32)
    at = raw_bytes = seen = 0
    debt = Debt()
    with progress.stage("byte ledger", documents, "documents") as stage:
        for text, (ids, sizes) in encode_documents(islice(Documents([folder / DOCS]), documents), tokenizer):
            size, end = len(text.encode()), at + 1 + len(ids)
            if end > len(tokens) or tokens[at] != tokenizer.bos_id or not np.array_equal(tokens[at + 1 : end], ids):
                raise CouldNotCheck(
                    f"document {seen:,} of {DOCS} is not what the validation shards hold from token {at:,} on.",
                    remedy="The export's documents and shards do not belong together; try another revision.",
                )
            ledger[at + 1 : end] = debt.settle(size, sizes)
            at, seen, raw_bytes = end, seen + 1, raw_bytes + size
            if seen % SHOW_EVERY == 0:
                stage.update(seen)
    if at != len(tokens) or debt.owed:
        raise CouldNotCheck(
            f"{DOCS} ends after {seen:,} documents; the validation shards hold {documents:,}.",
            remedy="Fetch documents and shards of one revision.",
        )
    return ledger, raw_bytes


def _counts(path: Path, vocab_size: int) -> Tokens:
    values = map_values(path)
    total = np.zeros(vocab_size, np.int64)
    for at in range(0, len(values), COUNT_BLOCK):
        counted = np.bincount(values[at : at + COUNT_BLOCK], minlength=vocab_size)
        if len(counted) > vocab_size:
            raise CouldNotCheck(
                f"{path} holds token {len(counted) - 1}: wrong tokenizer for these shards.",
                remedy="Fetch shards and tokenizer of one variant.",
            )
        total += counted
    return total
