"""The byte ledger against plain tokenisation; time and memory of ledger and loader by themselves.

BENCH_DOCUMENTS (JSON lines, several joined by ``:``) and BENCH_TOKENIZER replace the made-up text and its tokenizer.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
from ratios import Ratio, paired, peak_bytes, seconds

from harness.data.dataset import map_values, write_shard
from harness.data.documents import Documents, encode_documents, load_tokenizer
from harness.data.tokenizers import THREADS, SentencePieceTokenizer, train_bpe
from submission.train.batches import Windows

sys.path.insert(0, str(Path(__file__).parents[1] / "harness" / "data"))
from corpus import documents

STEPS, BATCH, LENGTH = 40, 128, 1024
LOADER_TOKENS = 100_000_000
VALIDATION_BYTES = 150_000_000
MADE_UP_BYTES = 10_000_000


def measure() -> list[Ratio]:
    return [_ledger(), *_whole_ledger(), *_whole_loader()]


def _ledger() -> Ratio:
    texts = ["\n".join(documents(20, i)) for i in range(0, 4000, 20)]
    n_bytes = sum(len(text.encode()) for text in texts)
    tokenizer = SentencePieceTokenizer(_small_model(texts[:20]), "b")
    plain = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.file)
    return paired(
        "tokens and byte ledger / tokens alone",
        lambda: seconds(lambda: tokenizer.encode(texts)),
        lambda: seconds(lambda: plain.encode(texts, out_type=int, num_threads=THREADS)),
        pairs=5,
        limit=2.9,
        note=f"{n_bytes / 1e6:.1f} MB of text",
    )


def _small_model(texts: list[str]) -> bytes:
    return train_bpe([line for text in texts for line in text.splitlines() if line], 1024)


def _whole_ledger() -> list[Ratio]:
    """Documents from files to tokens and ledger, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="golf-bench-") as scratch:
        given = os.environ.get("BENCH_DOCUMENTS")
        sources = given.split(":") if given else [str(_made_up(Path(scratch)))]
        tokenizer = os.environ.get("BENCH_TOKENIZER", f"{scratch}/small.model")
        found = _apart("ledger", tokenizer, *sources)
    took = found["seconds"] * VALIDATION_BYTES / found["bytes"]
    note = f"{found['documents']:,} documents of {found['bytes'] / 1e6:.1f} MB, {found['tokens']:,} tokens"
    return [
        _figure("ledger of 150 MB of documents", took, "s", 60, f"{found['seconds']:.1f} s for {note}"),
        _figure("peak memory of the ledger", found["peak"] / 1e6, "MB", 1000, note),
    ]


def _made_up(scratch: Path) -> Path:
    (scratch / "small.model").write_bytes(_small_model(documents(400)))
    path = scratch / "docs.jsonl"
    with path.open("w") as file:
        while file.tell() < MADE_UP_BYTES:
            file.writelines(json.dumps({"text": text}) + "\n" for text in documents(200))
    return path


def _load(windows: Windows) -> float:
    batches = windows.batches(BATCH, 0, 1)
    next(batches)
    took = seconds(lambda: [batch.shape for batch in itertools.islice(batches, STEPS)])
    batches.close()
    return took


def _whole_loader() -> list[Ratio]:
    """Batches from a mapped shard, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="golf-bench-") as scratch:
        shard = Path(scratch) / "bench_train_000000.bin"
        write_shard(shard, np.random.default_rng(0).integers(0, 8192, LOADER_TOKENS, dtype=np.uint16))
        found = _apart("loader", shard)
    rates = [STEPS * BATCH * LENGTH / took / 1e6 for took in found["seconds"]]
    note = f"one shard of {LOADER_TOKENS:,} tokens, batches of {BATCH * LENGTH:,}; best of {len(rates)}"
    rate = Ratio("loader", max(rates), min(rates), max(rates), 20, False, note, "M tokens/s")
    grown = (found["peak"] - found["before"]) / 1e6
    note = (
        f"what {len(rates)} times {STEPS} batches added, pages of the shard's {2 * LOADER_TOKENS / 1e6:.0f} MB included"
    )
    return [rate, _figure("memory of the loader", grown, "MB", 2 * LOADER_TOKENS / 1e6 + 50, note)]


def _figure(name: str, value: float, unit: str, limit: float, note: str) -> Ratio:
    return Ratio(name, value, value, value, limit, True, note, unit)


def _apart(task: str, *arguments: object) -> dict:
    """What ``task`` of this file reports from a fresh process."""
    command = [sys.executable, __file__, task, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _ledger_task(tokenizer: str, *sources: str) -> dict:
    counts = {"documents": 0, "bytes": 0, "tokens": 0}

    def work() -> None:
        texts = _first(Documents([Path(source) for source in sources]), VALIDATION_BYTES)
        for text, (ids, sizes) in encode_documents(texts, load_tokenizer(tokenizer)):
            raw = len(text.encode())
            assert int(sizes.sum()) == (raw if len(ids) else 0)
            counts["documents"] += 1
            counts["bytes"] += raw
            counts["tokens"] += len(ids)

    return {"seconds": seconds(work), **counts, "peak": peak_bytes()}


def _first(texts, n_bytes: int):
    """The first documents, until they hold ``n_bytes``."""
    for text in texts:
        yield text
        n_bytes -= len(text.encode())
        if n_bytes <= 0:
            return


def _loader_task(shard: str) -> dict:
    windows = Windows([map_values(Path(shard))], LENGTH, seed=0)
    before = peak_bytes()
    return {"seconds": [_load(windows) for _ in range(5)], "before": before, "peak": peak_bytes()}


if __name__ == "__main__":
    print(json.dumps({"ledger": _ledger_task, "loader": _loader_task}[sys.argv[1]](*sys.argv[2:])))
