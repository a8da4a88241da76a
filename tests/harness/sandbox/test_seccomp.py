"""The filter's numbers against libseccomp's, and the filter itself against an interpreter of its few instructions."""

import itertools
import socket
import struct

import pytest

from harness.sandbox import seccomp

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, PERM, NOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
DONE, UNSUPPORTED, INVALID, NOTTY = 0x00050000, 0x0005005F, 0x00050016, 0x00050019
# name: arguments that are answered, and how; arguments that are not
BY_ARGUMENT = {
    "madvise": (((0, 0, 20), (0, 0, 21), (0, 0, 25)), INVALID, ((0, 0, 4), (0, 0, 8), (0, 0, 14))),
    "fcntl": (
        ((0, 1036), (0, 1038), (0, 1024), (0, 1025), (0, 1026), (0, 1040), (0, 5), (0, 36), (0, 8), (0, 10)),
        INVALID,
        ((0, 3), (0, 1030), (0, 1035), (0, 1037)),
    ),
    "ioctl": (
        ((0, 0x40086602), (0, 0x401C5820), (0, 0x40087602), (0, 0x40806685), (0, 0x40049409)),
        NOTTY,
        ((0, 0x5421), (0, 0x541B), (0, 0xC020462A), (0, 0x30000001), (0, 0x27)),
    ),
    "prlimit64": (((1,), (4242,)), PERM, ((0, 7),)),
    "getsockopt": (((0, 1, 57),), 0x0005005C, ((0, 1, 4), (0, 6, 1))),
    "mbind": (((0, 0, 0, 0, 0, 2), (0, 0, 0, 0, 0, 6)), PERM, ((0, 0, 0, 0, 0, 0),)),
    "utimensat": (((0, 4096, 0),), NOSYS, ((0, 4096, 4096),)),
    "preadv2": (((0, 0, 0, 0, 0, 8), (0, 0, 0, 0, 0, 1)), UNSUPPORTED, ((0, 0, 0, 0, 0, 0),)),
    "pwritev2": (((0, 0, 0, 0, 0, 16),), UNSUPPORTED, ((0, 0, 0, 0, 0, 0),)),
}


def every_call() -> dict[str, tuple[int, int]]:
    return {name: call.numbers for name, call in seccomp.CALLS.items()} | seccomp.SPECIAL | seccomp.CONNECTING


def run(code: bytes, number: int, architecture: int, *arguments: int) -> int:
    """What the kernel would conclude: an independent reading of classic BPF."""
    six = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *six)
    steps, at, held = list(struct.iter_unpack("=HBBI", code)), 0, 0
    while True:
        kind, yes, no, value = steps[at]
        at += 1
        if kind == 0x20:
            held = struct.unpack_from("=I", data, value)[0]
        elif kind == 0x06:
            return value
        elif kind == 0x54:
            held &= value
        else:
            true = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
            at += yes if true else no


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_libseccomp(machine: str):
    pyseccomp = pytest.importorskip("pyseccomp", exc_type=(ImportError, RuntimeError))
    column = MACHINES[machine][0]
    arch = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[machine]
    for name, numbers in every_call().items():
        known = pyseccomp.resolve_syscall(arch, name)
        if known >= 0 or numbers[column] < 0:
            assert numbers[column] == max(known, -1), name


@pytest.mark.parametrize("gpus", [False, True])
@pytest.mark.parametrize("network", seccomp.FAMILIES)
@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_decides_as_its_table_says(machine: str, network: str, gpus: bool):
    column, architecture = MACHINES[machine]
    code = seccomp.build_filter(machine, network=network, gpus=gpus)
    alone = network == "none"
    wanted = dict.fromkeys((numbers[column] for numbers in seccomp.CONNECTING.values()), PERM) if alone else {}
    wanted |= {call.numbers[column]: DONE + call.answer for call in seccomp.CALLS.values() if not call.answers}
    special = {numbers[column] for numbers in seccomp.SPECIAL.values()}
    special |= {seccomp.CALLS[name].numbers[column] for name in ("fcntl", "utimensat")}
    for number in set(range(470)) - special:
        assert run(code, number, architecture) == wanted.get(number, ALLOW), number
    for number in (*range(470, 600), 0x3FFFFFFF):
        assert run(code, number, architecture) == NOSYS, number
    made, pair, clone, clone3 = (seccomp.SPECIAL[name][column] for name in ("socket", "socketpair", "clone", "clone3"))
    for family, kind in itertools.product(range(64), (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)):
        local = gpus and family == socket.AF_UNIX and kind != socket.SOCK_DGRAM
        wanted = ALLOW if local or family in seccomp.FAMILIES[network] else PERM
        assert run(code, made, architecture, family, kind | socket.SOCK_CLOEXEC) == wanted
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM, socket.SOCK_RAW):
        wanted = PERM if kind in (socket.SOCK_DGRAM, socket.SOCK_RAW) and alone else ALLOW
        assert run(code, pair, architecture, socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) == wanted
    assert run(code, clone3, architecture) == NOSYS
    assert run(code, clone, architecture, 0x01200011) == ALLOW  # fork
    assert run(code, clone, architecture, 0x003D0F00) == ALLOW  # a thread
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(code, clone, architecture, flag | 17) == PERM
    assert run(code, 0x40000000 | 1, architecture) == PERM
    assert run(code, 1, 0x40000003) == KILL  # 32-bit call table


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", [name for name, call in seccomp.CALLS.items() if call.answers])
def test_a_call_is_answered_by_its_argument(machine: str, name: str):
    column, architecture = MACHINES[machine]
    code = seccomp.build_filter(machine, network="none")
    number = seccomp.CALLS[name].numbers[column]
    answered, answer, allowed = BY_ARGUMENT[name]
    assert {run(code, number, architecture, *arguments) for arguments in answered} == {answer}
    others = DONE if name == "utimensat" else ALLOW
    assert {run(code, number, architecture, *arguments) for arguments in allowed} == {others}
    for value in (6, 7, 37, 38) if name == "fcntl" else ():  # locks
        assert run(code, number, architecture, 0, value) == DONE


def test_an_unknown_architecture_is_said_so():
    with pytest.raises(OSError, match="riscv64"):
        seccomp.build_filter("riscv64", network="none")
