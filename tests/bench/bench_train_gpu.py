"""Speed of a training step on one GPU, as ratios against plain references in the same run: ``make bench-gpu``.

    python tests/bench/bench_train_gpu.py                                  # pr1890 on a GPU; one JSON object
    python tests/bench/bench_train_gpu.py --steps 20 --env TRAIN_MICRO_BATCH=64
    python tests/bench/bench_train_gpu.py --device cpu --recipe smoke --env TRAIN_BATCH_TOKENS=512   # tries the script
    torchrun --nproc-per-node 8 tests/bench/bench_train_gpu.py --recipe best     # one rank a GPU; rank 0 prints
    torchrun --nproc-per-node 2 tests/bench/bench_train_gpu.py --device cpu --recipe smoke   # over Gloo

``mfu`` is the model's FLOP/s over what one large product reaches on this device. ``over_plain`` is the speed over that
of plain PyTorch: the chunked scan, no compiler, all logits at once, on as many windows as ``--plain-windows`` a step.
Steps are timed one by one, synchronised at both ends, on random tokens; the set-up is timed apart. ``in_a_row`` are as
many steps queued as training queues them: the ranks agree before each, and nothing waits until the last. With several
ranks ``collectives`` is their share of the busy time of rank 0, waiting for slower ranks included; compare the same
recipe with 1, 2, 4 and 8 ranks by ``in_a_row.tokens_per_s``.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from scan_release import scan_against_release  # noqa: E402
from train_parts import COLLECTIVES, profiled  # noqa: E402

from submission.config import Config, ConfigError, load_config, variables  # noqa: E402
from submission.preflight import NotUsable, preflight  # noqa: E402
from submission.train.group import agree, join  # noqa: E402
from submission.train.loop import backends  # noqa: E402
from submission.train.speed import (  # noqa: E402
    compiled_graphs,
    peak_memory_bytes,
    product_flops,
    training_flops_per_token,
)
from submission.train.trainer import Trainer  # noqa: E402


def main() -> None:
    options = parse()
    changes = dict(pair.split("=", 1) for pair in options.env)
    if unknown := changes.keys() - variables():
        raise ConfigError(
            f"--env names {', '.join(sorted(unknown))}; `python -m submission.config` lists the variables."
        )
    config = load_config(changes | {"RECIPE": options.recipe}, "bench")
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if options.device == "cuda"
        else torch.device("cpu")
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    preflight(config, device, "bench", world)
    join(world, device)
    result = measure_step(config, device, world, rank, options)
    if world > 1:
        dist.destroy_process_group()
    else:
        print(json.dumps(result), file=sys.stderr, flush=True)  # in case the next measurement does not end
        result["plain"] = measure_plain(config, device, options)
        if device.type == "cuda":
            result["scan"] = scan_against_release(config, config.train_micro_batch)
        result["over_plain"] = round(result["tokens_per_s"] / result["plain"]["tokens_per_s"], 3)
    if rank == 0:
        print(json.dumps(result, indent=1))


def measure_step(config: Config, device: torch.device, world: int, rank: int, options: argparse.Namespace) -> dict:
    """The step as it is trained with. All ranks take the same steps; rank 0 alone watches one of them."""
    product = product_flops(device)
    began = time.perf_counter()
    trainer = Trainer(config, device, 1, world)
    trainer.warm_up(0)
    warm_up_s, graphs = time.perf_counter() - began, compiled_graphs()
    windows = torch.randint(config.vocab_size, (trainer.windows, config.train_seq_len + 1))

    def step(quantised: bool = False) -> None:
        trainer.step(windows, agree(1.0), config.muon_momentum, quantised)

    seconds = timed(step, device, options.steps)
    (in_a_row,) = timed(lambda: [step() for _ in range(options.steps)], device, 1)
    quantised = timed(lambda: step(True), device, 1)
    recompiles = compiled_graphs() - graphs
    parts: dict[str, float] = {}
    if rank == 0:
        parts = profiled(step, device)
    else:
        timed(step, device, 1)
    per_token = training_flops_per_token(config)
    median = statistics.median(seconds)
    rate = config.train_batch_tokens / median
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "recipe": options.recipe,
        "changed": options.env,
        "ranks": world,
        "backends": backends(trainer),
        "tokens_a_step": config.train_batch_tokens,
        "step_s": spread(seconds),
        "quantised_step_over_step": round(quantised[0] / median, 3),
        "tokens_per_s": round(rate),
        "in_a_row": {
            "step_s": in_a_row / options.steps,
            "tokens_per_s": round(config.train_batch_tokens * options.steps / in_a_row),
        },
        "flops_per_token": per_token,
        "tflops_a_rank": round(rate * per_token / world / 1e12, 3),
        "product_tflops": round(product / 1e12, 3),
        "mfu": round(rate * per_token / world / product, 4),
        "warm_up_s": round(warm_up_s, 2),
        "graphs_compiled": graphs,
        "recompiles_in_clock": recompiles,
        "peak_memory_bytes": peak_memory_bytes(device),
        **({"collectives": parts.get(COLLECTIVES, 0.0)} if world > 1 else {}),
        "parts": parts,
    }


def measure_plain(config: Config, device: torch.device, options: argparse.Namespace) -> dict:
    """The same model, batch size aside, in plain PyTorch: forward, backward and PyTorch's AdamW."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    windows = min(options.plain_windows, config.train_batch_tokens // config.train_seq_len)
    model = Trainer(dataclasses.replace(config, mamba3_backend="chunked"), device, 1, 1).model
    optimiser = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(config.vocab_size, (windows, config.train_seq_len + 1), device=device)

    def step() -> None:
        optimiser.zero_grad()
        logits = model(tokens[:, :-1]).flatten(0, 1).float()
        torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
        optimiser.step()

    step()
    seconds = timed(step, device, max(2, options.steps // 2))
    rate = round(windows * config.train_seq_len / statistics.median(seconds))
    return {"windows": windows, "step_s": spread(seconds), "tokens_per_s": rate}


def timed(step: Callable[[], object], device: torch.device, count: int) -> list[float]:
    """Seconds of each of ``count`` steps."""
    seconds = []
    for _ in range(count):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds


def spread(seconds: list[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="pr1890", help="preset of the submission")
    parser.add_argument("--steps", type=int, default=8, help="steps to time")
    parser.add_argument("--plain-windows", type=int, default=4, help="windows of a step in plain PyTorch")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the submission")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except (ConfigError, NotUsable) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
