"""GPTQ (Frantar et al., 2022) on rows of given bits and on the rate–distortion grid; percentile search without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .grid import qmax_of, quantise, row_scales

BLOCK = 128
DAMPING = 0.01
QUANTILES = (0.999, 0.9995, 0.9999, 0.99999, 1.0)  # clips that are tried where there is a Hessian
PERCENTILES = (0.999, 0.9995, 0.9999, 0.99995, 0.99999, 0.999999, 1.0)  # … and where there is none
MAX_DAMPING_STEPS = 12


class NotQuantisable(ValueError):
    """A weight or a Hessian that no damping makes usable."""


@dataclass(frozen=True)
class Factor:
    """order: columns by falling Hessian diagonal (C,); upper: U with (damped H)⁻¹ = UᵀU in that order (C, C)."""

    order: Tensor
    upper: Tensor

    def column_weight(self) -> Tensor:
        """1/U_jj² in the original order (C,): price of a squared error in column j once later ones make up for it."""
        weight = torch.empty_like(self.upper[0])
        weight[self.order] = self.upper.diagonal() ** -2
        return weight


def clipped_scales(
    weight: Tensor, bits: Tensor, quantiles: Sequence[float], column_weight: Tensor | None = None
) -> Tensor:
    """Row scales from the clip quantile with the least squared rounding error, chosen row by row.

    Quantiles are interpolated: in a row of 512 all of them but the last lie between the two largest magnitudes.
    column_weight: importance of each column (a Hessian's diagonal).
    """
    clips = row_quantiles(weight.abs().float(), quantiles)
    best_error = torch.full((len(weight),), float("inf"), device=weight.device)
    best = row_scales(weight, bits)
    for clip in clips:
        scales = row_scales(weight, bits, clip)
        error = (quantise(weight, scales, bits).float() * scales[:, None] - weight.float()).square()
        total = error.sum(1) if column_weight is None else error @ column_weight
        better = total < best_error
        best = torch.where(better, scales, best)
        best_error = torch.where(better, total, best_error)
    return best


def row_quantiles(magnitude: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Each quantile of each row of (R, C), linear between neighbours: (quantiles, R)."""
    columns = magnitude.shape[1]
    place = torch.tensor(quantiles, dtype=torch.float64) * (columns - 1)
    low = place.floor().long()
    part = (place - low).float().to(magnitude.device)
    ordered = magnitude.sort(dim=1).values
    below, above = ordered[:, low], ordered[:, (low + 1).clamp(max=columns - 1)]
    return torch.lerp(below, above, part.expand_as(below)).mT


def percentile_quantise(weight: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest rounding on the best clip: integers int16 (R, C) and scales (R,). Raises ``NotQuantisable``."""
    check_finite(weight)
    scales = clipped_scales(weight, bits, PERCENTILES)
    return quantise(weight, scales, bits).short(), scales


def gptq_quantise_all(
    weights: Sequence[Tensor], bits: Sequence[Tensor], hessians: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Integers int16 (R, C) and scales (R,) that keep ``weight @ inputs``, of matrices of one shape in one sweep.

    On a GPU a sweep costs its launches, not its sums. Raises ``NotQuantisable``.
    """
    check_finite(*weights, *hessians)
    scales = [clipped_scales(w, b, QUANTILES, h.diagonal()) for w, b, h in zip(weights, bits, hessians, strict=True)]
    dead = torch.stack([h.diagonal() <= 0 for h in hessians])  # a dead input's weight never matters
    work = torch.stack(tuple(weights)).float().masked_fill(dead[:, None], 0.0)
    qmax = torch.stack([qmax_of(b) for b in bits]).to(work.device)
    ones = torch.ones(len(work), work.shape[2], device=work.device)
    codes = sweep(work, [factorise(h) for h in hessians], torch.stack(scales), ones, qmax, None)
    return list(zip(codes, scales, strict=True))


def check_finite(*tensors: Tensor) -> None:
    """Raises ``NotQuantisable`` for NaN or infinity."""
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise NotQuantisable(
            "a weight or its calibration data holds NaN or infinity: train again with a lower MATRIX_LR."
        )


def sweep(
    weights: Tensor, factors: list[Factor], rows: Tensor, columns: Tensor, qmax: Tensor, reluctance: Tensor | None
) -> Tensor:
    """Integers int16 (n, R, C) of ``n`` matrices of one shape, with step rows·columns.

    weights (n, R, C), rows (n, R), columns (n, C): float32; qmax (n, R). reluctance (n, R, C): an integer q is lowered
    by one towards zero when that costs less than (2q - 1)·reluctance in units of squared steps; ``None``: never.
    """
    order = torch.stack([f.order for f in factors])
    upper = torch.stack([f.upper for f in factors])
    work = _permuted(weights, order)
    lower_by = None if reluctance is None else _permuted(reluctance, order)
    steps = columns.gather(1, order)[:, None] * rows[..., None]
    width = work.shape[2]
    codes = torch.empty_like(work)
    for start in range(0, width, BLOCK):
        end = min(start + BLOCK, width)
        errors = torch.empty_like(work[..., start:end])
        for i in range(start, end):
            step = steps[..., i]
            scaled = work[..., i] / step
            q = scaled.round()
            if lower_by is not None:
                size = q.abs()
                gain = (2 * size - 1) * lower_by[..., i] - (2 * scaled.abs() - 2 * size + 1)
                q = torch.where((gain > 0) & (size > 0), q - q.sign(), q)
            q = torch.minimum(torch.maximum(q, -qmax), qmax)
            codes[..., i] = q
            error = (work[..., i] - q * step) / upper[:, i, i, None]
            errors[..., i - start] = error
            work[..., i + 1 : end] -= error[..., None] * upper[:, None, i, i + 1 : end]
        work[..., end:] -= errors @ upper[:, start:end, end:]
    inverse = order.argsort(dim=1)[:, None].expand_as(codes)
    return codes.gather(2, inverse).to(torch.int16)


def factorise(hessian: Tensor) -> Factor:
    """Order of the columns and factor of the damped Hessian's inverse; more damping until it exists.

    Raises ``NotQuantisable`` for NaN, infinity, or a matrix that no damping makes positive.
    """
    check_finite(hessian)
    order = hessian.diagonal().argsort(descending=True, stable=True)
    wide = hessian.double()[order][:, order]
    mean = wide.diagonal().mean().clamp_min(1e-12)
    identity = torch.eye(len(wide), device=wide.device, dtype=wide.dtype)
    for attempt in range(MAX_DAMPING_STEPS):
        factor, info = torch.linalg.cholesky_ex(wide + identity * (mean * DAMPING * 4.0**attempt))
        if int(info) == 0:
            upper, info = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if int(info) == 0 and bool(torch.isfinite(upper).all()):
                return Factor(order, upper.float())
    raise NotQuantisable(
        "a layer's Hessian stays singular under any damping; QUANT_RD=0 with USE_GPTQ=0 packs without Hessians."
    )


def _permuted(matrices: Tensor, order: Tensor) -> Tensor:
    """A copy of (n, R, C) with each matrix's columns in its own order (n, C)."""
    return matrices.gather(2, order[:, None].expand_as(matrices)).clone()
