"""What training says about its end: complete, or cut short by the clock."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_config

from harness.protocol.session import ShardFile
from submission.train.loop import train

CONFIG = small_config(iterations=3, warmdown_iters=1, train_seq_len=16, train_batch_tokens=64)
TOKENS = 20_000


@dataclass
class Session:
    """What training reads of the referee's session; its clock runs out after ``asked`` looks at it."""

    output_dir: Path
    asked: float = float("inf")
    world_size: int = 1
    rank: int = 0
    seed: int = 3
    cpu_cores: int = 1
    limit_s: float = 1e6
    steps: list[int] = field(default_factory=list)

    def ready(self) -> list[ShardFile]:
        header = np.zeros(256, "<i4")
        header[:3] = 20240520, 1, TOKENS
        path = self.output_dir / "shard.bin"
        path.write_bytes(header.tobytes() + (np.arange(TOKENS) % 64).astype("<u2").tobytes())
        return [ShardFile(os.open(path, os.O_RDONLY), TOKENS, path.name)]

    def elapsed_s(self) -> float:
        return 0.0

    def remaining_s(self) -> float:
        self.asked -= 1
        return self.limit_s if self.asked >= 0 else 0.0

    def progress(self, *, step: int, **_shown: object) -> None:
        self.steps.append(step)


@pytest.mark.parametrize(("looks", "expected"), [(float("inf"), (3, "complete")), (2, (2, "clock"))])
def test_training_says_whether_the_clock_left_steps_undone(tmp_path, looks, expected):
    assert train(Session(tmp_path, looks), CONFIG, torch.device("cpu")) == expected
    last = json.loads((tmp_path / "telemetry-0.jsonl").read_text().splitlines()[-1])
    assert last["ended"] == expected[1]
