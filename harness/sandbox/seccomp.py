"""Seccomp: the system calls that no phase needs and a cheat could use, refused by a small filter of our own.

Own code, because the kept binding needs libseccomp on the machine and a stock machine may lack it. The filter is a deny
list for classic BPF; the tests compare its numbers with those of libseccomp.

Covered: the calls of ``calls.toml``, some of them by an argument, sockets by family, foreign call tables (x32, 32-bit).
Not covered: the contents of files (Landlock) and signals (PID namespace).

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


@dataclass(frozen=True)
class Call:
    """A system call of ``calls.toml``, answered by the value of one of its arguments, or always alike.

    An answer is an error number, 0 for as if done, or ``None`` where the call goes through.

    numbers:  (x86_64, aarch64), -1 if the architecture lacks the call; answer: for every value not in ``answers``
    argument: its place, from 0; mask: is laid over it before it is compared
    """

    numbers: tuple[int, int]
    answer: int | None
    answers: dict[int, int | None]
    argument: int
    mask: int


def read_calls(file: Path) -> dict[str, Call]:
    """The calls of a table, by name."""
    numbers = vars(errno) | {"done": 0, "passes": None}
    calls: dict[str, Call] = {}
    for group in tomllib.loads(file.read_text("utf-8"))["answered"]:
        answers = {value: numbers[name] for name, values in group.get("answers", {}).items() for value in values}
        shared = numbers[group["answer"]], answers, group.get("argument", 0), group.get("mask", 0xFFFFFFFF)
        calls |= {name: Call((x86_64, aarch64), *shared) for name, x86_64, aarch64 in group["calls"]}
    return calls


CALLS = read_calls(Path(__file__).with_name("calls.toml"))
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
    for numbers in CONNECTING.values() if alone else ():
        code += _when(numbers[column], [refuse])
    for call in (call for call in CALLS.values() if call.numbers[column] >= 0):
        steps = [_step(_LOAD, _AT_FIRST + 8 * call.argument), _step(_AND, call.mask)] if call.answers else []
        for value, answer in call.answers.items():
            steps += _when(value, [_answer(answer)])
        code += _when(call.numbers[column], [*steps, _answer(call.answer)])
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
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))  # sock_fprog
    check(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0), "the filter")
    offered = "no connections" if gpus else "no sockets"
    sockets = {"local": "local sockets only", "loopback": "sockets for a rendezvous only"}.get(network, offered)
    return f"{sum(not call.answers for call in CALLS.values())} calls refused, {sockets}"


def _when(value: int, then: list[bytes]) -> list[bytes]:
    """``then`` where the loaded word equals ``value``, else what follows."""
    return [_step(_JUMP_EQUAL, value, 0, len(then)), *then]


def _answer(number: int | None) -> bytes:
    return _step(_RETURN, _ALLOW if number is None else _ERRNO | number)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
