"""One worker: ``python -m harness.fleet.worker QUEUE_FOLDER JOB`` runs a job once and publishes its result."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from harness.fleet.queue import Job, Queue, Result
from harness.rules import Verdict
from harness.sandbox.namespaces import die_with_parent
from harness.sandbox.processes import default_signals

FINAL_CODES = frozenset({0, 1})
MAX_OUTPUT_BYTES = 8_000_000
REASON_CHARACTERS = 300


def main(folder: str, name: str) -> int:
    """Run the job. 0: its result stands (from this attempt or another). 3: this attempt gave none."""
    default_signals(signal.SIGCHLD)  # where it is ignored, every command seems to end well
    queue = Queue(Path(folder))
    job = queue.job(name)
    with queue.running(job) as mine:
        if not mine or queue.result(job) is not None:
            return 0
        host, started = socket.gethostname(), time.monotonic()
        attempt = queue.new_attempt(job, host, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        log = queue.log_file(attempt)
        code, output = _run_command(job, log)
        printed: Any = None
        with contextlib.suppress(msgspec.DecodeError):
            printed = msgspec.json.decode(output)
        said = printed if isinstance(printed, dict) else {}
        # "could not check" is never a result, whatever the exit code
        if code in FINAL_CODES and printed is not None and said.get("verdict") != Verdict.ERROR.value:
            from harness.run.machine import describe_machine

            seconds, kind = round(time.monotonic() - started, 3), describe_machine().kind
            result = Result(job.id, attempt.number, host, kind, seconds, code, msgspec.Raw(output.strip()))
            queue.end_attempt(attempt, code, "" if queue.publish(result) else "another attempt was first")
            return 0
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        reason = str(said.get("message") or f"{ended}: {lines[-1] if lines else 'no output'}")
        queue.end_attempt(attempt, code, reason[:REASON_CHARACTERS])
        return 3


def _run_command(job: Job, log: Path) -> tuple[int, bytes]:
    """The job's command in a child that dies with this worker. Returns its exit code and what it printed."""
    worker = os.getpid()

    def die_with_worker() -> None:
        die_with_parent()
        if os.getppid() != worker:  # it was killed before the line above, and no signal will come
            os._exit(1)

    with log.open("wb") as errors:
        child = subprocess.Popen(
            list(job.argv),
            cwd=job.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            preexec_fn=die_with_worker,
        )
        assert child.stdout is not None
        output = child.stdout.read(MAX_OUTPUT_BYTES + 1)
        if len(output) > MAX_OUTPUT_BYTES:
            child.kill()
        return child.wait(), output


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
