"""The hard kill: whatever a phase started is dead when the referee says so, and also when the referee itself is."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cells import living, running, spec, wait_for, ways

from harness.errors import RuleBroken
from harness.sandbox import cell as cell_module
from harness.sandbox import processes
from harness.sandbox.cell import Cell
from harness.sandbox.processes import descendants

HEAD = "import os, signal, sys, time\nsleep = lambda: [time.sleep(1) for _ in range(600)]\n"
DEFIANT = {
    "forked": "os.fork() or sleep()\nsleep()",
    "forked twice, parent gone": "if os.fork() == 0:\n    if os.fork(): os._exit(0)\n    sleep()\nsleep()",
    "a session of its own": "if os.fork() == 0:\n    os.setsid(); sleep()\nsleep()",
    "a daemon": (
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n    os.closerange(0, 9); sleep()\nsleep()"
    ),
    "deaf to TERM": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork()\nsleep()",
    "busy": "os.fork()\nwhile True: pass",
    "stopped": "if os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)\nos.fork(); sleep()",
    "forks when told to end": (
        "signal.signal(signal.SIGTERM, lambda *_: [os.fork() for _ in range(4)] and sleep())\nsleep()"
    ),
    "forks all the time": (
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n"
        "    if os.fork() == 0:\n        time.sleep(0.05); os.setsid()\n"
        "    else:\n        time.sleep(0.05); os._exit(0)"
    ),
    "many threads": (
        "import threading\nthreading.stack_size(1 << 18)\nos.fork()\n"
        "for _ in range(200): threading.Thread(target=sleep).start()"
    ),
    "first thread gone": (
        "import ctypes, threading\nos.fork()\nthreading.Thread(target=sleep).start()\n"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)"
    ),
}


def marked(program: str) -> tuple[str, str]:
    """The program with a mark in its command line, by which its processes can be found from outside."""
    mark = f"golf-mark-{os.getpid()}-{random.getrandbits(48):x}"
    return f"{HEAD}{program}\n# {mark}", mark


@ways
@pytest.mark.rule("S2-NO-SURVIVORS")
@pytest.mark.parametrize("name", DEFIANT)
def test_nothing_survives_the_kill(name: str, namespaced: bool, tmp_path: Path):
    program, mark = marked(DEFIANT[name])
    with running(program, tmp_path / "log", namespaced=namespaced) as cell:
        wait_for(lambda: living(mark))
        time.sleep(0.15)
        report = cell.kill(time.monotonic_ns())
        assert living(mark) == []
        assert report.survivors == 0
        how = cell.layers["hard_kill"].how
        assert how.startswith("PID namespace" if namespaced else "subreaper and /proc walk")
        assert 0 < report.stopped_ns <= report.overshoot_ns


@ways
def test_term_comes_first_and_a_second_kill_gives_the_first_report(namespaced: bool, tmp_path: Path):
    """The deadline lies ahead, so that on a busy machine, too, the process gets to run before the grace is over."""
    answer = "lambda *_: os.write(1, b'goodbye') and os._exit(0)"
    program = f"{HEAD}signal.signal(signal.SIGTERM, {answer})\nprint('ready', flush=True)\nsleep()"
    log = tmp_path / "log"
    with running(program, log, namespaced=namespaced) as cell:
        wait_for(lambda: "ready" in log.read_text())
        first = cell.kill(time.monotonic_ns() + 20 * 10**9)
        assert cell.exit_codes() == [0]
        assert cell.kill() is first
    assert "goodbye" in log.read_text()


@ways
def test_a_phase_that_is_over_gets_no_grace(namespaced: bool, tmp_path: Path):
    program, mark = marked(
        "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'one more thing'))\nprint('ready', flush=True)\nsleep()"
    )
    with running(program, tmp_path / "log", namespaced=namespaced) as cell:
        wait_for(lambda: "ready" in (tmp_path / "log").read_text())
        cell.stop()
        wait_for(lambda: not living(mark))
    assert "one more" not in (tmp_path / "log").read_text()


HOLDS_A_NAMESPACE = """
import ctypes, os, sys, time
NEWUSER, NEWPID = 0x10000000, 0x20000000
if ctypes.CDLL(None, use_errno=True).setns(os.pidfd_open(int(sys.argv[1])), NEWUSER | NEWPID):
    sys.exit(os.strerror(ctypes.get_errno()))
child = os.fork()
if child == 0:
    time.sleep(600)
print("inside", flush=True)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
time.sleep(3)
os.waitpid(child, 0)
"""


@pytest.mark.rule("S2-NO-SURVIVORS")
def test_an_end_that_is_slow_in_the_kernel_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel holds the first process in its exit while a dead process of the namespace is not reaped.

    So does a large memory, or a driver; here somebody outside holds a process for a while.
    """
    monkeypatch.setattr(processes, "STOP_LIMIT_S", 2.0)
    program, mark = marked("sleep()")
    with running(program, tmp_path / "log") as cell:
        if not cell.namespaced:
            pytest.skip(
                "needs a PID namespace, which this kernel refuses this user; the subreaper case runs everywhere"
            )
        (rank,) = wait_for(lambda: living(mark))
        command = [sys.executable, "-I", "-S", "-c", HOLDS_A_NAMESPACE, str(rank)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "inside\n"
            report = cell.kill()
            assert descendants(cell._launcher.pid) == []
        assert living(mark) == []
        assert report.survivors == 0
        assert report.stopped_ns < report.overshoot_ns


@pytest.mark.parametrize("name", ["a daemon", "deaf to TERM", "forked twice, parent gone"])
def test_a_cell_without_a_namespace_cannot_outlive_its_supervisor(name: str, tmp_path: Path):
    """The same user may kill a supervisor from outside; what it left behind is found all the same."""
    program, mark = marked(DEFIANT[name])
    with running(program, tmp_path / "log", namespaced=False) as cell:
        wait_for(lambda: living(mark))
        time.sleep(0.15)
        os.kill(cell._launcher.pid, signal.SIGKILL)
        report = cell.kill(time.monotonic_ns())
        assert report.survivors == 0
        assert wait_for(lambda: living(mark) == [])


REFEREE = """
import sys, time
sys.path[:0] = [{root!r}, {support!r}]
from pathlib import Path
from cells import running
with running({program!r}, Path({log!r}), namespaced={namespaced}) as cell:
    print(cell.home, flush=True)
    time.sleep(60)
"""


@ways
@pytest.mark.rule("S2-NO-SURVIVORS")
def test_a_referee_that_is_killed_takes_its_cell_along(namespaced: bool, tmp_path: Path):
    program, mark = marked(DEFIANT["a daemon" if namespaced else "deaf to TERM"])
    root, support = str(Path(cell_module.__file__).parents[2]), str(Path(__file__).parents[2] / "support")
    source = REFEREE.format(
        root=root, support=support, program=program, log=str(tmp_path / "log"), namespaced=namespaced
    )
    source_file = tmp_path / "referee.py"
    source_file.write_text(source)
    command = [sys.executable, str(source_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as referee:
        home = Path(referee.stdout.readline().strip())
        assert home.is_dir()
        time.sleep(random.uniform(0, 0.3))
        left = descendants(referee.pid)
        referee.kill()
        referee.wait()
    assert left
    wait_for(lambda: living(mark) == [])
    wait_for(lambda: not home.exists())


def test_a_strict_cell_refuses_to_start_where_a_layer_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program, mark = marked("sleep()")
    real = Cell._note

    def without_landlock(self, message):
        if "layers" in message:
            message["layers"]["landlock"] = [False, "the kernel has no Landlock"]
        real(self, message)

    monkeypatch.setattr(Cell, "_note", without_landlock)
    with Cell(spec(program, tmp_path / "log"), strict=True) as cell, pytest.raises(RuleBroken) as caught:
        cell.start()
    assert caught.value.rule == "S1-ISOLATION"
    assert "landlock" in str(caught.value)
    assert "harness doctor" in caught.value.remedy
    assert living(mark) == []
    with pytest.raises(ValueError, match="leaves no layer off"):
        Cell(spec(program, tmp_path / "log", namespaced=False), strict=True)


@ways
@pytest.mark.rule("S2-NO-SURVIVORS")
def test_the_clock_kills_while_the_referee_is_busy_elsewhere(namespaced: bool, tmp_path: Path):
    program, mark = marked(DEFIANT["deaf to TERM"])
    with running(program, tmp_path / "log", namespaced=namespaced) as cell:
        wait_for(lambda: living(mark))
        deadline_ns = time.monotonic_ns() + 200_000_000
        with cell.armed(deadline_ns):
            wait_for(lambda: not living(mark))  # nobody calls kill here
        assert time.monotonic_ns() > deadline_ns
        report = cell.kill(deadline_ns)
        assert report.late
        assert report.survivors == 0


def test_a_clock_that_did_not_run_out_kills_nobody(tmp_path: Path):
    program, mark = marked("sleep()")
    with running(program, tmp_path / "log") as cell:
        wait_for(lambda: living(mark))
        with cell.armed(time.monotonic_ns() + 10**12):
            pass
        assert living(mark)
