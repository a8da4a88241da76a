"""The hybrid as a ``Predictor``: score windows, then adapt all weights by SGD with momentum on what was scored.

Everything that changes is in ``state()``: weights, momentum, the tokens before the chunk, and the control counters.
What depends on the clock (fewer epochs when time runs short) is written into the counters first and read from there,
so a replica that starts from a copied state behaves the same at any speed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.protocol.predictor import EvalContext

from ..config import Config
from ..model.hybrid import Hybrid
from .pace import Pace
from .windows import cut_windows, new_positions

BOS = 1
EXPLOSION = 1.0  # nats by which an epoch's loss may exceed the chunk's score before the chunk's adaptation is undone
EPOCHS, UNDONE, FALLBACKS = 0, 1, 2  # places in the control counters


class HybridPredictor:
    """Scores a chunk as windows of EVAL_SEQ_LEN; adapts for TTT_EPOCHS full-batch steps."""

    logits_dtype = torch.float32

    def __init__(self, model: Hybrid, config: Config, context: EvalContext) -> None:
        self.model, self.config = model, config
        self.adaptive = context.stage == "final" and config.ttt_epochs > 0
        stride = config.eval_seq_len - config.eval_overlap
        self.chunk_tokens = stride * config.ttt_chunk_windows
        self.slab_rows = self.chunk_tokens
        self._parameters = dict(model.named_parameters())
        self._packed = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._momentum = {name: torch.zeros_like(p) for name, p in self._packed.items()} if self.adaptive else {}
        self._context = torch.full((config.eval_overlap,), BOS)
        self._control = torch.tensor([config.ttt_epochs if self.adaptive else 0, 0, 0])
        self._pace = Pace(context.eval_s, context.total_targets)
        self._scored: Tensor | None = None  # the scoring pass's logits with their graph, for the first epoch

    def state(self) -> Mapping[str, Tensor]:
        """Control counters and context; with adaptation also every weight and its momentum."""
        state = {"control": self._control, "context": self._context}
        if self.adaptive:
            state |= {f"weight/{name}": p.detach() for name, p in self._parameters.items()}
            state |= {f"momentum/{name}": m for name, m in self._momentum.items()}
        return state

    def bind_state(self, buffers: Mapping[str, Tensor]) -> None:
        """Let the parameters, the momentum and the rest live in the referee's memory."""
        self._control, self._context = buffers["control"], buffers["context"]
        for name, parameter in self._parameters.items() if self.adaptive else ():
            parameter.data = buffers[f"weight/{name}"]
            self._momentum[name] = buffers[f"momentum/{name}"]
        self._scored = None

    def load_state(self) -> None:
        """Forget the graph of an earlier scoring pass: it belongs to other weights."""
        self._scored = None

    def warm_up(self) -> None:
        """Score and adapt one chunk of random tokens."""
        tokens = torch.randint(self.config.vocab_size, (self.chunk_tokens + 1,))
        for _ in self.score(tokens[:-1]):
            pass
        if self.adaptive:
            self.adapt(tokens[:-1], tokens[1:])
        self._pace.restart()

    def score(self, inputs: Tensor) -> Iterator[Tensor]:
        """One slab: logits (n, V) over EVAL_TEMP. Never NaN: then the packed weights score the chunk instead."""
        started = time.monotonic()
        keep_graph = self.adaptive and int(self._control[EPOCHS]) > 0
        logits = self._logits(inputs, keep_graph)
        if not bool(torch.isfinite(logits).all()):
            print("the adapted weights gave NaN; the packed weights score this chunk", file=sys.stderr)
            logits, self._scored = self._packed_logits(inputs), None
        else:
            self._scored = logits if keep_graph else None
        self._pace.scored(time.monotonic() - started, len(inputs))
        if not self.adaptive:
            self._remember(inputs)
        yield logits.detach() / self.config.eval_temp

    def adapt(self, inputs: Tensor, targets: Tensor) -> None:
        """Learn from the scored chunk; undo it when the loss explodes; drop an epoch when the clock asks for it."""
        started = time.monotonic()
        epochs = int(self._control[EPOCHS])
        if epochs and not self._learn(inputs, targets, epochs):
            self._control[UNDONE] += 1
            print(f"the loss exploded; adaptation {int(self._control[UNDONE])} was undone", file=sys.stderr)
        self._remember(inputs)
        self._pace.adapted(time.monotonic() - started, epochs)
        affordable = self._pace.affordable_epochs(epochs)
        if affordable < epochs:
            self._control[EPOCHS] = affordable
            print(f"time runs short: {affordable} epochs from now on", file=sys.stderr)

    def _learn(self, inputs: Tensor, targets: Tensor, epochs: int) -> bool:
        """Take the steps. False, and weights as before with no momentum, when the loss explodes."""
        before = {name: p.detach().clone() for name, p in self._parameters.items()}
        first: float | None = None
        logits, self._scored = self._scored, None
        for _ in range(epochs):
            with torch.enable_grad():
                loss = F.cross_entropy(self._logits(inputs, True) if logits is None else logits, targets)
            logits, value = None, float(loss.detach())
            first = value if first is None else first
            if not value <= first + EXPLOSION:  # also catches NaN
                return self._undo(before)
            self._sgd(loss)
        finite = all(bool(torch.isfinite(p).all()) for p in self._parameters.values())
        return finite or self._undo(before)

    def _sgd(self, loss: Tensor) -> None:
        config = self.config
        gradients = torch.autograd.grad(loss, list(self._parameters.values()))
        with torch.no_grad():
            if config.ttt_grad_clip:
                norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
                torch._foreach_mul_(gradients, (config.ttt_grad_clip / (norm + 1e-6)).clamp(max=1.0))
            moments = list(self._momentum.values())
            torch._foreach_mul_(moments, config.ttt_momentum)
            torch._foreach_add_(moments, gradients)
            torch._foreach_add_([p.data for p in self._parameters.values()], moments, alpha=-config.ttt_lr)

    def _undo(self, before: Mapping[str, Tensor]) -> bool:
        with torch.no_grad():
            for name, value in before.items():
                self._parameters[name].copy_(value)
                self._momentum[name].zero_()
        return False

    def _logits(self, inputs: Tensor, keep_graph: bool) -> Tensor:
        windows = cut_windows(self._context, inputs, self.config.eval_seq_len)
        with torch.set_grad_enabled(keep_graph):
            return new_positions(self.model(windows), self.config.eval_overlap, len(inputs))

    @torch.no_grad()
    def _packed_logits(self, inputs: Tensor) -> Tensor:
        windows = cut_windows(self._context, inputs, self.config.eval_seq_len)
        logits = torch.func.functional_call(self.model, self._packed, (windows,))
        return new_positions(logits, self.config.eval_overlap, len(inputs))

    def _remember(self, inputs: Tensor) -> None:
        overlap = len(self._context)
        if overlap:
            self._context.copy_(torch.cat((self._context, inputs))[-overlap:])
