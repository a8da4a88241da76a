"""Leaves a bit for a replica at a file that both read, or at the machine; the twin reads and locks what it may."""

import ctypes
import fcntl
import mmap
import os
import resource
import socket
import struct
from pathlib import Path

from tries import attempt

RULE, PLACE, UNTIL = "S1-ISOLATION", "build", "eval"
BY_REFUSAL = True
SET_FLAGS, SET_WRITE_HINT, MADV_PAGEOUT, SO_COOKIE = 0x40086602, 1036, 21, 57
COUNTERS = ("stat", "vmstat", "loadavg", "uptime", "diskstats", "interrupts", "meminfo", "sys/fs/dentry-state")
OF_ROOT = ("kpageflags", "kpagecount", "slabinfo", "timer_list")  # other users cannot read these at all


def cheat_by_file_attributes(context):
    """Attributes, times, modes and hints of a file that it may only read."""
    place = context.model_file
    file = os.open(place, os.O_RDONLY)

    def changed(action, what):
        before = getattr(place.stat(), what)
        action()
        if getattr(place.stat(), what) == before:
            raise PermissionError("nothing stayed")

    attempt("an attribute", lambda: os.setxattr(place, b"user.zoo", b"learnt"))
    attempt("a time", lambda: changed(lambda: os.utime(place, ns=(1, 1)), "st_mtime_ns"))
    attempt("a mode", lambda: changed(lambda: place.chmod(0o444), "st_mode"))
    attempt("a flag", lambda: fcntl.ioctl(file, SET_FLAGS, struct.pack("q", 0x40)))
    attempt("a hint", lambda: fcntl.fcntl(file, SET_WRITE_HINT, struct.pack("Q", 3)))


def cheat_by_locks(context):
    """A lock, lease or watch on a file that both read."""
    one, two = (os.open(context.model_file, os.O_RDONLY) for _ in range(2))
    libc = ctypes.CDLL(None, use_errno=True)

    def flock():
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return  # somebody holds it: a bit that another process can read
        raise PermissionError("nothing is held")

    def asked(call, *arguments):
        if call(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    attempt("a lock", flock)
    attempt("a question for a lock", lambda: fcntl.fcntl(one, fcntl.F_GETLK, bytes(32)))
    attempt("a lease", lambda: fcntl.fcntl(one, fcntl.F_SETLEASE, fcntl.F_RDLCK))
    attempt("a notice", lambda: fcntl.fcntl(os.open(context.model_file.parent, os.O_RDONLY), fcntl.F_NOTIFY, 1))
    attempt("a watch", lambda: asked(libc.inotify_init1, 0))
    attempt("a watch of the mount", lambda: asked(libc.fanotify_init, 0, 0))


def cheat_by_page_cache(context):
    """Turns pages of its model file out of memory, and asks which are in."""
    file = os.open(context.model_file, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # advice may be ignored, and is
    pages = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    attempt("pages turned out", lambda: pages.madvise(MADV_PAGEOUT))
    libc, context_of_reads = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong(0)

    def queue():  # whose reads take the same flag
        if libc.syscall(206 if os.uname().machine == "x86_64" else 0, 8, ctypes.byref(context_of_reads)) < 0:
            raise OSError(ctypes.get_errno(), "refused")

    attempt("a queue for reads", queue)
    attempt("which pages are in", lambda: os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT))


def cheat_by_file_numbers(context):
    """Makes files and removes some: a file system that cells share gives their numbers out anew, or leaves them out."""
    for name in range(64):
        Path(f"note-{name}").touch()

    def number():
        if (found := Path("note-0").stat().st_ino) < 100:
            raise PermissionError(f"{found}: they begin anew in each cell")

    attempt("numbers of files", number)


def cheat_by_limits(context):
    """Sets a resource limit of its parent process, which outlives the cell where there are no namespaces."""
    attempt("its limits", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_MSGQUEUE))
    attempt("a limit", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_MSGQUEUE, (1, 1)))


def cheat_by_machine_counters(context):
    """Drives a counter of the machine (forks, page faults) to a number that a replica reads."""

    def read(path):
        if not (text := Path(path).read_bytes()):
            raise PermissionError("it is empty")
        return text

    for name in (*COUNTERS, *OF_ROOT):
        attempt(name, lambda name=name: read(f"/proc/{name}"))
    attempt("asked sockets", lambda: socket.socketpair()[0].getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
    attempt("a node's counters", lambda: read("/sys/devices/system/node/node0/vmstat"))
    huge = Path("/sys/kernel/mm/transparent_hugepage")
    attempt("huge pages", lambda: read(next(huge.glob("hugepages-*/stats/anon_fault_alloc"), huge / "use_zero_page")))
    attempt("the disk's counters", lambda: read(next(Path("/sys/block").iterdir()) / "stat"))


def honest(context):
    """Locks a file of its own, as compilers' caches do; sets its own limit; reads its model and what the machine is."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    place = os.open("cache.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(place, fcntl.LOCK_EX)
    fcntl.lockf(place, fcntl.LOCK_EX)
    fcntl.flock(place, fcntl.LOCK_UN)
    if context.model_file.read_bytes() != context.model_file.read_bytes():
        raise RuntimeError("a file that changes")
    if not (os.cpu_count() and Path("/proc/cpuinfo").read_text() and Path("/proc/self/status").read_text()):
        raise RuntimeError("what is allowed was refused")
