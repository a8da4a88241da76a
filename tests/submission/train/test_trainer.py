"""The step: bit-equal for equal seeds, a warm-up that leaves no trace, telemetry, and how a training ends."""

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_config
from torch import Tensor

from harness.data.dataset import write_shard
from harness.protocol.session import ShardFile
from submission.train import loop
from submission.train.loop import Diverged, run_steps
from submission.train.trainer import Trainer

CONFIG = small_config(train_batch_tokens=256, train_seq_len=32, train_micro_batch=4, iterations=12, warmdown_iters=8)
TOKENS = 20_000


@dataclass
class Session:
    """What training reads of the referee's session: time stands still, and is over after ``looks`` at the clock."""

    output_dir: Path = Path()
    looks: float = float("inf")
    limit_s: float = 90.0
    world_size: int = 1
    rank: int = 0
    seed: int = 1
    cpu_cores: int = 1

    def ready(self) -> list[ShardFile]:
        path = self.output_dir / "shard.bin"
        write_shard(path, np.arange(TOKENS) % 64)
        return [ShardFile(os.open(path, os.O_RDONLY), TOKENS, path.name)]

    def elapsed_s(self) -> float:
        return 1e-3

    def remaining_s(self) -> float:
        self.looks -= 1
        return self.limit_s if self.looks >= 0 else 0.0

    def progress(self, **shown: object) -> None:
        pass


def batches(seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randint(64, (8, 33), generator=generator)


@functools.cache
def train(seed: int, *, warm: bool = True) -> tuple[dict[str, Tensor], list[dict]]:
    trainer = Trainer(CONFIG, torch.device("cpu"), seed, 1)
    if warm:
        trainer.warm_up(2)
    lines = list(run_steps(Session(), trainer, batches(seed), next(batches(9))[:4]))
    return trainer.averaged_weights(), lines


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_equal_seeds_give_equal_bits_and_another_seed_others():
    first, second, other = train(1)[0], train.__wrapped__(1)[0], train(2)[0]
    assert same(first, second)
    assert not same(first, other)


def test_the_warm_up_leaves_no_trace():
    assert same(train(1)[0], train(1, warm=False)[0])


def test_telemetry_has_a_line_a_step():
    lines = train(1)[1]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["tokens"] == 12 * 256
    assert {"loss", "lr", "s", "tokens_per_s"} <= set(lines[0])
    json.dumps(lines)


def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_step():
    trainer = Trainer(CONFIG, torch.device("cpu"), 1, 1)
    with torch.no_grad():
        trainer.model.blocks[0].mix.fill_(float("nan"))
    with pytest.raises(Diverged, match="step 0 was the last good one; at step 1 the loss is nan"):
        list(run_steps(Session(), trainer, batches(1), next(batches(9))[:0]))


@pytest.mark.parametrize(("looks", "expected"), [(float("inf"), (3, "complete")), (2, (2, "clock"))])
def test_training_says_whether_the_clock_left_steps_undone(tmp_path, looks, expected):
    short = small_config(iterations=3, warmdown_iters=1, train_seq_len=16, train_batch_tokens=64)
    assert loop.train(Session(tmp_path, looks), short, torch.device("cpu")) == expected
    last = json.loads((tmp_path / "telemetry-0.jsonl").read_text().splitlines()[-1])
    assert last["ended"] == expected[1]
