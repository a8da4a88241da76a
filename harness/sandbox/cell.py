"""A cell: the sandboxed processes of one phase, from their start to the proof that none is left.

Covered: what the policy grants and nothing else; a kill that reaches whatever the phase started, forked twice, in a
session of its own, deaf to TERM, busy or stopped. Not covered: what a GPU does on its own, and a kernel with holes
(``harness/SECURITY.md``). Which layers held is in ``Cell.layers``, layer by layer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import CouldNotCheck, RuleBroken
from harness.protocol.channel import Channel
from harness.sandbox import namespaces
from harness.sandbox.policy import STRICT, Relaxation, SandboxPolicy, cell_environment, landlock_rules, resource_limits
from harness.sandbox.processes import TERM_ALL, children_of_all, descendants, kill_tree, signal_all

S1_ISOLATION = "S1-ISOLATION"
IN_FORCE = "in force"
START_LIMIT_S = 30.0
GRACE_S = 0.03
DEATH_LIMIT_S = 5.0
_LAUNCHER = Path(__file__).resolve().with_name("launcher.py")
_MESSAGE_BYTES = 65536
_KILLED = -int(signal.SIGKILL)


@dataclass(frozen=True)
class CellSpec:
    """One cell to be started.

    argv, env: command and environment of every rank; rank_env: what each rank has beyond that, one mapping a rank
    log_file:  takes standard output and error of all ranks, appended
    relaxed:   what is left off to find a fault; a strict cell does not start with anything left off
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    rank_env: tuple[Mapping[str, str], ...]
    policy: SandboxPolicy
    log_file: Path
    relaxed: Relaxation = STRICT


@dataclass(frozen=True)
class KillReport:
    """How a cell ended.

    overshoot_ns: from the deadline (without one: from the call) until the last process was dead
    survivors:    processes still alive when the referee gave up waiting; 0 is the only good number
    method:       "PID namespace", or "subreaper and /proc walk"
    """

    reason: str
    overshoot_ns: int
    survivors: int
    method: str


class Cell:
    """The processes of one phase. Use as a context manager; leaving it kills whatever is left and wipes its folder.

    strict: raise ``RuleBroken`` S1-ISOLATION from ``start`` when a layer is missing on this machine.
    """

    _launchers: set[int] = set()  # noqa: RUF012 - shared on purpose: cells side by side must spare each other

    def __init__(self, spec: CellSpec, *, strict: bool, namespaced: bool = True) -> None:
        self.spec = spec
        self.layers: dict[str, str] = {}
        self.channels: list[Channel] = []
        self._strict = strict
        self._namespaced = namespaced
        self._home: Path | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lifeline = -1
        self._first_fd = -1
        self._codes: list[int | None] = [None] * len(spec.rank_env)
        self._older_children: set[int] = set()
        self._report: KillReport | None = None
        self._lock = threading.RLock()  # a clock may kill while the referee asks for exit codes

    def __enter__(self) -> Cell:
        self._home = Path(tempfile.mkdtemp(prefix="golf-cell-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.kill("the cell was left")
        finally:
            for channel in self.channels:
                channel.close()
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._first_fd >= 0:
                os.close(self._first_fd)
                self._first_fd = -1
            if self._home is not None:
                shutil.rmtree(self._home, ignore_errors=True)

    @property
    def home(self) -> Path:
        """The private temporary folder, HOME and TMPDIR of the cell."""
        if self._home is None:
            raise RuntimeError("a cell is used inside its with block.")
        return self._home

    def start(self) -> None:
        """Start every rank behind its layers.

        Raises ``CouldNotCheck`` when the cell cannot be started, and ``RuleBroken`` (strict) for a missing layer.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        lifeline_reader, self._lifeline = os.pipe()
        worker_ends = []
        for _ in self.spec.rank_env:
            channel, end = Channel.pair()
            self.channels.append(channel)
            worker_ends.append(end)
        log = os.open(self.spec.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        inherited = [theirs.fileno(), lifeline_reader, log, *(end.fileno() for end in worker_ends)]
        order = self._order(theirs.fileno(), lifeline_reader, log, [end.fileno() for end in worker_ends])
        self._older_children = set(children_of_all().get(os.getpid(), ()))
        try:
            self._launch(order, inherited)
        finally:
            theirs.close()
            os.close(lifeline_reader)
            os.close(log)
            for end in worker_ends:
                end.close()
        self._await_start()
        missing = {layer: state for layer, state in self.layers.items() if not state.startswith(IN_FORCE)}
        if missing and self._strict:
            raise RuleBroken(
                S1_ISOLATION,
                f"{self.spec.name}: this machine lacks {'; '.join(f'{k} ({v})' for k, v in sorted(missing.items()))}.",
                remedy="`harness doctor` names what provides it; the smoke track runs without, with a warning.",
            )

    def exit_codes(self) -> list[int | None]:
        """Exit code of each rank as far as it ended; -N for one that signal N ended."""
        with self._lock:
            while self._control is not None:
                message = self._hear(0.0)
                if message is None:
                    break
                self._note(message)
            return list(self._codes)

    def stop(self) -> None:
        """Send KILL to everything in the cell without waiting: no instruction of it runs on after its clock."""
        if self._first_fd < 0:
            return
        if self._in_namespace():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
        elif self._supervisor is not None:
            signal_all(descendants(self._supervisor.pid), signal.SIGKILL)

    @contextmanager
    def armed(self, deadline_ns: int) -> Iterator[None]:
        """Kill everything at the deadline by a clock of its own, also when the referee is busy elsewhere then.

        The block sees closed channels from then on, and ``kill`` gives the report.
        """
        over = threading.Event()

        def watch() -> None:
            if not over.wait(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)):
                self.kill("the limit", deadline_ns)

        thread = threading.Thread(target=watch, name=f"clock of {self.spec.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def kill(self, reason: str, deadline_ns: int | None = None) -> KillReport:
        """End everything in the cell and wait until it is dead; a second call gives the first report again.

        deadline_ns: monotonic time of the limit that was missed; then TERM and a grace of 30 ms come before KILL.
        """
        with self._lock:
            if self._report is None:
                self._report = self._kill(reason, deadline_ns)
            return self._report

    def _kill(self, reason: str, deadline_ns: int | None) -> KillReport:
        since_ns = time.monotonic_ns() if deadline_ns is None else deadline_ns
        self.exit_codes()
        survivors, ended_ns = 0, time.monotonic_ns()
        if self._supervisor is not None:
            if deadline_ns is not None:
                self._ask_to_end()
            survivors, ended_ns = self._kill_all(self._supervisor)
        method = "PID namespace" if self._in_namespace() else "subreaper and /proc walk"
        self.exit_codes()
        self._codes = [_KILLED if code is None and self._supervisor is not None else code for code in self._codes]
        return KillReport(reason, max(0, ended_ns - since_ns), survivors, method)

    def _order(self, control: int, lifeline: int, log: int, channels: list[int]) -> bytes:
        spec, relaxed = self.spec, self.spec.relaxed
        own = cell_environment(self.home)
        environment = dict(os.environ) | own if "environment" in relaxed.layers else own
        order: dict[str, Any] = {
            "control_fd": control,
            "lifeline_fd": lifeline,
            "log_fd": log,
            "channel_fds": channels,
            "namespaces": self._namespaced and "namespaces" not in relaxed.layers,
            "argv": list(spec.argv),
            "env": environment | dict(spec.env),
            "rank_env": [dict(env) for env in spec.rank_env],
            "home": str(self.home),
            "loopback": spec.policy.network == "loopback",
            "gpus": bool(spec.policy.devices),
            "layers_off": sorted(relaxed.layers),
            "relaxed_paths": relaxed.paths,
            "relaxed_calls": sorted(relaxed.calls),
            "rules": landlock_rules(spec.policy, self.home),
            "limits": resource_limits(spec.policy),
        }
        return json.dumps(order).encode()

    def _launch(self, order: bytes, inherited: list[int]) -> None:
        namespaces.adopt_orphans()
        command = [sys.executable, "-I", "-S", "-B", str(_LAUNCHER)]
        self._supervisor = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=inherited[2],
            pass_fds=inherited,
            start_new_session=True,
            env={"PATH": os.defpath},
        )
        self._launchers.add(self._supervisor.pid)
        assert self._supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._supervisor.stdin.write(order)
            self._supervisor.stdin.close()

    def _await_start(self) -> None:
        until = time.monotonic() + START_LIMIT_S
        while True:
            message = self._hear(max(0.0, until - time.monotonic()))
            if message is None or "failed" in message:
                why = message["failed"] if message else "its launcher ended or did not answer"
                raise CouldNotCheck(
                    f"{self.spec.name}: the sandbox could not be started: {why}.",
                    remedy=f"`harness doctor` tries each layer; see also {self.spec.log_file}.",
                )
            self._note(message)
            if "started" in message:
                return

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message of the launcher or the first process; ``None`` after the time or at the end."""
        assert self._control is not None
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if not poll.poll(int(timeout_s * 1000)):
            return None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 4)
        except OSError:
            return None
        if descriptors:
            self._first_fd = descriptors[0]
        return json.loads(data) if data else None

    def _note(self, message: dict[str, Any]) -> None:
        if "layers" in message:
            self.layers = dict(message["layers"]) | {
                "descriptors": "in force: all but the channel are closed",
                "environment": "in force: an allow-list",
                "private_tmp": "in force: wiped at the end",
            }
        elif "rank" in message:
            self._codes[message["rank"]] = int(message["code"])

    def _in_namespace(self) -> bool:
        return self.layers.get("hard_kill", "").startswith("in force: PID namespace")

    def _ask_to_end(self) -> None:
        """TERM to all, then the grace, cut short when all are gone."""
        assert self._control is not None
        assert self._supervisor is not None
        if self._in_namespace():
            with contextlib.suppress(OSError):
                self._control.send(TERM_ALL, socket.MSG_DONTWAIT)
        else:
            signal_all(descendants(self._supervisor.pid), signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while None in self.exit_codes() and time.monotonic() < until:
            time.sleep(0.002)

    def _kill_all(self, supervisor: subprocess.Popen[bytes]) -> tuple[int, int]:
        """KILL, then the proof: the number of survivors, and when the last process was seen dead."""
        self.stop()
        if self._in_namespace():
            dead = self._await_first()
            survivors = 0 if dead else len(descendants(supervisor.pid))
        else:
            survivors = kill_tree(supervisor.pid)
        ended_ns = time.monotonic_ns()
        self._cut_lifeline()
        try:
            supervisor.wait(DEATH_LIMIT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        self._launchers.discard(supervisor.pid)
        strays = self._kill_strays()
        return survivors + strays, time.monotonic_ns() if strays else ended_ns

    def _await_first(self) -> bool:
        """Whether the first process ended in time; the kernel lets it end only after all others of its namespace."""
        poll = select.poll()
        poll.register(self._first_fd, select.POLLIN)
        return bool(poll.poll(int(DEATH_LIMIT_S * 1000)))

    def _kill_strays(self) -> int:
        """Without a namespace a cell can kill its supervisor; what it left then comes to the referee as a child."""
        if self._in_namespace():
            return 0
        until = time.monotonic() + DEATH_LIMIT_S
        while strays := [
            pid
            for pid in children_of_all().get(os.getpid(), ())
            if pid not in self._older_children and pid not in self._launchers
        ]:
            if time.monotonic() > until:
                return len(strays)
            for pid in strays:
                kill_tree(pid)
            signal_all(strays, signal.SIGKILL)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        return 0

    def _cut_lifeline(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
