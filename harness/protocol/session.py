"""Sessions: how a submission's describe, train and package modules talk to the referee.

Each module makes one session with ``connect()``, reads what it needs from its properties, and ends with ``done()`` or
``fail("one sentence")``. Evaluation has no session: see :func:`harness.protocol.serve.serve_predictor`.
"""

import contextlib
import json
import math
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from harness.protocol.container import write_whole as write_whole  # submissions take it from here
from harness.protocol.environment import CellEnvironment
from harness.protocol.messages import Channel, ChannelClosed, ChannelTimeout, Kind, Message

PROGRESS_INTERVAL_S = 0.25
START_WAIT_S = 3600.0
DESCRIPTION_FILE = "description.json"
MODEL_FILE = "model.bin"
SHARD_MAGIC = 20240520
SHARD_HEADER_BYTES = 1024
SHARD_HEAD = struct.Struct("<3i")

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class ShardFile:
    """An open train shard: a header of 1,024 bytes, then ``tokens`` little-endian uint16.

    fd is read-only, its offset belongs to this rank alone; name is for messages, like ``shard-000003``.
    """

    fd: int
    tokens: int
    name: str


class Session:
    """What every phase has in common. Use one of the subclasses.

    seed, track:     of the run; vocab_size: number of token ids
    rank:            of this process among ``world_size``; local_rank: on its host, and the index of its GPU
    cpu_cores, gpus: what the track grants; no GPUs on a CPU track
    limit_s:         seconds of the phase's clock
    """

    phase = ""

    def __init__(self, environment: CellEnvironment, channel: Channel) -> None:
        self.environment = environment
        self.seed, self.track, self.vocab_size = environment.seed, environment.track, environment.vocab_size
        self.rank, self.local_rank, self.world_size = environment.rank, environment.local_rank, environment.world_size
        self.cpu_cores, self.gpus, self.limit_s = environment.cpu_cores, environment.gpus, environment.limit_s
        self._channel = channel
        self._started_ns: int | None = None
        self._last_progress = -math.inf

    @classmethod
    def connect(cls) -> Self:
        """Join the phase. Raises ``NotInACell`` outside the referee's cells."""
        environment = CellEnvironment.read(cls.phase)
        return cls(environment, environment.open_channel())

    @property
    def output_dir(self) -> Path:
        """Where this phase writes; everything else on the disk is read-only or hidden."""
        assert self.environment.output_dir is not None, "the referee names one in every phase with a session"
        return self.environment.output_dir

    def elapsed_s(self) -> float:
        """Seconds on the referee's clock since START; 0 before it."""
        return 0.0 if self._started_ns is None else (time.monotonic_ns() - self._started_ns) / 1e9

    def remaining_s(self) -> float:
        """Seconds left on the referee's clock; negative when it has run out."""
        return self.limit_s - self.elapsed_s()

    def progress(
        self, *, step: int = 0, tokens: int = 0, fraction: float = math.nan, loss: float = math.nan, text: str = ""
    ) -> None:
        """Tell people how far the phase is. Cheap: at most four messages a second leave, and none ever blocks.

        fraction is of the phase, 0 to 1; loss in nats a token. Rank 0's loss becomes the curve in the record.
        """
        now = time.monotonic()
        if now - self._last_progress < PROGRESS_INTERVAL_S:
            return
        self._last_progress = now
        message = Message(Kind.PROGRESS, step, tokens, x=fraction, y=loss, text=text)
        with contextlib.suppress(ChannelTimeout):  # the referee is busy; progress is for people only
            self._channel.send(message, timeout_s=0.0)

    def done(self, *, steps: int = 0, ended: str = "") -> None:
        """The phase's output is complete on disk. Every rank calls it once, and then leaves.

        Training may say how many steps it did, and what ended them: "complete" as planned, or "clock" where the clock
        cut it short. Rank 0's word stands in the record.
        """
        folder = self.environment.output_dir if self.rank == 0 else None
        for path in sorted(folder.rglob("*")) if folder else ():
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())  # DONE means complete
        self._channel.send(Message(Kind.DONE, steps, text=ended))

    def fail(self, reason: str) -> NoReturn:
        """Tell the referee in one sentence why this phase cannot succeed, and exit with code 1."""
        try:
            self._channel.send(Message(Kind.FAILED, text=reason))
        except (ChannelClosed, ChannelTimeout):
            print(reason, flush=True)
        raise SystemExit(1)

    def _await_start(self) -> list[int]:
        """Wait for START; the descriptors that ride along, in several messages where there are many."""
        message, fds = self._channel.receive_with_descriptors(START_WAIT_S)
        while message.kind is Kind.START and len(fds) < message.b:
            message, more = self._channel.receive_with_descriptors(START_WAIT_S)
            fds += more
        if message.kind is not Kind.START:
            raise SystemExit(f"the referee said {message.kind.name} in place of START.")
        self._started_ns = message.a
        return fds


class DescribeSession(Session):
    """Phase 0: check the configuration and declare it, before anything costs time."""

    phase = "describe"

    def publish(self, config: dict[str, Scalar], parameters: int, notes: Sequence[str] = ()) -> None:
        """Declare the configuration in force and the number of parameters; both go into the record.

        notes: lines for whoever started the run, such as settings that have no effect; they are only shown

        Raises ``ValueError`` for a value that is not a string, integer, finite float, boolean or ``None``.
        """
        for name, value in config.items():
            if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
                raise ValueError(f"config[{name!r}] is {value!r}; wanted a string, integer, finite float or boolean.")
        told = {"config": config, "parameters": parameters, "notes": list(notes)}
        text = json.dumps(told, allow_nan=False, sort_keys=True)
        write_whole(self.output_dir / DESCRIPTION_FILE, text.encode())


class TrainSession(Session):
    """Phase 1. Between ``connect`` and ``ready`` no data exist: compile and autotune on synthetic tokens there."""

    phase = "train"

    @property
    def setup_s(self) -> float:
        """Seconds that set-up may take."""
        return self.environment.setup_s

    def ready(self) -> list[ShardFile]:
        """End of set-up: wait until all ranks are ready; the clock starts and the train shards are handed over."""
        self._channel.send(Message(Kind.READY))
        shards = []
        for index, fd in enumerate(self._await_start()):
            _, _, tokens = SHARD_HEAD.unpack(os.pread(fd, SHARD_HEAD.size, 0))  # the referee has checked the shard
            shards.append(ShardFile(fd, tokens, f"shard-{index:06d}"))
        return shards


class PackageSession(Session):
    """Phase 2: checkpoint to ``output_dir/model.bin``. No data are readable."""

    phase = "package"

    def __init__(self, environment: CellEnvironment, channel: Channel) -> None:
        super().__init__(environment, channel)
        self._await_start()

    @property
    def checkpoint_dir(self) -> Path:
        """What the train phase left in its output folder; read-only."""
        assert self.environment.checkpoint_dir is not None, "the referee names one in this phase"
        return self.environment.checkpoint_dir

    @property
    def model_budget_bytes(self) -> int:
        """Largest ``model.bin``: the cap less the counted code."""
        return self.environment.model_budget_bytes
