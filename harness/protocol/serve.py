"""The worker's side of evaluation: build a predictor, bind its state to the referee's memory, answer its calls.

Order of messages: HELLO → BUFFERS → (bind, warm up, restore) READY → START → {SCORE → LOGITS/NEXT … → ADAPT → ADAPTED}…
→ STOP; a replica gets LOAD_STATE → LOADED in place of START's first chunk.
"""

from __future__ import annotations

import mmap
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import torch

from harness.protocol.channel import Channel, ChannelClosed
from harness.protocol.messages import Kind, Message
from harness.protocol.predictor import EvalContext, Predictor, Stage

ALIGNMENT = 64
LOGITS_DTYPES = {0: torch.float32, 1: torch.bfloat16, 2: torch.float16}
WAIT_FOR_REFEREE_S = 3600.0


def serve_predictor(build: Callable[[EvalContext], Predictor]) -> None:
    """Run the evaluation worker with the predictor that ``build`` returns, until the referee says STOP."""
    channel = Channel.from_descriptor(int(os.environ["GOLF_CHANNEL_FD"]))
    try:
        _Worker(channel, build(context_from_environment())).run()
    except ChannelClosed:
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        channel.send(Message(Kind.FAILED, text=f"{type(error).__name__}: {error}"))
        sys.exit(1)


def context_from_environment() -> EvalContext:
    """What the referee told this process."""
    env = os.environ
    model, checkpoint = env.get("GOLF_MODEL_FILE"), env.get("GOLF_CHECKPOINT_DIR")
    return EvalContext(
        stage=cast(Stage, env["GOLF_STAGE"]),
        model_file=Path(model) if model else None,
        checkpoint_dir=Path(checkpoint) if checkpoint else None,
        vocab_size=int(env["GOLF_VOCAB_SIZE"]),
        eval_s=float(env["GOLF_LIMIT_S"]),
        total_targets=int(env["GOLF_TOTAL_TARGETS"]),
        rank=int(env["RANK"]),
        world_size=int(env["WORLD_SIZE"]),
    )


def state_layout(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, int], int]:
    """Offset of each tensor in the state buffer, 64-byte aligned in the order given, and the buffer's size in bytes."""
    offsets, at = {}, 0
    for name, tensor in state.items():
        offsets[name] = at
        at += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
    return offsets, at


class _Worker:
    def __init__(self, channel: Channel, predictor: Predictor) -> None:
        self._channel = channel
        self._predictor = predictor

    def run(self) -> None:
        self._bind()
        self._predictor.warm_up()
        self._restore()
        self._channel.send(Message(Kind.READY))
        handlers = {Kind.SCORE: self._score, Kind.ADAPT: self._adapt, Kind.LOAD_STATE: self._load}
        while True:
            message, _ = self._channel.receive(WAIT_FOR_REFEREE_S)
            if message.kind is Kind.STOP:
                return
            if message.kind is not Kind.START:
                handlers[message.kind](message)

    def _bind(self) -> None:
        own = dict(self._predictor.state())
        offsets, total = state_layout(own)
        codes = {dtype: code for code, dtype in LOGITS_DTYPES.items()}
        code = codes[self._predictor.logits_dtype]
        vocab = int(os.environ["GOLF_VOCAB_SIZE"])
        p = self._predictor
        self._channel.send(Message(Kind.HELLO, a=total, b=p.chunk_tokens, c=vocab, d=code, x=float(p.slab_rows)))
        message, fds = self._channel.receive(WAIT_FOR_REFEREE_S)
        if message.kind is not Kind.BUFFERS:
            raise RuntimeError(f"wanted BUFFERS, got {message.kind.name}")
        inputs, targets, logits, state = (_map(fd) for fd in fds)
        self._inputs = torch.frombuffer(inputs, dtype=torch.int64)
        self._targets = torch.frombuffer(targets, dtype=torch.int64)
        self._logits = torch.frombuffer(logits, dtype=p.logits_dtype).view(-1, vocab)
        self._bound = {name: _view(state, offsets[name], tensor) for name, tensor in own.items()}
        self._initial = {name: tensor.detach().clone() for name, tensor in own.items()}
        self._restore()
        p.bind_state(self._bound)

    def _restore(self) -> None:
        with torch.no_grad():
            for name, tensor in self._bound.items():
                tensor.copy_(self._initial[name])
        self._predictor.load_state()

    def _score(self, message: Message) -> None:
        row = 0
        slabs: Iterable[torch.Tensor] = self._predictor.score(self._inputs[: message.b].clone())
        for slab in slabs:
            rows = slab.shape[0]
            self._logits[:rows].copy_(slab.detach())
            self._channel.send(Message(Kind.LOGITS, a=row, b=rows))
            row += rows
            answer, _ = self._channel.receive(WAIT_FOR_REFEREE_S)
            if answer.kind is not Kind.NEXT:
                raise RuntimeError(f"wanted NEXT, got {answer.kind.name}")

    def _adapt(self, message: Message) -> None:
        self._predictor.adapt(self._inputs[: message.b].clone(), self._targets[: message.b].clone())
        self._channel.send(Message(Kind.ADAPTED, a=message.a))

    def _load(self, message: Message) -> None:
        self._predictor.load_state()
        self._channel.send(Message(Kind.LOADED))


def _map(fd: int) -> mmap.mmap:
    size = os.fstat(fd).st_size
    mapped = mmap.mmap(fd, size)
    os.close(fd)
    return mapped


def _view(buffer: mmap.mmap, offset: int, like: torch.Tensor) -> torch.Tensor:
    if like.numel() == 0:
        return like.detach().clone()
    flat = torch.frombuffer(buffer, dtype=like.dtype, count=like.numel(), offset=offset)
    return flat.view(like.shape)
