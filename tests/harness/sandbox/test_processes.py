"""What the referee sees of a process from outside: whether a thread of it may still run, and since when none may."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import wait_for

from harness.sandbox import processes
from harness.sandbox.processes import can_run, descendants, kill_all

SLEEPS = "import time; time.sleep(600)"
FIRST_THREAD_ENDS = """
import ctypes, os, threading, time
threading.Thread(target=lambda: time.sleep(600)).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""


def start(program: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", program])


def state(process: subprocess.Popen) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def kill_unreaped(process: subprocess.Popen) -> None:
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen]:
    with start(SLEEPS) as process:
        yield process
        process.kill()


def test_a_process_can_run_until_it_is_dead_also_while_it_is_stopped(sleeper: subprocess.Popen):
    assert can_run([sleeper.pid])
    sleeper.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(sleeper) == "T")
    assert can_run([sleeper.pid])
    kill_unreaped(sleeper)
    assert not can_run([sleeper.pid])
    sleeper.wait()
    assert not can_run([sleeper.pid])


def test_a_process_whose_first_thread_ended_is_alive_and_can_run():
    with start(FIRST_THREAD_ENDS) as process:
        wait_for(lambda: state(process) == "Z")
        assert can_run([process.pid])
        assert process.pid in descendants(os.getpid())
        kill_unreaped(process)
        assert not can_run([process.pid])
        assert process.pid not in descendants(os.getpid())


@pytest.mark.parametrize(("looks", "agree"), [("sss", 0), ("srss", 2), ("ssrs", None), ("s", None), ("rr", None)])
def test_a_stop_counts_once_a_second_look_agrees_and_until_one_does_not(
    looks: str, agree: int | None, monkeypatch: pytest.MonkeyPatch
):
    """looks: what each finds, something that runs or all stopped; agree: the first look after which all stay stopped"""
    times, left = list[int](), iter(looks)

    def look(_: list[int]) -> bool:
        times.append(time.monotonic_ns())
        return next(left) == "r"

    monkeypatch.setattr(processes, "can_run", look)
    monkeypatch.setattr(processes, "signal_all", lambda *_: None)
    report = kill_all(lambda: [1] * (len(times) < len(looks)), since_ns=1)
    if agree is None:
        assert report.stopped_ns == report.overshoot_ns > times[-1] - 1
    else:
        assert times[agree] <= report.stopped_ns + 1 <= times[agree + 1] < report.overshoot_ns + 1


@pytest.mark.rule("S2-NO-SURVIVORS")
def test_what_can_run_no_more_is_waited_for_and_is_no_survivor(
    sleeper: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
):
    """A process whose memory is slow to go stays in the kernel's exit: here one that is seen again and again."""
    kill_unreaped(sleeper)
    looks = iter([[sleeper.pid]] * 20)
    monkeypatch.setattr(processes, "STOP_LIMIT_S", 0.0)
    ending = kill_all(lambda: next(looks, []))
    assert ending.survivors == 0
    assert next(looks, None) is None, "it was not waited for"
    monkeypatch.setattr(processes, "GONE_LIMIT_S", 0.0)
    assert kill_all(lambda: [sleeper.pid]).survivors == 0, "it was waited for without end"


@pytest.mark.rule("S2-NO-SURVIVORS")
def test_what_goes_on_running_is_a_survivor(sleeper: subprocess.Popen, monkeypatch: pytest.MonkeyPatch):
    with start(SLEEPS) as other:
        kill_unreaped(other)
        monkeypatch.setattr(processes, "STOP_LIMIT_S", 0.0)
        monkeypatch.setattr(processes, "signal_all", lambda *_: None)
        report = kill_all(lambda: [sleeper.pid, other.pid])
        assert report.survivors == 1
        assert report.stopped_ns == report.overshoot_ns, "where something survives nothing stopped earlier"
