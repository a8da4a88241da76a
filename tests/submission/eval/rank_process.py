"""One rank of a sharded evaluation: the referee drives rank 0, the others follow."""

import dataclasses
import socket
from pathlib import Path

import lab
import predictors
import small_models
import torch
import torch.distributed as dist

from harness.protocol.messages import Channel
from harness.protocol.predictor import EvalContext
from harness.protocol.serve import serve_on
from submission.eval.predictor import HybridPredictor
from submission.eval.ranks import Ranks


def run(rank: int, size: int, folder: Path, changes: dict[str, object], targets: int, channel: socket.socket) -> None:
    """channel: rank 0's to the referee; folder: where the ranks meet."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size)
    config = predictors.config(**({"eval_cache_orders": "1,3", "eval_cache_slots": 512} | changes))
    told = EvalContext("final", None, None, 64, 1e9, targets, rank, size)
    one = HybridPredictor(small_models.lively_model(config).float(), config, told, Ranks(rank, size))
    environment = dataclasses.replace(lab.cell_environment(64, targets), rank=rank, world_size=size)
    own, _kept = Channel.pair()
    serve_on(Channel(channel) if rank == 0 else own, environment, lambda _: one)
    if size > 1:
        dist.destroy_process_group()
