"""Reading a chunk: the hidden rows of its tokens, each with the context that EVAL_MODE gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from ..config import BOS, Config
from ..model.attend import prefer_cudnn
from ..model.hybrid import Hybrid
from ..train.shares import single_threads
from .ranks import Ranks
from .windows import Cut, cut_targets, cut_windows, new_positions

Item = TypeVar("Item")
Result = TypeVar("Result")


class Reader:
    """Forward passes over windows, sharded over the ranks; ``compiled`` ones have the same shapes for every chunk."""

    def __init__(self, model: Hybrid, config: Config, ranks: Ranks, *, compiled: bool) -> None:
        self.model, self.config, self.ranks = model, config, ranks
        self.device, self.fixed = model.embedding.weight.device, compiled
        self._chunk_tokens = config.eval_seq_len * config.ttt_chunk_windows
        self.cut = Cut(config.eval_seq_len, config.eval_overlap if config.eval_mode == "overlap" else 0)
        smaller = config.ttt_batch_windows < self.cut.count(self._chunk_tokens)
        self.batch = config.ttt_batch_windows if smaller else 0  # windows of one step; 0: the whole chunk
        self._context = torch.full((self.cut.overlap,), BOS, device=self.device)
        if self.device.type == "cuda":
            prefer_cudnn()
        # deterministic: else each process picks its kernels by timing them, and a replica's logits are off by 0.2 nats
        self._stream = model.stream
        if compiled:
            self._stream = torch.compile(model.stream, dynamic=False, options={"deterministic": True})
        self._threads = 1 if compiled or model.embedding.weight.is_cuda else torch.get_num_threads()
        self._pool = single_threads(self._threads)

    def state(self) -> dict[str, Tensor]:
        """The tokens before the chunk."""
        return {"context": self._context}

    def bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use these tensors from now on."""
        self._context = buffers["context"]

    def read(self, windows: Tensor) -> Tensor:
        """Hidden rows (n, length, D) of windows (n, length), with their graph where gradients are on.

        One compiled graph serves both: a second for ``no_grad`` would make every cell wait half as long again.
        """
        with torch.set_grad_enabled(self.fixed or torch.is_grad_enabled()):
            hidden = self._stream(windows)
        return hidden if torch.is_grad_enabled() else hidden.detach()

    def rows(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Hidden rows (t, D) of the chunk on every rank; and this rank's passes with their graph, where they have one.

        A pass is (windows, length, D).
        """
        windows = cut_windows(self._context, inputs, self.cut, self._window_count(len(inputs)))
        parts = self.each(self.read, self.passes(self.ranks.share(windows)))
        rows = new_positions(self.ranks.gather(torch.cat([part.detach() for part in parts])), self.cut, len(inputs))
        return rows, parts if parts[0].requires_grad else []

    def each(self, do: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """``do`` each of the items, with gradients or without as here; on a CPU each core takes its own."""
        if self._threads == 1:
            return list(map(do, items))
        graded = torch.is_grad_enabled()

        def alike(item: Item) -> Result:
            with torch.set_grad_enabled(graded):
                return do(item)

        return list(self._pool.map(alike, items))

    def lesson(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """A scored chunk to learn from, int64 (2, n, length): its windows and their targets."""
        cut, count = self.cut, self._window_count(len(inputs))
        return torch.stack((cut_windows(self._context, inputs, cut, count), cut_targets(targets, cut, count)))

    def step_windows(self, windows: int) -> int:
        """Windows of one step over all ranks, of a chunk that has ``windows``."""
        step = self.batch or windows
        return min(windows, step + -step % self.ranks.size)

    def passes(self, windows: Tensor) -> tuple[Tensor, ...]:
        """This rank's windows, or what belongs to them, in parts of one forward pass.

        By default a pass holds a core's windows of a step, so that scoring, steps and probe have one shape.
        """
        step = -(-self.batch // self.ranks.size) or len(windows)
        each = self.config.eval_pass_windows or -(-step // self._threads)
        return torch.split(windows, each)

    def advance(self, inputs: Tensor) -> None:
        """Move the context behind the chunk."""
        if len(self._context):
            self._context.copy_(torch.cat((self._context, inputs))[-len(self._context) :])

    def _window_count(self, tokens: int) -> int:
        """Windows of a chunk, filled up to whole steps; if compiled those of a full one: its tail compiles nothing."""
        count = self.cut.count(self._chunk_tokens if self.fixed else tokens)
        step = max(self.ranks.size, self.batch)
        step += -step % self.ranks.size
        return count + -count % step
