"""Gradient steps on what is already scored: SGD with momentum over all weights, by default as pull request #1890 does.

Everything that outlives a chunk is in ``state()``. Nothing here reads a value back from a GPU.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import Config
from ..model.hybrid import Hybrid
from ..train.muon import orthogonalise
from .roles import rates

MUON_STEPS = 5


def learning_rate(config: Config, chunk: int, chunks: int) -> float:
    """The rate for ``chunk`` of ``chunks``: TTT_LR at first, TTT_LR · TTT_LR_END in the last chunk."""
    done = chunk / max(1, chunks - 1)
    left = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, done)))}
    end = 1.0 if config.ttt_lr_schedule == "constant" else config.ttt_lr_end
    return config.ttt_lr * (end + (1 - end) * max(0.0, left[config.ttt_lr_schedule]))


class Adapter:
    """The weights that adapt, their momentum, and what is derived from them (averages, low-rank factors).

    With TTT_LORA_RANK = r a matrix W moves as W₀ + B·A only, B (rows, r), A (r, columns): the steps go to B and A, with
    the exact gradients G·Aᵀ and Bᵀ·G that follow from W's gradient G.
    """

    def __init__(self, model: Hybrid, config: Config) -> None:
        self.config = config
        multipliers = {
            "embedding": config.ttt_embed_lr, "dynamics": config.ttt_dynamics_lr, "small": config.ttt_small_lr,
        }  # fmt: skip
        frozen = frozenset(filter(None, (role.strip() for role in config.ttt_freeze.split(","))))
        by_name = rates(model, multipliers, frozen, config.ttt_from_block)
        model.first_learning_block = config.ttt_from_block
        self._rates = {n: r for n, r in by_name.items() if isinstance(r, Tensor) or r > 0}
        parameters = dict(model.named_parameters())
        self.parameters = {name: parameters[name] for name in self._rates}
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        self._momentum: dict[str, Tensor] = {}
        for name, p in self.parameters.items():
            if config.ttt_lora_rank and p.dim() == 2 and min(p.shape) > config.ttt_lora_rank:
                self._factors[name] = _new_factors(p, config.ttt_lora_rank)
                for part, factor in zip("ba", self._factors[name], strict=True):
                    self._momentum[f"{name}/{part}"] = torch.zeros_like(factor)
            else:
                self._momentum[name] = torch.zeros_like(p.detach())
        self._by_rate: dict[float, list[str]] = defaultdict(list)  # those that one multiplier moves as they are
        for name, multiplier in self._rates.items():
            if name not in self._factors and not isinstance(multiplier, Tensor):
                self._by_rate[multiplier].append(name)
        self._average = {n: p.detach().clone() for n, p in self.parameters.items()} if config.ttt_ema else {}
        self._weights: dict[str, Tensor] = {name: p.data for name, p in self.parameters.items()}
        self._start = {name: t.clone() for name, t in self.state().items()}
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in self.parameters)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes."""
        state = {f"weight/{name}": w for name, w in self._weights.items()}
        state |= {f"momentum/{name}": m for name, m in self._momentum.items()}
        state |= {f"average/{name}": m for name, m in self._average.items()}
        for name, (b, a) in self._factors.items():
            state |= {f"factor/{name}/b": b, f"factor/{name}/a": a}
        return state

    def bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use these tensors from now on."""
        self._weights = {name: buffers[f"weight/{name}"] for name in self.parameters}
        for name, parameter in self.parameters.items():
            parameter.data = self._weights[name]
        self._momentum = {name: buffers[f"momentum/{name}"] for name in self._momentum}
        self._average = {name: buffers[f"average/{name}"] for name in self._average}
        self._factors = {n: (buffers[f"factor/{n}/b"], buffers[f"factor/{n}/a"]) for n in self._factors}

    def use_average(self, averaged: bool) -> None:
        """Point the model at the averaged weights (for scoring) or at the moving ones. Only TTT_EMA has averages."""
        if self._average:
            source = self._average if averaged else self._weights
            for name, parameter in self.parameters.items():
                parameter.data = source[name]

    @property
    def averages(self) -> bool:
        """Whether scoring uses other weights than adaptation."""
        return bool(self._average)

    def snapshot(self) -> list[Tensor]:
        """Copies of everything a step changes, to undo with ``restore_unless``."""
        state = list(self.state().values())
        copies = [torch.empty_like(t) for t in state]
        torch._foreach_copy_(copies, state)
        return copies

    @torch.no_grad()
    def restore_unless(self, good: Tensor, snapshot: list[Tensor]) -> Tensor:
        """Go back to ``snapshot``, momentum zero, where ``good`` (bool, shape ()) is false. Returns the final verdict.

        A weight that is not finite counts as not good, whatever the losses said. Stays on the device.
        """
        state = self.state()
        good = good & _all_finite(list(state.values()))
        zero = torch.zeros((), device=good.device)
        kept = [
            torch.where(good, now, zero if name.startswith("momentum/") else before)
            for (name, now), before in zip(state.items(), snapshot, strict=True)
        ]
        torch._foreach_copy_(list(state.values()), kept)
        return good

    @torch.no_grad()
    def begin_chunk(self) -> None:
        """Weights that are not finite go back to the packed ones; momentum goes where TTT_MOMENTUM_RESET says so."""
        state = self.state()
        healthy = _all_finite(list(state.values()))
        kept = [torch.where(healthy, tensor, self._start[name]) for name, tensor in state.items()]
        torch._foreach_copy_(list(state.values()), kept)
        if self.config.ttt_momentum_reset:
            torch._foreach_zero_(list(self._momentum.values()))

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], rate: float) -> None:
        """One step with the gradients of all ``parameters``."""
        config = self.config
        if config.ttt_grad_clip:
            norm = torch.stack(torch._foreach_norm(list(gradients.values()))).norm()
            torch._foreach_mul_(list(gradients.values()), (config.ttt_grad_clip / (norm + 1e-6)).clamp(max=1.0))
        directions = self._directions(gradients)
        moments = [self._momentum[name] for name in directions]
        torch._foreach_mul_(moments, config.ttt_momentum)
        torch._foreach_add_(moments, list(directions.values()))
        updates = self._updates()
        for name, parameter in self.parameters.items():
            if name in self._factors:
                b, a = self._factors[name]
                b.sub_(rate * self._rates[name] * self._momentum[f"{name}/b"])
                a.sub_(self._momentum[f"{name}/a"], alpha=rate)
                parameter.copy_(torch.addmm(self._start[f"weight/{name}"], b, a))
            elif isinstance(self._rates[name], Tensor):
                parameter.sub_(updates[name] * (rate * self._rates[name]))
        for multiplier, names in self._by_rate.items():
            scaled = torch._foreach_mul([updates[name] for name in names], rate * multiplier)
            torch._foreach_sub_([self.parameters[name] for name in names], scaled)
        if self._average:
            torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - config.ttt_ema)

    def _directions(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        directions: dict[str, Tensor] = {}
        for name, gradient in gradients.items():
            if name in self._factors:
                b, a = self._factors[name]
                directions[f"{name}/b"], directions[f"{name}/a"] = gradient @ a.T, b.T @ gradient
            else:
                directions[name] = gradient
        return directions

    def _updates(self) -> dict[str, Tensor]:
        """The momentum; with TTT_OPTIMISER=muon orthogonalised for the blocks' matrices, those of one shape at once."""
        updates = dict(self._momentum)
        if self.config.ttt_optimiser == "muon":
            by_shape: dict[torch.Size, list[str]] = defaultdict(list)
            for name, moment in self._momentum.items():
                if name.startswith("blocks.") and moment.dim() == 2 and min(moment.shape) > 2:
                    by_shape[moment.shape].append(name)
            for (rows, columns), names in by_shape.items():
                directions = orthogonalise(torch.stack([updates[n] for n in names]), MUON_STEPS, True)
                updates |= zip(names, directions * max(1.0, rows / columns) ** 0.5, strict=True)
        return updates


def _all_finite(tensors: list[Tensor]) -> Tensor:
    """Bool (): whether no tensor holds an infinity or NaN; the largest magnitudes tell."""
    return torch.isfinite(torch.stack(torch._foreach_norm(tensors, math.inf))).all()


def _new_factors(parameter: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B zero, A of unit-norm rows from a fixed seed, so that replicas agree."""
    generator = torch.Generator().manual_seed(parameter.shape[0] * 65536 + parameter.shape[1])
    a = torch.randn(rank, parameter.shape[1], generator=generator, dtype=torch.float64)
    a = (a / a.norm(dim=1, keepdim=True)).to(parameter.device, parameter.dtype)
    return a.new_zeros(parameter.shape[0], rank), a
