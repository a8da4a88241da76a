"""Landlock, the kernel's unprivileged file and network sandbox: three system calls by ctypes.

Own code, because the kept bindings either lack the newer rights or bring megabytes of native code into the referee.
Numbers and bits are those of the kernel's ``include/uapi/linux/landlock.h``; rights of newer ABIs are used where the
running kernel has them.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable

from harness.sandbox.namespaces import check, libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))  # remove and make, every kind of file
_MAKE_DEVICES = (1 << 6) | (1 << 11)  # character and block devices
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_NET_BIND_TCP, _NET_CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1 << 0, 1 << 1

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
WRITE = READ | WRITE_FILE | (_MAKE_AND_REMOVE & ~_MAKE_DEVICES) | REFER | TRUNCATE
DEVICE = READ | WRITE_FILE | IOCTL_DEV
# for /proc/self/task: CUDA opens a thread's name with fopen(…, "w") and gives up where it may not
NAME_THREADS = READ | WRITE_FILE | TRUNCATE
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


def abi_version() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _CREATE_VERSION)))


def scope_self() -> str:
    """Keep signals and abstract sockets of this thread and all it starts among them. Returns what holds, in words.

    One scope for all ranks of a cell, made before the first is started; files are each rank's own (``restrict_self``).
    Kernels before ABI 6 have no scopes. Raises ``OSError`` when the kernel has no Landlock or refuses.
    """
    abi = abi_version()
    if abi == 0:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    if abi >= 6:
        # every ruleset refuses moves between folders unless it allows them (EXDEV); those are for the ranks' own rules
        _restrict(REFER, 0, _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL, [("/", REFER)])
    return f"Landlock ABI {abi}"


def restrict_self(rules: Iterable[tuple[str, int]], *, tcp: bool) -> None:
    """Restrict this thread and all it starts to ``rules`` (path, rights) for ever.

    Rules hold for files, not for names: ``/proc/self`` is the folder of the process that calls this, and of no other.
    tcp: whether TCP stays allowed; without it bind and connect are refused where the ABI can (4 and newer).
    A path that is missing is not allowed. Raises ``OSError`` when the kernel refuses: then the process must not go on.
    """
    abi = abi_version()
    files = EXECUTE | WRITE_FILE | READ_FILE | READ_DIR | _MAKE_AND_REMOVE
    for first, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        files |= right if abi >= first else 0
    network = (_NET_BIND_TCP | _NET_CONNECT_TCP) if abi >= 4 and not tcp else 0
    _restrict(files, network, 0, rules)


def _restrict(files: int, network: int, scoped: int, rules: Iterable[tuple[str, int]]) -> None:
    """What is handled is refused but for ``rules``: rights on files, on the network, and scopes. Wants no_new_privs."""
    attributes = struct.pack("=3Q", files, network, scoped)  # older kernels take it where what they don't know is 0
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in rules:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:  # a link out of the allow-list, as Ubuntu's sitecustomize.py: nothing to allow
                continue
            try:
                if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    rights &= _ON_FILES
                rule = struct.pack("=Qi", rights & files, descriptor)
                _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
            finally:
                os.close(descriptor)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    return check(libc.syscall(number, *arguments), f"Landlock call {number}")
