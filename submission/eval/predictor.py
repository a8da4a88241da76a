"""The hybrid as a ``Predictor``: score a chunk's windows, then adapt the weights to what was scored.

What depends on the clock is written into the control counters first and read from there, so a replica that starts from
a copied state behaves the same at any speed.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from harness.protocol.predictor import EvalContext

from ..config import Config
from ..model.hybrid import Hybrid, capped_logits
from .adapt import Adapter
from .cache import Candidates, SuccessorCache, Used
from .fallback import sound_rows
from .learner import Learner
from .pace import Pace
from .ranks import Order, Ranks
from .reader import Reader

LEVEL, UNDONE, FALLBACKS = range(3)  # places in the control counters
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
            self.learner = Learner(Adapter(model, config), self.reader, config)
        self.levels = list(range(config.ttt_epochs if self.learner else 0, -1, -1))  # epochs
        self.pace = Pace(context.eval_s, context.total_targets, self.levels)
        self.cache: SuccessorCache | None = None
        if self._final and config.eval_cache_orders:
            self.cache = SuccessorCache(config, self.device)
        self._control = torch.zeros(3, dtype=torch.int64, device=self.device)
        self._graphs: list[Tensor] = []  # of the scoring pass, for the first step
        self._logits: Tensor | None = None
        self._used: list[Used] = []  # what the cache did to the rows of the chunk
        self.keeps_graph = True

    def state(self) -> Mapping[str, Tensor]:
        """Control counters, context, cache; with adaptation every weight that moves, and its momentum."""
        state = {"control": self._control} | self.reader.state()
        state |= self.cache.state() if self.cache else {}
        return state | (self.learner.adapter.state() if self.learner else {})

    def bind_state(self, buffers: Mapping[str, Tensor]) -> None:
        """Let everything that changes live in the referee's memory."""
        self._control = buffers["control"]
        self.reader.bind(buffers)
        if self.cache:
            self.cache.bind(buffers)
        if self.learner:
            self.learner.adapter.bind(buffers)
        self._graphs = []

    def bind_logits(self, buffer: Tensor) -> None:
        """Write slabs straight into the referee's memory."""
        self._logits = buffer

    def load_state(self) -> None:
        """Forget what an earlier scoring pass left: it belongs to other weights. The other ranks get the new state."""
        self._graphs, self._used = [], []
        self.ranks.order(Order.LOAD)
        self._spread_state()

    def warm_up(self) -> None:
        """Score and adapt random tokens, to time it; where it is compiled, every kind of pass before that."""
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.config.vocab_size, (self.chunk_tokens + 1,), generator=generator).to(self.device)
        before = [t.clone() for t in self.state().values()]
        full, frozen = 0, len(self.levels) - 1
        try:
            self._rehearse(tokens, full)
        except torch.OutOfMemoryError:
            if self.ranks.size > 1:  # the others are in the middle of this pass and would take the next order for it
                raise
            self.keeps_graph = False  # the same result, from a second forward pass
            print("no room to keep a chunk's graph: the first epoch reads it again", file=sys.stderr)
            self._graphs = []
            self._rehearse(tokens, full)
        if self.reader.fixed:
            if frozen != full:
                self._rehearse(tokens, frozen)
            self.pace.forget()
            self._rehearse(tokens, full)
        for tensor, value in zip(self.state().values(), before, strict=True):
            tensor.copy_(value)
        self.pace.restart()

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
            place = part.new_empty(len(part), len(embedding)) if self._logits is None else self._logits[: len(part)]
            logits = self._final_logits(part, embedding, place)
            if self.cache:
                used.append(self.cache.mix(logits, [Candidates(*(field[mine] for field in one)) for one in offered]))
            yield logits
        self._used = [Used(*map(torch.cat, zip(*parts, strict=True))) for parts in zip(*used, strict=True)]
        self.pace.scored(started, len(inputs))

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
            print(f"the clock allows from now on: {self.levels[level]} epochs", file=sys.stderr)
        self.ranks.from_first(self._control)

    def follow(self) -> None:
        """Ranks other than 0: do as rank 0 says until it stops."""
        order, tokens = self.ranks.next_order(self.device)
        while order is not Order.STOP:
            if order is Order.LOAD:
                self._graphs = []
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

    def _rehearse(self, tokens: Tensor, level: int) -> None:
        self._control[LEVEL] = level
        self.ranks.order(Order.LOAD)
        self._spread_state()
        for _ in self.score(tokens[:-1]):
            if self._on_gpu:
                torch.cuda.synchronize(self.device)
        if self._final:
            self.adapt(tokens[:-1], tokens[1:])

    def _epochs(self) -> int:
        return self.levels[int(self._control[LEVEL])]

    def _final_logits(self, rows: Tensor, embedding: Tensor, out: Tensor) -> Tensor:
        """Logits (n, V) of hidden rows, in their dtype, written into ``out``.

        EVAL_TEMP divides them where nothing adapts, as the source of pr1890 does.
        """
        capped = capped_logits(rows, embedding, self.config.logit_softcap, out)
        if self.config.ttt_epochs or self.config.eval_temp == 1.0:
            return capped
        return capped.mul_(1 / self.config.eval_temp)

    def _score_rows(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden rows (n, D) of all ranks, and the head's matrix; keeps what adaptation can use again."""
        # the first step can take the whole chunk as it was scored, with the weights that scored it
        reusable = self.learner is not None and self.reader.batch == 0 and self._epochs() > 0
        with torch.set_grad_enabled(self.keeps_graph and reusable):
            rows, graphs = self.reader.rows(inputs)
        embedding = self.model.embedding.weight.detach()
        embedding = torch.where(torch.isfinite(embedding).all(), embedding, self._packed["embedding.weight"])
        if not bool(torch.isfinite(rows).all()):
            self._control[FALLBACKS] += 1
            print("rows were not finite; the packed weights score from there on", file=sys.stderr)
            rows, graphs = self._with_packed_rows(inputs), []
        self._graphs = graphs
        if not self._final:
            self.reader.advance(inputs)
        return rows.detach(), embedding

    @torch.no_grad()
    def _with_packed_rows(self, inputs: Tensor) -> Tensor:
        """Rows of the weights in force up to the first that they cannot give, of the packed ones from there on."""
        rows = sound_rows(lambda tokens: self.reader.rows(tokens)[0], inputs)
        own = {name: p.data for name, p in self.model.named_parameters()}
        try:
            for name, parameter in self.model.named_parameters():
                parameter.data = self._packed[name]
            packed, _ = self.reader.rows(inputs)
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.data = own[name]
        return torch.cat((rows, packed[len(rows) :]))

    def _adapt(self, inputs: Tensor, targets: Tensor) -> bool:
        """All steps of one chunk, then the context moves on. False when they were undone."""
        epochs, good = self._epochs(), True
        graphs, self._graphs = self._graphs, []
        if self.learner and epochs:
            started = self.pace.now()
            verdict = self.learner.learn(self.reader.lesson(inputs, targets), epochs, graphs)
            self._control[UNDONE] += (~verdict).long()
            good = bool(verdict)
            self.pace.learnt(started, epochs)
        self.reader.advance(inputs)
        return good
