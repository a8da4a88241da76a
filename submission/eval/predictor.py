"""The hybrid as a ``Predictor``: score a chunk's windows, then adapt the weights to what was scored.

Everything that changes is in ``state()``: weights and momentum, the tokens or the recurrent state before the chunk, the
calibration, and the control counters. What depends on the clock (less work when time runs short) is written into the
counters first and read from there, so a replica that starts from a copied state behaves the same at any speed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.protocol.predictor import EvalContext

from ..config import Config
from ..model.attend import prefer_cudnn
from ..model.hybrid import Hybrid, ModelState
from . import carry
from .adapt import Adapter, learning_rate
from .calibration import Calibration
from .head import HeadLoss, slab_loss
from .pace import Pace, Plan, plans
from .ranks import Order, Ranks
from .windows import IGNORED, Cut, cut_targets, cut_windows, new_positions

BOS = 1
EXPLOSION = 1.0  # nats by which the loss may exceed the first epoch's before the chunk's adaptation is undone
LEVEL, CHUNK, UNDONE, FALLBACKS = range(4)  # places in the control counters
SLAB_BYTES = 1 << 29  # of logits that leave at once
LOSS_SLAB_ROWS = 8192


@dataclass
class Reading:
    """What scoring leaves for adaptation: rows (n, length, D) of this rank with their graph, a part a forward pass, and
    the states around windows.
    """

    hidden: list[Tensor]
    states: list[ModelState]


class HybridPredictor:
    """Scores a chunk of TTT_CHUNK_WINDOWS · EVAL_SEQ_LEN tokens; adapts for TTT_EPOCHS passes over it."""

    def __init__(self, model: Hybrid, config: Config, context: EvalContext, ranks: Ranks | None = None) -> None:
        self.model, self.config, self.ranks = model, config, ranks or Ranks(context.rank, context.world_size)
        like = model.embedding.weight.detach()
        self.device, self._on_gpu = like.device, like.is_cuda
        self.logits_dtype = torch.float16 if self._on_gpu else torch.float32
        self.chunk_tokens = config.eval_seq_len * config.ttt_chunk_windows
        self.slab_rows = min(self.chunk_tokens, SLAB_BYTES // (config.vocab_size * self.logits_dtype.itemsize))
        self.cut, self._plain = _cut(config), Cut(config.eval_seq_len, 0)
        self._carries = config.eval_mode == "carry"
        self.adaptive = context.stage == "final" and config.ttt_epochs > 0
        self.levels = plans(config.ttt_epochs if self.adaptive else 0, self._carries or self.cut.overlap > 0)
        self.pace = Pace(context.eval_s, context.total_targets, self.levels)
        self._chunks = max(1, -(-context.total_targets // self.chunk_tokens))
        self._packed = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.adapter = Adapter(model, config) if self.adaptive else None
        self.calibration = Calibration(config, like)
        self._control = torch.zeros(4, dtype=torch.int64, device=self.device)
        self._context = torch.full((self.cut.overlap,), BOS, device=self.device)
        if self._on_gpu:
            prefer_cudnn()
        self._stream = torch.compile(model.stream, dynamic=False) if self._on_gpu else model.stream
        self._hidden = torch.compile(model.hidden, dynamic=False) if self._on_gpu else model.hidden
        self._slab_loss = torch.compile(slab_loss, dynamic=False) if self._on_gpu else slab_loss
        self._keys = config.eval_overlap
        self._carried: ModelState = ()
        if self._carries:
            with torch.no_grad():
                start = carry.initial_state(self._read, self._keys, BOS, config.rope_base, self.device)
            self._carried = tuple(type(p)(*(t.contiguous().clone() for t in p)) for p in start)
            self._first_carried = tuple(type(p)(*(t.clone() for t in p)) for p in self._carried)
        self._reading: Reading | None = None
        self.keeps_graph = True
        self._pass_windows = config.eval_pass_windows or self.chunk_tokens

    def state(self) -> Mapping[str, Tensor]:
        """Control counters, context and calibration; with adaptation also every weight that moves, and its momentum."""
        state = {"control": self._control, "context": self._context}
        state |= carry.named(self._carried) | self.calibration.state()
        return state | (self.adapter.state() if self.adapter else {})

    def bind_state(self, buffers: Mapping[str, Tensor]) -> None:
        """Let everything that changes live in the referee's memory."""
        self._control, self._context = buffers["control"], buffers["context"]
        self._carried = carry.from_named(buffers, self._carried)
        self.calibration.bind(buffers)
        if self.adapter:
            self.adapter.bind(buffers)
        self._reading = None

    def load_state(self) -> None:
        """Forget what an earlier scoring pass left: it belongs to other weights. The other ranks get the new state."""
        self._reading = None
        self.ranks.order(Order.LOAD)
        self._spread_state()

    def warm_up(self) -> None:
        """Score and adapt random tokens at the full and at the cheapest level: once to compile, once to time."""
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.config.vocab_size, (self.chunk_tokens + 1,), generator=generator).to(self.device)
        before = [t.clone() for t in self.state().values()]
        full, cheapest = 0, len(self.levels) - 1
        try:
            self._rehearse(tokens, full)
        except torch.OutOfMemoryError:
            self.keeps_graph = False  # the same result, from a second forward pass
            print("no room to keep a chunk's graph: the first epoch reads it again", file=sys.stderr)
            self._reading = None
            self._rehearse(tokens, full)
        self._rehearse(tokens, cheapest)
        cheap_s = self._rehearse(tokens, cheapest)
        self.pace.forget()
        full_s = self._rehearse(tokens, full)
        for tensor, value in zip(self.state().values(), before, strict=True):
            tensor.copy_(value)
        self.pace.restart(plain_share=min(1.0, cheap_s / full_s))

    def score(self, inputs: Tensor) -> Iterator[Tensor]:
        """Final logits in slabs. A row that is not finite comes from the packed weights instead, row by row.

        Row by row, because the choice may depend on inputs up to that row only.
        """
        started = self.pace.now()
        inputs = inputs.to(self.device)
        self.ranks.order(Order.SCORE, inputs[None])
        rows, embedding = self._score_rows(inputs)
        for start in range(0, len(inputs), self.slab_rows):
            part = rows[start : start + self.slab_rows]
            yield self.calibration.logits(part.to(self.logits_dtype) if self._on_gpu else part, embedding).to(
                self.logits_dtype
            )
        self.pace.scored(started, len(inputs))

    def adapt(self, inputs: Tensor, targets: Tensor) -> None:
        """Learn from the scored chunk; undo it when the loss explodes; take a cheaper level when time runs short."""
        started = self.pace.now()
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        self.ranks.order(Order.ADAPT, torch.stack((inputs, targets)))
        plan = self._plan()
        good = self._adapt(inputs, targets)
        if not good:
            print(f"the loss exploded; adaptation {int(self._control[UNDONE])} was undone", file=sys.stderr)
        self.pace.adapted(started, plan.epochs)
        level = self.pace.affordable(int(self._control[LEVEL]))
        if level != int(self._control[LEVEL]):
            self._control[LEVEL] = level
            print(f"time runs short: from now on {self.levels[level]}", file=sys.stderr)
        self.ranks.from_first(self._control)

    def follow(self) -> None:
        """Ranks other than 0: do as rank 0 says until it stops."""
        order, tokens = self.ranks.next_order(self.device)
        while order is not Order.STOP:
            if order is Order.LOAD:
                self._reading = None
                self._spread_state()
            elif order is Order.SCORE:
                self._score_rows(tokens[0])
            else:
                self._adapt(tokens[0], tokens[1])
                self.ranks.from_first(self._control)
            order, tokens = self.ranks.next_order(self.device)

    def stop(self) -> None:
        """Rank 0: let the others go."""
        self.ranks.order(Order.STOP)

    # the parts below run on every rank

    def _spread_state(self) -> None:
        for tensor in self.state().values():
            self.ranks.from_first(tensor)

    def _rehearse(self, tokens: Tensor, level: int) -> float:
        """Seconds of scoring a chunk at ``level``; its adaptation is timed by the pace."""
        self._control[LEVEL] = level
        self.ranks.order(Order.LOAD)
        self._spread_state()
        started = self.pace.now()
        for _ in self.score(tokens[:-1]):
            self._wait()
        seconds = self.pace.now() - started
        if self.adapter:
            self.adapt(tokens[:-1], tokens[1:])
        return seconds

    def _plan(self) -> Plan:
        return self.levels[int(self._control[LEVEL])]

    def _score_rows(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden rows (n, D) of all ranks, and the head's matrix; keeps what adaptation can use again."""
        plan = self._plan()
        if self.adapter:
            self.adapter.use_average(True)
        keep_graph = bool(self.adapter) and plan.epochs > 0 and self._reusable()
        with torch.set_grad_enabled(keep_graph):
            rows, reading = self._rows(inputs, plan)
        embedding = self.model.embedding.weight.detach()
        embedding = torch.where(torch.isfinite(embedding).all(), embedding, self._packed["embedding.weight"])
        finite = torch.isfinite(rows).all(1)
        if not bool(finite.all()):
            self._control[FALLBACKS] += 1
            print("rows were not finite; the packed weights score them", file=sys.stderr)
            rows, reading = self._with_packed_rows(inputs, plan, rows, finite)
        self._reading = reading
        if not self.adapter:
            self._remember(inputs)
        return rows.detach(), embedding

    def _with_packed_rows(self, inputs: Tensor, plan: Plan, rows: Tensor, finite: Tensor) -> tuple[Tensor, Reading]:
        own = {name: p.data for name, p in self.model.named_parameters()}
        healthy = all(bool(torch.isfinite(t).all()) for part in self._carried for t in part)
        try:
            for name, parameter in self.model.named_parameters():
                parameter.data = self._packed[name]
            with torch.no_grad():
                start = self._carried if healthy or not self._carries else self._first_carried
                packed, reading = self._rows(inputs, plan, start)
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.data = own[name]
        return torch.where(finite[:, None], rows, packed), Reading([], reading.states)

    def _rows(self, inputs: Tensor, plan: Plan, start: ModelState | None = None) -> tuple[Tensor, Reading]:
        """Hidden rows of the chunk's tokens, and what they came from."""
        if self._carries and plan.context:
            windows = cut_windows(self._context, inputs, self._plain)
            with torch.no_grad():
                parts, states = carry.read_stream(
                    self._read, windows, start or self._carried, self._keys, self.config.rope_base
                )
            return torch.cat(parts, 1)[0, : len(inputs)], Reading([], states)
        cut = self.cut if plan.context else self._plain
        windows = self.ranks.share(self._padded(inputs, cut))
        parts = [self._read(part, None)[0] for part in torch.split(windows, self._pass_windows)]
        rows = new_positions(self.ranks.gather(torch.cat([part.detach() for part in parts])), cut, len(inputs))
        return rows, Reading(parts if parts[0].requires_grad else [], [])

    def _adapt(self, inputs: Tensor, targets: Tensor) -> bool:
        """All steps of one chunk, then the context moves on. False when they were undone."""
        plan, good = self._plan(), True
        if self.adapter and plan.epochs:
            self.adapter.use_average(False)
            good = self._learn(self.adapter, inputs, targets, plan)
        self._calibrate(inputs, targets, plan)
        self._remember(inputs)
        self._control[CHUNK] += 1
        self._reading = None
        return good

    def _learn(self, adapter: Adapter, inputs: Tensor, targets: Tensor, plan: Plan) -> bool:
        """The steps of one chunk, and whether they stand: a probe of it must not have become much worse."""
        config = self.config
        adapter.begin_chunk()
        snapshot = adapter.snapshot()
        rate = learning_rate(config, int(self._control[CHUNK]), self._chunks)
        cut = self.cut if not self._carries else self._plain
        count = self._window_count(len(inputs), cut)
        windows, goals = cut_windows(self._context, inputs, cut, count), cut_targets(targets, cut, count)
        starts = self._window_states(inputs, plan, count) if self._carries else None
        probe = slice(0, self.ranks.size)
        before = self._loss(windows[probe], goals[probe], starts and starts[probe])
        per_step = self._step_windows(len(windows))
        for _ in range(plan.epochs):
            for at in range(0, len(windows), per_step):
                chosen = slice(at, at + per_step)
                self._step(adapter, windows[chosen], goals[chosen], starts and starts[chosen], rate)
        after = self._loss(windows[probe], goals[probe], starts and starts[probe])
        allowed = EXPLOSION * (goals[probe] != IGNORED).sum()
        good = adapter.restore_unless(after <= before + allowed, snapshot)  # false for NaN as well
        self._control[UNDONE] += (~good).long()
        return bool(good)

    @torch.no_grad()
    def _loss(self, windows: Tensor, goals: Tensor, starts: list[ModelState] | None) -> Tensor:
        """Summed loss of a few windows over all ranks, nats."""
        state = self._mine(carry.stacked(starts)) if starts else None
        total = self._summed_loss(self._read(self.ranks.share(windows), state)[0], self.ranks.share(goals))
        self.ranks.sum_all([total])
        return total

    def _summed_loss(self, hidden: Tensor, goals: Tensor) -> Tensor:
        matrix, cap = self.model.embedding.weight, self.config.logit_softcap
        rows = self._for_loss(hidden).flatten(0, 1)
        loss: Tensor = HeadLoss.apply(  # type: ignore[no-untyped-call]
            rows, matrix, goals.flatten(), cap, LOSS_SLAB_ROWS, self._slab_loss
        )
        return loss

    def _step(
        self, adapter: Adapter, windows: Tensor, goals: Tensor, starts: list[ModelState] | None, rate: float
    ) -> None:
        """One step on these windows, sharded over the ranks; the scoring pass serves the first one where it can."""
        kept, parameters = self._kept_parts(), list(adapter.parameters.values())
        parts = torch.split(self.ranks.share(windows), self._pass_windows)
        state = self._mine(carry.stacked(starts)) if starts else None
        gradients: list[Tensor] = []
        at = 0
        for index, (part, mine) in enumerate(
            zip(parts, torch.split(self.ranks.share(goals), self._pass_windows), strict=True)
        ):
            with torch.enable_grad():
                hidden = kept[index] if kept else self._read(part, _windows_of(state, at, len(part)))[0]
                loss = self._summed_loss(hidden, mine)
            added = list(torch.autograd.grad(loss, parameters))
            gradients = list(torch._foreach_add(gradients, added)) if gradients else added
            kept[index : index + 1] = [hidden.detach()] if kept else []  # frees the graph
            at += len(part)
        self.ranks.sum_all(gradients)
        torch._foreach_div_(gradients, (goals != IGNORED).sum().clamp(min=1))
        adapter.step(dict(zip(adapter.parameters, gradients, strict=True)), rate)

    def _kept_parts(self) -> list[Tensor]:
        """The scoring pass with its graph, for one use."""
        parts = self._reading.hidden if self._reading else []
        if self._reading:
            self._reading.hidden = []
        return parts

    def _calibrate(self, inputs: Tensor, targets: Tensor, plan: Plan) -> None:
        """Let temperature and bias learn from the chunk as the scoring weights of the next one see it."""
        if not self.calibration.state():
            return
        with torch.no_grad():
            rows, _ = self._rows(inputs, plan)
        self.calibration.learn(rows, self.model.embedding.weight.detach(), targets, LOSS_SLAB_ROWS)

    def _remember(self, inputs: Tensor) -> None:
        """Move the context behind the chunk; with new weights the carried state is treated as EVAL_CARRY says."""
        if len(self._context):
            self._context.copy_(torch.cat((self._context, inputs))[-len(self._context) :])
        if not self._carries:
            return
        states = self._reading.states if self._reading else []
        if not states:
            with torch.no_grad():
                states = self._rows(inputs, Plan(0, True))[1].states
        new = states[-1]
        if self.adapter and self.config.eval_carry == "recompute":
            self.adapter.use_average(True)
            with torch.no_grad():
                windows = cut_windows(self._context, inputs, self._plain)[-1:]
                _, again = carry.read_stream(self._read, windows, states[-2], self._keys, self.config.rope_base)
            new = again[-1]
        elif self.adapter and self.config.eval_carry == "decay":
            new = carry.decayed(new, self.config.eval_carry_decay)
        for part, values in zip(self._carried, new, strict=True):
            for buffer, value in zip(part, values, strict=True):
                buffer.copy_(value)

    def _window_states(self, inputs: Tensor, plan: Plan, count: int) -> list[ModelState]:
        """The state before each of ``count`` windows; windows of filling take the last one."""
        states = self._reading.states if self._reading else []
        if not states:
            with torch.no_grad():
                states = self._rows(inputs, Plan(plan.epochs, True))[1].states
        states = states[:-1]
        return states + states[-1:] * (count - len(states))

    def _read(self, windows: Tensor, state: ModelState | None) -> tuple[Tensor, ModelState]:
        """Hidden states (n, length, D) and the state after each window; no state where none is carried."""
        return self._hidden(windows, state) if self._carries else (self._stream(windows), ())

    def _for_loss(self, hidden: Tensor) -> Tensor:
        return hidden.bfloat16() if self._on_gpu else hidden

    def _mine(self, state: ModelState | None) -> ModelState | None:
        if state is None or self.ranks.size == 1:
            return state
        return tuple(type(part)(*(self.ranks.share(t) for t in part)) for part in state)

    def _window_count(self, tokens: int, cut: Cut) -> int:
        """Windows of a chunk: on a GPU always those of a full one, so that the tail needs no other kernels."""
        count = cut.count(self.chunk_tokens if self._on_gpu else tokens)
        step = max(self.ranks.size, self.config.ttt_batch_windows)
        step += -step % self.ranks.size
        return count + -count % step

    def _padded(self, tokens: Tensor, cut: Cut) -> Tensor:
        return cut_windows(self._context, tokens, cut, self._window_count(len(tokens), cut))

    def _step_windows(self, windows: int) -> int:
        step = self.config.ttt_batch_windows or windows
        return min(windows, step + -step % self.ranks.size)

    def _reusable(self) -> bool:
        """Whether a step takes the whole chunk as it was scored and with the same weights."""
        averages = self.adapter is not None and self.adapter.averages
        return self.keeps_graph and not self._carries and self.config.ttt_batch_windows == 0 and not averages

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self.device)


def _cut(config: Config) -> Cut:
    overlap = {"overlap": config.eval_overlap, "sliding": config.eval_seq_len - config.eval_stride}
    return Cut(config.eval_seq_len, overlap.get(config.eval_mode, 0))


def _windows_of(state: ModelState | None, start: int, count: int) -> ModelState | None:
    """The states of some windows of a batch."""
    if state is None:
        return None
    return tuple(type(part)(*(tensor[start : start + count] for tensor in part)) for part in state)
