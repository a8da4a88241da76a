"""One rank of a sharded evaluation: rank 0 drives, the others follow."""

import dataclasses
import socket
from pathlib import Path

import lab
import predictors
import small_models
import torch
import torch.distributed as dist

from harness.protocol.channel import Channel
from harness.protocol.predictor import EvalContext
from harness.protocol.serve import serve_on
from submission.eval.predictor import HybridPredictor
from submission.eval.ranks import Ranks


def run(
    rank: int,
    size: int,
    folder: Path,
    changes: dict[str, object],
    targets: int,
    channel: socket.socket | None = None,
) -> None:
    """channel: rank 0's to the referee; without one it drives itself, and ``folder`` gets what it saw."""
    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size)
    config = predictors.config(**({"eval_cache_orders": "1,3", "eval_cache_slots": 512} | changes))
    told = EvalContext("final", None, None, 64, 1e9, targets, rank, size)
    one = HybridPredictor(small_models.lively_model(config).float(), config, told, Ranks(rank, size))
    if channel:
        environment = dataclasses.replace(lab.cell_environment(64, targets), rank=rank, world_size=size)
        own, _kept = Channel.pair()
        serve_on(Channel(channel) if rank == 0 else own, environment, lambda _: one)
    elif rank:
        one.follow()
    else:
        torch.save(drive(one, targets), folder / "result.pt")
        one.stop()
    if size > 1:
        dist.destroy_process_group()


def drive(one: HybridPredictor, targets: int) -> dict[str, torch.Tensor]:
    """Score and adapt ``targets`` tokens; every logit, and the state at the end."""
    tokens = torch.randint(64, (targets + 1,), generator=torch.Generator().manual_seed(9))
    one.load_state()
    logits = []
    for start in range(0, targets, 128):
        end = min(start + 128, targets)
        logits += list(one.score(tokens[start:end]))
        one.adapt(tokens[start:end], tokens[start + 1 : end + 1])
    return {name: t.clone() for name, t in one.state().items()} | {"logits": torch.cat(logits).detach()}
