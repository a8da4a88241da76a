"""What the describe, train and package processes of a submission talk through.

The referee starts each process with an inherited channel and a few ``GOLF_*`` variables; a session reads them once.
A session never decides anything: clocks, limits and verdicts are the referee's. See ``README.md`` beside this file.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from harness.protocol.channel import Channel
from harness.protocol.messages import Kind, Message

PROGRESS_INTERVAL_S = 0.25
WAIT_FOR_REFEREE_S = 3600.0
SHARD_HEADER_BYTES = 1024

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class ShardFile:
    """One open train shard: a read-only descriptor, its number of tokens and its name (for messages only)."""

    fd: int
    tokens: int
    name: str


class Session:
    """What all phases share: identity, limits, progress, and the two ways to end."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._last_progress = -math.inf
        self._start_ns = time.monotonic_ns()
        self.rank = _integer("RANK")
        self.local_rank = _integer("LOCAL_RANK")
        self.world_size = _integer("WORLD_SIZE")
        self.seed = _integer("SEED")
        self.track = os.environ["GOLF_TRACK"]
        self.vocab_size = _integer("GOLF_VOCAB_SIZE")
        self.cpu_cores = _integer("GOLF_CPU_CORES")
        self.gpus = _integer("GOLF_GPUS")
        self.limit_s = float(os.environ["GOLF_LIMIT_S"])
        self.output_dir = Path(os.environ["GOLF_OUTPUT_DIR"])

    @classmethod
    def connect(cls) -> Self:
        """The session of this process. Exits with one sentence when it was not started by the referee."""
        descriptor = os.environ.get("GOLF_CHANNEL_FD")
        if descriptor is None:
            sys.exit("This program is started by the referee: use `harness submit`.")
        return cls(Channel.from_descriptor(int(descriptor)))

    def elapsed_s(self) -> float:
        """Seconds of the running span, on the clock that the referee uses too."""
        return (time.monotonic_ns() - self._start_ns) / 1e9

    def remaining_s(self) -> float:
        """Seconds until the referee ends the span; negative when it is over."""
        return self.limit_s - self.elapsed_s()

    def progress(
        self, *, step: int = 0, tokens: int = 0, fraction: float = math.nan, loss: float = math.nan, text: str = ""
    ) -> None:
        """Tell people how far the work is. Cheap to call every step; sent at most four times a second."""
        now = time.monotonic()
        if now - self._last_progress < PROGRESS_INTERVAL_S:
            return
        self._last_progress = now
        self._send(Message(Kind.PROGRESS, a=step, b=tokens, x=fraction, y=loss, text=text))

    def done(self) -> None:
        """Say that this rank's work and files are complete."""
        self._send(Message(Kind.DONE))

    def fail(self, reason: str) -> NoReturn:
        """End this rank with one sentence for people."""
        self._send(Message(Kind.FAILED, text=reason))
        sys.exit(1)

    def _send(self, message: Message) -> None:
        self._channel.send(message)


class DescribeSession(Session):
    """Phase 0: check the configuration and declare it, before any data is touched."""

    def publish(self, config: Mapping[str, Scalar], parameters: int) -> None:
        """Declare the configuration (plain scalars by name) and the number of parameters."""
        text = json.dumps({"config": dict(config), "parameters": parameters}, sort_keys=True, allow_nan=False)
        write_whole(self.output_dir / "description.json", text.encode())


class TrainSession(Session):
    """Phase 1. Before ``ready()`` no data is readable and time counts as set-up; after it the train clock runs."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.setup_s = float(os.environ["GOLF_SETUP_S"])

    def ready(self) -> list[ShardFile]:
        """End the set-up, wait for the other ranks and the start, and take the train shards, all of them, in order."""
        self._send(Message(Kind.READY))
        message, fds = self._channel.receive(WAIT_FOR_REFEREE_S)
        if message.kind is not Kind.START or len(fds) != message.b:
            sys.exit("the referee sent something else than the start of training.")
        self._start_ns = message.a
        names = json.loads(os.environ["GOLF_SHARD_NAMES"])
        return [ShardFile(fd, shard_tokens(fd), name) for fd, name in zip(fds, names, strict=True)]


class PackageSession(Session):
    """Phase 2: checkpoint in, ``model.bin`` out; no data."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.checkpoint_dir = Path(os.environ["GOLF_CHECKPOINT_DIR"])
        self.model_budget_bytes = _integer("GOLF_MODEL_BUDGET_BYTES")


def shard_tokens(fd: int) -> int:
    """Number of tokens by the shard's header (third little-endian int32)."""
    return int.from_bytes(os.pread(fd, 4, 8), "little")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _integer(name: str) -> int:
    return int(os.environ[name])
