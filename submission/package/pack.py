"""Checkpoint to model file: calibrate, quantise every matrix, fit under the budget, report."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.protocol.session import PackageSession, write_whole

from ..checkpoint import load_checkpoint
from ..config import Config
from ..model.hybrid import Hybrid
from .calibrate import Statistics, measure, sample_sequences
from .fit import CLOSE_ENOUGH, DoesNotFit, fit_to_budget
from .gptq import check_finite, gptq_quantise_all, percentile_quantise
from .grid import is_quantised, row_bits
from .packed import Matrix, PackedModel
from .rate import RatePlan, fit_rate

CALIBRATION_TOKENS = 8192  # of one pass
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Package:
    """The file, its model, and the report: figures by name, plain numbers and tables."""

    data: bytes
    packed: PackedModel
    report: dict[str, object]


def package(session: PackageSession, config: Config, device: torch.device) -> None:
    """Write ``model.bin`` and print the report as one JSON line. Raises the errors of its parts."""
    model = load_checkpoint(session.checkpoint_dir, config).to(device)
    made = package_model(
        model,
        config,
        session.model_budget_bytes,
        session.seed,
        lambda part, text: session.progress(fraction=part, text=text),
    )
    write_whole(session.output_dir / "model.bin", made.data)
    print(json.dumps(made.report, sort_keys=True))


def package_model(
    model: Hybrid,
    config: Config,
    budget_bytes: int,
    seed: int,
    progress: Progress,
    statistics: Statistics | None = None,
) -> Package:
    """Quantise ``model`` into at most ``budget_bytes``. Equal inputs give equal bytes on a CPU.

    statistics: of ``model``, where they were measured before
    """
    quantisable(model)  # refuses NaN and infinity before any time is spent
    started = time.monotonic()
    seconds: dict[str, float] = {}

    def step(low: float, high: float, text: str) -> Callable[[float], None]:
        seconds[text] = round(time.monotonic() - started, 2)
        return lambda part: progress(low + part * (high - low), text)

    if statistics is None:
        statistics = calibrate(model, config, seed, step)
    if config.quant_rd:
        made = _by_rate(model, config, statistics, budget_bytes, step(0.5, 1.0, "quantising to the budget"))
    else:
        made = _by_bits(model, config, statistics, budget_bytes, step)
    seconds["done"] = round(time.monotonic() - started, 2)
    made.report["started_at_s"] = seconds
    made.report["bytes"], made.report["budget_bytes"] = len(made.data), budget_bytes
    return made


def calibrate(
    model: Hybrid,
    config: Config,
    seed: int,
    step: Callable[[float, float, str], Callable[[float], None]],
) -> Statistics:
    """What the calibration tokens say about every matrix. step: announces a part of the work (``package_model``)."""
    tokens = calibration_tokens(model, config, seed, step(0, 0.4, "writing calibration text"))
    batch = max(1, CALIBRATION_TOKENS // tokens.shape[1])
    return measure(model, tokens, batch, seed, step(0.4, 0.5, "measuring layers"))


def calibration_tokens(model: Hybrid, config: Config, seed: int, progress: Callable[[float], None]) -> Tensor:
    """Tokens (n, length), int64, by CALIBRATION_SOURCE."""
    count, length = config.gptq_num_seqs, config.gptq_seq_len
    if config.calibration_source == "self":
        return sample_sequences(model, count, length, seed, progress)
    return torch.randint(config.vocab_size, (count, length), generator=torch.Generator().manual_seed(seed))


def quantisable(model: Hybrid) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Matrices that become integers, and the other tensors as float32 on the CPU."""
    matrices = {n: p.detach() for n, p in model.named_parameters() if is_quantised(n, p.shape)}
    small = {n: p.detach().float().cpu() for n, p in model.named_parameters() if n not in matrices}
    check_finite(*matrices.values(), *small.values())
    return matrices, small


def _by_rate(
    model: Hybrid, config: Config, statistics: Statistics, budget_bytes: int, progress: Callable[[float], None]
) -> Package:
    matrices, small = quantisable(model)
    plan = RatePlan(matrices, statistics, config)
    ceiling = plan.count * config.quant_bits // 8  # a model finer than QUANT_BITS on average is of no use

    def encode(trial: dict[str, Matrix]) -> bytes:
        return PackedModel({name: m.cpu() for name, m in trial.items()}, small).to_bytes(config)

    try:
        data, best = fit_rate(plan, encode, min(budget_bytes, ceiling), CLOSE_ENOUGH, progress)
    except ValueError as error:
        raise DoesNotFit(f"{error}; the budget is {budget_bytes:,}. Make the model smaller.") from error
    report: dict[str, object] = {
        "delta": next(m.steps.delta for m in best.values() if m.steps),
        "fits_to": "budget" if budget_bytes <= ceiling else "QUANT_BITS",
    }
    return Package(data, PackedModel({n: m.cpu() for n, m in best.items()}, small), report)


def _by_bits(
    model: Hybrid,
    config: Config,
    statistics: Statistics,
    budget_bytes: int,
    step: Callable[[float, float, str], Callable[[float], None]],
) -> Package:
    packed = quantise_rows(model, config, statistics, step(0.5, 0.8, "quantising"))
    importance = {name: hessian.diagonal().cpu() for name, hessian in statistics.hessians.items()}
    fit = fit_to_budget(packed, importance, config, budget_bytes, step(0.8, 1.0, "pruning to the budget"))
    report: dict[str, object] = {
        "pruned": fit.pruned,
        "pruning_candidates": fit.candidates,
        "encodings": fit.encodings,
    }
    return Package(fit.data, fit.packed, report)


def quantise_rows(
    model: Hybrid, config: Config, statistics: Statistics, progress: Callable[[float], None]
) -> PackedModel:
    """The model on rows of given bits: by GPTQ with USE_GPTQ, else by percentile search."""
    matrices, small = quantisable(model)
    bits = {name: row_bits(name, w.shape, config).to(w.device) for name, w in matrices.items()}
    made: dict[str, tuple[Tensor, Tensor]] = {}
    shapes: dict[torch.Size, list[str]] = defaultdict(list)
    for name, weight in matrices.items():
        if config.use_gptq:
            shapes[weight.shape].append(name)
        else:
            made[name] = percentile_quantise(weight, bits[name])
    for index, names in enumerate(shapes.values()):
        hessians = [statistics.hessians[name] for name in names]
        swept = gptq_quantise_all([matrices[n] for n in names], [bits[n] for n in names], hessians)
        made |= zip(names, swept, strict=True)
        progress((index + 1) / len(shapes))
    return PackedModel({name: Matrix(made[name][0].cpu(), made[name][1].cpu(), None) for name in matrices}, small)


def default_device(gpus: int) -> torch.device:
    """The first GPU where the track has one."""
    return torch.device("cuda", 0) if gpus else torch.device("cpu")
