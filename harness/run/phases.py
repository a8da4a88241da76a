"""The phases that make the artifact, each in a cell of its own: describe, then train, then package.

describe: the submission checks its configuration and declares it, before anything costs time.
train:    set-up without data, then the shards and the clock, until every rank says that it is done.
package:  checkpoint to artifact, without any data; then the artifact is checked and counted.
"""

import errno
import math
import os
import resource
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from harness.clock.spans import A1_TRAIN_CLOCK, A2_EVAL_CLOCK
from harness.config.tracks import TRAIN_TOLERANCE_S
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import read_regular, remove_tree, tree
from harness.progress import Stage
from harness.protocol.messages import MAX_DESCRIPTORS, SYNTAX_ERROR, Kind, Message
from harness.protocol.session import DESCRIPTION_FILE, MODEL_FILE
from harness.record.canonical import strict_json
from harness.record.predicate import Sizes, Training
from harness.run.artifact import A3_BYTES, BUNDLE_FILE, PACKAGE, artifact_sizes, read_model_file, unpack_code
from harness.run.cells import RunContext, phase_cell
from harness.run.conversation import failure, failures_named, why_uncountable
from harness.sandbox.answers import RankFailed
from harness.sandbox.cell import Cell

MAX_DESCRIPTION_BYTES = 100_000
Ending = Literal["complete", "clock", ""]
ENDINGS: tuple[Ending, ...] = ("complete", "clock")
LOSS_POINTS = 200
OTHER_DESCRIPTORS = 256  # channels, logs, libraries
OVERSIZE_READ = 4  # a model file is read up to this many times the cap, so that the verdict can name its size
_SAFE_INTEGER = 2**53
_NAME = Annotated[str, Meta(max_length=200)]
_TEXT = Annotated[str, Meta(max_length=4000)]
_INTEGER = Annotated[int, Meta(gt=-_SAFE_INTEGER, lt=_SAFE_INTEGER)]


def describe(context: RunContext) -> None:
    """Put the submission's own configuration and number of parameters into ``context``.

    Raises ``UsageError`` with the submission's words when it refuses its configuration.
    """
    limit_s, manifest = context.track.limits.describe_s, context.sealed.manifest
    output = context.run_dir / "description"
    output.mkdir()
    extra = {"GOLF_OUTPUT_DIR": str(output)}
    remedy = "Only read the configuration here; build the model in training."
    with (
        context.clock.span("describe", limit_s=limit_s) as span,
        phase_cell(context, "describe", limit_s=limit_s, write=(output,), extra=extra) as cell,
        failures_named(context, cell, span, rule="S3-PROTOCOL", remedy=remedy) as ranks,
    ):
        try:
            ranks.collect(Kind.DONE)
        except RankFailed as error:
            if error.said is None:
                raise
            if error.said.startswith(SYNTAX_ERROR):
                raise UsageError(f"{manifest.name} has a {error.said}.", remedy="Correct that file.") from None
            remedy = "Correct the variable; the run hands on what the environment holds."
            raise UsageError(f"{manifest.name} refuses its configuration: {error.said}", remedy=remedy) from None
    try:
        found = read_description(output / DESCRIPTION_FILE)
    except ValueError as error:
        raise failure(context, "describe", error) from None
    context.config, context.parameters = found.config, found.parameters
    for note in found.notes:
        context.progress.note(f"{manifest.name} says: {note}")


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a submission publishes of itself; notes are for whoever started the run."""

    config: Annotated[dict[_NAME, _INTEGER | float | bool | _TEXT | None], Meta(max_length=1000)]
    parameters: Annotated[int, Meta(ge=0, lt=_SAFE_INTEGER)]
    notes: Annotated[list[str], Meta(max_length=20)] = []


def read_description(path: Path) -> Description:
    """The description at ``path``. Raises ``ValueError`` for anything but plain scalars within bounds."""
    try:
        data = read_regular(path, MAX_DESCRIPTION_BYTES)
    except OSError as error:
        raise ValueError(f"there is no readable {path.name} ({error.strerror})") from None
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"{path.name} is over {MAX_DESCRIPTION_BYTES:,} bytes")
    try:
        found = msgspec.convert(strict_json(data), Description)
    except (ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"{path.name} is not a plain description ({error})") from None
    for name, value in found.config.items():
        plain = math.isfinite(value) if isinstance(value, float) else not isinstance(value, str) or value.isprintable()
        if not plain or not name.isprintable():
            raise ValueError(f"config entry {name[:80]!r} in {path.name} is not a plain scalar")
    return found


def train(context: RunContext, shards: tuple[Path, ...]) -> None:
    """Run the train phase; the shards are opened when every rank is ready [A1-SETUP-NO-DATA].

    The checkpoint lies in ``context.checkpoint_dir`` then; rank 0's loss curve and its last word are in ``context``.
    Raises ``RuleBroken``: A1-TRAIN-CLOCK when a clock runs out, S3-PROTOCOL when a rank fails.
    """
    limits = context.track.limits
    context.checkpoint_dir.mkdir()
    with phase_cell(
        context,
        "train",
        limit_s=limits.train_s,
        ranks=context.track.ranks,
        write=(context.checkpoint_dir,),
        extra={"GOLF_OUTPUT_DIR": str(context.checkpoint_dir), "GOLF_SETUP_S": repr(limits.setup_s)},
    ) as cell:
        limit_s, remedy = limits.setup_s, "Compile less before ready()."
        with (
            context.progress.stage("set-up", 100, "%") as stage,
            context.clock.span("setup", limit_s=limit_s) as span,
            failures_named(context, cell, span, rule=A1_TRAIN_CLOCK, remedy=remedy, part="in set-up, ") as ranks,
        ):
            ranks.collect(Kind.READY, progress=_reporter(stage, limit_s))
        _run_clock(context, cell, shards)
    total = 0
    try:
        for path in tree(context.checkpoint_dir):
            found = path.lstat()
            total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            if stat.S_ISREG(found.st_mode) and not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    except OSError as error:
        reason = f"its checkpoint {why_uncountable(error, context.checkpoint_dir)}"
        raise failure(context, "train", reason, remedy="Leave files and folders that their owner can read.") from None
    if total > limits.checkpoint_bytes:
        reason = f"the checkpoint is {total:,} bytes; at most {limits.checkpoint_bytes:,} are allowed"
        raise failure(context, "train", reason, remedy="Save what packaging needs, without the optimiser's state.")
    if total == 0:
        reason = "it left no checkpoint in its output folder"
        raise failure(context, "train", reason, remedy="Write it below TrainSession.output_dir before done().")


def _run_clock(context: RunContext, cell: Cell, shards: tuple[Path, ...]) -> None:
    limit_s, seen, every, last_step = context.track.limits.train_s, 0, 1, -1
    grace_s = TRAIN_TOLERANCE_S if context.track.readings.train_clock == "tolerate_200ms" else 0.0
    remedy = "Stop earlier: session.remaining_s() tells how long is left."
    with (
        context.progress.stage("train", 100, "%") as stage,
        _open_shards(shards, len(cell.channels)) as opened,
        context.clock.span("train", limit_s=limit_s, budget="train") as span,
    ):
        report = _reporter(stage, limit_s)

        def heard(rank: int, message: Message) -> None:
            nonlocal seen, every, last_step
            if rank != 0:
                return
            report(rank, message)
            if math.isfinite(message.y) and last_step < message.a < _SAFE_INTEGER:
                last_step, seen = message.a, seen + 1
                if (seen - 1) % every == 0:
                    context.loss_curve.append((message.a, message.y))
                if len(context.loss_curve) > LOSS_POINTS:  # thinned while it comes
                    del context.loss_curve[1::2]
                    every *= 2

        with failures_named(context, cell, span, rule=A1_TRAIN_CLOCK, remedy=remedy, grace_s=grace_s) as ranks:
            for rank, descriptors in enumerate(opened):
                now = time.monotonic_ns()
                for at in range(0, max(1, len(descriptors)), MAX_DESCRIPTORS):
                    part = tuple(descriptors[at : at + MAX_DESCRIPTORS])
                    ranks.send(Message(Kind.START, now, len(descriptors)), part, rank=rank)
            last = ranks.collect(Kind.DONE, progress=heard)[0]
            ended: Ending = next((word for word in ENDINGS if word == last.text), "")
            context.training = Training(min(max(last.a, 0), _SAFE_INTEGER - 1), ended)
            cell.stop()  # what a rank would do after its DONE would not be on the clock


@contextmanager
def _open_shards(shards: tuple[Path, ...], ranks: int) -> Iterator[list[list[int]]]:
    """The shards, opened anew for each rank so that file offsets are not shared."""
    opened: list[list[int]] = [[] for _ in range(ranks)]
    wanted = len(shards) * ranks + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # neither is ever infinite; the soft one is often 1,024
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    try:
        for descriptors in opened:
            for path in shards:
                descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        yield opened
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


def _reporter(stage: Stage, limit_s: float) -> Callable[[int, Message], None]:
    started = time.monotonic()

    def report(_: int, message: Message) -> None:
        step = f"step {message.a}" if message.a else ""
        loss = f"loss {message.y:.4f}" if math.isfinite(message.y) else ""
        spent = (time.monotonic() - started) / max(limit_s, 1.0)
        part = message.x if 0 <= message.x <= 1 else min(1.0, spent)  # its own word, else the clock's
        stage.update(100 * part, message.text or ", ".join(filter(None, (step, loss))))

    return report


def package(context: RunContext, *, limit_s: float, budget: str) -> Sizes:
    """Run the package phase and collect the counted files in ``context.artifact_dir``.

    limit_s: seconds left in the budget that packaging counts in. Raises ``RuleBroken`` when the clock runs out, when a
    rank fails or when the model file is not a sound container; a file over the cap is left to the count.
    """
    sealed, output = context.sealed, context.run_dir / "package"
    counted = artifact_sizes(context.track, sealed, model_bytes=0)
    room = counted.cap_bytes - counted.total_bytes
    rule = A1_TRAIN_CLOCK if budget == "train" else A2_EVAL_CLOCK
    if room <= 0:
        raise RuleBroken(A3_BYTES, f"the code alone is {-room:,} bytes over the cap.", remedy="Shorten it.")
    output.mkdir()
    with (
        context.progress.stage("package", 100, "%") as stage,
        context.clock.span("package", limit_s=limit_s, budget=budget) as span,
        phase_cell(
            context,
            "package",
            limit_s=limit_s,
            read=(context.checkpoint_dir,),
            write=(output,),
            extra={
                "GOLF_CHECKPOINT_DIR": str(context.checkpoint_dir),
                "GOLF_OUTPUT_DIR": str(output),
                "GOLF_MODEL_BUDGET_BYTES": str(room),
            },
        ) as cell,
        failures_named(context, cell, span, rule=rule, remedy="Package faster.") as ranks,
    ):
        ranks.send(Message(Kind.START, span.start_ns))
        ranks.collect(Kind.DONE, progress=_reporter(stage, limit_s))
        cell.stop()  # what it would do after its DONE would not be on the clock
    context.artifact_dir.mkdir()
    return lay_out(context, output / MODEL_FILE)


def lay_out(context: RunContext, packed: Path) -> Sizes:
    """Lay checked model file and sealed bundle into the artifact; unpack its code anew, as no cell has touched it."""
    limits = context.track.limits
    most = OVERSIZE_READ * limits.artifact_bytes
    model = read_model_file(packed, max_bytes=most, max_unpacked_bytes=limits.unpacked_bytes)
    (context.artifact_dir / MODEL_FILE).write_bytes(model)
    shutil.copyfile(context.sealed.bundle, context.artifact_dir / BUNDLE_FILE)
    remove_tree(context.sealed.root)
    unpack_code((context.artifact_dir / BUNDLE_FILE).read_bytes(), context.sealed.root / PACKAGE)
    return artifact_sizes(context.track, context.sealed, len(model))
