"""No network: what a cell reaches through sockets, and what ranks that meet may use among themselves."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import attempts, done, policy, run_in_cell, wait_for, ways

from harness.run.cells import rank_environments
from harness.sandbox.cell import Cell, CellSpec


@ways
@pytest.mark.rule("A4-NO-NETWORK")
def test_no_socket_of_any_family_without_a_network(log: Path, namespaced: bool):
    families = ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")
    actions = {name: f"socket.socket(socket.{name}, socket.SOCK_DGRAM)" for name in families}
    found = attempts(actions, log, namespaced=namespaced, before="import socket")
    assert not done(found), found


def test_ranks_meet_on_a_loopback_of_their_own_and_reduce(log: Path):
    program = (
        "import torch, torch.distributed as d\n"
        "d.init_process_group('gloo')\n"
        "x = torch.ones(2) * (d.get_rank() + 1)\n"
        "d.all_reduce(x)\n"
        "print('sum', x.tolist(), flush=True)\n"
        "d.destroy_process_group()\n"
    )
    limits = policy(network="loopback", memory_bytes=6_000_000_000)
    command = (sys.executable, "-I", "-B", "-c", program)
    with Cell(CellSpec("ranks", command, {}, rank_environments(2), limits, log), strict=False) as cell:
        cell.start()
        wait_for(lambda: None not in cell.exit_codes())
        assert cell.exit_codes() == [0, 0], log.read_text()
    assert log.read_text().count("sum [3.0, 3.0]") == 2


AS_NCCL_DOES = """
import mmap, os, socket, sys, tempfile, threading, time
rank, other = int(os.environ["RANK"]), 1 - int(os.environ["RANK"])
def meet():  # the rendezvous: TCP on the interface that is named
    assert "lo" in [name for _, name in socket.if_nameindex()]
    if rank == 0:
        with socket.create_server(("127.0.0.1", int(os.environ["MASTER_PORT"]))) as server:
            return server.accept()[0]
    while True:
        try:
            return socket.create_connection(("127.0.0.1", int(os.environ["MASTER_PORT"])))
        except OSError:
            time.sleep(0.02)
line = meet()
def together():
    line.sendall(b"x")
    assert line.recv(1) == b"x"
# memory of a GPU is handed over as a descriptor, by datagram to an abstract local address
box = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
box.bind("\\0tmp/nccl-socket-%d-7" % rank)
together()
memory = os.memfd_create("memory")
os.write(memory, b"from %d" % rank)
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, memory.to_bytes(4, sys.byteorder))
box.sendmsg([b"head"], [rights], 0, "\\0tmp/nccl-socket-%d-7" % other)
_, (got,), _, _ = socket.recv_fds(box, 16, 1)
assert os.pread(got, 16, 0) == b"from %d" % other
# memory of the host lies in a file of /dev/shm that the peer opens by its name
if rank == 0:
    file, name = tempfile.mkstemp(prefix="nccl-", dir="/dev/shm")
    os.posix_fallocate(file, 0, 1 << 20)
    line.sendall(name.encode().ljust(64))
    seen = mmap.mmap(file, 1 << 20)
    together()
    assert seen[:4] == b"peer"
else:
    seen = mmap.mmap(os.open(line.recv(64).decode().strip(), os.O_RDWR), 1 << 20)
    seen[:4] = b"peer"
    together()
# who is on this host, and its topology
assert os.readlink("/proc/self/ns/mnt") and os.readlink("/proc/self/ns/uts")
assert os.listdir("/sys/class/net") and os.listdir("/sys/devices/system/node") and os.listdir("/sys/bus/pci")
os.sched_setaffinity(0, os.sched_getaffinity(0))
open("/proc/self/task/%d/comm" % threading.get_native_id(), "w").write("NCCL proxy")
print("all of it", flush=True)
"""


def test_ranks_with_gpus_may_do_what_nccl_does_between_them(log: Path):
    """A stand-in for NCCL, after its sources (sockets, shared memory, topology): without GPUs it does not start."""
    limits = policy(network="loopback", devices=(Path("/dev/null"),))
    command = (sys.executable, "-I", "-S", "-c", AS_NCCL_DOES)
    with Cell(CellSpec("ranks", command, {}, rank_environments(2), limits, log), strict=False) as cell:
        cell.start()
        if not cell.namespaced:
            pytest.skip("needs namespaces: without them /dev/shm is the machine's own and cells may not write to it")
        wait_for(lambda: None not in cell.exit_codes())
        assert cell.exit_codes() == [0, 0], log.read_text()
    assert log.read_text().count("all of it") == 2


@pytest.mark.rule("A4-NO-NETWORK")
def test_a_loopback_of_its_own_reaches_no_server_of_the_machine(log: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = attempts(
            {
                "the machine's loopback": f"socket.create_connection(('127.0.0.1', {port}), 2)",
                "the world": "socket.create_connection(('192.0.2.1', 53), 2)",
                "the world by UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
                "raw packets": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
            },
            log,
            before="import socket",
            network="loopback",
        )
    assert not done(found), found


@pytest.fixture
def doorman(tmp_path: Path) -> Iterator[Path]:
    """Socket files of the machine's own services, as a container engine or a desktop leaves them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream, socket.socket(socket.AF_UNIX, 2) as datagrams:
        stream.bind(str(tmp_path / "stream"))
        stream.listen()
        datagrams.bind(str(tmp_path / "datagrams"))
        yield tmp_path


REACH_OUT = {
    "connect": "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect('{}/stream')",
    "send": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', '{}/datagrams')",
    "send from a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', '{}/datagrams')",
    "turn a pair": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].connect('{}/datagrams')",
}


@ways
@pytest.mark.parametrize("devices", [(), (Path("/dev/null"),)], ids=["cpu", "gpu"])
@pytest.mark.rule("A4-NO-NETWORK")
def test_no_service_of_the_machine_is_reached_by_its_socket_file(
    doorman: Path, log: Path, namespaced: bool, devices: tuple[Path, ...]
):
    actions = {name: text.format(doorman) for name, text in REACH_OUT.items()}
    found = attempts(actions, log, namespaced=namespaced, before="import socket", devices=devices)
    assert not done(found), found


@pytest.mark.rule("A4-NO-NETWORK")
def test_ranks_that_may_connect_find_no_socket_file_of_the_machine(doorman: Path, log: Path):
    actions = {name: text.format(doorman) for name, text in REACH_OUT.items()}
    found = attempts(actions, log, before="import socket", network="loopback")
    assert set(found.values()) == {"refused: FileNotFoundError"}, found


@ways
def test_ranks_with_a_loopback_meet_at_abstract_sockets(log: Path, namespaced: bool):
    """As NCCL and CUDA do, to hand memory from rank to rank."""
    program = (
        "import os, socket, time\n"
        "d, s = (socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET))\n"
        f"name = chr(0) + 'golf-{os.getpid()}-'\n"
        "if os.environ['RANK'] == '0':\n"
        "    d.bind(name + 'd'); s.bind(name + 's'); s.listen()\n"
        "    print(s.accept()[0].recv(9), d.recv(9))\n"
        "else:\n"
        "    while s.connect_ex(name + 's'): time.sleep(0.01)\n"
        "    s.send(b'stream'); d.sendto(b'letter', name + 'd')\n"
    )
    ended = run_in_cell(program, log, ranks=2, namespaced=namespaced, network="loopback")
    assert ended.codes == [0, 0], ended.text
    assert "b'stream' b'letter'" in ended.text
