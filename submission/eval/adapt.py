"""Gradient steps on what is already scored: momentum over all weights, as pull request #1890 does, or Muon.

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

MUON_STEPS = 5


class Adapter:
    """The weights that adapt and their momentum."""

    def __init__(self, model: Hybrid, config: Config) -> None:
        self.config = config
        self.parameters = dict(model.named_parameters())
        self._momentum = {name: torch.zeros_like(p.detach()) for name, p in self.parameters.items()}
        self._weights: dict[str, Tensor] = {name: p.data for name, p in self.parameters.items()}
        self._packed = [w.clone() for w in self._weights.values()]

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes."""
        state = {f"weight/{name}": w for name, w in self._weights.items()}
        return state | {f"momentum/{name}": m for name, m in self._momentum.items()}

    def bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use these tensors from now on."""
        self._weights = {name: buffers[f"weight/{name}"] for name in self.parameters}
        for name, parameter in self.parameters.items():
            parameter.data = self._weights[name]
        self._momentum = {name: buffers[f"momentum/{name}"] for name in self._momentum}

    def snapshot(self) -> list[Tensor]:
        """Copies of everything a step changes, to undo with ``restore_unless``."""
        state = list(self.state().values())
        copies = [torch.empty_like(t) for t in state]
        torch._foreach_copy_(copies, state)
        return copies

    @torch.no_grad()
    def restore_unless(self, good: Tensor, snapshot: list[Tensor]) -> Tensor:
        """Go back to ``snapshot``, momentum zero, where ``good`` (bool, shape ()) is false. Returns the final verdict.

        A weight that is not finite counts as not good, whatever the losses said; where the snapshot has one too, the
        weights are the packed ones again. Stays on the device.
        """
        state = self.state()
        good, sound = good & _all_finite(list(state.values())), _all_finite(snapshot)
        back = [torch.where(sound, w, packed) for w, packed in zip(snapshot, self._packed, strict=False)]
        back += [torch.zeros((), device=good.device)] * len(self._momentum)
        kept = [torch.where(good, now, other) for now, other in zip(state.values(), back, strict=True)]
        torch._foreach_copy_(list(state.values()), kept)
        return good

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor]) -> None:
        """One step with the gradients of all ``parameters``."""
        moments = [self._momentum[name] for name in gradients]
        torch._foreach_mul_(moments, self.config.ttt_momentum)
        torch._foreach_add_(moments, list(gradients.values()))
        updates = self._updates()
        scaled = torch._foreach_mul([updates[name] for name in self.parameters], self.config.ttt_lr)
        torch._foreach_sub_(list(self.parameters.values()), scaled)

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
