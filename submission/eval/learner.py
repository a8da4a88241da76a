"""The steps of one scored chunk: sharded windows, summed gradients, and the way back when the loss explodes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import Config
from ..model.hybrid import ModelState
from ..train.loss import IGNORED, softcap_loss
from .adapt import Adapter
from .carry import stacked
from .reader import Lesson, Reader, Reading

EXPLOSION = 1.0  # nats by which the loss may exceed the first epoch's before the chunk's adaptation is undone


class Learner:
    """Takes the steps. Nothing outlives a chunk here: weights and momentum are the adapter's."""

    def __init__(self, adapter: Adapter, reader: Reader, config: Config) -> None:
        self.adapter, self.reader, self.config = adapter, reader, config
        self._embedding = reader.model.embedding.weight

    @property
    def reuses_scoring(self) -> bool:
        """Whether the first step takes the whole chunk as it was scored, with the weights that scored it."""
        return not self.reader.carries and self.reader.batch == 0 and not self.adapter.averages

    def learn(self, lesson: Lesson, epochs: int, rate: float, reading: Reading | None) -> Tensor:
        """All steps of one chunk. Bool (), on the device: whether they stand; undone if a probe became much worse.

        reading: the scoring pass with its graph, for the first step; it is used up
        """
        adapter, reader = self.adapter, self.reader
        adapter.begin_chunk()
        snapshot = adapter.snapshot()
        per_step = reader.step_windows(len(lesson))
        probe = lesson[: per_step if reader.batch else reader.ranks.size]
        before = self._loss(probe)
        kept = reading.hidden if reading else []
        for _ in range(epochs):
            for at in range(0, len(lesson), per_step):
                self._step(lesson[at : at + per_step], rate, kept)
        allowed = EXPLOSION * (probe.goals != IGNORED).sum()
        return adapter.restore_unless(self._loss(probe) <= before + allowed, snapshot)  # false for NaN as well

    @torch.no_grad()
    def _loss(self, lesson: Lesson) -> Tensor:
        """Summed loss of a few windows over all ranks, nats."""
        total = torch.zeros((), device=self._embedding.device, dtype=self._embedding.dtype)
        for windows, goals, state in self._parts(lesson):
            total += self._summed_loss(self.reader.read(windows, state)[0], goals)
        self.reader.ranks.sum_all([total])
        return total

    def _step(self, lesson: Lesson, rate: float, kept: list[Tensor]) -> None:
        """One step on these windows; the passes in ``kept`` serve it where there are any, and free their graphs."""
        adapter = self.adapter
        parameters = list(adapter.parameters.values())
        gradients: list[Tensor] = []
        for windows, goals, state in self._parts(lesson):
            with torch.enable_grad():
                hidden = kept.pop(0) if kept else self.reader.read(windows, state)[0]
                loss = self._summed_loss(hidden, goals)
            added = list(torch.autograd.grad(loss, parameters))
            gradients = list(torch._foreach_add(gradients, added)) if gradients else added
        self.reader.ranks.sum_all(gradients)
        torch._foreach_div_(gradients, (lesson.goals != IGNORED).sum().clamp(min=1))
        adapter.step(dict(zip(adapter.parameters, gradients, strict=True)), rate)

    def _parts(self, lesson: Lesson) -> list[tuple[Tensor, Tensor, ModelState | None]]:
        """This rank's share, a forward pass at a time: windows, targets, and the states before the windows."""
        reader = self.reader
        windows = reader.passes(reader.ranks.share(lesson.windows))
        goals = reader.passes(reader.ranks.share(lesson.goals))
        if not lesson.starts:
            return [(w, g, None) for w, g in zip(windows, goals, strict=True)]
        whole = stacked(lesson.starts)
        fields = [[reader.passes(reader.ranks.share(t)) for t in part] for part in whole]
        states = [
            tuple(type(part)(*(field[i] for field in split)) for part, split in zip(whole, fields, strict=True))
            for i in range(len(windows))
        ]
        return list(zip(windows, goals, states, strict=True))

    def _summed_loss(self, hidden: Tensor, goals: Tensor) -> Tensor:
        return softcap_loss(hidden.flatten(0, 1), self._embedding, goals.flatten(), self.config.logit_softcap)
