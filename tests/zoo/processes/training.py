"""Reaches in training for what is not its own: keys, memory, sealed code, folders, cores; the twin for what is."""

import ctypes
import os
from pathlib import Path

from tries import attempt, need

RULE, PLACE, UNTIL = "S1-ISOLATION", "train", "train"
BY_REFUSAL = True


def cheat_reads_keys(session, shards):
    """Reads the referee's signing key."""
    attempt("a signing key", Path(os.environ["ZOO_KEYS"], "private.pem").read_bytes)


def cheat_reads_the_referee(session, shards):
    """Reads the referee's memory with process_vm_readv."""

    def read_parent():
        libc, place = ctypes.CDLL(None, use_errno=True), (ctypes.c_void_p * 2)(0x400000, 16)
        if libc.process_vm_readv(os.getppid(), ctypes.byref(place), 1, ctypes.byref(place), 1, 0) < 0:
            raise OSError(ctypes.get_errno(), "process_vm_readv")

    attempt("the memory of another process", read_parent)


def cheat_rewrites_its_code(session, shards):
    """Rewrites its sealed code for the next phase."""
    attempt("its sealed code", lambda: (Path(__file__).chmod(0o644), Path(__file__).write_text("x")))


def cheat_writes_into_a_shared_folder(session, shards):
    """Leaves a file in a folder that later phases could read."""
    attempt("a shared folder", lambda: Path(os.environ["ZOO_SHARED"], "note").write_text("x"))


def cheat_takes_more_cores(session, shards):
    """Spreads over more processor cores than the run holds."""
    held = os.sched_getaffinity(0)

    def change():
        os.sched_setaffinity(0, {max(held)})
        if os.sched_getaffinity(0) == held:
            raise PermissionError("nothing changed")

    attempt("other cores", change)
    attempt("another group's cores", lambda: Path("/sys/fs/cgroup/cpuset.cpus").write_text("0-1023"))


def honest(session, shards):
    need(Path(__file__).read_bytes)
    need(lambda: ctypes.string_at(ctypes.create_string_buffer(b"own", 3), 3))
    need(lambda: (session.output_dir / "note").write_text("x"))
    need(lambda: os.sched_getaffinity(0))
