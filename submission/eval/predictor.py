"""The hybrid as a ``Predictor``: score a chunk's windows, then adapt the weights to what was scored.

Everything that changes is in ``state()``: weights and momentum, the tokens or the recurrent state before the chunk, the
calibration, and the control counters. What depends on the clock (less work when time runs short) is written into the
counters first and read from there, so a replica that starts from a copied state behaves the same at any speed.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from harness.protocol.predictor import EvalContext

from ..config import Config
from ..model.hybrid import Hybrid
from .adapt import Adapter, learning_rate
from .cache import Candidates, SuccessorCache, Used
from .calibration import Calibration
from .fallback import sound_rows
from .learner import Learner
from .pace import Pace, Plan, plans
from .ranks import Order, Ranks
from .reader import Reader, Reading

LEVEL, CHUNK, UNDONE, FALLBACKS = range(4)  # places in the control counters
SLAB_BYTES = 1 << 30  # of logits that leave at once; the referee takes no more


class HybridPredictor:
    """Scores a chunk of TTT_CHUNK_WINDOWS · EVAL_SEQ_LEN tokens; adapts for TTT_EPOCHS passes over it."""

    def __init__(
        self,
        model: Hybrid,
        config: Config,
        context: EvalContext,
        ranks: Ranks | None = None,
        *,
        compiled: bool | None = None,
    ) -> None:
        """``compiled``: whether forward passes are compiled graphs of fixed shapes; by default on a GPU."""
        self.model, self.config, self.ranks = model, config, ranks or Ranks(context.rank, context.world_size)
        like = model.embedding.weight.detach()
        self.device, self._on_gpu = like.device, like.is_cuda
        self.logits_dtype = torch.float16 if self._on_gpu else torch.float32
        self.chunk_tokens = config.eval_seq_len * config.ttt_chunk_windows
        self.slab_rows = min(self.chunk_tokens, SLAB_BYTES // (config.vocab_size * self.logits_dtype.itemsize))
        self._final = context.stage == "final"  # only then the referee calls ``adapt``
        self._packed = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.reader = Reader(model, config, self.ranks, compiled=self._on_gpu if compiled is None else compiled)
        self.learner: Learner | None = None
        if self._final and config.ttt_epochs > 0:
            adapter = Adapter(model, config)
            self.learner = Learner(adapter, self.reader, config) if adapter.parameters else None
        self.levels = plans(config.ttt_epochs if self.learner else 0, self.reader.overlaps)
        self.pace = Pace(context.eval_s, context.total_targets, self.levels)
        self._chunks = max(1, -(-context.total_targets // self.chunk_tokens))
        self.calibration = Calibration(config, like)
        self.cache: SuccessorCache | None = None
        if self._final and config.eval_cache_orders:
            self.cache = SuccessorCache(config, self.device)
        self._control = torch.zeros(4, dtype=torch.int64, device=self.device)
        self._reading: Reading | None = None
        self._logits: Tensor | None = None
        self._used: list[Used] = []  # what the cache did to the rows of the chunk
        self.keeps_graph = True

    def state(self) -> Mapping[str, Tensor]:
        """Control counters, context, calibration, cache; with adaptation every weight that moves, and its momentum."""
        state = {"control": self._control} | self.reader.state() | self.calibration.state()
        state |= self.cache.state() if self.cache else {}
        return state | (self.learner.adapter.state() if self.learner else {})

    def bind_state(self, buffers: Mapping[str, Tensor]) -> None:
        """Let everything that changes live in the referee's memory."""
        self._control = buffers["control"]
        self.reader.bind(buffers)
        self.calibration.bind(buffers)
        if self.cache:
            self.cache.bind(buffers)
        if self.learner:
            self.learner.adapter.bind(buffers)
        self._reading = None

    def bind_logits(self, buffer: Tensor) -> None:
        """Write slabs straight into the referee's memory."""
        self._logits = buffer

    def load_state(self) -> None:
        """Forget what an earlier scoring pass left: it belongs to other weights. The other ranks get the new state."""
        self._reading, self._used = None, []
        self.ranks.order(Order.LOAD)
        self._spread_state()

    def warm_up(self) -> None:
        """Score and adapt random tokens at each level that reads other windows or without gradients, to compile all
        that a chunk may need, rows that are not finite included; then once more at the ends, to time them.
        """
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.config.vocab_size, (self.chunk_tokens + 1,), generator=generator).to(self.device)
        before = [t.clone() for t in self.state().values()]
        full, frozen, cheapest = 0, self.levels.index(Plan(0)), len(self.levels) - 1
        try:
            self._rehearse(tokens, full)
        except torch.OutOfMemoryError:
            if self.ranks.size > 1:  # the others are in the middle of this pass and would take the next order for it
                raise
            self.keeps_graph = False  # the same result, from a second forward pass
            print("no room to keep a chunk's graph: the first epoch reads it again", file=sys.stderr)
            self._reading = None
            self._rehearse(tokens, full)
        for level in sorted({frozen, cheapest} - {full}):
            self._rehearse(tokens, level)
        cheap_s = self._rehearse(tokens, cheapest)
        self.pace.forget()
        full_s = self._rehearse(tokens, full)
        for tensor, value in zip(self.state().values(), before, strict=True):
            tensor.copy_(value)
        self.pace.restart(plain_share=min(1.0, cheap_s / full_s))

    def score(self, inputs: Tensor) -> Iterator[Tensor]:
        """Final logits in slabs; where the weights fail, from there on, they are those of the packed weights."""
        started = self.pace.now()
        inputs = inputs.to(self.device)
        self.ranks.order(Order.SCORE, inputs[None])
        rows, embedding = self._score_rows(inputs)
        used: list[list[Used]]
        offered = self.cache.candidates(inputs) if self.cache else []
        self._used, used = [], []
        for start in range(0, len(inputs), self.slab_rows):
            mine = slice(start, start + self.slab_rows)
            part = rows[mine].to(self.logits_dtype) if self._on_gpu else rows[mine]
            place = None if self._logits is None else self._logits[: len(part)]
            logits = self.calibration.logits(part, embedding, place)
            if self.cache:
                used.append(self.cache.mix(logits, [Candidates(*(field[mine] for field in one)) for one in offered]))
            yield logits
        self._used = [Used(*map(torch.cat, zip(*parts, strict=True))) for parts in zip(*used, strict=True)]
        self.pace.scored(started, len(inputs), self._plan())

    def adapt(self, inputs: Tensor, targets: Tensor) -> None:
        """Learn from the scored chunk; undo it when the loss explodes; take the fullest level that the clock allows."""
        started = self.pace.now()
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        if self.cache:
            if not self._used:  # the state was loaded after the score, and counts it already
                control = self._control.clone()
                deque(self.score(inputs), 0)
                self._control.copy_(control)
            self.cache.learn(inputs, targets, self._used)
            self._used = []
        self.ranks.order(Order.ADAPT, torch.stack((inputs, targets)))
        if not self._adapt(inputs, targets):
            print(f"the loss exploded; adaptation {int(self._control[UNDONE])} was undone", file=sys.stderr)
        before = int(self._control[LEVEL])  # on a GPU this waits, so that the pace measures the work too
        self.pace.adapted(started)
        level = self.pace.affordable(before)
        if level != before:
            self._control[LEVEL] = level
            print(f"the clock allows from now on: {self.levels[level]}", file=sys.stderr)
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
            if self._on_gpu:
                torch.cuda.synchronize(self.device)
        seconds = self.pace.now() - started
        if self._final:
            self.adapt(tokens[:-1], tokens[1:])
        return seconds

    def _plan(self) -> Plan:
        return self.levels[int(self._control[LEVEL])]

    def _score_rows(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden rows (n, D) of all ranks, and the head's matrix; keeps what adaptation can use again."""
        plan = self._plan()
        keep_graph = False
        if self.learner:
            self.learner.adapter.use_average(True)
            keep_graph = self.keeps_graph and plan.epochs > 0 and self.learner.reuses_scoring
        with torch.set_grad_enabled(keep_graph):
            rows, reading = self.reader.rows(inputs, plan)
        embedding = self.model.embedding.weight.detach()
        embedding = torch.where(torch.isfinite(embedding).all(), embedding, self._packed["embedding.weight"])
        if not bool(torch.isfinite(rows).all()):
            self._control[FALLBACKS] += 1
            print("rows were not finite; the packed weights score from there on", file=sys.stderr)
            rows, reading = self._with_packed_rows(inputs, plan)
        self._reading = reading
        if not self._final:
            self.reader.advance(inputs, reading, adapted=False)
        return rows.detach(), embedding

    @torch.no_grad()
    def _with_packed_rows(self, inputs: Tensor, plan: Plan) -> tuple[Tensor, Reading]:
        """Rows of the weights in force up to the first that they cannot give, of the packed ones from there on."""
        rows = sound_rows(lambda tokens: self.reader.rows(tokens, plan)[0], inputs)
        own = {name: p.data for name, p in self.model.named_parameters()}
        start = self.reader.sound_start()
        try:
            for name, parameter in self.model.named_parameters():
                parameter.data = self._packed[name]
            packed, reading = self.reader.rows(inputs, plan, start)
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.data = own[name]
        return torch.cat((rows, packed[len(rows) :])), Reading([], reading.states)

    def _adapt(self, inputs: Tensor, targets: Tensor) -> bool:
        """All steps of one chunk, then the context moves on. False when they were undone."""
        plan, good = self._plan(), True
        reading, self._reading = self._reading, None
        if self.learner and plan.epochs:
            self.learner.adapter.use_average(False)
            started = self.pace.now()
            lesson = self.reader.lesson(inputs, targets, reading)
            rate = learning_rate(self.config, int(self._control[CHUNK]), self._chunks)
            verdict = self.learner.learn(lesson, plan.epochs, rate, reading)
            self._control[UNDONE] += (~verdict).long()
            good = bool(verdict)
            self.pace.learnt(started, plan.epochs)
            self.learner.adapter.use_average(True)
        self._calibrate(inputs, targets, plan)
        self.reader.advance(inputs, reading, adapted=bool(plan.epochs) and good)
        self._control[CHUNK] += 1
        return good

    def _calibrate(self, inputs: Tensor, targets: Tensor, plan: Plan) -> None:
        """Let temperature and bias learn from the chunk as the scoring weights of the next one see it."""
        if self.calibration.state():
            with torch.no_grad():
                rows, _ = self.reader.rows(inputs, plan)
            self.calibration.learn(rows, self.model.embedding.weight.detach(), targets)
