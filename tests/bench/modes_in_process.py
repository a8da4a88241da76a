"""Every way to evaluate one packed model, by the submission's own predictor: bits per byte, seconds, tokens a second.

    python tests/bench/modes_in_process.py DATASET_FOLDER MODEL.bin [MODEL.bin ...]
    python tests/bench/modes_in_process.py DATASET_FOLDER MODEL.bin --only frozen --only overlap --tokens 65536
    python tests/bench/modes_in_process.py DATASET_FOLDER MODEL.bin --row "my idea:TTT_LR=0.02;EVAL_MODE=overlap"

DATASET_FOLDER is a built data set (`harness data list` shows where). Several models (seeds) give mean and sample
standard deviation of the difference to the first row. Scored as the referee does (same chunks and nats), not audited;
`refereed_modes.py` scores them in the referee's own cells.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from eval_modes import ROWS, SEEDS_METHOD

from harness.protocol.predictor import EvalContext
from harness.scoring.nll import token_nats
from submission.config import load_config
from submission.eval.load import load_model
from submission.eval.predictor import HybridPredictor

HEADER_BYTES = 1024


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    rows = {name: ROWS[name] for name in options.only or ROWS}
    rows |= {name: dict(p.split("=") for p in sets.split(";")) for name, sets in (r.split(":") for r in options.row)}
    scores: dict[str, list[tuple[float, float]]] = {}
    tokens = len(read(options.dataset, options.tokens)[1])
    print("| variant | bpb | to the first row, mBPB | s | tokens/s |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    for name, changes in rows.items():
        scores[name] = [evaluate(options, model, changes) for model in options.model]
        print(line(name, scores[name], next(iter(scores.values())), tokens), flush=True)
    if options.json:
        options.json.write_text(json.dumps(scores, indent=1))


def line(name: str, found: list[tuple[float, float]], first: list[tuple[float, float]], tokens: int) -> str:
    apart = [1000 * (a[0] - b[0]) for a, b in zip(found, first, strict=True)]
    spread = f" ± {statistics.stdev(apart):.1f}" if len(apart) > 1 else ""
    bpb, seconds = statistics.mean(f[0] for f in found), statistics.mean(f[1] for f in found)
    return f"| {name} | {bpb:.4f} | {statistics.mean(apart):+.1f}{spread} | {seconds:.1f} | {tokens / seconds:,.0f} |"


def evaluate(options: argparse.Namespace, model_file: Path, changes: dict[str, str]) -> tuple[float, float]:
    """(bits per byte, seconds) of the first ``options.tokens`` targets."""
    config = load_config({"RECIPE": options.recipe} | SEEDS_METHOD | changes, options.recipe)
    tokens, n_bytes = read(options.dataset, options.tokens)
    context = EvalContext("final", model_file, None, config.vocab_size, 1e9, len(n_bytes), 0, 1)
    torch.manual_seed(0)
    predictor = HybridPredictor(load_model(context, config).to(options.device), config, context)
    predictor.bind_state({name: t.clone() for name, t in predictor.state().items()})
    nats, started = [], time.monotonic()
    for start in range(0, len(n_bytes), predictor.chunk_tokens):
        end = min(start + predictor.chunk_tokens, len(n_bytes))
        inputs, targets = tokens[start:end], tokens[start + 1 : end + 1]
        row = 0
        with torch.no_grad():
            for slab in predictor.score(inputs):
                nats.append(token_nats(slab, targets[row : row + len(slab)]).cpu())
                row += len(slab)
        if end < len(n_bytes):
            predictor.adapt(inputs, targets)
    seconds = time.monotonic() - started
    return float(torch.cat(nats).sum()) / (math.log(2) * int(n_bytes.sum())), seconds


def read(folder: Path, most: int) -> tuple[torch.Tensor, np.ndarray]:
    """Tokens (n + 1,) of the validation stream and the bytes of its targets (n,)."""
    tokens = np.concatenate([values(p) for p in sorted(folder.glob("*_val_[0-9]*.bin"))])[: most + 1].astype(np.int64)
    n_bytes = np.concatenate([values(p) for p in sorted(folder.glob("*_val_bytes_*.bin"))])
    return torch.from_numpy(tokens), n_bytes[1 : len(tokens)]


def values(path: Path) -> np.ndarray:
    return np.fromfile(path, "<u2", offset=HEADER_BYTES)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("model", type=Path, nargs="+")
    parser.add_argument("--recipe", default="smoke")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=1 << 40, help="targets to score; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", action="append", choices=list(ROWS), help="a row of the table; may be repeated")
    parser.add_argument("--row", action="append", default=[], metavar="NAME:VAR=VALUE;…", help="a row of your own")
    parser.add_argument("--json", type=Path, help="write bpb and seconds of each model here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
