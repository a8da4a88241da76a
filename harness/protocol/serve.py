"""The eval worker: builds a submission's ``Predictor`` and answers the referee until it says STOP.

The referee owns all shared memory. It reveals inputs, reads logits slab by slab, and hands over targets only when the
chunk's score is committed; this loop merely obeys, and nothing depends on its honesty.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast, get_args

import torch

from harness.protocol.channel import Channel, ChannelClosed, ChannelTimeout
from harness.protocol.environment import CellEnvironment
from harness.protocol.layout import LOGITS_DTYPES, logits_code, map_tensor, state_bytes, state_views
from harness.protocol.messages import Kind, Message
from harness.protocol.predictor import EvalContext, Predictor, Stage

IDLE_LIMIT_S = 24 * 3600.0


class ProtocolError(RuntimeError):
    """The predictor broke its contract, or the referee spoke out of turn; the text says how."""


def serve_predictor(build: Callable[[EvalContext], Predictor]) -> None:
    """Run the whole eval phase of this process: build, bind, warm up, then score and adapt on command.

    Any exception ends in one FAILED message with a readable sentence, a traceback in the log and exit code 1.
    """
    environment = CellEnvironment.read("eval")
    serve_on(environment.open_channel(), environment, build)


def serve_on(channel: Channel, environment: CellEnvironment, build: Callable[[EvalContext], Predictor]) -> None:
    """The same on a given channel. Raises ``SystemExit(1)`` when it ended in a failure."""
    try:
        worker = EvalWorker(channel, build(eval_context(environment)), environment)
        worker.prepare()
        worker.serve()
    except (ChannelClosed, ChannelTimeout):
        raise SystemExit(1) from None
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        channel.send(Message(Kind.FAILED, text=" ".join(reason.split()), rank=environment.rank))
        raise SystemExit(1) from None


def eval_context(environment: CellEnvironment) -> EvalContext:
    """What the predictor is told, from the cell's environment."""
    if environment.stage not in get_args(Stage):
        raise ProtocolError(f"GOLF_STAGE is {environment.stage!r}; wanted one of {', '.join(get_args(Stage))}.")
    return EvalContext(
        stage=cast(Stage, environment.stage),
        model_file=environment.model_file,
        checkpoint_dir=environment.checkpoint_dir,
        vocab_size=environment.vocab_size,
        eval_s=environment.limit_s,
        total_targets=environment.total_targets,
        rank=environment.rank,
        world_size=environment.world_size,
    )


@dataclass(frozen=True)
class Buffers:
    """The referee's memory as this process sees it: int64 (chunk,), int64 (chunk,), logits (slab, vocabulary)."""

    inputs: torch.Tensor
    targets: torch.Tensor
    logits: torch.Tensor


class EvalWorker:
    """One predictor and its channel. ``prepare`` once, then ``serve`` until STOP."""

    def __init__(self, channel: Channel, predictor: Predictor, environment: CellEnvironment) -> None:
        self._channel = channel
        self._predictor = predictor
        self._rank = environment.rank
        self._vocab_size = environment.vocab_size
        self._buffers: Buffers | None = None

    def prepare(self) -> None:
        """HELLO, take the buffers, bind the state, warm up, put the state back, READY."""
        predictor = self._predictor
        initial = dict(predictor.state())
        size = state_bytes(initial)
        self._send(
            Kind.HELLO,
            size,
            predictor.chunk_tokens,
            self._vocab_size,
            logits_code(predictor.logits_dtype),
            x=float(predictor.slab_rows),
        )
        message, fds = self._channel.receive(IDLE_LIMIT_S)
        if message.kind is not Kind.BUFFERS or len(fds) != 4:
            raise ProtocolError(f"wanted BUFFERS with 4 descriptors, found {message.kind.name} with {len(fds)}.")
        inputs, targets, logits, state = fds
        self._buffers = Buffers(
            map_tensor(inputs, torch.int64, (message.a,)),
            map_tensor(targets, torch.int64, (message.a,)),
            map_tensor(logits, LOGITS_DTYPES[logits_code(predictor.logits_dtype)], (message.b, self._vocab_size)),
        )
        blob = map_tensor(state, torch.uint8, (size,))
        for fd in fds:
            os.close(fd)  # the mappings stay
        views = state_views(initial, blob)
        with torch.no_grad():
            for name, view in views.items():
                view.copy_(initial[name].detach())
        predictor.bind_state(views)
        before = blob.clone()
        predictor.warm_up()
        blob.copy_(before)
        predictor.load_state()
        self._send(Kind.READY)

    def serve(self) -> None:
        """Obey SCORE, ADAPT and LOAD_STATE until STOP."""
        message = self._receive()
        while message.kind is not Kind.STOP:
            if message.kind is Kind.SCORE:
                self._score(message.b)
                self._send(Kind.SCORED, message.a)
            elif message.kind is Kind.ADAPT:
                buffers = self._mapped()
                self._predictor.adapt(buffers.inputs[: message.b].clone(), buffers.targets[: message.b].clone())
                self._send(Kind.ADAPTED, message.a)
            elif message.kind is Kind.LOAD_STATE:
                self._predictor.load_state()
                self._send(Kind.LOADED)
            elif message.kind is not Kind.START:
                raise ProtocolError(f"the referee said {message.kind.name} out of turn.")
            message = self._receive()

    def _score(self, count: int) -> None:
        """Stream the logits of one chunk, until its rows are complete or the referee has seen enough.

        One slab lies in the buffer at a time, but the next is computed while the referee reads it. ``score()`` has
        ended when this returns, so whatever it does to the state behind its last slab is done too.
        """
        buffers, row = self._mapped(), 0
        with torch.no_grad():
            for slab in self._predictor.score(buffers.inputs[:count].clone()):
                rows = self._check_slab(slab, count - row)
                if row and not self._more_wanted():
                    return
                buffers.logits[:rows].copy_(slab.detach())
                self._send(Kind.LOGITS, row, rows)
                row += rows
        if row != count:
            raise ProtocolError(f"score() gave {row:,} rows for a chunk of {count:,}; one row a token is wanted.")

    def _more_wanted(self) -> bool:
        message = self._receive()
        if message.kind not in (Kind.NEXT, Kind.ENOUGH):
            raise ProtocolError(f"the referee said {message.kind.name} while a chunk was scored.")
        return message.kind is Kind.NEXT

    def _check_slab(self, slab: torch.Tensor, left: int) -> int:
        most = min(left, self._mapped().logits.shape[0])
        if slab.ndim != 2 or slab.shape[1] != self._vocab_size or not 1 <= slab.shape[0] <= most:
            raise ProtocolError(
                f"score() yielded a slab of shape {tuple(slab.shape)}; "
                f"wanted 1 to {most:,} rows of {self._vocab_size:,} columns."
            )
        return slab.shape[0]

    def _mapped(self) -> Buffers:
        if self._buffers is None:
            raise ProtocolError("no buffers yet: prepare() comes first.")
        return self._buffers

    def _send(self, kind: Kind, a: int = 0, b: int = 0, c: int = 0, d: int = 0, x: float = 0.0) -> None:
        self._channel.send(Message(kind, a, b, c, d, x, rank=self._rank))

    def _receive(self) -> Message:
        message, fds = self._channel.receive(IDLE_LIMIT_S)
        for fd in fds:
            os.close(fd)
        return message
