"""Each layer shown by attacks that fail, and by what an honest phase needs that works."""

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import attempts, done, has_own_proc, run_in_cell, running, wait_for, ways

from harness.sandbox.policy import cell_environment


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Data, keys, records and code as they lie on a participant's disk."""
    root = tmp_path / "house"
    for name in ("data/val.bin", "keys/secret", "records/run.json", "code/model.py", "out/.keep"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "code" / "link.bin").symlink_to(root / "data" / "val.bin")
    return root


@ways
@pytest.mark.rule("S1-ISOLATION")
def test_files_outside_the_policy_are_neither_read_nor_written(house: Path, log: Path, namespaced: bool):
    actions = {
        "own code": f"open('{house}/code/model.py').read()",
        "own output": f"open('{house}/out/model', 'w').write('x')",
        "own temporary file": "open(os.environ['TMPDIR'] + '/t', 'w').write('x')",
        "own file moved up": "os.makedirs('a') or open('a/f', 'w').close() or os.replace('a/f', 'f')",
        "val by path": f"open('{house}/data/val.bin').read()",
        "val by a link in the code": f"open('{house}/code/link.bin').read()",
        "val by glob": f"os.listdir('{house}/data')",
        "val by a new link": f"os.symlink('{house}/data/val.bin', '{house}/out/l') or open('{house}/out/l').read()",
        "val by a hard link": f"os.link('{house}/data/val.bin', '{house}/out/hard')",
        "keys": f"open('{house}/keys/secret').read()",
        "records read": f"open('{house}/records/run.json').read()",
        "records": f"open('{house}/records/run.json', 'a').write('x')",
        "new record": f"open('{house}/records/other.json', 'w')",
        "code": f"open('{house}/code/model.py', 'a').write('x')",
        "code removed": f"os.unlink('{house}/code/model.py')",
        "code moved": f"os.rename('{house}/code/model.py', '{house}/out/model.py')",
        "code cut": f"os.truncate('{house}/code/model.py', 0)",
        "root's file": "open('/etc/shadow').read()",
        "elsewhere": "open('/tmp/golf-escape', 'w')",
        "a device": "os.mknod(os.environ['TMPDIR'] + '/mem', 0o20600, os.makedev(1, 1))",
    }
    found = attempts(
        actions,
        log,
        namespaced=namespaced,
        before="import os",
        read=(house / "code",),
        write=(house / "out",),
    )
    assert done(found) == {"own code", "own output", "own temporary file", "own file moved up"}, found
    assert (house / "code" / "model.py").read_text() == "code/model.py"


def test_a_cell_sees_the_paths_of_its_policy_and_no_others(house: Path, log: Path):
    actions = {
        "root": "sorted(os.listdir('/')) and os.stat('/').st_mode",
        "val": f"os.stat('{house}/data/val.bin')",
        "user accounts' secrets": "os.stat('/etc/shadow')",
        "own code": f"os.stat('{house}/code/model.py')",
        "dangling": f"os.stat('{house}/code/link.bin')",
        "a way through a link": "os.stat('/proc/self/exe').st_size > 0",
    }
    found = attempts(actions, log, before="import os", read=(house / "code",))
    assert done(found) == {"own code", "a way through a link"}, found


@ways
def test_a_cell_with_gpus_gets_what_cuda_asks_for_and_no_more(log: Path, namespaced: bool):
    """CUDA names a thread of its own by a file of /proc, and offers a local socket that nobody need use."""
    other = "[p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()][0]"
    actions = {
        "name a thread": "open('/proc/self/task/%d/comm' % threading.get_native_id(), 'w').write('cuda')",
        "offer": "s.bind(chr(0) + 'cuda-uvmfd-1-%d' % os.getpid()) or s.listen()",
        "accept": "s.accept()",
        "meet itself": "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(s.getsockname())",
        "Internet": "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "a sibling's name": f"open('/proc/%s/comm' % {other}, 'r+').write('x')",
        "the kernel's settings": "open('/proc/sys/vm/drop_caches', 'r+')",
        "the kernel's core handler": "open('/proc/sys/kernel/core_pattern', 'r+')",
        "its own memory file": "open('/proc/self/mem', 'r+b')",
        "keys of the console": "open('/proc/sysrq-trigger', 'w')",
    }
    before = (
        "import os, socket, threading\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.setblocking(False)"
    )
    found = attempts(actions, log, namespaced=namespaced, before=before, devices=(Path("/dev/null"),))
    assert done(found) == {"offer"} | ({"name a thread"} if has_own_proc() or not namespaced else set()), found
    assert found["accept"] == "refused: PermissionError"


@ways
@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/sys/vm/drop_caches", os.W_OK), reason="needs root to empty the page cache")
def test_a_rank_names_threads_also_when_the_kernel_ran_short_of_memory(log: Path, namespaced: bool, tmp_path: Path):
    (shared := tmp_path / "shared").mkdir()
    program = (
        "import os, time\n"
        "def name(): open('/proc/self/task/%d/comm' % os.getpid(), 'w').write('cuda')\n"
        "name(); print('first', flush=True)\n"
        f"while not os.path.exists({str(shared / 'go')!r}): time.sleep(0.01)\n"
        "name(); print('second', flush=True)"
    )
    with running(program, log, namespaced=namespaced, devices=(Path("/dev/null"),), write=(shared,)) as cell:
        wait_for(lambda: "first" in log.read_text())
        Path("/proc/sys/vm/drop_caches").write_text("2")
        (shared / "go").touch()
        wait_for(lambda: None not in cell.exit_codes())
        assert cell.exit_codes() == [0], log.read_text()


@ways
def test_ranks_signal_each_other_and_keep_their_files_apart(log: Path, namespaced: bool):
    program = (
        "import os, signal, time\n"
        "got = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: got.append(1))\n"
        f"note = '/dev/shm/ready-' if {namespaced} else os.environ['TMPDIR'] + '/ready-'\n"
        "mine = int(os.environ['RANK'])\n"
        "open(note + 'part%d' % mine, 'w').write(str(os.getpid()))\n"
        "os.rename(note + 'part%d' % mine, note + str(mine))\n"
        "while not os.path.exists(note + str(1 - mine)): time.sleep(0.01)\n"
        "other = int(open(note + str(1 - mine)).read())\n"
        "os.kill(other, signal.SIGUSR1)\n"
        "try: open('/proc/%d/task/%d/comm' % (other, other), 'r+').write('x'); print('written')\n"
        "except OSError: print('apart')\n"
        "while not got: time.sleep(0.01)\n"
        "print('signalled', flush=True)"
    )
    ended = run_in_cell(program, log, ranks=2, namespaced=namespaced, devices=(Path("/dev/null"),))
    assert ended.codes == [0, 0], ended.text
    assert sorted(ended.text.split()) == ["apart", "apart", "signalled", "signalled"]


@ways
@pytest.mark.rule("S1-ISOLATION")
def test_calls_that_no_phase_needs_are_refused(log: Path, namespaced: bool):
    before = (
        "import ctypes, os, errno\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(*a):\n"
        "    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
    )
    calls = {
        "ptrace": (101, 16, 1, 0, 0),
        "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
        "keyctl": (250, 0, -3, 0),
        "bpf": (321, 0, 0, 0),
        "unshare": (272, 0x10000000),
        "mount": (165, 0, 0, 0, 0, 0),
        "clone into a namespace": (56, 0x10000011, 0, 0, 0, 0),
        "io_uring": (425, 1, 0),
        "shmget": (29, 0, 4096, 0o1600),
        "setting the clock": (227, 0, 0),
        "userfaultfd": (323, 0),
        "x32 call table": (0x40000000 + 39,),
    }
    found = attempts(
        {name: f"call{numbers}" for name, numbers in calls.items()}, log, namespaced=namespaced, before=before
    )
    assert set(found.values()) == {"refused: PermissionError"}, found


@ways
def test_nothing_is_inherited_but_the_channel(log: Path, namespaced: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    secret = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(secret, True)
    program = (
        "import os, json\n"
        "fds = []\n"
        "for fd in range(4096):\n"
        "    try: os.fstat(fd); fds.append(fd)\n"
        "    except OSError: pass\n"
        "print('RESULTS' + json.dumps([fds, dict(os.environ)]))"
    )
    try:
        ended = run_in_cell(program, log, namespaced=namespaced, env={"GOLF_PHASE": "eval"})
    finally:
        os.close(secret)
    fds, environment = json.loads(ended.text.split("RESULTS")[1])
    assert fds == [0, 1, 2, 3]
    known = {"PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "RANK", "GOLF_PHASE", "GOLF_CHANNEL_FD"}
    inherited = {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME"}
    assert set(environment) <= known | inherited
    assert environment["GOLF_CHANNEL_FD"] == "3"


@ways
def test_where_memory_runs_out_the_kernel_takes_a_cell_before_the_referee(log: Path, namespaced: bool):
    actions = {"score": "open('/proc/self/oom_score_adj').read()", "lower": "open('/proc/self/oom_score_adj', 'w')"}
    found = attempts(actions, log, namespaced=namespaced)
    assert found["score"] == r"done: '1000\n'"
    assert found["lower"].startswith("refused")


def test_multicast_on_the_links_of_gpus_is_off_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NVSHMEM_DISABLE_NVLS", raising=False)
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "1")
    environment = cell_environment(Path("/home"), gpus=True)
    assert environment["NVSHMEM_DISABLE_NVLS"] == environment["TORCH_SYMM_MEM_DISABLE_MULTICAST"] == "1"
    assert environment["NCCL_NVLS_ENABLE"] == "1"
    assert "NCCL_NVLS_ENABLE" not in cell_environment(Path("/home"), gpus=False)


@ways
def test_the_temporary_folder_is_private_and_wiped_also_deeper_than_python_goes(log: Path, namespaced: bool):
    program = "import os\nos.chdir(os.environ['HOME'])\nfor _ in range(1_500):\n os.mkdir('d', 0o300)\n os.chdir('d')"
    ended = run_in_cell(program, log, namespaced=namespaced)
    assert ended.codes == [0], ended.text
    assert not ended.home.exists()


def test_shared_memory_does_not_reach_the_next_phase_or_the_machine(log: Path):
    program = "open('/dev/shm/golf-note', 'w').write('for the next phase'); print('written')"
    ended = run_in_cell(program, log)
    assert "written" in ended.text
    assert not Path("/dev/shm/golf-note").exists()
    found = attempts({"note": "open('/dev/shm/golf-note').read()"}, log.with_name("second.log"))
    assert found["note"].startswith("refused")


@pytest.fixture
def outsider() -> Iterator[int]:
    """Number of a process of this user that no process of a cell shares: in a container numbers are low outside too."""
    sleepers = [subprocess.Popen(["sleep", "60"])]
    while sleepers[-1].pid <= 64:
        sleepers.append(subprocess.Popen(["sleep", "60"]))
    yield sleepers[-1].pid
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()


def test_other_processes_are_out_of_sight_and_reach(log: Path, outsider: int):
    found = attempts(
        {
            "signal": f"os.kill({outsider}, 0)",
            "its files": f"os.listdir('/proc/{outsider}/fd')",
            "the first process's memory": "open('/proc/1/mem', 'r+b')",
            "the first process's files": "os.readlink('/proc/1/fd/1')",
            "its own": "len(os.listdir('/proc/self/fd')) > 0",
        },
        log,
        before="import os",
    )
    assert done(found) == {"its own"}, found


@pytest.mark.rule("S1-ISOLATION")
def test_nothing_of_another_process_is_set_from_a_cell_without_a_namespace_either(log: Path):
    """Limits of the referee itself would keep a note for the next cell, and end it where they are low."""
    limit = f"resource.prlimit({os.getpid()}, resource.RLIMIT_MSGQUEUE"
    actions = {
        "signal": f"os.kill({os.getpid()}, 0)",
        "limit": f"{limit}, (1, 1))",
        "limit asked": f"{limit})",
        "priority": f"os.setpriority(os.PRIO_PROCESS, {os.getpid()}, 19)",
        "scheduler": f"os.sched_setscheduler({os.getpid()}, os.SCHED_IDLE, os.sched_param(0))",
    }

    def mine() -> tuple[object, ...]:
        limits = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
        return os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), limits

    before = mine()
    found = attempts(actions, log, namespaced=False, before="import os, resource")
    assert mine() == before, found
    assert all(found[name].startswith("refused") for name in ("signal", "limit", "limit asked")), found


@ways
def test_a_memory_limit_ends_in_a_memory_error(log: Path, namespaced: bool):
    found = attempts({"big": "len(bytearray(500_000_000))"}, log, namespaced=namespaced, memory_bytes=200_000_000)
    assert found["big"] == "refused: MemoryError"


@ways
def test_a_file_cannot_grow_past_its_limit(house: Path, log: Path, namespaced: bool):
    big = f"{house}/out/big"
    action = f"open('{big}', 'wb', 0).write(bytes(3_000_000)) + open('{big}', 'ab', 0).write(b'x')"
    found = attempts({"big": action}, log, namespaced=namespaced, write=(house / "out",), file_bytes=2_000_000)
    assert found["big"].startswith("refused: OSError")
    assert (house / "out" / "big").stat().st_size <= 2_000_000


def test_no_rights_are_left_even_for_root(log: Path):
    ended = run_in_cell("print(open('/proc/self/status').read())", log)
    status = dict(line.split(":\t", 1) for line in ended.text.splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {0}
    assert status["Seccomp"] == "2"


def test_the_log_and_the_exit_code_of_each_rank_come_back(log: Path):
    program = "import os, sys; print('rank', os.environ['RANK']); sys.exit(3 * int(os.environ['RANK']))"
    ended = run_in_cell(program, log, ranks=3)
    assert ended.codes == [0, 3, 6]
    assert sorted(ended.text.split("\n")) == ["", "rank 0", "rank 1", "rank 2"]
