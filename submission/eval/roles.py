"""What each weight is for, so that adaptation can treat kinds of weights differently."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import WEIGHT_ROLES
from ..model.hybrid import Hybrid
from ..model.mamba3 import Mamba3


def rates(
    model: Hybrid, multipliers: dict[str, float], frozen: frozenset[str], from_block: int = 0
) -> dict[str, Tensor | float]:
    """Learning-rate multiplier of each parameter by name: a number, or (rows, 1) where rows of a matrix differ.

    The roles: "dynamics" is the dd_dt and dd_A rows of each in_proj and dt_bias; "mamba" and "attention" are the other
    matrices of those mixers; "small" is every vector of scales, gains and biases. A frozen role has multiplier 0, and
    so has every block before ``from_block``, and the skip weights if all act before blocks before it. (Single ones that
    do get no gradient.)
    """
    by_role = {role: 0.0 if role in frozen else multipliers.get(role, 1.0) for role in WEIGHT_ROLES}
    result: dict[str, Tensor | float] = {name: by_role[role_of(name, p)] for name, p in model.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, Mamba3):
            weight = module.in_proj.weight
            rows = torch.full((len(weight), 1), by_role["mamba"], dtype=weight.dtype, device=weight.device)
            for role in ("dd_dt", "dd_A"):
                rows[module.split[role]] = by_role["dynamics"]
            result[f"{name}.in_proj.weight"] = rows if by_role["mamba"] != by_role["dynamics"] else by_role["mamba"]
    early = tuple(f"blocks.{index}." for index in range(from_block))
    if from_block >= 2 * len(model.skip_weights):  # row i acts before block len + i; without rows none moves
        early += ("skip_weights",)
    return {name: 0.0 if name.startswith(early) else rate for name, rate in result.items()}


def role_of(name: str, parameter: Tensor) -> str:
    """The role of a parameter; an in_proj counts as "mamba" here."""
    if name == "embedding.weight":
        return "embedding"
    if name.endswith("dt_bias"):
        return "dynamics"
    if not name.endswith(".weight") or parameter.dim() != 2:
        return "small"
    if ".mlp." in name:
        return "mlp"
    return "mamba" if name.endswith(("in_proj.weight", "out_proj.weight")) else "attention"
