"""Checkpoint to model file: calibrate, quantise every matrix, fit under the budget."""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import Tensor

from harness.protocol.session import PackageSession, write_whole

from ..checkpoint import load_checkpoint
from ..config import Config
from ..model.hybrid import Hybrid
from .calibrate import input_hessians, sample_sequences
from .fit import fit_to_budget
from .gptq import gptq_quantise, percentile_quantise
from .grid import is_quantised, row_bits
from .packed import PackedModel

CALIBRATION_BATCH = 8


def package(session: PackageSession, config: Config, device: torch.device) -> None:
    """Write ``model.bin`` and print a report of each layer's error. Raises the errors of its parts."""
    model = load_checkpoint(session.checkpoint_dir, config).to(device)

    def step(low: float, high: float, text: str) -> Callable[[float], None]:
        return lambda part: session.progress(fraction=low + part * (high - low), text=text)

    hessians: dict[str, Tensor] = {}
    if config.use_gptq:
        generator = torch.Generator().manual_seed(session.seed)
        count, length = config.gptq_num_seqs, config.gptq_seq_len
        sequences = sample_sequences(model, count, length, generator, step(0, 0.4, "writing calibration text"))
        hessians = input_hessians(model, sequences, CALIBRATION_BATCH)
    packed, report = quantise_model(model, config, hessians, step(0.4, 0.8, "quantising"))
    importance = {name: hessian.diagonal().cpu() for name, hessian in hessians.items()}
    fit = fit_to_budget(packed, importance, config, session.model_budget_bytes, step(0.8, 1.0, "fitting"))
    report["pruned"], report["pruning_candidates"] = fit.pruned, fit.candidates
    write_whole(session.output_dir / "model.bin", fit.data)
    print(json.dumps(report, sort_keys=True))


def quantise_model(
    model: Hybrid, config: Config, hessians: dict[str, Tensor], progress: Callable[[float], None]
) -> tuple[PackedModel, dict[str, float]]:
    """The packed model, and for each matrix the output error of GPTQ over that of plain rounding."""
    packed = PackedModel({}, {}, {})
    report: dict[str, float] = {}
    parameters = dict(model.named_parameters())
    for index, (name, parameter) in enumerate(parameters.items()):
        weight = parameter.detach()
        if not is_quantised(name, weight.shape):
            packed.small[name] = weight.float().cpu()
            continue
        bits = row_bits(name, weight.shape, config).to(weight.device)
        hessian = hessians.get(name)
        plain_codes, plain_scales = percentile_quantise(weight, bits)
        codes, scales = (plain_codes, plain_scales) if hessian is None else gptq_quantise(weight, bits, hessian)
        if hessian is not None:
            plain = _output_error(weight, plain_codes, plain_scales, hessian)
            report[name] = _output_error(weight, codes, scales, hessian) / max(plain, 1e-30)
        packed.codes[name], packed.scales[name] = codes.cpu(), scales.cpu()
        progress((index + 1) / len(parameters))
    return packed, report


def _output_error(weight: Tensor, codes: Tensor, scales: Tensor, hessian: Tensor) -> float:
    """Mean squared change of the layer's output on the calibration data: tr(E H Eᵀ)."""
    error = codes.float() * scales[:, None] - weight.float()
    return float(((error @ hessian) * error).sum())


def default_device(gpus: int) -> torch.device:
    """The first GPU where the track has one."""
    return torch.device("cuda", 0) if gpus else torch.device("cpu")
