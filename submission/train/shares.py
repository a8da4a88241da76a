"""Forward and backward on a CPU: each core takes its own windows; the bits depend on the number of cores alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]


def use_cores(count: int, gpus: int = 0) -> None:
    """Compute with so many threads, without GPUs the same bits each time."""
    torch.set_num_threads(max(1, count))
    torch.use_deterministic_algorithms(not gpus)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads it


def single_threads(count: int) -> ThreadPoolExecutor:
    """Threads whose operators do not start others."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


class Shares:
    """Loss and gradients of a batch over ``count`` threads."""

    def __init__(self, loss: Loss, parameters: list[torch.nn.Parameter], count: int) -> None:
        self._loss, self._parameters, self._count = loss, parameters, count
        self._pool = single_threads(count)

    def accumulate(self, windows: Tensor, weight: float) -> Tensor:
        """Add ``weight`` times the gradient of the mean loss of ``windows`` (n, L + 1) to ``.grad``.

        Returns ``weight`` times that mean, nats.
        """
        parts = [part for part in torch.tensor_split(windows, self._count) if len(part)]
        results = list(self._pool.map(lambda part: self._share(part, weight * len(part) / len(windows)), parts))
        for _, gradients in results:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return torch.stack([loss for loss, _ in results]).sum()

    def _share(self, windows: Tensor, weight: float) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        loss = self._loss(windows) * weight
        return loss.detach(), torch.autograd.grad(loss, self._parameters, allow_unused=True)
