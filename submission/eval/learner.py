"""The steps of one scored chunk: sharded windows, summed gradients, and the way back when the loss explodes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Config
from ..train.loss import IGNORED, softcap_loss
from .adapt import Adapter
from .reader import Reader

EXPLOSION = 1.0  # nats by which the loss may exceed the first epoch's before the chunk's adaptation is undone


class Learner:
    """Takes the steps. Nothing outlives a chunk here: weights and momentum are the adapter's."""

    def __init__(self, adapter: Adapter, reader: Reader, config: Config) -> None:
        self.adapter, self.reader, self.config = adapter, reader, config
        self._embedding = reader.model.embedding.weight

    @torch.no_grad()
    def learn(self, lesson: Tensor, epochs: int, kept: list[Tensor]) -> Tensor:
        """All steps of one chunk. Bool (), on the device: whether they stand; undone if a probe became much worse.

        lesson: as of ``Reader.lesson``; kept: the scoring pass with its graph, for the first step; it is used up
        """
        adapter, reader = self.adapter, self.reader
        snapshot = adapter.snapshot()
        lessons = torch.split(lesson, reader.step_windows(lesson.shape[1]), 1)
        steps = [(self._parts(part), (part[1] != IGNORED).sum().clamp(min=1)) for part in lessons]
        probe, goals = (part if reader.batch else part[:1] for part in steps[0][0][0])
        before = self._loss(kept[0][:1] if kept else reader.read(probe), goals)
        for _ in range(epochs):
            for parts, count in steps:
                self._step(parts, count, kept)
        after = self._loss(reader.read(probe), goals)
        return adapter.restore_unless(after <= before + EXPLOSION, snapshot)  # false for NaN as well

    @torch.no_grad()
    def _loss(self, hidden: Tensor, goals: Tensor) -> Tensor:
        """Mean loss of a few windows over all ranks, nats."""
        counted = (goals != IGNORED).sum()
        total = torch.stack((self._summed_loss(hidden, goals), counted.to(self._embedding.dtype)))
        self.reader.ranks.sum_all([total])
        return total[0] / total[1].clamp(min=1)

    def _step(self, lesson: list[tuple[Tensor, Tensor]], count: Tensor, kept: list[Tensor]) -> None:
        """One step on these windows; the passes in ``kept`` serve it where there are any, and free their graphs."""
        adapter = self.adapter
        parameters = list(adapter.parameters.values())

        def gradients_of(part: tuple[Tensor, Tensor, Tensor | None]) -> list[Tensor]:
            windows, goals, hidden = part
            with torch.enable_grad():
                loss = self._summed_loss(self.reader.read(windows) if hidden is None else hidden, goals)
            return list(torch.autograd.grad(loss, parameters))

        parts = [(*part, kept.pop(0) if kept else None) for part in lesson]
        gradients, *others = self.reader.each(gradients_of, parts)
        for added in others:
            gradients = list(torch._foreach_add(gradients, added))
        self.reader.ranks.sum_all(gradients)
        torch._foreach_div_(gradients, count)
        adapter.step(dict(zip(adapter.parameters, gradients, strict=True)))

    def _parts(self, lesson: Tensor) -> list[tuple[Tensor, Tensor]]:
        """This rank's share, a forward pass at a time: windows and targets."""
        reader = self.reader
        shares = (reader.passes(reader.ranks.share(t)) for t in lesson)
        return list(zip(*shares, strict=True))

    def _summed_loss(self, hidden: Tensor, goals: Tensor) -> Tensor:
        return softcap_loss(hidden.flatten(0, 1), self._embedding, goals.flatten(), self.config.logit_softcap)
