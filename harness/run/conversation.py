"""Holding the ranks of a cell to their time, and turning what went wrong into one message for people."""

import errno
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from harness.clock.spans import Span
from harness.errors import CouldNotCheck, HarnessError, RuleBroken, machine_trouble
from harness.files import told
from harness.protocol.messages import Kind
from harness.record.predicate import FOREIGN_SHARE
from harness.run.cells import RunContext
from harness.run.machine import killed_for_memory
from harness.sandbox.answers import OutOfTime, RankFailed, RankGone, Ranks, Silent
from harness.sandbox.cell import Cell
from harness.text import printable

LOG_TAIL_BYTES = 4096
LOG_TAIL_LINES = 8
NO_SOCKETS = re.compile(r"multiprocessing/(?s:.*)Operation not permitted")
FEW_SOCKETS = (
    "Processes of a cell may hand each other tensors in training alone, and only where it has a root of its own "
    "(`harness doctor`): elsewhere a DataLoader needs num_workers=0."
)
NOT_IMPORTED = re.compile(r"No module named '(\w+)")
ALL_PACKAGES = ("describe", "train", "package", "script")  # cells that can import whatever is installed
NOT_MAPPED = "failed to map segment from shared object"
DISK_SIGNS = ("No space left on device", "Disk quota exceeded", "os error 28", "error 28")
DISK_ROOM_BYTES = 16_000_000
OVERCOMMIT = "/proc/sys/vm/overcommit_memory"
MEMORY_SIGNS = ("MemoryError", "not enough memory", "can't allocate memory", "std::bad_alloc", "OutOfMemoryError")


def failure(
    context: RunContext,
    cell: str,
    reason: str | Exception,
    *,
    rule: str = "S3-PROTOCOL",
    remedy: str = "",
    signalled: int = 0,
    since_ns: int = 0,
    seen: bool = False,
) -> HarnessError:
    """The error that ends a run in ``cell``: the worker's own reason, then the last lines of its log.

    It is a broken rule, unless the machine is the likelier cause: other processes had a part of the processors while a
    time limit passed (since_ns: monotonic, 0 where none did; seen: only others that were seen), memory ran out, or the
    disk is full. signalled: what killed the rank, where something did.
    """
    log, reason, lines = context.log_file(cell), str(reason).rstrip("."), list[str]()
    most = context.track.limits.checkpoint_bytes
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    tail = "\n".join([f"    {printable(line)}" for line in lines if line.strip()][-LOG_TAIL_LINES:])
    if log.is_file() and log.stat().st_size >= most:
        reason = f"{reason}; its log reached {most:,} bytes, the most that one file may take"
        remedy = "Print less: what is printed beyond the limit ends the program."
    if since_ns and context.machine:
        spent_s = (time.monotonic_ns() - since_ns) / 1e9
        taken, paused_s = context.machine.others_took(spent_s, seen=seen), context.machine.paused_s(spent_s)
        if paused_s or taken > FOREIGN_SHARE:
            stopped = f"the referee was stopped for {paused_s:.0f} s (Ctrl-Z, or a container that is paused)"
            why = stopped if paused_s else f"other processes, or a quota, took {taken:.0%} of the processors"
            text = f"{cell}: {reason}, while {why}: that says something about this machine, not about the submission."
            return CouldNotCheck(text, remedy="Run on a machine that is otherwise idle, and stop nothing meanwhile.")
    if killed_for_memory() > context.oom_kills:  # a helper's too: its rank waits for ever, or fails in its own words
        text = f"{cell}: {reason}, and the kernel counts a process killed for want of memory since it started."
        text += " The pass that it repeats had enough: look what takes more in a replica." * seen
        return CouldNotCheck(text, log=tail, remedy="Free some memory, or use a machine or control group with more.")
    barred = [at for at in (tempfile.gettempdir(), context.run_dir) if os.statvfs(at).f_flag & os.ST_NOEXEC]
    if barred and NOT_MAPPED in tail and not seen:
        text = f"{cell}: {reason}; {barred[0]} is mounted noexec, so no library that is written there can be loaded."
        return CouldNotCheck(text, log=tail, remedy="Set TMPDIR and GOLF_RUNS_DIR to another file system.")
    # On a full disk the log is empty too.
    if not tail or any(sign in text for sign in DISK_SIGNS for text in (tail, reason)):
        try:  # what a log says about the disk is only somebody's word: does it take no more?
            with tempfile.TemporaryFile(dir=context.run_dir) as file:
                os.posix_fallocate(file.fileno(), 0, DISK_ROOM_BYTES)
        except OSError as error:
            return machine_trouble(error, context.run_dir)
    if any(sign in text for sign in MEMORY_SIGNS for text in (tail, reason)):
        track, there, most = context.track, psutil.virtual_memory().total, context.track.limits.memory_bytes
        allowed, gpus = f"track {track.name} allows {most:,} bytes a process", track.hardware.gpus
        allowed = "host and GPU memory are the machine's own" if gpus else allowed
        if not seen and ((not gpus and there < most) or told(OVERCOMMIT).startswith("2")):
            text = f"{cell}: {reason}; it ran out of memory: {allowed}, and this machine has {there:,}."
            return CouldNotCheck(text, log=tail, remedy=f"Use one with more; {OVERCOMMIT} of 2 gives less than it has.")
        remedy = f"It ran out of memory: {allowed}. Use smaller batches, chunks or slabs. {remedy}".strip()
    elif NO_SOCKETS.search(tail):
        remedy = f"{FEW_SOCKETS} {remedy}".strip()
    elif cell not in ALL_PACKAGES and (module := NOT_IMPORTED.search(tail)):
        remedy = f'If {module[1]} is an installed package: name its distribution in submission.toml, packages = ["…"].'
    elif not remedy and signalled:
        by_hand = "The kernel counts no process killed for want of memory: the code ended itself, or somebody ended it."
        crashed = "Native code crashed: the log, or `dmesg`, says where; the same seed repeats it if it is no accident."
        remedy = by_hand if signalled == signal.SIGKILL else crashed
    shown = f"Last lines of {log}:\n{tail}" if tail else f"Its log, {log}, is empty."
    return RuleBroken(rule, f"{cell}: {reason}.", remedy=remedy, log=shown)


@contextmanager
def failures_named(
    context: RunContext,
    cell: Cell,
    span: Span,
    *,
    rule: str,
    remedy: str,
    grace_s: float = 0.0,
    part: str = "",
    ranks: Ranks | None = None,
    audited: bool = False,
) -> Iterator[Ranks]:
    """Hold the cell and its ``ranks`` to the span's limit, and turn how they fail into the error that ends the run.

    rule, remedy: where it is missed, and ``grace_s`` beyond it; part: of the phase, such as "in set-up, "
    audited: a replica, which must not be late by what it does itself and end as a fault of the machine
    """
    ranks = ranks or Ranks(cell.channels)
    ranks.deadline_ns = deadline_ns = span.deadline_ns + int(grace_s * 1e9)
    try:
        with cell.armed(deadline_ns):
            yield ranks
    except (OutOfTime, RankFailed) as error:
        fail = partial(failure, context, cell.spec.name, seen=audited)
        if isinstance(error, OutOfTime) or time.monotonic_ns() >= deadline_ns:
            stop_ms = cell.kill(deadline_ns).stopped_ns / 1e6
            who = str(error) if isinstance(error, OutOfTime) else ""
            limit_s = round(span.limit_s or 0, 1)
            reason = f"not done after {limit_s:g} s (everything was stopped {stop_ms:.0f} ms after){who}"
            raise fail(part + reason, rule=rule, remedy=remedy, since_ns=span.start_ns) from None
        text, signalled = str(error), 0
        if isinstance(error, RankGone):
            ended, signalled = how_it_ended(cell, error.rank)
            text = ended if error.awaited == Kind.FAILED.name else f"{ended}; {error.awaited} was awaited"
        cell.kill()  # and its folder is wiped: a disk that it filled itself has room again
        late = span.start_ns if isinstance(error, Silent) else 0
        raise fail(part + text, signalled=signalled, since_ns=late) from None


def why_uncountable(error: OSError, folder: Path) -> str:
    """The words for a submission's folder that it left in a form in which no one can count it; else it raises."""
    if error.errno not in (errno.EACCES, errno.ENAMETOOLONG, errno.EFBIG, errno.EILSEQ):
        raise error
    return f"can't be counted: {error.strerror} ({printable(os.path.relpath(error.filename, folder))})"


def how_it_ended(cell: Cell, rank: int) -> tuple[str, int]:
    """What became of a rank that closed its channel without a word, and the signal that killed it, or 0."""
    until = time.monotonic() + 10.0  # the channel closes before the process is gone: on a busy machine seconds before
    while (code := cell.exit_codes()[rank]) is None and time.monotonic() < until:
        time.sleep(0.01)
    if code is None:
        return f"rank {rank} closed its channel", 0
    if code < 0:
        return f"rank {rank} was killed by signal {-code}", -code
    return f"rank {rank} ended with exit code {code} before it was done", 0
