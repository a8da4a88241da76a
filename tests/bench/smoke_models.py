"""Train small models without referee and clock: one checkpoint a seed, for `submission.package.ablate` and its like.

    python tests/bench/smoke_models.py DATASET_FOLDER OUT --seeds 1337 42 2025
    python tests/bench/smoke_models.py DATASET_FOLDER OUT --name wide --set MLP_MULT=4 --seeds 1337 42 2025

DATASET_FOLDER is a built data set (`harness data list` shows where). Checkpoints lie in OUT/NAME-SEED. The steps are
those of the submission's own training phase; a run of the same seed and threads leaves the same weights.
"""

import argparse
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from harness.protocol.session import SHARD_HEADER_BYTES, ShardFile
from submission.checkpoint import save_checkpoint
from submission.config import Config, load_config
from submission.train.batches import Windows, map_shard
from submission.train.schedule import Schedule
from submission.train.trainer import Trainer


def open_windows(folder: Path, config: Config, seed: int) -> Windows:
    """The train shards of a data set."""
    shards = []
    for path in sorted(folder.glob("*_train_*.bin")):
        tokens = (path.stat().st_size - SHARD_HEADER_BYTES) // 2
        shards.append(map_shard(ShardFile(os.open(path, os.O_RDONLY), tokens, path.name), config.vocab_size))
    return Windows(shards, config.train_seq_len, seed)


def train(folder: Path, out: Path, config: Config, seed: int) -> None:
    """Train all steps of ``config`` and write the checkpoint ``out``."""
    trainer, schedule = Trainer(config, torch.device("cpu"), seed, 1, torch.get_num_threads()), Schedule(config)
    torch.manual_seed(seed)
    windows = open_windows(folder, config, seed)
    batches = windows.batches(config.train_batch_tokens // config.train_seq_len, 0, 1)
    began = time.monotonic()
    for step in range(config.iterations):
        multiplier = schedule.multiplier(step, 0.001 * step, 1e9)
        quantised = multiplier < config.late_qat_threshold
        loss = trainer.step(next(batches), multiplier, schedule.momentum(step), quantised)
        if step % 40 == 0:
            print(f"  {out.name}: step {step}, loss {float(loss):.3f}, {time.monotonic() - began:.0f} s", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    kept = windows.held_out(config.gptq_num_seqs)[:, :-1]
    save_checkpoint(out, trainer.averaged_weights(), config, kept)


def settings(pairs: Iterable[str]) -> dict[str, str]:
    """VARIABLE=VALUE words as an environment."""
    return dict(pair.split("=", 1) for pair in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    parser.add_argument("--set", nargs="+", default=[], metavar="VARIABLE=VALUE")
    chosen = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    config = load_config(settings(chosen.set), "smoke")
    for seed in chosen.seeds:
        train(chosen.dataset, chosen.out / f"{chosen.name}-{seed}", config, seed)


if __name__ == "__main__":
    main()
