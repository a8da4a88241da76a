"""A fetched export and its documents to a data set: the shards are kept, the byte ledger comes from the documents."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from harness.data.baselines import TextSizes, baselines_bpb
from harness.data.byte_check import shard_overlap
from harness.data.dataset import Manifest, write_manifest
from harness.data.documents import Documents
from harness.data.encoding import Debt, encode_documents, load_tokenizer
from harness.data.hub import DOCS, EXPORTED, FetchRecord
from harness.data.shards import find_shards, join_values, map_values, refuse_foreign_tokens, write_ledger
from harness.errors import CouldNotCheck
from harness.files import file_digest
from harness.progress import Reporter

COUNT_BLOCK = 1 << 24
SHOW_EVERY = 256


def complete(folder: Path, record: FetchRecord, progress: Reporter) -> None:
    """Write the ledger beside the validation shards, then ``dataset.json``.

    Raises ``CouldNotCheck`` when the documents, tokenised again, are not the validation shards token for token.
    """
    names = [file.name for file in record.files if file.name not in (EXPORTED, DOCS)]
    model = next(name for name in names if name.endswith((".model", ".json")))
    tokenizer, shards = load_tokenizer(folder / model), find_shards(folder, "val")
    tokens = join_values(shards)
    documents = int(np.count_nonzero(tokens == tokenizer.bos_id))
    ledger, texts, debt = np.zeros(len(tokens), np.uint32), TextSizes(), Debt()
    at = seen = 0
    with progress.stage("byte ledger", documents, "documents") as stage:
        for text, (ids, sizes) in encode_documents(islice(Documents([folder / DOCS]), documents), tokenizer):
            raw, end = text.encode(), at + 1 + len(ids)
            if end > len(tokens) or tokens[at] != tokenizer.bos_id or not np.array_equal(tokens[at + 1 : end], ids):
                raise CouldNotCheck(
                    f"document {seen:,} of {DOCS} is not what the validation shards hold from token {at:,} on.",
                    remedy="The export's documents and shards do not belong together; try another revision.",
                )
            ledger[at + 1 : end] = debt.settle(len(raw), sizes)
            texts.add(raw)
            at, seen = end, seen + 1
            if seen % SHOW_EVERY == 0:
                stage.update(seen)
    if at != len(tokens) or debt.owed:
        raise CouldNotCheck(
            f"{DOCS} ends after {seen:,} documents; the validation shards hold {documents:,}.",
            remedy="Fetch documents and shards of one revision.",
        )
    written = {}
    for path in shards:
        part, ledger = np.split(ledger, [len(map_values(path))])
        name = path.name.replace("_val_", "_val_bytes_")
        (folder / name).unlink(missing_ok=True)
        written[name] = write_ledger(folder / name, part)
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for path in find_shards(folder, "train"):
        values = map_values(path)
        for block in (values[start : start + COUNT_BLOCK] for start in range(0, len(values), COUNT_BLOCK)):
            refuse_foreign_tokens(block, tokenizer.vocab_size, path)
            counts += np.bincount(block, minlength=tokenizer.vocab_size)
    targets = np.bincount(tokens[1:], minlength=tokenizer.vocab_size).astype(np.int64)
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
            val_bytes=texts.raw,
            val_tokens=len(tokens),
            train_documents=int(counts[tokenizer.bos_id]),
            train_bytes=None,
            train_tokens=int(counts.sum()),
            baselines_bpb=baselines_bpb(texts, counts, targets),
            disjoint=shard_overlap(folder, tokenizer, progress, near=False),
            files={name: file_digest(folder / name) for name in sorted(names)} | written,
        ),
    )
