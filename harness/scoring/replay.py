"""Replays kept chunks on fresh replicas: is the score causal, is all state declared, do replicas agree?

Covered: whatever makes the original logits of an audited row depend on something other than the artifact, the state
before the chunk and the inputs up to that row. The replica never learns more than that before it has to reproduce the
row: chunks and cuts come in ascending order, behind all cuts of a chunk stands one random future, and its true inputs
come last. So a predictor that notices the audit gains nothing; it would have to guess what its original answer was
built from.
With the true inputs every row of a chunk that is replayed whole has to give the nats that were committed for it.
Not covered: leaks that stay under the tolerance of one row and under that of the estimated sum of all rows.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from harness.scoring.client import EvalClient
from harness.scoring.ledger import Stream, Tokens
from harness.scoring.nll import NotFinite, log_probabilities, token_nats
from harness.scoring.sample import Draws, Keeper, Nats, Place, rows_of

REDRAWS = 30  # a token that covers a tenth of the text is then still in its old place once in 10^30
LARGEST_LOGIT = 32.0  # whose rounding is allowed for: what lies farther from 0 moves no probability by its rounding

Rows = dict[int, torch.Tensor]


@dataclass(frozen=True)
class Original:
    """What the run that counts did, and where the audits look: everything that a replica has to repeat.

    nats: committed, float64 (targets,)
    """

    stream: Stream
    nats: Nats
    keeper: Keeper
    draws: Draws

    def place(self, target: int) -> Place:
        """(chunk, row) of a target."""
        return divmod(target, self.keeper.chunks[0][1])

    def target(self, place: Place) -> int:
        """The target of (chunk, row)."""
        return self.keeper.chunks[place[0]][0] + place[1]

    def cuts(self) -> dict[int, list[int]]:
        """Chunk -> rows behind which the future is made random, both ascending."""
        rows = {chunk: set(even) for chunk, even in self.keeper.rows.items()}
        for chunk, row in map(self.place, self.draws.targets()):
            rows.setdefault(chunk, set()).add(row)
        return {chunk: sorted(rows[chunk]) for chunk in sorted(rows)}


@dataclass
class Replay:
    """What one replica answered: logits by (chunk, row), and the nats of whole chunks.

    true: with the true inputs; nats: all rows of each chunk then, float64, infinite where logits were not finite
    apart: largest difference of log-probabilities at even rows up to the cut, by (chunk, cut), in nats, that a random
           future made, or for the second replica none at all
    dearer: by how many nats a target costs more than was committed once its future is random, at all cuts
    """

    true: dict[Place, torch.Tensor] = field(default_factory=dict)
    nats: dict[int, Nats] = field(default_factory=dict)
    apart: dict[Place, float] = field(default_factory=dict)
    dearer: dict[Place, float] = field(default_factory=dict)


class Replayer:
    """One fresh replica, and what it is asked to repeat. ``step`` is called after each pass, for people."""

    def __init__(self, client: EvalClient, original: Original, step: Callable[[], None] = lambda: None) -> None:
        self._client, self._original, self._step = client, original, step
        self._keeper, self._stream = original.keeper, original.stream
        self._replay = Replay()
        self._state: tuple[int, torch.Tensor] = (-1, torch.empty(0))

    def cuts(self) -> Replay:
        """For the first replica: every audited row behind a random future, then the whole chunks' true inputs."""
        random = np.random.Generator(np.random.PCG64(int.from_bytes(self._keeper.secret, "little")))
        for chunk, rows in self._original.cuts().items():
            true = self._inputs(chunk)
            other = _unlike(true, self._stream, random)
            for row in rows:
                inputs = np.concatenate([true[: row + 1], other[row + 1 :]])
                # Open a document there, where in truth none starts: too rare in a random future to rely on. Every
                # stream begins with the token that starts its documents. A predictor that resets one token early shows.
                if random.random() < 0.5 and row + 1 < len(true) and true[row + 1] != self._stream.tokens[0]:
                    inputs[row + 1] = self._stream.tokens[0]
                self._cut(chunk, row, inputs)
                self._step()
            if chunk in self._keeper.whole:
                self._truth(chunk)
        return self._replay

    def _cut(self, chunk: int, row: int, inputs: Tokens) -> None:
        """Compare ``row`` and the even rows before it with what the run gave, while inputs behind it are random."""
        even = [r for r in self._keeper.rows.get(chunk, ()) if r <= row]
        answers = self._rows(chunk, inputs, list({*even, row}))
        apart = [nats_apart(answers[r], self._keeper.logits[chunk, r]) for r in even]
        self._replay.apart[chunk, row] = max(apart, default=0.0)
        at = self._original.target((chunk, row))
        now = -float(log_probabilities(answers[row])[int(self._stream.tokens[at + 1])])
        dearer = now - float(self._original.nats[at])
        self._replay.dearer[chunk, row] = dearer if dearer == dearer else float("inf")

    def truths(self) -> Replay:
        """For the second replica: a true truncation at one even row of each whole chunk, then its true inputs."""
        for chunk in self._keeper.whole:
            rows = self._keeper.rows[chunk]
            row = rows[len(rows) // 2]
            logits = self._rows(chunk, self._inputs(chunk)[: row + 1], [row])[row]
            original = self._keeper.logits[chunk, row]
            self._replay.apart[chunk, row] = nats_apart(logits, original) - rounding_nats(original)
            self._step()
            self._truth(chunk)
        return self._replay

    def _truth(self, chunk: int) -> None:
        start, count = self._keeper.chunks[chunk]
        targets = torch.from_numpy(self._stream.tokens[start + 1 : start + 1 + count].astype(np.int64))
        nats = np.full(count, np.inf)
        self._load(chunk)
        for first, slab in self._client.score(chunk, self._client.upload(self._inputs(chunk))):
            end = first + slab.shape[0]
            with contextlib.suppress(NotFinite):
                nats[first:end] = token_nats(slab, targets[first:end].to(slab.device)).cpu().numpy()
            kept = rows_of(slab, first, self._keeper.rows[chunk])
            self._replay.true |= {(chunk, row): logits for row, logits in kept.items()}
        self._replay.nats[chunk] = nats
        self._step()

    def _rows(self, chunk: int, inputs: Tokens, rows: list[int]) -> Rows:
        """Load the kept state, reveal ``inputs``, and take the logits of ``rows``; later slabs are not asked for."""
        self._load(chunk)
        answers: Rows = {}
        for first, slab in self._client.score(chunk, self._client.upload(inputs), max(rows) + 1):
            answers |= rows_of(slab, first, rows)
        return answers

    def _load(self, chunk: int) -> None:
        """Have the replica take over the kept state, which goes to its device once for all passes over the chunk."""
        if self._state[0] != chunk:
            self._state = chunk, self._keeper.states[chunk].to(self._client.buffers.state.device)
        self._client.load_state(self._state[1])

    def _inputs(self, chunk: int) -> Tokens:
        return self._stream.inputs(*self._keeper.chunks[chunk])


def nats_apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of two rows' log-probabilities over the vocabulary, in nats; infinite if not comparable."""
    apart = (log_probabilities(one) - log_probabilities(other)).abs().max().item()
    return apart if apart == apart else float("inf")


def rounding_nats(logits: torch.Tensor) -> float:
    """What rounding to the logits' own type can move a log-probability by, when kernels of another shape ran.

    Bounded, however large a logit is: a single one must not excuse all others.
    """
    return 4 * torch.finfo(logits.dtype).eps * min(float(logits.abs().max().nan_to_num(0.0)), LARGEST_LOGIT)


def _unlike(true: Tokens, stream: Stream, random: np.random.Generator) -> Tokens:
    """Tokens of the stream in no order, at each place unlike the true one: what stands behind every cut of a chunk.

    The first behind a cut is the target of the audited row, so one that peeks at its target sees another one. They are
    drawn once: among many that are drawn anew for each cut, the one that never comes at a place would be the true one.
    """
    other: Tokens = random.choice(stream.tokens, size=len(true))
    for _ in range(REDRAWS):
        same = np.flatnonzero(other == true)
        other[same] = random.choice(stream.tokens, size=len(same))
    return other
