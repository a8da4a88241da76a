"""Short trainings in process, to choose what a refereed run is worth: recipes side by side, by seeds.

    python tests/bench/screen.py "" "QK_GAIN_INIT=3" "EMBED_LR=0.003 MATRIX_LR=0.07"       # best on a GPU, 118 s each
    python tests/bench/screen.py --track smoke --recipe smoke --data sotu --seconds 60 --targets 131072 "" "MLP_MULT=4"

Each argument is a recipe: changes to the preset, "" for none. One process a training, one after another. A score is of
the averaged float weights on the validation set, in windows without context before them, unrefereed: higher than that
of a refereed run of the same weights, and for comparisons alone. The last column compares with the first recipe, seed
by seed: mean and sample deviation, in mBPB.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from harness.config.variables import cache_dir  # noqa: E402
from harness.data import Dataset, load_validation, open_dataset  # noqa: E402
from harness.progress import Reporter  # noqa: E402
from harness.protocol.session import ShardFile  # noqa: E402
from harness.units import bits_per_byte  # noqa: E402
from submission.config import Config, ConfigError, load_config, variables  # noqa: E402
from submission.train.batches import Windows, map_shard  # noqa: E402
from submission.train.loop import HELD_OUT_WINDOWS, filled_up, run_steps  # noqa: E402
from submission.train.trainer import Trainer  # noqa: E402

WARM_UP_S = 60.0  # a first guess, for the time that is left


class Clock:
    """As much of a ``TrainSession`` as the training loop asks for."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s, self._began = limit_s, time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def remaining_s(self) -> float:
        return self.limit_s - self.elapsed_s()

    def progress(self, **_: object) -> None:
        pass


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(train(options, options.recipes[0], options.seeds[0])))
        return
    for recipe in options.recipes:
        configured(options, recipe)
    runs = [(recipe, seed) for seed in options.seeds for recipe in options.recipes]
    results: dict[str, list[dict]] = {recipe: [] for recipe in options.recipes}
    began = time.monotonic()
    for done, (recipe, seed) in enumerate(runs):
        each = (time.monotonic() - began) / done if done else options.seconds + WARM_UP_S
        left = each * (len(runs) - done)
        print(
            f"{done} of {len(runs)} done, about {left:.0f} s left; {recipe or 'as it is'}, seed {seed}", file=sys.stderr
        )
        command = [sys.executable, __file__, "--child", *options.shared, "--seeds", str(seed), "--", recipe]
        child = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        results[recipe].append(json.loads(child.stdout.splitlines()[-1]))
    print(json.dumps(results, indent=1) if options.json else table(results, options.seeds))


def train(options: argparse.Namespace, recipe: str, seed: int) -> dict:
    """One training: its bpb, steps, and tokens a second."""
    config = configured(options, recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = 1
    if device.type == "cpu":
        threads = os.cpu_count() or 1
        torch.set_num_threads(1)
    dataset = open_dataset(options.data, cache_dir() / "datasets", Reporter())
    trainer = Trainer(config, device, seed, 1, threads)
    trainer.warm_up(HELD_OUT_WINDOWS)
    torch.manual_seed(seed)
    paths = dataset.train_shards
    shards = [map_shard(ShardFile(os.open(p, os.O_RDONLY), 0, p.name), config.vocab_size) for p in paths]
    windows = Windows(shards, config.train_seq_len, seed)
    batches = windows.batches(config.train_batch_tokens // config.train_seq_len, 0, 1)
    held_out = filled_up(windows.held_out(HELD_OUT_WINDOWS), HELD_OUT_WINDOWS).to(device)
    *_, last = run_steps(Clock(options.seconds), trainer, batches, held_out)
    with torch.no_grad():
        for parameter, average in zip(trainer.model.parameters(), trainer.average, strict=True):
            parameter.copy_(average)
    bpb = score(trainer, dataset, options.targets)
    return {"bpb": bpb, "steps": last["step"], "loss": last["loss"], "tokens_per_s": last["tokens_per_s"]}


def configured(options: argparse.Namespace, recipe: str) -> Config:
    """The preset with a recipe's changes. Raises ``ConfigError`` for names that the submission does not know."""
    changes = dict(pair.partition("=")[::2] for pair in recipe.split())
    if unknown := changes.keys() - variables():
        raise ConfigError(f"{', '.join(sorted(unknown))}: `python -m submission.config` lists the variables.")
    config = load_config({"RECIPE": options.recipe} | changes, options.track)
    if options.seconds <= config.train_clock_margin_s:
        raise ConfigError(
            f"--seconds {options.seconds:g}: TRAIN_CLOCK_MARGIN_S alone is {config.train_clock_margin_s:g}."
        )
    return config


def score(trainer: Trainer, dataset: Dataset, most: int) -> float:
    """Bits per byte of the weights in force, over whole batches of windows of the validation set."""
    config, validation = trainer.config, load_validation(dataset)
    length, batch = config.train_seq_len, min(config.train_micro_batch, trainer.windows)
    targets = min(most, len(validation.target_bytes)) // (length * batch) * (length * batch)
    tokens = torch.from_numpy(validation.tokens[: targets + 1].astype(np.int64))
    rows = torch.split(tokens.unfold(0, length + 1, length), batch)
    nats = sum(float(trainer.held_out_loss(part)) for part in rows) * length * batch
    return bits_per_byte(nats, int(validation.target_bytes[:targets].sum(dtype=np.int64)))


def table(results: dict[str, list[dict]], seeds: list[int]) -> str:
    """A recipe a row: bpb of each seed, steps of the first, and the difference to the first recipe."""
    first = [run["bpb"] for run in next(iter(results.values()))]
    rows = []
    for recipe, runs in results.items():
        apart = [1e3 * (run["bpb"] - base) for run, base in zip(runs, first, strict=True)]
        spread = f" ± {statistics.stdev(apart):.1f}" if len(apart) > 1 else ""
        compared = f"{statistics.mean(apart):+.1f}{spread}" if runs is not results[next(iter(results))] else ""
        rows.append([recipe or "as it is", *(f"{run['bpb']:.4f}" for run in runs), runs[0]["steps"], compared])
    return tabulate(rows, ["recipe", *map(str, seeds), "steps", "mBPB"], tablefmt="github", disable_numparse=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help='changes to the preset, like "MLP_MULT=4"')
    parser.add_argument("--recipe", default="best", help="preset of the submission")
    parser.add_argument("--track", default="one_gpu_120s", help="track whose sizes the preset takes")
    parser.add_argument("--data", default="bench", help="data set")
    parser.add_argument("--seconds", type=float, default=118.0, help="of training")
    parser.add_argument("--targets", type=int, default=1 << 40, help="validation targets to score, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337], help="seeds")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = ("recipe", "track", "data", "seconds", "targets")
    options.shared = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    return options


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has said why
