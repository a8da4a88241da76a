"""Starts the processes of one cell: ``python -I -S -B launcher.py``, with the order as JSON on standard input.

Two processes of ours stand between the referee and the ranks. The *supervisor* lives outside the sandbox; when the
referee is gone, however it went, it kills the cell and wipes its temporary folder. The *first process* (PID 1 of the
cell's namespace where there is one) restricts itself before any thread exists, so that all ranks share its layers, then
starts the ranks, reaps and reports. Only the standard library is imported here: torch comes after exec.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

# By its place alone: on Python's path the folder around it would lend its resource.py to this process.
package = sys.modules["harness"] = ModuleType("harness")
package.__path__ = [str(Path(__file__).resolve().parents[1])]

from harness.sandbox import landlock, namespaces  # noqa: E402
from harness.sandbox.processes import default_signals, descendants, kill_all  # noqa: E402
from harness.sandbox.restrict import Rules, restrict_cell  # noqa: E402

CHANNEL_FD, CONTROL_FD = 3, 4  # of a rank
_ABOVE = 100
_REAP_EVERY_MS = 100


def main() -> None:
    """Read the order, then supervise."""
    default_signals(*signal.valid_signals() - {signal.SIGPIPE})  # what others ignored or blocked would be inherited
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    if order["cores"]:
        with contextlib.suppress(OSError):  # they were taken from the machine meanwhile
            os.sched_setaffinity(0, order["cores"])
    control = socket.socket(fileno=order["control_fd"])
    refused = namespaces.why_refused() if order["namespaces"] else "not asked for"
    if not refused:
        namespaces.enter()
    namespaces.adopt_orphans()
    go_reader, go_writer = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(go_writer)
        os.close(order["lifeline_fd"])
        first_process(order, control, go_reader, refused)
    os.close(go_reader)
    for descriptor in (*order["channel_fds"], order["log_fd"]):
        os.close(descriptor)
    socket.send_fds(control, [json.dumps({"first": first}).encode()], [os.pidfd_open(first)])
    control.close()
    os.write(go_writer, b"g")
    supervise(order)


def supervise(order: dict[str, Any]) -> NoReturn:
    """Wait until the referee lets go of its lifeline, by its own will or by its death; then end and wipe everything.

    The end of the cell alone is no reason to leave: without a namespace its orphans are this process's children, and
    a referee that was killed must find nobody who left before the folder was wiped.
    """
    # not at the top: the ranks are forked from this process; nor at the end: a clock may still run then
    from harness.files import remove_tree

    poll = select.poll()
    poll.register(order["lifeline_fd"], select.POLLIN)
    while not poll.poll(_REAP_EVERY_MS):
        list(_ended_children())
    kill_all(lambda: descendants(os.getpid()))
    list(_ended_children(block=True))
    with contextlib.suppress(OSError):
        remove_tree(Path(order["home"]))
    os._exit(0)


def first_process(order: dict[str, Any], control: socket.socket, go: int, refused: str) -> NoReturn:
    """Restrict this process, start the ranks, then reap and report until killed."""
    try:
        # 1. Wait until the referee holds this process: it can be killed from the first moment on.
        namespaces.die_with_parent()
        if os.read(go, 1) != b"g":
            os._exit(1)
        os.close(go)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        with contextlib.suppress(OSError):  # where memory runs out the kernel takes the cell first, not the referee
            Path("/proc/self/oom_score_adj").write_text("1000")
        # 2. Every layer that the ranks share, before any of them exists.
        layers, rules = restrict_cell(order, refused)
        control.send(json.dumps({"layers": layers, "namespaced": not refused}).encode())
        namespaces.hide_memory()
        # 3. The ranks, each of which restricts its own files.
        ranks = {
            _start_rank(order, rank, control, null, refused, rules): rank for rank in range(len(order["rank_env"]))
        }
        for pid in ranks:  # held for good: a folder that the kernel forgets and makes anew has no rule
            with contextlib.suppress(OSError):
                os.open(f"/proc/{pid}/task", os.O_PATH | os.O_CLOEXEC)
        # 4. No file and no channel for this process: it reaps and reports until it is killed.
        if rules is not None:
            landlock.restrict_self([], tcp=False)
        for descriptor in (*order["channel_fds"], order["log_fd"]):
            os.close(descriptor)
        control.send(json.dumps({"started": len(ranks)}).encode())
        _reap(control, ranks)
    except BaseException as error:
        with contextlib.suppress(OSError):
            control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"[:400]}).encode())
        os._exit(1)


def _start_rank(
    order: dict[str, Any], rank: int, control: socket.socket, null: int, refused: str, rules: Rules | None
) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if refused:
            namespaces.die_with_parent()
        os.setpgid(0, 0)
        # 1. Descriptors: nothing to read, the log, the channel; the control closes at the exec.
        log, channel = order["log_fd"], order["channel_fds"][rank]
        sources = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE) for fd in (null, log, log, channel, control.fileno())]
        for target, source in enumerate(sources):
            os.dup2(source, target, inheritable=target != CONTROL_FD)
        os.closerange(CONTROL_FD + 1, 1 << 20)
        # 2. Files: those of the rules alone, from here on.
        if rules is not None:
            landlock.restrict_self(rules, tcp=order["network"] == "loopback")
        # 3. Proof: what no cell may read is tried with the rights of the program that comes next.
        opened = []
        for name, path in order["guarded"]:
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
                opened.append((name, path))
        os.write(CONTROL_FD, json.dumps({"guarded": rank, "opened": opened}).encode())
        if opened and rules is not None:  # the referee says which; no line of the submission runs with it open
            os._exit(1)
        # 4. The submission, with an environment of named variables.
        os.chdir(order["home"])
        argv, own = order["argv"], order["rank_env"][rank]
        os.execve(argv[0], argv, order["env"] | own | {"GOLF_CHANNEL_FD": str(CHANNEL_FD)})
    except BaseException as error:
        os.write(2, f"rank {rank} could not start: {error}\n".encode())
    os._exit(127)


def _reap(control: socket.socket, ranks: dict[int, int]) -> NoReturn:
    """Reap whatever ends and report the ranks' exit codes, until killed. TERM is for the ranks; their reaper stays."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    while True:
        for pid, status in _ended_children(block=True):
            if pid in ranks:
                code = os.waitstatus_to_exitcode(status)
                control.send(json.dumps({"rank": ranks[pid], "code": code}).encode())
        signal.pause()  # there are no children, and without a namespace none will come


def _ended_children(*, block: bool = False) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, 0 if block else os.WNOHANG))[0]:
            yield ended


if __name__ == "__main__":
    main()
