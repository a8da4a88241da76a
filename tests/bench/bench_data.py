"""The byte ledger against plain tokenisation, and the loader against a plain copy of the same tokens."""

import itertools
import sys
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from ratios import Ratio, paired, seconds

from harness.data.spm import THREADS, SentencePieceTokenizer, train_bpe
from submission.train.batches import Windows

sys.path.insert(0, str(Path(__file__).parents[1] / "harness" / "data"))
from corpus import documents

STEPS, BATCH, LENGTH = 40, 128, 1024


def measure() -> list[Ratio]:
    return [_ledger(), _loader()]


def _ledger() -> Ratio:
    texts = ["\n".join(documents(20, i)) for i in range(0, 4000, 20)]
    n_bytes = sum(len(text.encode()) for text in texts)
    tokenizer = SentencePieceTokenizer(
        train_bpe([line for text in texts[:20] for line in text.splitlines() if line], 1024), "b"
    )
    plain = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.file)
    rates = []

    def ledger() -> float:
        took = seconds(lambda: tokenizer.encode(texts))
        rates.append(n_bytes / took / 1e6)
        return took

    note = f"{n_bytes / 1e6:.1f} MB of text; 150 MB in 60 s are 2.5 MB/s"
    row = paired(
        "tokens and byte ledger / tokens alone",
        ledger,
        lambda: seconds(lambda: plain.encode(texts, out_type=int, num_threads=THREADS)),
        pairs=5,
        limit=2.9,
        note=note,
    )
    return Ratio(**(vars(row) | {"note": f"{max(rates):.1f} MB/s at best; {row.note}"}))


def _loader() -> Ratio:
    tokens = np.random.default_rng(0).integers(0, 8192, 20_000_000, dtype=np.uint16)
    windows = Windows([tokens], LENGTH, seed=0)
    rates = []

    def load() -> float:
        batches = windows.batches(BATCH, 0, 1)
        next(batches)
        took = seconds(lambda: [batch.shape for batch in itertools.islice(batches, STEPS)])
        rates.append(STEPS * BATCH * LENGTH / took / 1e6)
        batches.close()
        return took

    def copy() -> float:
        rows = tokens[: BATCH * LENGTH]
        return seconds(lambda: [torch.from_numpy(rows.astype(np.int64)) for _ in range(STEPS)])

    row = paired("loader / copy of as many tokens", load, copy, pairs=5, limit=None, note="target 20 M tokens/s")
    return Ratio(**(vars(row) | {"note": f"{max(rates):.0f} M tokens/s at best; {row.note}"}))
