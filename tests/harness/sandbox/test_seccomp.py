"""The filter's numbers against libseccomp's, and the filter itself against an interpreter of its few instructions."""

import itertools
import socket
import struct

import pytest

from harness.sandbox import seccomp

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, PERM, NOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def run(code: bytes, number: int, architecture: int, first: int = 0, second: int = 0) -> int:
    """What the kernel would conclude: an independent reading of classic BPF."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, first, second, 0, 0, 0, 0)
    steps, at, held = list(struct.iter_unpack("=HBBI", code)), 0, 0
    while True:
        kind, yes, no, value = steps[at]
        at += 1
        if kind == 0x20:
            held = struct.unpack_from("=I", data, value)[0]
        elif kind == 0x06:
            return value
        else:
            true = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
            at += yes if true else no


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_libseccomp(machine: str):
    pyseccomp = pytest.importorskip("pyseccomp", exc_type=(ImportError, RuntimeError))
    column = MACHINES[machine][0]
    arch = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[machine]
    for name, numbers in (seccomp.REFUSED | seccomp.SPECIAL | seccomp.CONNECTING).items():
        known = pyseccomp.resolve_syscall(arch, name)
        if known >= 0 or numbers[column] is None:
            assert (numbers[column] if numbers[column] is not None else -1) == max(known, -1), name


@pytest.mark.parametrize("gpus", [False, True])
@pytest.mark.parametrize("loopback", [False, True])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_decides_as_its_table_says(machine: str, loopback: bool, gpus: bool):
    column, architecture = MACHINES[machine]
    code = seccomp.build_filter(machine, loopback=loopback, gpus=gpus)
    table = seccomp.REFUSED if loopback else seccomp.REFUSED | seccomp.CONNECTING
    refused = {numbers[column] for numbers in table.values()}
    special = {numbers[column] for numbers in seccomp.SPECIAL.values()}
    for number in range(600):
        if number not in special:
            assert run(code, number, architecture) == (PERM if number in refused else ALLOW), number
    made, pair, clone, clone3 = (seccomp.SPECIAL[name][column] for name in ("socket", "socketpair", "clone", "clone3"))
    for family, kind in itertools.product(range(64), (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)):
        local = gpus and family == socket.AF_UNIX and kind != socket.SOCK_DGRAM
        wanted = ALLOW if local or family in seccomp.families(loopback=loopback) else PERM
        assert run(code, made, architecture, family, kind | socket.SOCK_CLOEXEC) == wanted
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM, socket.SOCK_RAW):
        wanted = PERM if kind in (socket.SOCK_DGRAM, socket.SOCK_RAW) and not loopback else ALLOW
        assert run(code, pair, architecture, socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) == wanted
    assert run(code, clone3, architecture) == NOSYS
    assert run(code, clone, architecture, 0x01200011) == ALLOW  # fork
    assert run(code, clone, architecture, 0x003D0F00) == ALLOW  # a thread
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(code, clone, architecture, flag | 17) == PERM
    assert run(code, 0x40000000 | 1, architecture) == PERM
    assert run(code, 1, 0x40000003) == KILL  # 32-bit call table


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", sorted(seccomp.REFUSED | seccomp.SPECIAL | seccomp.CONNECTING))
def test_a_call_that_is_let_through_is_the_only_one(machine: str, name: str):
    column, architecture = MACHINES[machine]
    code = seccomp.build_filter(machine, loopback=False, allow={name})
    for other, numbers in (seccomp.REFUSED | seccomp.SPECIAL | seccomp.CONNECTING).items():
        if (number := numbers[column]) is not None:
            answer = run(code, number, architecture, 0x20000, socket.SOCK_DGRAM)
            assert (answer == ALLOW) == (other == name), other


def test_an_unknown_architecture_is_said_so():
    with pytest.raises(OSError, match="riscv64"):
        seccomp.build_filter("riscv64", loopback=False)
