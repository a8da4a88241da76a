"""Several ranks over gloo, started by torchrun, train as one process does."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from harness.protocol.ranks import LostRank
from submission.preflight import NotUsable
from submission.train.group import agree, join, leave, sum_over_ranks
from submission.train.owners import balanced

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "support" / "gloo_training.py"


def trained(world: int, folder: Path) -> list[dict]:
    """What each rank saw."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}", str(SCRIPT)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return trained(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_reach_the_losses_of_a_single_process(world, alone, tmp_path):
    """Float32 sums in another order; six steps, the last two with quantised weights."""
    ranks = trained(world, tmp_path)
    for mine in ranks:
        assert mine["losses"] == pytest.approx(alone["losses"], rel=2e-4)
        assert mine["agreed"] == alone["agreed"] == 0.1
    assert len({mine["weights"] for mine in ranks}) == 1


def desert(rank: int, store: str) -> None:
    """Three ranks agree twice; rank 2 is gone before the second time."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store}
    join(3, torch.device("cpu"))
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=desert, args=(rank, port)) for rank in range(3)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=100)
    assert [process.exitcode for process in ranks] == [5, 5, 7]


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
