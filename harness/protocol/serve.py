"""The eval worker: builds a submission's ``Predictor`` and answers the referee until it says STOP.

The referee owns all shared memory. It reveals inputs, reads logits slab by slab, and hands over targets only when the
chunk's score is committed; this loop merely obeys, and nothing depends on its honesty.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import fields

import torch

from harness.protocol.buffers import Buffers, buffer_shapes, logits_code, map_tensor, settle, state_bytes, state_views
from harness.protocol.environment import CellEnvironment
from harness.protocol.messages import Channel, ChannelClosed, ChannelTimeout, Kind, Message
from harness.protocol.predictor import EvalContext, LogitsWriter, Predictor, ShardedPredictor
from harness.protocol.ranks import LOST_RANK_WAIT_S, LostRank

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
    """The same on a given channel. Raises ``SystemExit(1)`` when it ended in a failure.

    A rank that only lost another one lets that one speak first.
    """
    try:
        predictor = build(eval_context(environment))
        if environment.rank:  # it has no say in the protocol: it does what rank 0 tells it, and has no buffers
            _sharded(predictor).follow()
            return
        worker = EvalWorker(channel, predictor, environment)
        worker.prepare()
        worker.serve()
        if environment.world_size > 1:
            _sharded(predictor).stop()
    except (ChannelClosed, ChannelTimeout):
        raise SystemExit(1) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, LostRank):
            time.sleep(LOST_RANK_WAIT_S)
            reason = str(error)
        traceback.print_exc()
        sys.stderr.flush()
        channel.send(Message(Kind.FAILED, text=" ".join(reason.split())))
        raise SystemExit(1) from None


def _sharded(predictor: Predictor) -> ShardedPredictor:
    if not isinstance(predictor, ShardedPredictor):
        raise ProtocolError('eval_ranks = "all" wants a predictor with follow() and stop().')
    return predictor


def eval_context(environment: CellEnvironment) -> EvalContext:
    """What the predictor is told, from the cell's environment."""
    told = vars(environment) | {"eval_s": environment.limit_s}
    return EvalContext(**{field.name: told[field.name] for field in fields(EvalContext)})


class EvalWorker:
    """One predictor and its channel. ``prepare`` once, then ``serve`` until STOP."""

    def __init__(self, channel: Channel, predictor: Predictor, environment: CellEnvironment) -> None:
        self._channel, self._predictor, self._vocab_size = channel, predictor, environment.vocab_size
        self._buffers: Buffers  # from ``prepare`` on
        self._mirrored: list[tuple[torch.Tensor, torch.Tensor]] = []  # (buffer, the predictor's own tensor)

    def prepare(self) -> None:
        """HELLO, take the buffers, bind the state, warm up, put the state back, READY."""
        predictor = self._predictor
        initial = {name: tensor.detach() for name, tensor in predictor.state().items()}
        buffers = self._buffers = self._exchange(initial)
        views = state_views(initial, buffers.state)
        for name, view in views.items():
            view.copy_(initial[name])
        bound = {n: view if view.device == initial[n].device else initial[n].clone() for n, view in views.items()}
        self._mirrored = [(views[name], own) for name, own in bound.items() if own is not views[name]]
        predictor.bind_state(bound)
        if isinstance(predictor, LogitsWriter):
            predictor.bind_logits(buffers.logits)
        before = buffers.state.clone()
        predictor.warm_up()
        buffers.state.copy_(before)
        self._load_state()
        self._send(Kind.READY)

    def _exchange(self, initial: dict[str, torch.Tensor]) -> Buffers:
        """HELLO, and the referee's memory in return: on the GPU if all state is there and the referee can."""
        predictor, size = self._predictor, state_bytes(initial)
        dtype, code = predictor.logits_dtype, logits_code(predictor.logits_dtype)
        rows, on_device = float(predictor.slab_rows), bool(initial) and all(t.is_cuda for t in initial.values())
        self._send(Kind.HELLO, size, predictor.chunk_tokens, self._vocab_size, code, x=rows, y=float(on_device))
        message, fds = self._channel.receive_with_descriptors(IDLE_LIMIT_S)
        if message.kind is not Kind.BUFFERS or len(fds) != 4:
            raise ProtocolError(f"wanted BUFFERS with 4 descriptors, found {message.kind.name} with {len(fds)}.")
        device = message.c - 1 if message.c else None
        shapes = buffer_shapes(message.a, message.b, self._vocab_size, dtype, size)
        inputs, targets, logits, state = (map_tensor(fd, *kind, device) for fd, kind in zip(fds, shapes, strict=True))
        for fd in fds:
            os.close(fd)  # the mappings stay
        return Buffers(inputs, targets, logits, state, device)

    def serve(self) -> None:
        """Obey SCORE, ADAPT and LOAD_STATE until STOP."""
        message = self._receive()
        while message.kind is not Kind.STOP:
            if message.kind is Kind.SCORE:
                self._score(message.b)
                self._publish_state()
                self._send(Kind.SCORED, message.a)
            elif message.kind is Kind.ADAPT:
                buffers = self._buffers
                self._predictor.adapt(buffers.inputs[: message.b].clone(), buffers.targets[: message.b].clone())
                self._publish_state()
                self._send(Kind.ADAPTED, message.a)
            elif message.kind is Kind.LOAD_STATE:
                self._load_state()
                self._send(Kind.LOADED)
            elif message.kind is not Kind.START:
                raise ProtocolError(f"the referee said {message.kind.name} out of turn.")
            message = self._receive()

    def _score(self, count: int) -> None:
        """Stream the logits of one chunk, until its rows are complete or the referee has seen enough.

        One slab lies in the buffer at a time. The next is computed while the referee copies it and computes its nats;
        where ``score()`` may write into the buffer itself, only once it is copied. ``score()`` has ended when this
        returns, so whatever it does to the state behind its last slab is done too.
        """
        buffers, row, may_write = self._buffers, 0, True
        writes = isinstance(self._predictor, LogitsWriter)
        with torch.no_grad():
            for slab in self._predictor.score(buffers.inputs[:count].clone()):
                rows = self._check_slab(slab, count - row)
                if not (may_write or self._more_wanted()):
                    return
                if slab.data_ptr() != buffers.logits.data_ptr():
                    buffers.logits[:rows].copy_(slab.detach())
                settle(buffers.device)
                self._send(Kind.LOGITS, row, rows)
                row += rows
                may_write = writes and row < count
                if may_write and not self._more_wanted():
                    return
        if row != count:
            raise ProtocolError(f"score() gave {row:,} rows for a chunk of {count:,}; one row a token is wanted.")

    def _publish_state(self) -> None:
        """What the predictor did to its state is in the referee's memory when this returns."""
        for buffer, own in self._mirrored:
            buffer.copy_(own)
        settle(self._buffers.device)

    def _load_state(self) -> None:
        for buffer, own in self._mirrored:
            own.copy_(buffer)
        self._predictor.load_state()
        settle(self._buffers.device)

    def _more_wanted(self) -> bool:
        message = self._receive()
        if message.kind not in (Kind.NEXT, Kind.ENOUGH):
            raise ProtocolError(f"the referee said {message.kind.name} while a chunk was scored.")
        return message.kind is Kind.NEXT

    def _check_slab(self, slab: torch.Tensor, left: int) -> int:
        most = min(left, self._buffers.logits.shape[0])
        if slab.ndim != 2 or slab.shape[1] != self._vocab_size or not 1 <= slab.shape[0] <= most:
            wanted = f"1 to {most:,} rows of {self._vocab_size:,} columns"
            raise ProtocolError(f"score() yielded a slab of shape {tuple(slab.shape)}; wanted {wanted}.")
        return slab.shape[0]

    def _send(self, kind: Kind, a: int = 0, b: int = 0, c: int = 0, d: int = 0, x: float = 0.0, y: float = 0.0) -> None:
        self._channel.send(Message(kind, a, b, c, d, x, y))

    def _receive(self) -> Message:
        return self._channel.receive(IDLE_LIMIT_S)
