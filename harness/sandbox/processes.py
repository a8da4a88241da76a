"""Processes of a cell as the kernel lists them in ``/proc``: descendants, and how to end them all.

Used for the count of survivors, and as the hard kill where no PID namespace can be had. A walk is repeated until it
finds nothing, with everything stopped first, so that a process that forks all the time cannot run away from it.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

STOP_LIMIT_S = 30.0  # for the last thread to stop: one that waits in a driver answers no signal meanwhile
GONE_LIMIT_S = 120.0  # from then on, for the kernel to take back what the processes held: seconds for many gigabytes
_STATE, _PARENT, _FLAGS, _THREADS = 0, 1, 6, 17  # among the fields of /proc/PID/stat that follow the name
_DEAD = (b"Z", b"X")
_EXITING = 0x4  # PF_EXITING: inside the kernel's exit, from which no thread returns to its program


def default_signals(*numbers: int) -> None:
    """Unblock every signal, and let these do what they do by default: both are inherited from whoever started this.

    With SIGCHLD ignored the kernel forgets how a child ended, and every child seems to have succeeded.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in numbers:
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            with contextlib.suppress(OSError, ValueError):  # those of the C library
                signal.signal(number, signal.SIG_DFL)


def children_of_all() -> dict[int, list[int]]:
    """Parent -> children, for every process that is not a zombie; one whose first thread alone ended is none."""
    found: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - quick, in the middle of a kill
        with contextlib.suppress(OSError, ValueError):
            fields = _fields(f"/proc/{name}/stat")
            if fields[_STATE] not in _DEAD or int(fields[_THREADS]) > 1:
                found.setdefault(int(fields[_PARENT]), []).append(int(name))
    return found


def can_run(pids: list[int]) -> bool:
    """Whether a thread of these processes may still run an instruction of its program.

    None that is dead or on its way out can. Waiting in the kernel or being stopped is no end: only what is known to be
    over counts as over.
    """
    for folder in (f"/proc/{pid}/task" for pid in pids):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for name in os.listdir(folder):  # noqa: PTH208 - quick, in the middle of a kill
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    fields = _fields(f"{folder}/{name}/stat")
                    if fields[_STATE] not in _DEAD and not int(fields[_FLAGS]) & _EXITING:
                        return True
    return False


def _fields(stat: str) -> list[bytes]:
    with open(stat, "rb", buffering=0) as file:  # noqa: PTH123 - quick, in the middle of a kill
        return file.read().rpartition(b")")[2].split()


def descendants(*roots: int, children: dict[int, list[int]] | None = None) -> list[int]:
    """Every living process below ``roots``, without these themselves; ``children``: as they were seen before."""
    children, found, queue = children or children_of_all(), list[int](), list(roots)
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to each; those that ended meanwhile are left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


@dataclass(frozen=True)
class KillReport:
    """How a cell ended.

    Times count from the deadline, without one from the call. The stop is what fairness asks for; the driver of a GPU
    takes a while longer to give its memory back.

    late:         whether a deadline was missed
    overshoot_ns: until all was dead and reaped, or the wait was given up
    survivors:    processes that could still run when the referee gave up waiting; 0 is the only good number
    stopped_ns:   until no thread could run an instruction of its program any more; not before the end where that is
                  not known
    """

    late: bool
    overshoot_ns: int
    survivors: int
    stopped_ns: int


def kill_all(living: Callable[[], list[int]], since_ns: int | None = None) -> KillReport:
    """Kill what is ``living`` until nothing is; give up when some go on running, or are not gone, for far too long.

    All stopped with the first look from which on none found a thread that can run; two must agree at least, for a
    process could be started behind a single one.

    since_ns: monotonic time from which on the report counts; ``None``: now
    """
    begun_ns = time.monotonic_ns()
    stopped_ns = looks = 0
    while alive := living():
        signal_all(alive, signal.SIGSTOP)
        alive = living()
        signal_all(alive, signal.SIGKILL)
        stopped_ns, looks = (0, 0) if can_run(alive) else (stopped_ns or time.monotonic_ns(), looks + 1)
        # what can still run has had its time; what can't does no harm, and a large memory is slow to go
        limit_s = GONE_LIMIT_S if looks else STOP_LIMIT_S
        if time.monotonic_ns() > (stopped_ns or begun_ns) + limit_s * 1e9:
            break
        time.sleep(0.001)
    survivors, ended_ns = sum(can_run([pid]) for pid in alive), time.monotonic_ns()
    if survivors or looks < 2:
        stopped_ns = ended_ns
    from_ns = begun_ns if since_ns is None else since_ns
    return KillReport(since_ns is not None, max(0, ended_ns - from_ns), survivors, max(0, stopped_ns - from_ns))
