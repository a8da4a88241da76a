"""Reading a chunk: the hidden rows of its tokens, each with the context that EVAL_MODE gives, and what goes on from it.

What goes on to the next chunk (the last tokens, or the carried state) is in ``state()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import BOS, Config
from ..model.attend import prefer_cudnn
from ..model.hybrid import Hybrid, ModelState
from . import carry
from .pace import Plan
from .ranks import Ranks
from .windows import Cut, cut_targets, cut_windows, new_positions


@dataclass
class Reading:
    """What scoring leaves for adaptation: rows (n, length, D) of this rank with their graph, a part a forward pass, and
    the states around windows.
    """

    hidden: list[Tensor]
    states: list[ModelState]


@dataclass(frozen=True)
class Lesson:
    """A chunk to learn from: windows and targets (n, length), and in carry mode the state before each window."""

    windows: Tensor
    goals: Tensor
    starts: list[ModelState]

    def __getitem__(self, rows: slice) -> Lesson:
        return Lesson(self.windows[rows], self.goals[rows], self.starts[rows])

    def __len__(self) -> int:
        return len(self.windows)


class Reader:
    """Forward passes over windows, sharded over the ranks; ``compiled`` ones have the same shapes for every chunk."""

    def __init__(self, model: Hybrid, config: Config, ranks: Ranks, *, compiled: bool) -> None:
        self.model, self.config, self.ranks = model, config, ranks
        self.device, self._fixed = model.embedding.weight.device, compiled
        self._chunk_tokens = config.eval_seq_len * config.ttt_chunk_windows
        self.cut, self._plain = _cut(config), Cut(config.eval_seq_len, 0)
        smaller = config.ttt_batch_windows < self.cut.count(self._chunk_tokens)
        self.batch = config.ttt_batch_windows if smaller else 0  # windows of one step; 0: the whole chunk
        self.carries = config.eval_mode == "carry"
        self._context = torch.full((self.cut.overlap,), BOS, device=self.device)
        if self.device.type == "cuda":
            prefer_cudnn()
        self._stream = torch.compile(model.stream, dynamic=False) if compiled else model.stream
        self._hidden = torch.compile(model.hidden, dynamic=False) if compiled else model.hidden
        self._keys = config.eval_overlap
        self._carried: ModelState = ()
        if self.carries:
            with torch.no_grad():
                start = carry.initial_state(self.read, self._keys, BOS, config.rope_base, self.device)
            self._carried = tuple(type(p)(*(t.contiguous().clone() for t in p)) for p in start)
            self._first_carried = tuple(type(p)(*(t.clone() for t in p)) for p in self._carried)

    @property
    def overlaps(self) -> bool:
        """Whether windows re-read tokens before their own."""
        return self.cut.overlap > 0

    def state(self) -> dict[str, Tensor]:
        """The tokens before the chunk, and in carry mode the state of the model there."""
        return {"context": self._context} | carry.named(self._carried)

    def bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use these tensors from now on."""
        self._context = buffers["context"]
        self._carried = carry.from_named(buffers, self._carried)

    def sound_start(self) -> ModelState:
        """The carried state, or the one before the stream if it is not finite; empty where none is carried."""
        sound = all(bool(torch.isfinite(t).all()) for part in self._carried for t in part)
        return self._carried if sound else self._first_carried

    def rows(self, inputs: Tensor, plan: Plan, start: ModelState = ()) -> tuple[Tensor, Reading]:
        """Hidden rows (t, D) of the chunk on every rank, and what they came from; ``start``: where to begin instead."""
        if self.carries:
            windows = cut_windows(self._context, inputs, self._plain)
            with torch.no_grad():
                parts, states = carry.read_stream(
                    self.read, windows, start or self._carried, self._keys, self.config.rope_base
                )
            return torch.cat(parts, 1)[0, : len(inputs)], Reading([], states)
        cut = self._plain if plan.plain else self.cut
        windows = cut_windows(self._context, inputs, cut, self._window_count(len(inputs), cut))
        parts = [self.read(part, None)[0] for part in self.passes(self.ranks.share(windows))]
        rows = new_positions(self.ranks.gather(torch.cat([part.detach() for part in parts])), cut, len(inputs))
        return rows, Reading(parts if parts[0].requires_grad else [], [])

    def lesson(self, inputs: Tensor, targets: Tensor, reading: Reading | None) -> Lesson:
        """The windows of a scored chunk with their targets; ``reading`` saves reading it again for the states."""
        cut, count = self.cut, self._window_count(len(inputs), self.cut)
        windows, goals = cut_windows(self._context, inputs, cut, count), cut_targets(targets, cut, count)
        return Lesson(windows, goals, self._window_states(inputs, count, reading) if self.carries else [])

    def step_windows(self, windows: int) -> int:
        """Windows of one step over all ranks, of a chunk that has ``windows``."""
        step = self.batch or windows
        return min(windows, step + -step % self.ranks.size)

    def passes(self, windows: Tensor) -> tuple[Tensor, ...]:
        """This rank's windows, or what belongs to them, in parts of one forward pass.

        By default a pass holds the windows of a step, so that scoring, steps and probe have one shape.
        """
        each = self.config.eval_pass_windows or -(-self.batch // self.ranks.size) or len(windows)
        return torch.split(windows, each)

    def read(self, windows: Tensor, state: ModelState | None) -> tuple[Tensor, ModelState]:
        """Hidden states (n, length, D) and the state after each window; no state where none is carried."""
        return self._hidden(windows, state) if self.carries else (self._stream(windows), ())

    def advance(self, inputs: Tensor, reading: Reading | None, adapted: bool) -> None:
        """Move the context behind the chunk; ``adapted``: the weights changed, and EVAL_CARRY says what then."""
        if len(self._context):
            self._context.copy_(torch.cat((self._context, inputs))[-len(self._context) :])
        if not self.carries:
            return
        states = self._states(inputs, reading)
        new = states[-1]
        if adapted and self.config.eval_carry == "recompute":
            with torch.no_grad():
                windows = cut_windows(self._context, inputs, self._plain)[-1:]
                _, again = carry.read_stream(self.read, windows, states[-2], self._keys, self.config.rope_base)
            new = again[-1]
        elif adapted and self.config.eval_carry == "decay":
            new = carry.decayed(new, self.config.eval_carry_decay)
        for part, values in zip(self._carried, new, strict=True):
            for buffer, value in zip(part, values, strict=True):
                buffer.copy_(value)

    def _window_states(self, inputs: Tensor, count: int, reading: Reading | None) -> list[ModelState]:
        """The state before each of ``count`` windows; windows of filling take the last one."""
        states = self._states(inputs, reading)[:-1]
        return states + states[-1:] * (count - len(states))

    def _states(self, inputs: Tensor, reading: Reading | None) -> list[ModelState]:
        if reading and reading.states:
            return reading.states
        with torch.no_grad():
            return self.rows(inputs, Plan(0))[1].states

    def _window_count(self, tokens: int, cut: Cut) -> int:
        """Windows of a chunk, filled up to whole steps; if compiled those of a full one: its tail compiles nothing."""
        count = cut.count(self._chunk_tokens if self._fixed else tokens)
        step = max(self.ranks.size, self.batch)
        step += -step % self.ranks.size
        return count + -count % step


def _cut(config: Config) -> Cut:
    overlap = {"overlap": config.eval_overlap, "sliding": config.eval_seq_len - config.eval_stride}
    return Cut(config.eval_seq_len, overlap.get(config.eval_mode, 0))
