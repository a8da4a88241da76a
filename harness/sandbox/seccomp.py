"""Seccomp: the system calls that no phase needs and a cheat could use, refused by a small filter of our own.

Own code, because the kept binding needs libseccomp on the machine and a stock machine may lack it. The filter is a deny
list for classic BPF; the tests compare its numbers with those of libseccomp.

Covered: the calls of ``calls.toml``, those below by their arguments, sockets by family, foreign call tables (x32,
32-bit). Not covered: the contents of files (Landlock) and signals (PID namespace).

Some answers are no refusals. Copying a file copies its mode and times too (``shutil.copytree``, a compiler's cache), so
those calls answer as if done. So do locks: a lock on a file that others may read is a note to them. Compilers' caches
take locks, and rename whole files into place all the same. Advice may always be ignored. Where callers try another way
on a certain error, they get that one. Calls that are newer than this list answer as on a kernel without them.
"""

import ctypes
import errno
import platform
import socket
import struct
import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.sandbox.namespaces import check, libc

ANSWERED: dict[int, dict[str, tuple[int, int]]] = {}  # error number, 0: as if done -> name: (x86_64, aarch64)
for _group in tomllib.loads(Path(__file__).with_name("calls.toml").read_text("utf-8"))["answered"]:
    _calls = {name: (x86_64, aarch64) for name, x86_64, aarch64 in _group["calls"]}
    ANSWERED.setdefault(0 if _group["answer"] == "done" else getattr(errno, _group["answer"]), {}).update(_calls)
_SET_LOCK = (6, 7, 37, 38)  # F_SETLK, F_SETLKW and those of open files
# descriptors, flags, pipes, seals, reading of hints; not leases, locks that are asked about, notices, owners of signals
_F_USUAL = (0, 1, 2, 3, 4, 1027, 1030, 1031, 1032, 1033, 1034, 1035, 1037)
_MADV_OF_FILES = (20, 21, 25)  # MADV_COLD, MADV_PAGEOUT, MADV_COLLAPSE: turn pages out, or make large ones of them
_IOCTL_KIND, _IOCTL_OF_FILES = 0xFF00, (ord("f") << 8, ord("v") << 8, ord("X") << 8, 0x9400)


@dataclass(frozen=True)
class ByArgument:
    """A call that is answered by one of its arguments: as ``answers`` says of a value, else as ``others``.

    An answer is an error number, 0 for as if done, or ``None`` where the call goes through.

    numbers: as above; place: of the argument, from 0; mask: is laid over it before it is compared
    """

    numbers: tuple[int, int]
    place: int
    answers: dict[int, int | None]
    others: int | None
    mask: int = 0xFFFFFFFF


FILTERED = {
    "madvise": ByArgument((28, 233), 2, dict.fromkeys(_MADV_OF_FILES, errno.EINVAL), None),
    # locks and leases meet those of other processes, hints stay with the file
    "fcntl": ByArgument((72, 25), 1, dict.fromkeys(_SET_LOCK, 0) | dict.fromkeys(_F_USUAL), errno.EINVAL),
    # flags, versions, verity
    "ioctl": ByArgument((16, 29), 1, dict.fromkeys(_IOCTL_OF_FILES, errno.ENOTTY), None, mask=_IOCTL_KIND),
    # a time that is given is taken as done; none is how pathlib's touch() asks whether the file is there
    "utimensat": ByArgument((280, 88), 2, {0: errno.ENOSYS}, 0),
    # limits of another process, such as the referee's own, stay as they are set and can be read; 0: its own
    "prlimit64": ByArgument((302, 261), 0, {0: None}, errno.EPERM),
    # a policy for what comes; with flags it moves what is there
    "mbind": ByArgument((237, 235), 5, {0: None}, errno.EPERM),
    # SO_COOKIE counts, across the machine and to the unit, the sockets that were asked for theirs
    "getsockopt": ByArgument((55, 209), 2, {57: errno.ENOPROTOOPT}, None),
    # RWF_NOWAIT tells what is in memory; no flag is all that anybody needs
    "preadv2": ByArgument((327, 286), 5, {0: None}, errno.EOPNOTSUPP),
    "pwritev2": ByArgument((328, 287), 5, {0: None}, errno.EOPNOTSUPP),
}
SPECIAL: dict[str, tuple[int, int]] = {
    "socket": (41, 198), "socketpair": (53, 199), "clone": (56, 220), "clone3": (435, 435),
}  # fmt: skip
# how one process reaches another's socket; without a network refused also to sockets that were made before the filter
CONNECTING: dict[str, tuple[int, int]] = {"connect": (42, 203), "accept": (43, 202), "accept4": (288, 242)}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000
_FIRST_UNKNOWN = 470  # on both architectures; x86_64 has a second set of x32's calls at 512
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST, _AT_SECOND = 0, 4, 16, 24
_DATAGRAM_BIT = 2  # in SOCK_DGRAM and SOCK_RAW, not in SOCK_STREAM and SOCK_SEQPACKET
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


FAMILIES: dict[str, tuple[int, ...]] = {
    "none": (),
    "local": (socket.AF_UNIX,),
    # netlink is how the C library lists the interfaces of the cell's own network
    "loopback": (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK),
}


def build_filter(machine: str, *, network: str, gpus: bool = False) -> bytes:
    """The filter as BPF instructions. Raises ``OSError`` for an architecture that it has no numbers for.

    network: "none"; "local": sockets of the cell's own processes, in a root folder that holds no others; "loopback":
             those of a rendezvous of ranks, in a network namespace that has nothing but loopback
    gpus:     local sockets that are bound but never connected: CUDA gives up where it cannot offer one
    """
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}")
    column, architecture = _ARCHITECTURES[machine]
    allow, refuse, absent = map(_answer, (None, errno.EPERM, errno.ENOSYS))
    code = [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _AT_NUMBER),
        _step(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        refuse,
        _step(_JUMP_AT_LEAST, _FIRST_UNKNOWN, 0, 1),
        absent,
    ]
    alone = network == "none"
    # allows a socket whose type needs a connection; falls through for datagrams
    connected = [_step(_LOAD, _AT_SECOND), _step(_JUMP_ANY_BIT, _DATAGRAM_BIT, 1, 0), allow]
    for answer, calls in ((errno.EPERM, CONNECTING if alone else {}), *ANSWERED.items()):
        for number in (numbers[column] for numbers in calls.values() if numbers[column] >= 0):
            code += _when(number, [_answer(answer)])
    for rule in FILTERED.values():
        steps = [_step(_LOAD, _AT_FIRST + 8 * rule.place), _step(_AND, rule.mask)]
        for value, answered in rule.answers.items():
            steps += _when(value, [_answer(answered)])
        code += _when(rule.numbers[column], [*steps, _answer(rule.others)])
    # its flags lie in memory, out of the filter's sight; libraries fall back to clone
    code += _when(SPECIAL["clone3"][column], [absent])
    clone = [_step(_LOAD, _AT_FIRST), _step(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1), refuse]
    code += _when(SPECIAL["clone"][column], [*clone, allow])
    if alone:  # one end of a datagram pair can send to any address
        code += _when(SPECIAL["socketpair"][column], [*connected, refuse])
    sockets = [_step(_LOAD, _AT_FIRST)]
    for family in FAMILIES[network]:
        sockets += [_step(_JUMP_EQUAL, int(family), 0, 1), allow]
    if gpus and alone:
        sockets += _when(int(socket.AF_UNIX), connected)
    code += _when(SPECIAL["socket"][column], [*sockets, refuse])
    code.append(allow)
    return b"".join(code)


def restrict_self(*, network: str, gpus: bool) -> str:
    """Load the filter for this thread and all it starts; returns what is in force. Raises ``OSError`` when refused.

    Wants no_new_privs.
    """
    code = build_filter(platform.machine(), network=network, gpus=gpus)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    check(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0), "the filter")
    offered = "no connections" if gpus else "no sockets"
    sockets = {"local": "local sockets only", "loopback": "sockets for a rendezvous only"}.get(network, offered)
    return f"{sum(map(len, ANSWERED.values()))} calls refused, {sockets}"


def _when(value: int, then: list[bytes]) -> list[bytes]:
    """``then`` where the loaded word equals ``value``, else what follows."""
    return [_step(_JUMP_EQUAL, value, 0, len(then)), *then]


def _answer(number: int | None) -> bytes:
    return _step(_RETURN, _ALLOW if number is None else _ERRNO | number)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
