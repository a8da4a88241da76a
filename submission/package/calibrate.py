"""Calibration data from the model itself: sampled sequences, and the Hessian of each layer's inputs from them.

No data set is readable while packaging, so the model writes its own text with the recurrent step and the key/value
cache: every new token costs one step, not a pass over the whole prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..model.hybrid import Hybrid, ModelState

TEMPERATURE = 0.8


@torch.no_grad()
def sample_sequences(
    model: Hybrid, count: int, length: int, generator: torch.Generator, progress: Callable[[float], None]
) -> Tensor:
    """``count`` sequences of ``length`` tokens, int64: first token uniform, then at temperature 0.8."""
    device = model.embedding.weight.device
    tokens = torch.empty(count, length, dtype=torch.int64)
    tokens[:, 0] = torch.randint(model.config.vocab_size, (count,), generator=generator)
    state: ModelState | None = None
    for t in range(1, length):
        logits, state = model.forward_with_state(tokens[:, t - 1 : t].to(device), state)
        probabilities = (logits[:, -1].float() / TEMPERATURE).softmax(-1).cpu()
        tokens[:, t] = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        progress(t / length)
    return tokens


@torch.no_grad()
def input_hessians(model: Hybrid, sequences: Tensor, batch: int) -> dict[str, Tensor]:
    """X Xᵀ / n of the inputs of every linear layer, and of the head under the embedding's name; float32 (in, in).

    Streaming: no activation outlives its batch.
    """
    hessians: dict[str, Tensor] = {}
    device = model.embedding.weight.device

    def add(name: str, inputs: Tensor) -> None:
        rows = inputs.flatten(0, -2).float()
        gram = rows.T @ rows / len(sequences)
        hessians[name] = hessians[name] + gram if name in hessians else gram

    with _watch_inputs(model, add):
        for part in torch.split(sequences, batch):
            hidden, _ = model.hidden(part.to(device))
            add("embedding.weight", hidden)
    return hessians


@contextmanager
def _watch_inputs(model: nn.Module, add: Callable[[str, Tensor], None]) -> Iterator[None]:
    def watcher(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: add(f"{name}.weight", inputs[0])

    handles = [
        module.register_forward_pre_hook(watcher(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
