"""Bits and scale of each row, and rounding; late QAT and the packer share them.

A scale's floor is 1/qmax of its row's own width: 1/127 for 6-bit rows is the bug that pull request #1890 describes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Config
from ..model.mamba3 import in_proj_split

SMALL = 1024
DYNAMICS = ("dd_dt", "dd_A")


def is_quantised(name: str, shape: torch.Size) -> bool:
    """Whether a tensor is stored as integers: matrices with more than ``SMALL`` elements. The others stay float16."""
    return len(shape) == 2 and shape.numel() > SMALL and name.endswith(".weight")


def row_bits(name: str, shape: torch.Size, config: Config) -> Tensor:
    """Bits of each row, int64 (rows,): the embedding's, the dynamics rows' of a Mamba-3 ``in_proj``, or the common."""
    if name == "embedding.weight":
        return torch.full((shape[0],), config.quant_bits_embed)
    bits = torch.full((shape[0],), config.quant_bits)
    if name.endswith("in_proj.weight"):
        for role in DYNAMICS:
            bits[in_proj_split(config)[role]] = config.quant_bits_ssm_dynamics
    return bits


def qmax_of(bits: Tensor) -> Tensor:
    """Largest integer of each width, float32."""
    return (2.0 ** (bits - 1) - 1).float()


def row_scales(weight: Tensor, bits: Tensor, clip: Tensor | None = None) -> Tensor:
    """Scale of each row, float32 rounded to float16: (largest magnitude, or ``clip`` (rows,)) / qmax, floor 1/qmax."""
    qmax = qmax_of(bits).to(weight.device)
    largest = weight.abs().amax(1).float() if clip is None else clip.float()
    return torch.maximum(largest / qmax, 1 / qmax).half().float()


def quantise(weight: Tensor, scales: Tensor, bits: Tensor) -> Tensor:
    """Nearest integers, int8 (rows, columns)."""
    qmax = qmax_of(bits).to(weight.device)[:, None]
    return (weight.float() / scales[:, None]).round().clamp(-qmax, qmax).to(torch.int8)


def fake_quantise(weight: Tensor, bits: Tensor) -> Tensor:
    """The values that the packer's plain rounding would store, in ``weight``'s dtype."""
    scales = row_scales(weight, bits)
    return (quantise(weight, scales, bits).float() * scales[:, None]).to(weight.dtype)
