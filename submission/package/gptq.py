"""GPTQ (Frantar et al., 2022) with a bit width for each row, and percentile search where there is no Hessian.

Columns are rounded one by one, those with the largest Hessian diagonal first, and each rounding error is spread over
the columns not yet rounded, so that the layer's output on the calibration data changes least.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .grid import qmax_of, quantise, row_scales

BLOCK = 128
DAMPING = 0.01
QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)
MAX_DAMPING_STEPS = 12


class NotQuantisable(ValueError):
    """A weight or a Hessian that no damping makes usable."""


def clipped_scales(weight: Tensor, bits: Tensor, column_weight: Tensor | None = None) -> Tensor:
    """Row scales from the clip quantile with the least squared rounding error, chosen row by row.

    column_weight: importance of each column (a Hessian's diagonal); ``None`` counts all columns alike.
    """
    magnitude = weight.abs().float()
    best_error = torch.full((len(weight),), float("inf"), device=weight.device)
    best = row_scales(weight, bits)
    for quantile in QUANTILES:
        clip = torch.quantile(magnitude, quantile, dim=1)
        scales = row_scales(weight, bits, clip)
        error = (quantise(weight, scales, bits).float() * scales[:, None] - weight.float()).square()
        total = error.sum(1) if column_weight is None else error @ column_weight
        better = total < best_error
        best = torch.where(better, scales, best)
        best_error = torch.where(better, total, best_error)
    return best


def percentile_quantise(weight: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest rounding on the best clip: integers int8 (rows, columns) and scales (rows,)."""
    scales = clipped_scales(weight, bits)
    return quantise(weight, scales, bits), scales


def gptq_quantise(weight: Tensor, bits: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Integers int8 (rows, columns) and scales (rows,) that keep ``weight @ inputs``. Raises ``NotQuantisable``."""
    if not (torch.isfinite(weight).all() and torch.isfinite(hessian).all()):
        raise NotQuantisable("a weight or its calibration data holds NaN or infinity.")
    diagonal = hessian.diagonal().clone()
    scales = clipped_scales(weight, bits, diagonal)
    order = diagonal.argsort(descending=True, stable=True)
    work = weight.float()[:, order].clone()
    work[:, diagonal[order] == 0] = 0  # a dead input: its weight never matters
    inverse = _inverse_factor(hessian.float()[order][:, order])
    qmax = qmax_of(bits).to(weight.device)
    codes = torch.empty_like(work)
    for start in range(0, work.shape[1], BLOCK):
        end = min(start + BLOCK, work.shape[1])
        errors = torch.empty_like(work[:, start:end])
        for i in range(start, end):
            column = (work[:, i] / scales).round().clamp(-qmax, qmax)
            codes[:, i] = column
            errors[:, i - start] = (work[:, i] - column * scales) / inverse[i, i]
            work[:, i + 1 : end] -= torch.outer(errors[:, i - start], inverse[i, i + 1 : end])
        work[:, end:] -= errors @ inverse[start:end, end:]
    return codes[:, order.argsort()].to(torch.int8), scales


def _inverse_factor(hessian: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped Hessian; more damping until it exists."""
    size = len(hessian)
    mean = hessian.diagonal().mean().clamp_min(1e-12)
    identity = torch.eye(size, device=hessian.device)
    for attempt in range(MAX_DAMPING_STEPS):
        damped = hessian + identity * (mean * DAMPING * 4.0**attempt)
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info) == 0:
            upper, info = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if int(info) == 0 and bool(torch.isfinite(upper).all()):
                result: Tensor = upper
                return result
    raise NotQuantisable("a layer's Hessian stays singular under any damping.")
