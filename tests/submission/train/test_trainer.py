"""The step: bit-equal for equal seeds, a warm-up that leaves no trace, telemetry, and a loss that diverges."""

import functools
import json
from collections.abc import Iterator

import pytest
import torch
from small_models import small_config
from torch import Tensor

from submission.train.loop import Diverged, run_steps
from submission.train.trainer import Trainer

CONFIG = small_config(train_batch_tokens=256, train_seq_len=32, train_micro_batch=4, iterations=12, warmdown_iters=8)


class Clock:
    """A session without a referee: time stands still."""

    limit_s, rank, world_size, seed = 90.0, 0, 1, 1

    def elapsed_s(self) -> float:
        return 1e-3

    def remaining_s(self) -> float:
        return self.limit_s

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
    lines = list(run_steps(Clock(), trainer, batches(seed), next(batches(9))[:4]))
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
        list(run_steps(Clock(), trainer, batches(1), next(batches(9))[:0]))
