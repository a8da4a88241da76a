"""A cell: the sandboxed processes of one phase, from their start to the proof that none is left.

Covered: what the policy grants and nothing else; a kill that reaches whatever the phase started, forked twice, in a
session of its own, deaf to TERM, busy or stopped. Not covered: what a GPU does on its own, and a kernel with holes
(``harness/SECURITY.md``). Which layers held is in ``Cell.layers``, layer by layer.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import CouldNotCheck, RuleBroken
from harness.files import remove_tree
from harness.protocol.channel import Channel
from harness.sandbox.layers import Layer, LayerState
from harness.sandbox.policy import refuse_low_limits
from harness.sandbox.private_root import SHARED_MEMORY
from harness.sandbox.processes import StopWatch
from harness.sandbox.spec import CellSpec, KillReport, launcher_order
from harness.sandbox.supervised import Supervised

S1_ISOLATION = "S1-ISOLATION"
START_LIMIT_S = 30.0
GRACE_S = 0.03
LIMIT = "the limit"
"""Why an armed cell was killed."""
_KILLED = -int(signal.SIGKILL)


class Cell:
    """The processes of one phase. Use as a context manager; leaving it kills whatever is left and wipes its folder.

    home:   the private temporary folder, HOME and TMPDIR of the cell, from the start of the ``with`` block on
    strict: raise ``RuleBroken`` S1-ISOLATION from ``start`` when a layer is missing on this machine.
    """

    def __init__(self, spec: CellSpec, *, strict: bool) -> None:
        if strict and not spec.namespaces:
            raise ValueError("a strict cell leaves no layer off.")
        self.spec = spec
        self.layers: dict[Layer, LayerState] = {}
        self.channels: list[Channel] = []
        self.home: Path
        self._strict = strict
        self._supervised: Supervised | None = None
        self._codes: list[int | None] = [None] * len(spec.rank_env)
        self._opened: dict[int, list[tuple[str, str]]] = {}
        self._report: KillReport | None = None
        self._lock = threading.RLock()  # a clock may kill while the referee asks for exit codes

    def __enter__(self) -> Cell:
        policy = self.spec.policy
        refuse_low_limits(policy)
        for path in (Path(tempfile.gettempdir()), *policy.read, *policy.write):  # it has a /dev/shm of its own
            if self.spec.namespaces and SHARED_MEMORY in path.resolve().parents:
                raise CouldNotCheck(
                    f"{self.spec.name}: {path} lies in the machine's {SHARED_MEMORY}; a cell sees its own only.",
                    remedy="Set TMPDIR, or the GOLF_… variable of that folder, to a place elsewhere.",
                )
        self.home = Path(tempfile.mkdtemp(prefix="golf-cell-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.kill("the cell was left")
        finally:
            for channel in self.channels:
                channel.close()
            if self._supervised is not None:
                self._supervised.close()
            with contextlib.suppress(OSError):
                remove_tree(self.home)

    @property
    def namespaced(self) -> bool:
        """Whether the cell has a PID namespace, whose end is the end of everything in it."""
        return self._supervised is not None and self._supervised.namespaced

    def start(self) -> None:
        """Start every rank behind its layers [S1-ISOLATION].

        Raises ``CouldNotCheck`` when the cell cannot be started, and ``RuleBroken`` (strict) for a missing layer.
        """
        self._await_start(self._launch())
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
            while self._supervised is not None and (message := self._supervised.hear(0.0)) is not None:
                self._note(message)
            return list(self._codes)

    def stop(self) -> None:
        """Send KILL to everything in the cell without waiting: no instruction of it runs on after its clock."""
        if self._supervised is not None:
            self._supervised.stop()

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
                self.kill(LIMIT, deadline_ns)

        thread = threading.Thread(target=watch, name=f"clock of {self.spec.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def kill(self, reason: str, deadline_ns: int | None = None) -> KillReport:
        """End everything in the cell and wait until it is dead [S2-NO-SURVIVORS]; a second call gives the first report.

        deadline_ns: monotonic time of the limit that was missed; then TERM and a grace of 30 ms come before KILL.
        """
        with self._lock:
            if self._report is not None:
                return self._report
            since_ns = time.monotonic_ns() if deadline_ns is None else deadline_ns
            self.exit_codes()  # hears all that was said: how to kill follows from it
            ending = StopWatch().ending()
            if self._supervised is not None:
                if deadline_ns is not None:
                    self._supervised.ask_to_end()
                    while None in self.exit_codes() and time.monotonic() < deadline_ns / 1e9 + GRACE_S:
                        time.sleep(0.002)
                ending = self._supervised.kill_all()
                self._codes = [_KILLED if code is None else code for code in self.exit_codes()]
            method = "PID namespace" if self.namespaced else "subreaper and /proc walk"
            stopped_ns, ended_ns = (max(0, at_ns - since_ns) for at_ns in (ending.stopped_ns, ending.ended_ns))
            self._report = KillReport(reason, ended_ns, ending.survivors, method, stopped_ns)
            return self._report

    def _launch(self) -> Supervised:
        ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline_reader, lifeline = os.pipe()
        ends = []
        for _ in self.spec.rank_env:
            channel, end = Channel.pair()
            self.channels.append(channel)
            ends.append(end)
        log = _open_nameless(self.spec.log_file)
        given = (control.fileno(), lifeline_reader, log, *(end.fileno() for end in ends))
        try:
            self._supervised = Supervised(launcher_order(self.spec, self.home, given), given, log, ours, lifeline)
            return self._supervised
        finally:
            control.close()
            os.close(lifeline_reader)
            os.close(log)
            for end in ends:
                end.close()

    def _await_start(self, supervised: Supervised) -> None:
        until, started = time.monotonic() + START_LIMIT_S, False
        while True:
            message = supervised.hear(max(0.0, until - time.monotonic()))
            if message is None or "failed" in message:
                why = message["failed"] if message else "its launcher ended or did not answer"
                raise CouldNotCheck(
                    f"{self.spec.name}: the sandbox could not be started: {why}.",
                    remedy=f"`harness doctor` tries each layer; see also {self.spec.log_file}.",
                )
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
        if opened and self.layers[Layer.LANDLOCK].in_force:
            name, path = opened[0]
            raise CouldNotCheck(
                f"{self.spec.name}: a cell could open {path} of {name}, though nothing grants it that.",
                remedy=f"Move the folder of {name} (GOLF_{name.upper()}_DIR) to a place that no cell reads.",
            )
        files = sum(len(paths) for paths in guarded.values())
        names = ", ".join(sorted(guarded))
        tried = f"each rank tried to open {files} files and folders of {names}"
        found = ", ".join(sorted({name for name, _ in opened}))  # no paths: the record holds these words
        ended = f"some of {found} opened" if opened else "all refused"
        self.layers[Layer.GUARDED] = LayerState(not opened, f"{tried}: {ended}")

    def _note(self, message: dict[str, Any]) -> None:
        if "layers" in message:
            self.layers = {Layer(name): LayerState(*state) for name, state in message["layers"].items()} | {
                Layer.DESCRIPTORS: LayerState(True, "all but the channel are closed"),
                Layer.ENVIRONMENT: LayerState(True, "an allow-list"),
            }
            if self._supervised is not None:
                self._supervised.namespaced = message["namespaced"]
        elif "guarded" in message:
            self._opened[message["guarded"]] = message["opened"]
        elif "rank" in message:
            self._codes[message["rank"]] = int(message["code"])


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
