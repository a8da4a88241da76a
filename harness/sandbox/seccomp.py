"""System calls that no phase needs and a cheat could use, refused by seccomp (libseccomp through pyseccomp)."""

from __future__ import annotations

import errno
import socket

REFUSED = (
    # other processes and kernel interfaces
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise",
    "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "syslog", "quotactl", "acct", "swapon", "swapoff", "reboot",
    # namespaces, mounts, other roots
    "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "move_mount", "open_tree", "fsopen", "fsmount",
    "fsconfig", "fspick", "mount_setattr", "open_by_handle_at", "name_to_handle_at",
    # clocks
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
    # asynchronous input and output goes round the filter
    "io_uring_setup", "io_uring_enter", "io_uring_register",
    # memory that outlives a process
    "shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "mq_open",
    "mq_unlink",
)  # fmt: skip
CLONE_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)


def restrict_self(*, loopback: bool) -> None:
    """Load the filter for this process and all it starts. Raises ``ImportError`` or ``OSError`` where it can't be.

    loopback: allow Internet sockets, for a cell whose network namespace has nothing but loopback.
    """
    import pyseccomp

    refuse = pyseccomp.ERRNO(errno.EPERM)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in REFUSED:
        try:
            rules.add_rule(refuse, name)
        except (OSError, RuntimeError):  # a call that this libseccomp does not know cannot be named by it
            continue
    allowed = {int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)} if loopback else set()
    for family in range(64):
        if family not in allowed:
            rules.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    for flag in CLONE_NAMESPACES:
        rules.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags lie in memory; libraries fall back to clone
    rules.load()
