"""Phase 1: set-up without data, then the shards and the clock, until every rank says that it is done."""

from __future__ import annotations

import errno
import math
import os
import resource
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from harness.cli.progress import Stage
from harness.config.tracks import TRAIN_TOLERANCE_S
from harness.errors import CouldNotCheck
from harness.files import tree
from harness.phases.cells import phase_cell
from harness.phases.context import LOSS_POINTS, RunContext
from harness.phases.conversation import PhaseFailed, PhaseTimeout, await_all, failure
from harness.protocol.channel import MAX_DESCRIPTORS, Channel
from harness.protocol.messages import Kind, Message
from harness.record.predicate import Training
from harness.sandbox.cell import Cell
from harness.text import printable

A1_TRAIN_CLOCK = "A1-TRAIN-CLOCK"
ENDINGS: tuple[Literal["complete", "clock", ""], ...] = ("complete", "clock")
OTHER_DESCRIPTORS = 256  # channels, logs, libraries


def train(context: RunContext, shards: tuple[Path, ...]) -> list[tuple[int, float]]:
    """Run the train phase; the checkpoint lies in ``context.checkpoint_dir``. The result is rank 0's loss curve;
    its last word goes into ``context.training``.

    Raises ``RuleBroken``: A1-TRAIN-CLOCK when a clock runs out, S3-PROTOCOL when a rank fails.
    """
    limits = context.track.limits
    context.checkpoint_dir.mkdir()
    curve = LossCurve()
    with phase_cell(
        context,
        "train",
        module=context.sealed.manifest.entry.train,
        limit_s=limits.train_s,
        ranks=context.track.ranks,
        write=(context.checkpoint_dir,),
        extra={"GOLF_OUTPUT_DIR": str(context.checkpoint_dir), "GOLF_SETUP_S": repr(limits.setup_s)},
    ) as cell:
        _set_up(context, cell)
        _run_clock(context, cell, shards, curve)
    _check_checkpoint(context)
    return curve.points()


class LossCurve:
    """Rank 0's (step, loss) points, thinned to at most 200 while they come."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float]] = []
        self._every = 1
        self._seen = 0
        self._last = -1

    def add(self, step: int, loss: float) -> None:
        """Take one point; steps that do not go forward and losses that are not finite are left out."""
        if not math.isfinite(loss) or not self._last < step < 2**53:
            return
        self._last = step
        if self._seen % self._every == 0:
            self._points.append((step, loss))
        self._seen += 1
        if len(self._points) > LOSS_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def points(self) -> list[tuple[int, float]]:
        """The curve."""
        return list(self._points)


def _set_up(context: RunContext, cell: Cell) -> None:
    limit_s = context.track.limits.setup_s
    with (
        context.progress.stage("set-up", limit_s, "s") as stage,
        context.clock.span("setup", limit_s=limit_s) as span,
    ):
        try:
            await_all(cell, Kind.READY, span.deadline_ns, _reporter(stage, limit_s))
        except PhaseTimeout as error:
            late = cell.kill("the set-up limit", span.deadline_ns)
            reason = f"set-up took longer than {limit_s:g} s (stopped {late.stop_ms:.0f} ms after){error}"
            remedy = "Compile less before ready()."
            raise failure(context, "train", reason, rule=A1_TRAIN_CLOCK, remedy=remedy) from None
        except PhaseFailed as error:
            raise failure(context, "train", f"in set-up, {error}") from None


def _run_clock(context: RunContext, cell: Cell, shards: tuple[Path, ...], curve: LossCurve) -> None:
    limit_s = context.track.limits.train_s
    grace_s = TRAIN_TOLERANCE_S if context.track.readings.train_clock == "tolerate_200ms" else 0.0
    with (
        context.progress.stage("train", limit_s, "s") as stage,
        _open_shards(shards, len(cell.channels)) as opened,
        context.clock.span("train", limit_s=limit_s, budget="train") as span,
    ):
        report = _reporter(stage, limit_s)

        def heard(rank: int, message: Message) -> None:
            if rank == 0:
                curve.add(message.a, message.y)
                report(rank, message)

        deadline_ns = span.deadline_ns + int(grace_s * 1e9)
        try:
            for channel, descriptors in zip(cell.channels, opened, strict=True):
                _start(channel, descriptors)
            context.training = _last_word(await_all(cell, Kind.DONE, deadline_ns, heard)[0])
            cell.stop()  # what a rank would do after its DONE would not be on the clock
        except PhaseTimeout as error:
            late = cell.kill("the train limit", deadline_ns)
            reason = (
                f"not done after {limit_s:g} s (everything was stopped {late.stop_ms:.0f} ms after the limit){error}"
            )
            remedy = "Stop earlier: session.remaining_s() tells how long is left."
            raise failure(context, "train", reason, rule=A1_TRAIN_CLOCK, remedy=remedy) from None
        except (PhaseFailed, OSError) as error:
            raise failure(context, "train", str(error)) from None


def _last_word(done: Message) -> Training:
    ended: Literal["complete", "clock", ""] = next((word for word in ENDINGS if word == done.text), "")
    return Training(min(max(done.a, 0), 2**53 - 1), ended)


@contextmanager
def _open_shards(shards: tuple[Path, ...], ranks: int) -> Iterator[list[list[int]]]:
    """The shards, opened anew for each rank so that file offsets are not shared."""
    opened: list[list[int]] = []
    _allow_descriptors(len(shards) * ranks + OTHER_DESCRIPTORS)
    try:
        for _ in range(ranks):
            opened.append([])
            for path in shards:
                opened[-1].append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        yield opened
    except FileNotFoundError as error:
        raise CouldNotCheck(f"train shard {error.filename} is gone.", remedy="`harness data build` makes it.") from None
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise CouldNotCheck(
            f"{len(shards)} train shards for {ranks} ranks are more open files than this system allows.",
            remedy="Raise the hard limit of open files (`ulimit -Hn`), or build larger shards.",
        ) from None
    finally:
        for fd in (fd for descriptors in opened for fd in descriptors):
            os.close(fd)


def _allow_descriptors(wanted: int) -> None:
    """Raise this process's soft limit of open files, often 1,024, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _start(channel: Channel, descriptors: list[int]) -> None:
    now = time.monotonic_ns()
    for at in range(0, max(1, len(descriptors)), MAX_DESCRIPTORS):
        part = tuple(descriptors[at : at + MAX_DESCRIPTORS])
        channel.send(Message(Kind.START, now, len(descriptors)), part)


def _reporter(stage: Stage, limit_s: float) -> Callable[[int, Message], None]:
    started = time.monotonic()

    def report(_: int, message: Message) -> None:
        loss = f" loss {message.y:.4f}" if math.isfinite(message.y) else ""
        stage.update(min(limit_s, time.monotonic() - started), f"step {message.a}{loss} {message.text}")

    return report


def _check_checkpoint(context: RunContext) -> None:
    limit, total = context.track.limits.checkpoint_bytes, 0
    try:
        for path in tree(context.checkpoint_dir):
            found = path.lstat()
            total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.ENAMETOOLONG, errno.EFBIG):
            raise
        place = printable(os.path.relpath(error.filename, context.checkpoint_dir))
        reason = f"its checkpoint can't be counted: {error.strerror} ({place})"
        raise failure(context, "train", reason, remedy="Leave files and folders that their owner can read.") from None
    if total > limit:
        reason = f"the checkpoint is {total:,} bytes; at most {limit:,} are allowed"
        raise failure(context, "train", reason, remedy="Save what packaging needs, without the optimiser's state.")
    if total == 0:
        reason = "it left no checkpoint in its output folder"
        raise failure(context, "train", reason, remedy="Write it below TrainSession.output_dir before done().")
