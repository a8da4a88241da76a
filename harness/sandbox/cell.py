"""A cell: the sandboxed processes of one phase, from their start to the proof that none is left.

Covered: what the policy grants and nothing else; a kill that reaches whatever the phase started, forked twice, in a
session of its own, deaf to TERM, busy or stopped. Not covered: what a GPU does on its own, and a kernel with holes
(``harness/SECURITY.md``). Which layers held is in ``Cell.layers``, layer by layer.
"""

import contextlib
import json
import os
import secrets
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
from typing import IO, Any, Self

from harness.errors import CouldNotCheck, RuleBroken
from harness.files import remove_tree
from harness.protocol.messages import Channel
from harness.sandbox import namespaces, policy
from harness.sandbox.layers import Layer, LayerState
from harness.sandbox.namespaces import SHARED_MEMORY
from harness.sandbox.policy import SandboxPolicy
from harness.sandbox.processes import KillReport, children_of_all, descendants, kill_all, signal_all

S1_ISOLATION = "S1-ISOLATION"
START_LIMIT_S = 30.0
GRACE_S = 0.03
SUPERVISOR_LIMIT_S = 30.0
_KILLED = -int(signal.SIGKILL)
_LAUNCHER = Path(__file__).resolve().with_name("launcher.py")
_MESSAGE_BYTES = 65536


@dataclass(frozen=True)
class CellSpec:
    """One cell to be started.

    argv, env:  command and environment of every rank; rank_env: what each rank has beyond that, one mapping a rank
    log_file:   takes standard output and error of all ranks; one that is there is set aside
    namespaces: ``False`` for a cell as on a kernel that refuses them; a strict one has them where they can be had
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    rank_env: tuple[Mapping[str, str], ...]
    policy: SandboxPolicy
    log_file: Path
    namespaces: bool = True


class Cell:
    """The processes of one phase. Use as a context manager; leaving it kills whatever is left and wipes its folder.

    namespaced: whether it has a PID namespace, whose end is the end of everything in it
    home:   the private temporary folder, HOME and TMPDIR of the cell, from the start of the ``with`` block on
    strict: raise ``RuleBroken`` S1-ISOLATION from ``start`` when a layer is missing on this machine.
    """

    _launchers: set[int] = set()  # noqa: RUF012 - shared on purpose: cells side by side must spare each other

    def __init__(self, spec: CellSpec, *, strict: bool) -> None:
        if strict and not spec.namespaces:
            raise ValueError("a strict cell leaves no layer off.")
        self.spec = spec
        self.layers: dict[Layer, LayerState] = {}
        self.channels: list[Channel] = []
        self.home: Path
        self.namespaced = False
        self._strict = strict
        self._launcher: subprocess.Popen[bytes] | None = None
        self._control: socket.socket
        self._lifeline: IO[bytes]
        self._first_fd = -1  # of the first process, as soon as it is there
        self._held = contextlib.ExitStack()  # descriptors, to be closed at the end
        self._older_children: set[int] = set()
        self._strays: set[int] = set()
        self._codes: list[int | None] = [None] * len(spec.rank_env)
        self._opened: dict[int, list[tuple[str, str]]] = {}
        self._report: KillReport | None = None
        self._lock = threading.RLock()  # a clock may kill while the referee asks for exit codes

    def __enter__(self) -> Self:
        granted = self.spec.policy
        policy.refuse_low_limits(granted)
        held = (Path(tempfile.gettempdir()), *filter(None, [granted.copies]), *granted.read, *granted.write)
        for path in held:  # it has a /dev/shm of its own
            if self.spec.namespaces and SHARED_MEMORY in path.resolve().parents:
                text = f"{self.spec.name}: {path} lies in the machine's {SHARED_MEMORY}; a cell sees its own only."
                remedy = "Set TMPDIR, or the GOLF_… variable of that folder, to a place elsewhere."
                raise CouldNotCheck(text, remedy=remedy)
        self.home = Path(tempfile.mkdtemp(prefix="golf-cell-")).resolve()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.kill()
        finally:
            self._first_fd = -1
            self._held.close()
            with contextlib.suppress(OSError):
                remove_tree(self.home)

    def start(self) -> None:
        """Start every rank behind its layers [S1-ISOLATION].

        Raises ``CouldNotCheck`` when the cell cannot be started, and ``RuleBroken`` (strict) for a missing layer.
        """
        self._launch()
        self._await_start()
        missing = {layer: state for layer, state in self.layers.items() if not state.in_force}
        if missing and self._strict:
            raise RuleBroken(
                S1_ISOLATION,
                f"{self.spec.name}: this machine lacks {'; '.join(f'{k} ({v})' for k, v in sorted(missing.items()))}.",
                remedy="`harness doctor` names what provides it; the smoke track runs without, with a warning.",
            )

    def exit_codes(self) -> list[int | None]:
        """Exit code of each rank as far as it ended; -N for one that signal N ended."""
        with self._lock:
            while self._launcher is not None and (message := self._hear(0.0)) is not None:
                self._note(message)
            return list(self._codes)

    def stop(self) -> None:
        """Send KILL to everything in the cell without waiting: no instruction of it runs on after its clock."""
        if self.namespaced:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
        elif self._launcher is not None:
            signal_all(self._living(), signal.SIGKILL)

    @contextmanager
    def armed(self, deadline_ns: int) -> Iterator[None]:
        """Kill everything at the deadline by a clock of its own, also when the referee is busy elsewhere then.

        The block sees closed channels from then on, and ``kill`` gives the report.
        """
        over = threading.Event()

        def watch() -> None:
            with contextlib.suppress(OSError):  # a busy machine must not delay the clock; not every user may ask for it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
            if not over.wait(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)):
                self.kill(deadline_ns)

        thread = threading.Thread(target=watch, name=f"clock of {self.spec.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def kill(self, deadline_ns: int | None = None) -> KillReport:
        """End everything in the cell and wait until it is dead [S2-NO-SURVIVORS]; a second call gives the first report.

        deadline_ns: monotonic time of the limit that was missed; then TERM and a grace of 30 ms come before KILL.
        """
        with self._lock:
            if self._report is not None:
                return self._report
            self.exit_codes()  # hears all that was said: how to kill follows from it
            launcher = self._launcher
            if launcher is not None and deadline_ns is not None:
                signal_all(self._living(), signal.SIGTERM)
                while None in self.exit_codes() and time.monotonic() < deadline_ns / 1e9 + GRACE_S:
                    time.sleep(0.002)
            # the proof that nothing is left: the first process of a namespace ends only after all others are reaped
            self.stop()
            self._report = kill_all(self._living, deadline_ns)
            if launcher is not None:
                self._lifeline.close()
                try:
                    launcher.wait(SUPERVISOR_LIMIT_S)
                except subprocess.TimeoutExpired:
                    launcher.kill()
                    launcher.wait()
                self._launchers.discard(launcher.pid)
                for pid in self._strays:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                self._codes = [_KILLED if code is None else code for code in self.exit_codes()]
            return self._report

    def _launch(self) -> None:
        with contextlib.ExitStack() as theirs:  # the launcher's ends, closed here as soon as it has them
            self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.enter_context(control)
            lifeline_reader, lifeline = os.pipe()
            self._lifeline = self._held.enter_context(os.fdopen(lifeline, "wb"))
            self._held.enter_context(self._control)
            theirs.callback(os.close, lifeline_reader)
            log = _open_nameless(self.spec.log_file)
            theirs.callback(os.close, log)
            given = [control.fileno(), lifeline_reader, log]
            for _ in self.spec.rank_env:
                channel, end = Channel.pair()
                self._held.callback(channel.close)
                self.channels.append(channel)
                given.append(theirs.enter_context(end).fileno())
            order = self._order(given)
            self._older_children = set(children_of_all().get(os.getpid(), ()))
            namespaces.adopt_orphans()
            self._launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(_LAUNCHER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=given,
                start_new_session=True,
                env={"PATH": os.defpath},
            )
            self._launchers.add(self._launcher.pid)
            assert self._launcher.stdin is not None
            # Its end comes also when Ctrl-C cuts the writing short: a launcher that waits for it answers to nothing.
            with contextlib.suppress(BrokenPipeError), self._launcher.stdin as orders:
                orders.write(order)

    def _order(self, descriptors: list[int]) -> bytes:
        """All that the launcher needs to know, as JSON; its descriptors: for control, life, log, and each rank."""
        spec, granted = self.spec, self.spec.policy
        control, lifeline, log, *channels = descriptors
        order = {
            "control_fd": control,
            "lifeline_fd": lifeline,
            "log_fd": log,
            "channel_fds": channels,
            "namespaces": spec.namespaces,
            "argv": spec.argv,
            "env": policy.cell_environment(self.home, bool(granted.devices)) | dict(spec.env),
            "rank_env": [dict(env) for env in spec.rank_env],
            "home": str(self.home),
            "fresh": [str(self.home)] if granted.packages is not None else [],
            "network": granted.network,
            "cores": granted.cores,
            "gpus": bool(granted.devices),
            "rules": policy.landlock_rules(granted, self.home),
            "mounts": policy.mounts(granted),
            "copies": [(str(what), str(where)) for part in granted.runtime for what, where in part.copies],
            "covered": policy.covered(granted),
            "guarded": [(name, str(path.resolve())) for name, paths in granted.guarded.items() for path in paths],
            "limits": policy.resource_limits(granted),
        }
        return json.dumps(order).encode()

    def _await_start(self) -> None:
        until, started = time.monotonic() + START_LIMIT_S, False
        while True:
            message = self._hear(max(0.0, until - time.monotonic()))
            if message is None or "failed" in message:
                why = message["failed"] if message else "its launcher ended or did not answer"
                text = f"{self.spec.name}: the sandbox could not be started: {why}."
                raise CouldNotCheck(text, remedy=f"`harness doctor` tries each layer; see also {self.spec.log_file}.")
            self._note(message)
            started |= "started" in message
            tried = sum(rank in self._opened or code is not None for rank, code in enumerate(self._codes))
            if started and tried == len(self._codes):
                return self._judge_guarded()

    def _judge_guarded(self) -> None:
        """The layer of what no cell may read, by what the ranks could open. Raises ``CouldNotCheck`` for a hole."""
        guarded = self.spec.policy.guarded
        if not guarded:
            return
        opened = [place for places in self._opened.values() for place in places]
        if opened and self.layers[Layer.LANDLOCK].in_force:  # what the rules say decides; a rank with a hole ended
            name, path = opened[0]
            readable = {Path(place).resolve(): place for place, _ in policy.landlock_rules(self.spec.policy, self.home)}
            within = next((readable[at] for at in (Path(path), *Path(path).parents) if at in readable), "")
            whose = f"lies in {within}, which every" if within else "is granted to nobody, and a"
            raise CouldNotCheck(
                f"{self.spec.name}: {path} ({name}) {whose} cell may read.",
                remedy="Move one of them, or uninstall the package. GOLF_CACHE_DIR, GOLF_KEYS_DIR, GOLF_RECORDS_DIR, "
                "GOLF_RUNS_DIR and HOME name what no cell may read; LD_LIBRARY_PATH and the Python installation what "
                "each may.",
            )
        files = sum(len(paths) for paths in guarded.values())
        names = ", ".join(sorted(guarded))
        tried = f"each rank tried to open {files} files and folders of {names}"
        found = ", ".join(sorted({name for name, _ in opened}))  # no paths: the record holds these words
        ended = f"some of {found} opened" if opened else "all refused"
        self.layers[Layer.GUARDED] = LayerState(not opened, f"{tried}: {ended}")

    def _note(self, message: dict[str, Any]) -> None:
        if "layers" in message:
            self.layers = {Layer(name): LayerState(*state) for name, state in message["layers"].items()}
            self.namespaced = message["namespaced"]
        elif "first" in message:  # it is the referee's child once somebody outside has killed its supervisor
            self._strays.add(message["first"])
        elif "guarded" in message:
            self._opened[message["guarded"]] = message["opened"]
        elif "rank" in message:
            self._codes[message["rank"]] = int(message["code"])

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message of the launcher or the first process; ``None`` after the time or at the end."""
        try:
            self._control.settimeout(timeout_s)
            data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 4)
        except OSError:  # nothing came, or it is closed
            return None
        if descriptors:
            self._first_fd = descriptors[0]
            self._held.callback(os.close, descriptors[0])
        return json.loads(data) if data else None

    def _living(self) -> list[int]:
        """Everything of the cell that lives.

        Without a namespace a cell can kill its supervisor; what it left then comes to the referee as a child.
        """
        if self._launcher is None:
            return []
        children = children_of_all()
        if not self.namespaced:
            self._strays |= {*children.get(os.getpid(), ())} - self._older_children - self._launchers
        strays = self._strays.intersection(children.get(os.getpid(), ()))
        return [*strays, *descendants(self._launcher.pid, *strays, children=children)]


def _open_nameless(log: Path) -> int:
    """A new log, to be appended to, under a name that tells a cell nothing: a replica's is not the final cell's.

    An earlier try's is set aside: its size, and where it has holes, would tell this cell what that one has seen. The
    name that was opened is taken away, and the file gets its own name as another one. Where links can't be made it
    keeps the one it has, and a cell can tell.
    """
    passing = log.with_name(f".{secrets.token_hex(8)}")
    opened = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if log.exists():
        log.rename(log.with_name(f"{log.name}.{len(list(log.parent.glob(f'{log.name}*')))}"))
    try:
        os.link(passing, log)
    except OSError:
        passing.rename(log)
    else:
        passing.unlink()
    return opened
