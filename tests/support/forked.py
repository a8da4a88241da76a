"""Processes that have torch imported: forked from a server that imports it once for all tests."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "torch.distributed", "torch._dynamo", "harness.protocol.serve"])


def start(run: Callable, ranks: int, *told: object) -> list[BaseProcess]:
    """Start ``run(rank, ranks, *told)`` for each rank; a socket among ``told`` goes along."""
    processes = [SERVER.Process(target=run, args=(rank, ranks, *told), daemon=True) for rank in range(ranks)]
    for process in processes:
        process.start()
    return processes


def ended(processes: list[BaseProcess], limit_s: float = 800.0) -> list[int | None]:
    """Exit codes, in their order; what still runs after the limit is killed."""
    for process in processes:
        process.join(limit_s)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]
