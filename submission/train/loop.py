"""The training loop: set-up on synthetic tokens, then steps until the schedule or the clock ends."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.protocol.session import TrainSession

from ..checkpoint import save_checkpoint
from ..config import Config
from ..model.attend import attention_backend
from ..model.mamba3 import Mamba3
from .batches import Windows, map_shard
from .group import agree
from .readback import Readback
from .schedule import Schedule
from .telemetry import Line, Telemetry
from .trainer import Trainer

HELD_OUT_WINDOWS = 32
HELD_OUT_EVERY = 200
LOST_STEPS, LOST_MARGIN = 50, 1.0  # steps, nats


class Diverged(RuntimeError):
    """The loss is not finite any more, or has long been worse than a guess."""


class LossWatch:
    """Ends a run whose loss is lost: not finite, or above that of a uniform guess for ``LOST_STEPS`` steps on end."""

    def __init__(self, vocab_size: int) -> None:
        self._guess = math.log(vocab_size) + LOST_MARGIN
        self._last_good = 0

    def see(self, step: int, loss: float) -> None:
        """Take one step's loss, nats a token. Raises ``Diverged`` with the last good step and what to lower."""
        if math.isfinite(loss) and loss <= self._guess:
            self._last_good = step
            return
        if math.isfinite(loss) and step - self._last_good < LOST_STEPS:
            return
        what = (
            f"has been above {self._guess:.2f}, worse than a guess, since then" if math.isfinite(loss) else f"is {loss}"
        )
        raise Diverged(
            f"training diverged: step {self._last_good} was the last good one; at step {step} the loss {what}. Lower "
            "MATRIX_LR, EMBED_LR or SCALAR_LR."
        )


def train(session: TrainSession, config: Config, device: torch.device) -> tuple[int, str]:
    """Train under the session's clock and leave a checkpoint. Raises ``Diverged``, ``ShardError``.

    Returns the number of steps and what ended them: "complete", or "clock" when it left some of ITERATIONS undone.
    """
    threads = 1 if device.type == "cuda" else max(1, session.cpu_cores // session.world_size)
    trainer = Trainer(config, device, session.seed, session.world_size, threads)
    print(json.dumps({"backends": backends(trainer)}), flush=True)  # before anything can go wrong
    trainer.warm_up(HELD_OUT_WINDOWS)
    telemetry = Telemetry(config, device, session.world_size, backends(trainer))
    torch.manual_seed(session.seed)
    shards = [map_shard(shard, config.vocab_size) for shard in session.ready()]
    windows = Windows(shards, config.train_seq_len, session.seed)
    batches = windows.batches(config.train_batch_tokens // config.train_seq_len, session.rank, session.world_size)
    held_out = filled_up(windows.held_out(HELD_OUT_WINDOWS), HELD_OUT_WINDOWS).to(device)
    steps = 0
    with telemetry.open(session.output_dir, session.rank):
        for line in run_steps(session, trainer, batches, held_out):
            telemetry.step(line)
            steps = int(line["step"])
        telemetry.ended = "clock" if steps < config.iterations else "complete"
    if session.rank == 0:
        save_checkpoint(session.output_dir, trainer.averaged_weights(), config)
    return steps, telemetry.ended


def filled_up(windows: Tensor, count: int) -> Tensor:
    """``count`` windows, some of them again where there are fewer: another number would be compiled on the clock."""
    return windows[torch.arange(count) % len(windows)] if len(windows) else windows


def backends(trainer: Trainer) -> dict[str, str]:
    """What runs the scan and the attention here."""
    model, device = trainer.model, trainer.device
    probe = torch.empty(0, device=device, dtype=model.stream_dtype)
    scans = {m.backend_for(probe) for m in model.modules() if isinstance(m, Mamba3)}
    return {"scan": " ".join(sorted(scans)), "attention": attention_backend(device), "device": str(device)}


def run_steps(session: TrainSession, trainer: Trainer, batches: Iterator[Tensor], held_out: Tensor) -> Iterator[Line]:
    """Run all steps; yields one line of telemetry a step. Raises ``Diverged``.

    A step's loss is read after the next step is on its way, so that the GPU never waits for Python.
    """
    config, behind = trainer.config, 0 if trainer.device.type == "cpu" else 1
    schedule, watch = Schedule(config, behind), LossWatch(config.vocab_size)
    unread: deque[tuple[Line, Readback]] = deque()
    step = 0
    while True:
        multiplier = agree(schedule.multiplier(step, session.elapsed_s(), session.remaining_s()))
        if multiplier <= 0 or (config.iterations and step >= config.iterations):
            break
        quantised = multiplier < config.late_qat_threshold
        loss = trainer.step(next(batches), multiplier, schedule.momentum(step), quantised)
        step += 1
        line: Line = {"step": step, "tokens": step * config.train_batch_tokens, "lr": multiplier}
        numbers = {"loss": loss}
        if len(held_out) and step % HELD_OUT_EVERY == 0:
            numbers["held_out_loss"] = trainer.held_out_loss(held_out)
        unread.append((line, Readback(numbers)))
        if len(unread) > behind:
            yield _read(session, trainer, schedule, watch, *unread.popleft())
    while unread:
        yield _read(session, trainer, schedule, watch, *unread.popleft())


def _read(
    session: TrainSession,
    trainer: Trainer,
    schedule: Schedule,
    watch: LossWatch,
    line: Line,
    numbers: Readback,
) -> Line:
    """Complete a step's line of telemetry and show it."""
    step, tokens = int(line["step"]), int(line["tokens"])
    values = numbers.read()
    watch.see(step, values["loss"])
    elapsed = session.elapsed_s()
    line |= values | {"s": round(elapsed, 3), "tokens_per_s": round(tokens / max(elapsed, 1e-9))}
    _report(session, trainer.config, step, tokens, values["loss"], schedule)
    return line


def _report(session: TrainSession, config: Config, step: int, tokens: int, loss: float, schedule: Schedule) -> None:
    elapsed = session.elapsed_s()
    by_clock = elapsed / max(1e-9, session.limit_s - config.train_clock_margin_s)
    fraction = step / config.iterations if config.iterations and not schedule.by_clock else by_clock
    note = "; slow machine: the clock ends this run, it is not reproducible" if schedule.by_clock else ""
    text = f"step {step}, loss {loss:.3f}, {tokens / max(elapsed, 1e-9):,.0f} tokens/s{note}"
    session.progress(step=step, tokens=tokens, fraction=min(1.0, fraction), loss=loss, text=text)
