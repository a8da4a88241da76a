"""Train models without referee and clock: one checkpoint a seed, for `ablate.py` and its like.

    python tests/bench/train_models.py DATASET_FOLDER OUT --seeds 1337 42 2025
    python tests/bench/train_models.py DATASET_FOLDER OUT --name wide --set MLP_MULT=4 --seeds 1337 42 2025
    python tests/bench/train_models.py DATASET_FOLDER OUT --recipe best --set ITERATIONS=1150 --also-without-qat \\
        --also-qat-bits 6

DATASET_FOLDER is a built data set (`harness data list` shows where). Checkpoints lie in OUT/NAME-SEED. The steps are
those of the submission's own training phase; on a CPU a run of the same seed and threads leaves the same weights.
With --also-without-qat the steps after late QAT has begun are taken a second time without it, into OUT/NAME-noqat-SEED;
with --also-qat-bits N with QUANT_BITS=N, into OUT/NAME-qatN-SEED: `best` has QUANT_BITS=8, so models that are to be
packed at 6 bits need their own.
"""

import argparse
import dataclasses
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from harness.protocol.session import SHARD_HEADER_BYTES, ShardFile
from submission.checkpoint import save_checkpoint
from submission.config import Config, load_config
from submission.train.batches import Windows, map_shard
from submission.train.qat import QuantisedWeights
from submission.train.schedule import Schedule
from submission.train.trainer import Trainer


def open_windows(folder: Path, config: Config, seed: int) -> Windows:
    """The train shards of a data set."""
    shards = []
    for path in sorted(folder.glob("*_train_*.bin")):
        tokens = (path.stat().st_size - SHARD_HEADER_BYTES) // 2
        shards.append(map_shard(ShardFile(os.open(path, os.O_RDONLY), tokens, path.name), config.vocab_size))
    return Windows(shards, config.train_seq_len, seed)


def moving(trainer: Trainer) -> list[torch.Tensor]:
    """Every tensor that a step changes."""
    adam = [v for state in trainer.adam.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    return [*trainer.model.parameters(), *trainer.average, *adam, trainer.muon.momentum]


class Run:
    """One seed's training, which can go back to where late QAT began."""

    def __init__(self, folder: Path, config: Config, seed: int) -> None:
        self.config, device = config, torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.trainer = Trainer(config, device, seed, 1, 1 if device.type == "cuda" else torch.get_num_threads())
        if device.type == "cuda":
            self.trainer.warm_up(0)  # compiles
        torch.manual_seed(seed)
        self.windows = open_windows(folder, config, seed)
        self.before_qat: tuple[int, list[torch.Tensor]] | None = None

    def steps(self, name: str, first: int, variant: Config) -> None:
        """Take the steps from ``first`` on with the late QAT of ``variant``."""
        config, schedule = self.config, Schedule(self.config)
        self.trainer.qat = QuantisedWeights(self.trainer.model, variant)
        each = config.train_batch_tokens // config.train_seq_len
        batches = self.windows.batches(each, 0, 1, first * each)
        began = time.monotonic()
        for step in range(config.iterations):
            multiplier = schedule.multiplier(step, 0.001 * step, 1e9)
            if step < first:
                continue
            if multiplier < config.late_qat_threshold and self.before_qat is None:
                self.before_qat = (step, [t.detach().clone() for t in moving(self.trainer)])
            quantised = multiplier < variant.late_qat_threshold
            loss = self.trainer.step(next(batches), multiplier, schedule.momentum(step), quantised)
            if step % 40 == 0 or step == config.iterations - 1:
                print(f"  {name}: step {step}, loss {float(loss):.3f}, {time.monotonic() - began:.0f} s", flush=True)

    def back_to_qat(self) -> int:
        """Everything as it was before the first quantised step; returns that step."""
        if self.before_qat is None:
            raise ValueError("no step was quantised: LATE_QAT_THRESHOLD is 0, or the run is too short.")
        step, kept = self.before_qat
        with torch.no_grad():
            for tensor, value in zip(moving(self.trainer), kept, strict=True):
                tensor.copy_(value)
        return step

    def save(self, out: Path, variant: Config) -> None:
        """Write the averaged weights as a checkpoint."""
        out.mkdir(parents=True, exist_ok=True)
        save_checkpoint(out, self.trainer.averaged_weights(), variant)


def settings(pairs: Iterable[str]) -> dict[str, str]:
    """VARIABLE=VALUE words as an environment."""
    return dict(pair.split("=", 1) for pair in pairs)


def variants(config: Config, without_qat: bool, bits: int | None) -> dict[str, Config]:
    """The configurations of the further checkpoints, by the part of their names."""
    out = {"noqat": dataclasses.replace(config, late_qat_threshold=0.0)} if without_qat else {}
    return out if bits is None else out | {f"qat{bits}": dataclasses.replace(config, quant_bits=bits)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="model")
    parser.add_argument("--recipe", default="smoke", help="preset; without ITERATIONS of its own it needs --set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    parser.add_argument("--set", nargs="+", default=[], metavar="VARIABLE=VALUE")
    parser.add_argument("--also-without-qat", action="store_true", help="a second checkpoint a seed, without late QAT")
    parser.add_argument(
        "--also-qat-bits", type=int, metavar="BITS", help="a further one, with late QAT of so many bits"
    )
    chosen = parser.parse_args()
    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    config = load_config(settings(chosen.set) | {"RECIPE": chosen.recipe}, chosen.recipe)
    for seed in chosen.seeds:
        run = Run(chosen.dataset, config, seed)
        run.steps(f"{chosen.name}-{seed}", 0, config)
        run.save(chosen.out / f"{chosen.name}-{seed}", config)
        for kind, variant in variants(config, chosen.also_without_qat, chosen.also_qat_bits).items():
            name = f"{chosen.name}-{kind}-{seed}"
            run.steps(name, run.back_to_qat(), variant)
            run.save(chosen.out / name, variant)


if __name__ == "__main__":
    main()
