"""What a cell's environment variables say, read once and typed; shared by the sessions and the eval worker."""

import difflib
import math
import os
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self

from harness.protocol.messages import Channel, Kind, Message

_PLAIN = ("seed", "rank", "local_rank", "world_size")  # named as torch and users name them, without GOLF_
_READ: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float, Path | None: Path}
LIKELY, NEAR = 0.6, 0.85  # how alike a name must be to be suggested, and to be taken for a typing error (difflib)


def misspelt(
    environ: Mapping[str, str], known: Collection[str], namespace: tuple[str, ...], hints: Mapping[str, str]
) -> dict[str, str]:
    """Variables of ``environ`` that are not ``known`` and seem to be meant by it → a few words of help, or "".

    Meant are names in ``hints``, which has the words; names that begin with one of ``namespace``; and any name that
    differs from a known one by a letter or two, in case, or in the order of its letters.
    """
    meant = {}
    for name in sorted(set(environ) - set(known)):
        own = bool(namespace) and name.startswith(namespace)
        near = difflib.get_close_matches(name, known, n=1, cutoff=LIKELY if own else NEAR)
        letters = sorted(name.upper())
        near = near or [other for other in known if len(other) > 3 and sorted(other) == letters][:1]
        if name in hints or near or own:
            meant[name] = hints.get(name) or (f"did you mean {near[0]}?" if near else "")
    return meant


class NotInACell(RuntimeError):
    """The process was not started by the referee, or not for this phase."""


@dataclass(frozen=True)
class CellEnvironment:
    """One rank's view of its phase. Times in seconds, sizes in bytes; a path is ``None`` where the phase has none."""

    phase: str
    track: str
    seed: int
    vocab_size: int
    cpu_cores: int
    gpus: int
    limit_s: float
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    stage: str = ""
    setup_s: float = 0.0
    total_targets: int = 0
    model_budget_bytes: int = 0
    output_dir: Path | None = None
    checkpoint_dir: Path | None = None
    model_file: Path | None = None
    channel_fd: int = -1

    @classmethod
    def read(cls, phase: str, environ: Mapping[str, str] | None = None) -> Self:
        """Read ``environ`` (default: the process's own). Raises ``NotInACell`` when it is not one of ``phase``."""
        env = os.environ if environ is None else environ
        if (found := env.get("GOLF_PHASE")) != phase:
            raise NotInACell(
                f"this module serves the {phase} phase, and GOLF_PHASE is {found!r}. "
                "The referee starts it: `harness submit --submission FOLDER`."
            )
        values: dict[str, Any] = {"phase": phase}
        for field in fields(cls)[1:]:
            name = field.name.upper() if field.name in _PLAIN else f"GOLF_{field.name.upper()}"
            if field.default is MISSING or env.get(name):
                values[field.name] = _READ[field.type](env[name])
        return cls(**values)

    def open_channel(self) -> Channel:
        """The worker's end of the channel. Each of several ranks says that it runs, so that a missing one is known."""
        channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, self.channel_fd))
        if self.world_size > 1:
            channel.send(Message(Kind.PROGRESS, x=math.nan, y=math.nan, text="started"))
        return channel
