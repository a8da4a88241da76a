"""Several ranks over gloo train as one process does."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import forked
import pytest
import torch
from small_models import small_config

from harness.protocol.ranks import LostRank
from submission.preflight import NotUsable
from submission.train.group import agree, join, leave, own_rank, sum_over_ranks, world_size
from submission.train.owners import balanced
from submission.train.trainer import Trainer


@contextmanager
def meeting_point() -> Iterator[int]:
    """The port of a store where ranks meet, as torchrun keeps one."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield store.port


def meet(rank: int, ranks: int, port: int) -> None:
    told = {"RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in told.items()} | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    torch.set_num_threads(1)
    join(ranks, torch.device("cpu"))


def train() -> dict:
    """Six steps; what this rank saw."""
    trainer = Trainer(
        small_config(train_batch_tokens=6 * 32, train_seq_len=32, train_micro_batch=2),
        torch.device("cpu"),
        1,
        world_size(),
    )
    generator = torch.Generator().manual_seed(5)
    losses = []
    for step in range(6):
        windows = torch.randint(64, (6, 33), generator=generator)
        losses.append(float(trainer.step(windows[own_rank() :: world_size()], 1.0, 0.9, step >= 4)))
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters()))
    return {"losses": losses, "agreed": agree(0.1 + own_rank()), "weights": digest.hexdigest()}


def train_among(rank: int, ranks: int, port: int, folder: Path) -> None:
    meet(rank, ranks, port)
    (folder / f"{rank}.json").write_text(json.dumps(train()))
    leave()


def test_ranks_reach_the_losses_of_a_single_process(tmp_path):
    """Float32 sums in another order; six steps, the last two with quantised weights."""
    alone = train()
    with meeting_point() as port:
        assert forked.ended(forked.start(train_among, 3, port, tmp_path)) == [0, 0, 0]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    for mine in ranks:
        assert mine["losses"] == pytest.approx(alone["losses"], rel=2e-4)
        assert mine["agreed"] == alone["agreed"] == 0.1
    assert len({mine["weights"] for mine in ranks}) == 1


def desert(rank: int, ranks: int, port: int) -> None:
    """Three ranks agree twice; rank 2 is gone before the second time."""
    meet(rank, ranks, port)
    agree(1.0)
    if rank == 2:
        os._exit(7)
    try:
        for _ in range(100):
            agree(1.0)
            sum_over_ranks(torch.ones(4))
    except LostRank:
        os._exit(5)
    os._exit(0)


def test_ranks_that_lose_another_say_so():
    with meeting_point() as port:
        assert forked.ended(forked.start(desert, 3, port)) == [5, 5, 7]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 40])
def test_work_is_dealt_out_by_what_it_costs(ranks):
    """Every piece has an owner, and the fullest rank has no more than 4/3 of what the best deal could reach."""
    costs = [7] * 7 + [9] * 5 + [3] * 5 + [1] * 4 + [2] * 11
    owners = balanced(costs, ranks)
    assert len(owners) == len(costs)
    assert set(owners) <= set(range(ranks))
    load = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == rank) for rank in range(ranks)]
    assert max(load) <= 4 / 3 * max(max(costs), -(-sum(costs) // ranks))


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        (
            "NCCL error in: init.cpp, unhandled system error\nLast error:\nno /dev/shm",
            NotUsable,
            "no /dev/shm. `harness",
        ),
        ("NCCL error\nncclRemoteError: a remote process exited or there was a network error", LostRank, "lost touch"),
    ],
)
def test_an_nccl_that_cannot_connect_says_why(said, kind, told, monkeypatch):
    asked = {}

    def refuse(backend, **options):
        asked.update(options, backend=backend)
        raise torch.distributed.DistBackendError(said)

    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    with pytest.raises(kind, match=told):
        join(2, torch.device("cuda", 1))
    assert asked["backend"] == "cpu:gloo,cuda:nccl"
    assert asked["device_id"] == torch.device("cuda", 1)
    assert asked["timeout"] > timedelta(hours=2), "a replica waits for its turn"


def test_a_process_alone_joins_nobody_and_leaves_nobody():
    join(1, torch.device("cpu"))
    leave()
    assert not torch.distributed.is_initialized()
