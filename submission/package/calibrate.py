"""Calibration: tokens that the model writes itself, and what they say about every matrix (DESIGN.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..model.decode import Decoder
from ..model.hybrid import Hybrid

TEMPERATURE = 0.8
REPORT_EVERY = 64
EMBEDDING, INPUT = "embedding.weight", "embedding input"


@dataclass
class Statistics:
    """By matrix name: hessians (in, in) = mean of x xᵀ; gradients (out,) = mean squared gradient of each output.

    Gradients are of the summed loss of labels drawn from the model. The embedding's entries cover both its sides.
    """

    hessians: dict[str, Tensor] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def sample_sequences(model: Hybrid, count: int, length: int, seed: int, progress: Callable[[float], None]) -> Tensor:
    """``count`` sequences of ``length`` tokens, int64 (count, length): first token uniform, then temperature 0.8."""
    device = model.embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    decoder = Decoder(model, count, length)
    out = torch.empty(count, length, dtype=torch.int64, device=device)
    out[:, 0] = torch.randint(model.config.vocab_size, (count,), generator=generator, device=device)

    def advance() -> None:
        last = out.index_select(1, decoder.position)[:, 0]
        weights = (decoder.step(last).float() / TEMPERATURE).softmax(-1)
        race = torch.empty_like(weights).exponential_(generator=None if device.type == "cuda" else generator)
        out.index_copy_(1, decoder.position, (weights / race).argmax(-1, keepdim=True))

    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
        advance = _captured(advance, decoder, out)
    for t in range(1, length):
        advance()
        if t % REPORT_EVERY == 0:
            progress(t / length)
    return out.cpu()


def _captured(advance: Callable[[], None], decoder: Decoder, out: Tensor) -> Callable[[], None]:
    """``advance`` as a CUDA graph, with the decoder back at its start."""
    first = out[:, 0].clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            advance()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    decoder.reset()
    with torch.cuda.graph(graph):
        advance()
    decoder.reset()
    out[:, 0] = first
    return graph.replay


def measure(model: Hybrid, sequences: Tensor, batch: int, seed: int, progress: Callable[[float], None]) -> Statistics:
    """Second moments and gradients over ``sequences`` (n, length), ``batch`` at a time; nothing outlives its pass."""
    device = model.embedding.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    sums = Statistics()
    parts = torch.split(sequences, batch)
    with _watched(model, sums):
        for index, part in enumerate(parts):
            hidden = model.stream(part.to(device))
            logits = model.logits(hidden).flatten(0, 1).float()
            probabilities = logits.detach().softmax(-1)
            labels = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            loss = F.cross_entropy(logits, labels, reduction="sum")
            torch.autograd.grad(loss, [model.embedding.weight])
            _add_head(sums, hidden.detach().flatten(0, 1).float(), logits.detach(), probabilities, model)
            progress((index + 1) / len(parts))
    positions = sequences.numel()
    for table in (sums.hessians, sums.gradients):
        for name in table:
            table[name] /= positions
    _join_embedding(sums)
    return sums


def _add(table: dict[str, Tensor], name: str, value: Tensor) -> None:
    table[name] = table[name] + value if name in table else value


def _add_head(sums: Statistics, hidden: Tensor, logits: Tensor, probabilities: Tensor, model: Hybrid) -> None:
    """The embedding as head: exact Fisher diagonal p(1 - p) of the logits before the soft cap, a row a token."""
    _add(sums.hessians, EMBEDDING, hidden.T @ hidden)
    slope = 1 - (logits / model.config.logit_softcap).square()
    _add(sums.gradients, EMBEDDING, (probabilities * (1 - probabilities) * slope.square()).sum(0))


def _join_embedding(sums: Statistics) -> None:
    """Add the input side: a row read with frequency f adds f·(mean gradient²)·I, nearly in proportion to its head's."""
    energy = sums.gradients.pop(INPUT).mean()
    head = sums.gradients[EMBEDDING]
    hessian = sums.hessians[EMBEDDING]
    identity = torch.eye(len(hessian), device=hessian.device)
    sums.hessians[EMBEDDING] = hessian + identity * (energy / head.sum().clamp_min(1e-30))


@contextmanager
def _watched(model: nn.Module, sums: Statistics) -> Iterator[None]:
    def linear(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor | tuple[Tensor, ...]], None]:
        def seen(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            rows = inputs[0].detach().flatten(0, -2).float()
            _add(sums.hessians, name, rows.T @ rows)
            parts = output if isinstance(output, tuple) else (output,)  # in_proj hands over its rows in parts
            kept = sums.gradients.setdefault(name, rows.new_zeros(sum(part.shape[-1] for part in parts)))
            for part, place in zip(parts, torch.split(kept, [part.shape[-1] for part in parts]), strict=True):
                _watch_gradient(part, place)

        return seen

    def looked_up(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _watch_gradient(output, sums.gradients.setdefault(INPUT, output.new_zeros(output.shape[-1]).float()))

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(linear(f"{name}.weight")))
        elif isinstance(module, nn.Embedding):
            handles.append(module.register_forward_hook(looked_up))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch_gradient(output: Tensor, total: Tensor) -> None:
    """Add the squared gradients of ``output`` (…, width) to ``total`` (width,)."""

    def seen(gradient: Tensor) -> None:
        total.add_(gradient.float().flatten(0, -2).square().sum(0))

    output.register_hook(seen)  # type: ignore[no-untyped-call]
