"""Telemetry of a run as JSON lines: a first line that says what runs, one line a step, a last line that sums up."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ..config import Config, as_scalars
from ..model.hybrid import parameter_count
from .speed import compiled_graphs, peak_memory_bytes, product_flops, training_flops_per_token

Line = dict[str, Any]


class Telemetry:
    """Writes ``telemetry-RANK.jsonl``; use it as a context. Made before the clock starts: it measures the device once.

    ``loss`` in nats a token, ``memory_bytes`` at peak, ``mfu`` a rank over ``product_flops``.
    """

    def __init__(self, config: Config, device: torch.device, world_size: int, backends: dict[str, str]) -> None:
        self._device, self._world_size = device, world_size
        self._flops_per_token = training_flops_per_token(config)
        self._product_flops = product_flops(device)
        self._graphs = compiled_graphs()
        self.ended = "complete"
        self.head: Line = {
            "backends": backends,
            "config": as_scalars(config),
            "parameters": parameter_count(config),
            "world_size": world_size,
            "flops_per_token": self._flops_per_token,
            "product_flops": round(self._product_flops),
        }

    def open(self, folder: Path, rank: int) -> Telemetry:
        """Start the file of ``rank``."""
        self._file = (folder / f"telemetry-{rank}.jsonl").open("w")
        self.write(self.head)
        return self

    def step(self, line: Line) -> None:
        """Append a step's line, with utilisation and memory."""
        mfu = line["tokens_per_s"] * self._flops_per_token / (self._world_size * self._product_flops)
        self.write(line | {"mfu": round(mfu, 4), "memory_bytes": peak_memory_bytes(self._device)})

    def write(self, line: Line) -> None:
        """Append one line; it is on its way to the disk at once, so that a run that dies leaves it."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self.ended if error is None else f"{type(error).__name__}: {error}"
        self.write({"ended": ended, "graphs_compiled_in_clock": compiled_graphs() - self._graphs})
        self._file.close()
