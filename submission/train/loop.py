"""The training loop: set-up on synthetic tokens, then steps until the schedule or the clock ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from harness.protocol.session import TrainSession

from ..checkpoint import save_checkpoint
from ..config import Config
from ..model.hybrid import Hybrid, build_model
from .batches import Windows, map_shard
from .muon import Muon
from .qat import QuantisedWeights
from .schedule import Schedule

HELD_OUT_WINDOWS = 64
HELD_OUT_EVERY = 100


class Diverged(RuntimeError):
    """The loss is not finite any more."""


class Trainer:
    """Model, optimisers and averaged weights of one rank."""

    def __init__(self, config: Config, device: torch.device, seed: int, world_size: int) -> None:
        torch.manual_seed(seed)
        self.config, self.device, self.world_size = config, device, world_size
        self.model: Hybrid = build_model(config).to(device)
        matrices, small = _split_parameters(self.model)
        self.muon = Muon(
            matrices,
            lr=config.matrix_lr,
            weight_decay=config.weight_decay,
            steps=config.muon_backend_steps,
            row_normalise=config.muon_eq_r,
        )
        groups = [
            {"params": [self.model.embedding.weight], "lr": config.embed_lr, "base_lr": config.embed_lr},
            {"params": small, "lr": config.scalar_lr, "base_lr": config.scalar_lr},
        ]
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.95), eps=1e-8, fused=device.type == "cuda")
        self.qat = QuantisedWeights(self.model, config)
        self.average = [p.detach().clone() for p in self.model.parameters()]

    def step(self, batch: Tensor, lr_scale: float, momentum: float, quantised: bool) -> Tensor:
        """One optimiser step on this rank's windows (n, length + 1). Returns the mean loss over all ranks, nats."""
        batch = batch.to(self.device, non_blocking=True)
        parts = torch.split(batch, self.config.train_micro_batch)
        total = torch.zeros((), device=self.device)
        with self.qat.in_place(quantised):
            for part in parts:
                loss = self.loss(part) * (len(part) / len(batch))
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        self._average_gradients(total)
        for group in self.adam.param_groups:
            group["lr"] = group["base_lr"] * lr_scale
        self.adam.step()
        self.muon.step(lr_scale, momentum)
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - self.config.ema_decay)
        return total

    def loss(self, windows: Tensor) -> Tensor:
        """Mean next-token loss of windows (n, length + 1), nats."""
        with self._autocast():
            logits = self.model(windows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())

    @torch.no_grad()
    def held_out_loss(self, windows: Tensor) -> float:
        """Mean loss on the held-out slice of the train set."""
        parts = torch.split(windows.to(self.device), self.config.train_micro_batch)
        return sum(float(self.loss(part)) * len(part) for part in parts) / len(windows)

    def warm_up(self) -> None:
        """Run both kinds of step on synthetic tokens, then restore everything: nothing compiles inside the clock."""
        c = self.config
        start = [p.detach().clone() for p in self.model.parameters()]
        windows = c.train_batch_tokens // c.train_seq_len // self.world_size
        tokens = torch.randint(c.vocab_size, (min(windows, c.train_micro_batch), c.train_seq_len + 1))
        for quantised in (False, True):
            self.step(tokens, 0.0, 0.0, quantised)
        with torch.no_grad():
            for parameter, average, value in zip(self.model.parameters(), self.average, start, strict=True):
                parameter.copy_(value)
                average.copy_(value)
        self.adam.state.clear()
        self.muon.reset()

    def averaged_weights(self) -> dict[str, Tensor]:
        """The averaged weights by name: what is kept."""
        names = [name for name, _ in self.model.named_parameters()]
        return dict(zip(names, self.average, strict=True))

    def _average_gradients(self, total: Tensor) -> None:
        if self.world_size == 1:
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients] + [total.view(1).to(gradients[0].dtype)])
        dist.all_reduce(flat)
        flat /= self.world_size
        at = 0
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        total.copy_(flat[-1])

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()


def train(session: TrainSession, config: Config, device: torch.device) -> None:
    """Train under the session's clock and leave a checkpoint. Raises ``Diverged``, ``ShardError``."""
    trainer = Trainer(config, device, session.seed, session.world_size)
    trainer.warm_up()
    torch.manual_seed(session.seed)
    shards = [map_shard(shard, config.vocab_size) for shard in session.ready()]
    windows = Windows(shards, config.train_seq_len, session.seed)
    batches = windows.batches(config.train_batch_tokens // config.train_seq_len, session.rank, session.world_size)
    with (session.output_dir / f"telemetry-{session.rank}.jsonl").open("w") as telemetry:
        for line in _steps(session, trainer, batches, windows.held_out(HELD_OUT_WINDOWS)):
            telemetry.write(json.dumps(line) + "\n")
    if session.rank == 0:
        save_checkpoint(session.output_dir, trainer.averaged_weights(), config)


def _steps(
    session: TrainSession, trainer: Trainer, batches: Iterator[Tensor], held_out: Tensor
) -> Iterator[dict[str, float]]:
    """Run all steps; yields one line of telemetry a step."""
    config, schedule = trainer.config, Schedule(trainer.config)
    step, loss, tokens = 0, math.nan, 0
    while True:
        multiplier = _agreed(schedule.multiplier(step, session.elapsed_s(), session.remaining_s()), trainer)
        if multiplier <= 0 or (config.iterations and step >= config.iterations):
            break
        quantised = multiplier < config.late_qat_threshold
        loss = float(trainer.step(next(batches), multiplier, schedule.momentum(step), quantised))
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss} at step {step}; step {step - 1} was the last good one.")
        step, tokens = step + 1, tokens + config.train_batch_tokens
        line = {"step": step, "tokens": tokens, "loss": loss, "lr": multiplier, "s": round(session.elapsed_s(), 3)}
        if len(held_out) and step % HELD_OUT_EVERY == 0:
            line["held_out_loss"] = trainer.held_out_loss(held_out)
        _report(session, config, step, tokens, loss, schedule)
        yield line


def _report(session: TrainSession, config: Config, step: int, tokens: int, loss: float, schedule: Schedule) -> None:
    elapsed = session.elapsed_s()
    by_clock = elapsed / max(1e-9, session.limit_s - config.train_clock_margin_s)
    fraction = step / config.iterations if config.iterations and not schedule.by_clock else by_clock
    note = "; slow machine: the clock ends this run, it is not reproducible" if schedule.by_clock else ""
    text = f"step {step}, loss {loss:.3f}, {tokens / elapsed:,.0f} tokens/s{note}"
    session.progress(step=step, tokens=tokens, fraction=min(1.0, fraction), loss=loss, text=text)


def _agreed(multiplier: float, trainer: Trainer) -> float:
    """Rank 0's multiplier, so that all ranks stop at the same step."""
    if trainer.world_size == 1:
        return multiplier
    value = torch.tensor([multiplier], dtype=torch.float64, device=trainer.device)
    dist.broadcast(value, 0)
    return float(value)


def _split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(matrices of linear layers, for Muon; small tensors, for Adam); the embedding is in neither."""
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    matrices: list[Tensor] = [p for name, p in model.named_parameters() if name in linear]
    small: list[Tensor] = [
        p for name, p in model.named_parameters() if name not in linear and name != "embedding.weight"
    ]
    return matrices, small
