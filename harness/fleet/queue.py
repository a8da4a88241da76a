"""The queue: a folder of jobs, locks, attempts, results and logs.

Layout::

    jobs/<id>.json              what to run
    locks/<id>                  held (flock) by the worker that runs it
    attempts/<id>.<n>.json      every start: host, process, and how it ended
    results/<id>.json           exactly one, published by link(2)
    logs/<id>.<n>.log           output of each attempt

Covered: killed workers, lost nodes, a killed driver, jobs started twice, clocks that differ (none is compared).
Not covered: a shared file system that neither honours ``flock`` between hosts nor ``link``; then use one host.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.config.tracks import Hardware
from harness.config.variables import cache_dir
from harness.errors import CouldNotCheck, UsageError
from harness.files import locked, write_atomic

FOLDERS = ("jobs", "locks", "attempts", "results", "logs")
MAX_FILE_BYTES = 16_000_000
_ID = re.compile(r"[0-9a-z][0-9a-z-]{0,79}")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command that prints a JSON document and ends with an exit code of ``harness``.

    argv:   the whole command line, such as (python, "-P", "-m", "harness", "rerun", "records/runs/X.json", "--json")
    folder: working folder of the run
    gpus:   GPUs it needs for itself alone
    title:  a few words for tables
    cores:  processor cores it wants for itself alone; 0 takes no account of them
    inputs: what it reads that its command line doesn't say, such as code and data, by digest or version
    """

    id: str
    argv: tuple[str, ...]
    folder: str
    gpus: int
    title: str
    cores: int = 0
    inputs: dict[str, str] = {}


class Attempt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One start of a job. ``exit_code`` is ``None`` while it runs, and for ever when its worker was killed."""

    job: str
    number: int
    host: str
    pid: int
    gpus: str
    exit_code: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        state = "running or killed" if self.exit_code is None else self.reason or f"exit code {self.exit_code}"
        return f"attempt {self.number} on {self.host}: {state}"


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a job gave: exit code 0 or 1 (a verdict), and the JSON that it printed."""

    job: str
    attempt: int
    host: str
    machine: str
    seconds: float
    exit_code: int
    output: msgspec.Raw


class Queue:
    """A queue folder. Any number of drivers and workers may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def add(self, argv: Sequence[str], *, needs: Hardware, title: str, inputs: Mapping[str, str] | None = None) -> Job:
        """Add a job to be run in this folder. Its id follows from what it runs on what, so again it is the same job.

        And from a secret of this user's cache: else a folder that is a stranger's could hold its result already.
        """
        read, folder, gpus = dict(sorted((inputs or {}).items())), str(Path.cwd()), needs.gpus
        secret = cache_dir() / "queue-secret"
        with suppress(FileExistsError):
            write_atomic(secret, os.urandom(32).hex().encode(), replace=False, mode=0o600)
        text = msgspec.json.encode([list(argv), folder, gpus, read, secret.read_text()])
        stem = re.sub(r"[^0-9a-z]+", "-", title.lower()).strip("-")[:50]
        job_id = f"{stem}-{hashlib.sha256(text).hexdigest()[:12]}".strip("-")
        job = Job(job_id, tuple(argv), folder, gpus, title, needs.cpu_cores, read)
        write_atomic(self.folder / "jobs" / f"{job.id}.json", msgspec.json.encode(job), replace=True)
        return job

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises ``UsageError`` when there is none."""
        path = self.folder / "jobs" / f"{job_id}.json"
        if _ID.fullmatch(job_id) and path.is_file():
            return _read(path, Job)
        raise UsageError(f"the queue {self.folder} has no job {job_id!r}.", remedy="`ls QUEUE/jobs` shows its jobs.")

    def result(self, job: Job) -> Result | None:
        """The job's one result, or ``None``."""
        path = self.folder / "results" / f"{job.id}.json"
        return _read(path, Result) if path.exists() else None

    def publish(self, result: Result) -> bool:
        """Make ``result`` the job's one result. False when another attempt was first; nothing changes then."""
        with suppress(FileExistsError):
            write_atomic(self.folder / "results" / f"{result.job}.json", msgspec.json.encode(result), replace=False)
            return True
        return False

    def new_attempt(self, job: Job, host: str, gpus: str) -> Attempt:
        """Write down that an attempt starts here; its number is the next that nobody took."""
        for number in count(1 + len(list((self.folder / "attempts").glob(f"{job.id}.*.json")))):
            attempt = Attempt(job.id, number, host, os.getpid(), gpus)
            with suppress(FileExistsError):
                write_atomic(self._attempt_path(attempt), msgspec.json.encode(attempt), replace=False)
                break
        return attempt

    def end_attempt(self, attempt: Attempt, exit_code: int, reason: str) -> None:
        """Write down how an attempt ended."""
        ended = msgspec.structs.replace(attempt, exit_code=exit_code, reason=reason)
        write_atomic(self._attempt_path(attempt), msgspec.json.encode(ended), replace=True)

    def attempts(self, job: Job) -> list[Attempt]:
        """Every start of a job, by number."""
        paths = (self.folder / "attempts").glob(f"{job.id}.*.json")
        return sorted((_read(path, Attempt) for path in paths), key=lambda attempt: attempt.number)

    def log_file(self, attempt: Attempt) -> Path:
        """Where an attempt's output goes."""
        return self.folder / "logs" / f"{attempt.job}.{attempt.number}.log"

    def running(self, job: Job) -> AbstractContextManager[bool]:
        """Hold the job's lock for the block. Yields False when another worker holds it."""
        return locked(self.folder / "locks" / job.id)

    def is_running(self, job: Job) -> bool:
        """Whether a worker, on any host, holds the job."""
        with self.running(job) as free:
            return not free

    def _attempt_path(self, attempt: Attempt) -> Path:
        return self.folder / "attempts" / f"{attempt.job}.{attempt.number}.json"


def _read(path: Path, kind: type[_Struct]) -> _Struct:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CouldNotCheck(f"{path} is over {MAX_FILE_BYTES:,} bytes.", remedy="Remove the queue folder.")
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise CouldNotCheck(f"{path} is damaged: {error}.", remedy="Remove this file; the job runs again.") from error
