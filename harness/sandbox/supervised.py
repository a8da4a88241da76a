"""The referee's hold on a launched cell: what its launcher reports, and the ways to end everything that it started.

Knows processes and descriptors; what a limit or a missing layer means is :mod:`harness.sandbox.cell`'s concern.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.sandbox import namespaces
from harness.sandbox.processes import (
    TERM_ALL,
    Ending,
    StopWatch,
    children_of_all,
    descendants,
    kill_tree,
    signal_all,
)

SUPERVISOR_LIMIT_S = 30.0
_LOOK_EVERY_MS = 1
_LAUNCHER = Path(__file__).resolve().with_name("launcher.py")
_MESSAGE_BYTES = 65536


class Supervised:
    """One launcher and all below it. Set ``namespaced`` as soon as it is known whether there is a namespace."""

    _launchers: set[int] = set()  # noqa: RUF012 - shared on purpose: cells side by side must spare each other

    def __init__(
        self, order: bytes, inherited: tuple[int, ...], log: int, control: socket.socket, lifeline: int
    ) -> None:
        """Start the launcher; ``control`` and ``lifeline`` are the referee's ends, and belong to this object now."""
        self.namespaced = False
        self._control = control
        self._lifeline = os.fdopen(lifeline, "wb")
        self._first_fd = -1
        self._older_children = set(children_of_all().get(os.getpid(), ()))
        namespaces.adopt_orphans()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_LAUNCHER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=inherited,
            start_new_session=True,
            env={"PATH": os.defpath},
        )
        self._launchers.add(self._process.pid)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(order)
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._process.pid

    def hear(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message of the launcher or the first process; ``None`` after the time or at the end."""
        poll = select.poll()
        try:
            poll.register(self._control, select.POLLIN)
        except ValueError:  # closed
            return None
        if not poll.poll(int(timeout_s * 1000)):
            return None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 4)
        except OSError:
            return None
        if descriptors:
            self._first_fd = descriptors[0]
        return json.loads(data) if data else None

    def ask_to_end(self) -> None:
        """TERM to all."""
        if self.namespaced:
            with contextlib.suppress(OSError):
                self._control.send(TERM_ALL, socket.MSG_DONTWAIT)
        else:
            signal_all(descendants(self.pid), signal.SIGTERM)

    def stop(self) -> None:
        """KILL to all, without waiting."""
        if self._first_fd < 0:
            return
        if self.namespaced:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
        else:
            signal_all(descendants(self.pid), signal.SIGKILL)

    def kill_all(self) -> Ending:
        """KILL, then the proof that nothing is left, with the times of its stop and its end."""
        self.stop()
        ending = self._await_first() if self.namespaced else kill_tree(self.pid)
        self._lifeline.close()
        try:
            self._process.wait(SUPERVISOR_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._launchers.discard(self.pid)
        return ending if self.namespaced else self._kill_strays(ending)

    def close(self) -> None:
        """Give up the descriptors; after ``kill_all``."""
        self._control.close()
        self._lifeline.close()
        if self._first_fd >= 0:
            os.close(self._first_fd)
            self._first_fd = -1

    def _await_first(self) -> Ending:
        """Wait for the first process; the kernel lets it end only after all others of its namespace are reaped.

        A process that holds a GPU or much memory takes long to be reaped: inside its exit the driver tears its context
        down, and the kernel takes back page after page. So the stop is looked for meanwhile.
        """
        poll = select.poll()
        poll.register(self._first_fd, select.POLLIN)
        watch = StopWatch()
        while not poll.poll(_LOOK_EVERY_MS):
            left = descendants(self.pid)
            watch.look(left)
            if watch.over():
                return watch.ending(left)
        return watch.ending()

    def _kill_strays(self, ending: Ending) -> Ending:
        """Without a namespace a cell can kill its supervisor; what it left then comes to the referee as a child."""
        watch = StopWatch()
        while strays := [
            pid
            for pid in children_of_all().get(os.getpid(), ())
            if pid not in self._older_children and pid not in self._launchers
        ]:
            if watch.over():
                return StopWatch().ending(strays, ending.survivors)
            for pid in strays:
                kill_tree(pid)
            signal_all(strays, signal.SIGKILL)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            watch.look(strays)
            ending = StopWatch().ending(survivors=ending.survivors)
        return ending
