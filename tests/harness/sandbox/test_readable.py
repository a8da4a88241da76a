"""What a cell may read of the machine is what it needs to run, and nothing of the referee's lies in it."""

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from cells import attempts, done, run_in_cell, running, spec, wait_for, ways

from harness.errors import CouldNotCheck
from harness.sandbox import policy, runtime
from harness.sandbox.cell import Cell
from harness.sandbox.landlock import DEVICE, READ_FILE

STDLIB = Path(os.__file__).parent


@ways
@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
def test_texts_of_the_machine_are_out_of_reach(log: Path, namespaced: bool):
    torch = Path(runtime.metadata.distribution("torch").locate_file("torch"))
    places = {
        "manual": STDLIB / "pydoc_data" / "topics.py",
        "test data": next(path for path in (STDLIB / "test").rglob("*.txt")),
        "test data of a package": next(path for path in (torch.parent / "numpy").glob("**/tests/data/*.csv")),
        "licence": torch.parent / f"torch-{runtime.metadata.version('torch')}.dist-info" / "METADATA",
        "headers": torch / "include" / "ATen" / "ATen.h",
        "another package": torch.parent / "pygments" / "__init__.py",
        "system's texts": Path("/usr/share/common-licenses/GPL-3"),
        "programs": Path("/usr/bin/env"),
        "own interpreter": Path(sys.executable),
        "its library": STDLIB / "json" / "__init__.py",
        "torch": torch / "__init__.py",
    }
    found = attempts(
        {name: f"open({str(path)!r}, 'rb').read(1)" for name, path in places.items()}, log, namespaced=namespaced
    )
    assert done(found) == {
        "own interpreter",
        "its library",
        "torch",
    }


def test_whoever_may_compile_may_read_compilers(log: Path):
    found = attempts(
        {"env": "open('/usr/bin/env', 'rb').read(1)", "words": "open('/usr/share/dict/words')"}, log, tools=True
    )
    assert found["env"].startswith("done")
    assert found["words"].startswith("refused")


@ways
@pytest.mark.rule("A4-EVAL-NO-DATA")
def test_a_library_folder_is_no_way_to_data(tmp_path: Path, log: Path, namespaced: bool, monkeypatch):
    """Of LD_LIBRARY_PATH a cell reads the shared objects, and only where programs may be run."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name in ("val.bin", "libown.so.1", "secret.pem"):
        (shelf / name).write_text(name)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{shelf}:{tmp_path}")
    monkeypatch.setattr(policy, "runtime", runtime.runtime.__wrapped__)  # what it found before is for other folders
    actions = {name: f"open('{shelf}/{name}').read()" for name in ("val.bin", "libown.so.1", "secret.pem")}
    for tools, wanted in ((False, set()), (True, {"libown.so.1"})):
        found = attempts(actions, log.with_name(f"{tools}.log"), namespaced=namespaced, tools=tools)
        assert done(found) == wanted


def test_an_environment_at_the_root_of_the_project_opens_nothing_of_it(tmp_path: Path):
    """``python -m venv .`` puts the interpreter's prefix where the records and the keys are."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    code = (
        "import json; from harness.sandbox.runtime import runtime\n"
        "parts = runtime(('torch',), tools=True, gpus=False)\n"
        "print(json.dumps([[str(path) for path in part.paths + part.mounts] for part in parts]))"
    )
    root = Path(__file__).parents[3]
    paths = f"import sys; sys.path += [{str(root)!r}, *{[place for place in sys.path if 'site-packages' in place]}]\n"
    answer = subprocess.run(
        [tmp_path / "bin" / "python", "-c", paths + code], check=True, capture_output=True, text=True
    )
    found = {Path(path) for part in json.loads(answer.stdout) for path in part}
    below = {str(path.relative_to(tmp_path)).split("/")[0] for path in found if path.is_relative_to(tmp_path)}
    assert below == {"bin", "pyvenv.cfg"}


@pytest.mark.rule("S1-ISOLATION")
@pytest.mark.parametrize("name", ["cache", "keys", "records", "runs"])
def test_a_guarded_folder_inside_a_readable_one_stops_the_start(tmp_path: Path, log: Path, name: str):
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "package")  # which does not hide that one lies in the other
    run = "print('the first line')"
    base = spec(run, log, read=(tmp_path / "package",), guarded={name: (tmp_path / "link" / "inner",)})
    with pytest.raises(CouldNotCheck, match="which every cell may read") as refused, Cell(base, strict=False) as holed:
        holed.start()
    assert str(tmp_path / "package" / "inner") in refused.value.message
    assert f"GOLF_{name.upper()}_DIR" in refused.value.remedy
    assert log.read_text() == "", "a line of the submission ran"
    twin = spec("pass", log, read=(tmp_path / "package",), guarded={name: (tmp_path / "beside",)})
    with Cell(twin, strict=False) as sound:
        sound.start()


@pytest.mark.rule("A4-EVAL-NO-DATA")
def test_a_distribution_that_lists_places_elsewhere_opens_none_of_them(tmp_path: Path, monkeypatch):
    about = tmp_path / "odd-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (about / "RECORD").write_text("/etc/odd.conf,,\n../../odd,,\nodd/__init__.py,,\n")
    (tmp_path / "odd").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (part,) = (part for part in runtime.runtime(("odd",), tools=False, gpus=False) if part.name == "odd 1.0")
    assert part.paths == (tmp_path / "odd",)


@ways
def test_a_link_that_leads_nowhere_opens_nothing_and_stops_nothing(tmp_path: Path, log: Path, namespaced: bool):
    """As Ubuntu's ``sitecustomize.py`` does where the file in /etc is gone."""
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    found = attempts({"link": f"open('{tmp_path}/link')"}, log, namespaced=namespaced, read=(tmp_path / "link",))
    assert found["link"].startswith("refused")


@ways
def test_the_cell_tries_what_it_may_not_read_and_says_so(tmp_path: Path, log: Path, namespaced: bool):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val.bin").write_text("x")
    guarded = {"data": (tmp_path / "data", tmp_path / "data" / "val.bin")}
    with running("pass", log, namespaced=namespaced, ranks=2, guarded=guarded) as cell:
        assert (
            str(cell.layers["guarded"]) == "in force: each rank tried to open 2 files and folders of data: all refused"
        )


def test_what_opens_although_nothing_grants_it_stops_the_run(tmp_path: Path, log: Path, monkeypatch):
    """As a bind mount or a hole in the kernel would have it: here a rule that the referee does not remember."""
    (tmp_path / "val.bin").write_text("x")
    real, asked = policy.landlock_rules, []
    monkeypatch.setattr(policy, "landlock_rules", lambda *a: [] if asked else asked.append(1) or real(*a))
    guarded = {"data": (tmp_path / "val.bin",)}
    holed = Cell(spec("pass", log, read=(tmp_path,), guarded=guarded), strict=False)
    with pytest.raises(CouldNotCheck, match=r"val\.bin \(data\) is granted to nobody"), holed:
        holed.start()


def test_libraries_are_found_as_the_loader_finds_them():
    """What a running interpreter has mapped is among what its files ask for."""
    mapped = {
        Path(line.split()[-1]).resolve()
        for line in Path("/proc/self/maps").read_text().splitlines()
        if ".so" in line and not ("site-packages" in line or "lib-dynload" in line)
    }
    modules = list((STDLIB / "lib-dynload").glob("*.so"))
    found = {
        path.resolve() for path in runtime.libraries_of([Path(sys.executable), *modules], extra=("libgcc_s.so.1",))
    }
    wanted = {path for path in mapped if path.name.startswith(("libc.", "libc-", "libm.", "libm-", "ld-", "libpython"))}
    assert wanted
    assert wanted <= found


def test_places_that_can_not_be_looked_at_are_passed_over():
    """A Python that was moved names the folders of its old home, which may be closed; so do its programs' RPATHs."""
    closed = "/" + "x" * 300  # too long for a name, which root can't look at either
    assert runtime.existing((closed, STDLIB)) == (STDLIB,)
    program = [Path(sys.executable)]
    assert runtime.libraries_of(program, first=(closed,)) == runtime.libraries_of(program) != set()


@pytest.mark.parametrize("damage", [0, 4, 17, 40, 63, 64, 200])
def test_a_damaged_library_needs_nothing(tmp_path: Path, damage: int):
    data = bytearray(Path(sys.executable).resolve().read_bytes()[:4096])
    data[damage : damage + 8] = b"\xff" * 8
    (tmp_path / "broken.so").write_bytes(data)
    assert len(runtime.read_needs(tmp_path / "broken.so")) == 3


@pytest.mark.parametrize("devices", [(), (Path("/dev/null"),)], ids=["no GPU", "GPU"])
def test_whatever_a_cell_may_read_on_a_disk_is_listed_and_brought_into_memory(tmp_path: Path, devices):
    """Settings in /etc were neither: no record named their bytes, and a page fault told what an earlier cell read."""
    granted = spec("", tmp_path / "log", read=(tmp_path,), devices=devices).policy
    rules = policy.landlock_rules(granted, tmp_path / "home")
    asked = {path for path, rights in rules if rights & READ_FILE and rights != DEVICE and path != rules[-1][0]}
    on_disk = {path for path in asked if not path.startswith(("/proc/", "/sys/"))}
    assert "/etc/passwd" in on_disk
    assert on_disk == {str(path) for part in granted.runtime for path in part.paths} | {str(tmp_path)}


def test_the_inventory_counts_what_is_there(tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1234")
    (tmp_path / "code" / "a.pyc").write_text("compiled")
    part = runtime.Part("mine", (tmp_path / "code",))
    ((_, files, size, first),) = runtime.inventory((part,))
    (tmp_path / "code" / "a.pyc").write_text("compiled again")
    ((*_, again),) = runtime.inventory((runtime.Part("mine", (tmp_path / "code",), mounts=(tmp_path,)),))
    (tmp_path / "code" / "a.py").write_text("4321")
    ((*_, other),) = runtime.inventory((runtime.Part("other", (tmp_path / "code",)),))
    assert (files, size) == (2, 12)
    assert again == first != other
    (tmp_path / "code" / "own.py").write_text("123")
    parts = (part, runtime.Part("shares its folder", (tmp_path / "code",)))  # as nvidia-cublas and nvidia-cudnn do
    assert [counts[1:3] for counts in runtime.inventory(parts)] == [(3, 21), (0, 0)]
    digests = set()
    for text in ("text", "told"):  # a source can't hide behind a compiled copy that is the same file
        (tmp_path / "code" / "a.pyc").write_text(text)
        (tmp_path / "code" / "b.py").unlink(missing_ok=True)
        (tmp_path / "code" / "b.py").hardlink_to(tmp_path / "code" / "a.pyc")
        digests.add(runtime.inventory((runtime.Part(text, (tmp_path / "code",)),))[0][3])
    assert len(digests) == 2


@ways
def test_training_may_start_processes_that_hand_it_tensors(log: Path, namespaced: bool):
    """Sockets among the cell's own processes, as a DataLoader with workers uses them; none leads out."""
    before = "import os, socket\nhere = os.environ['HOME'] + '/s'\nserver = None"
    actions = {
        "listen": "globals().update(server=socket.socket(socket.AF_UNIX)) or server.bind(here) or server.listen()",
        "connect": "globals().update(client=socket.socket(socket.AF_UNIX)) or client.connect(here)",
        "accept": "server.accept() and 1",
        "Internet": "socket.socket(socket.AF_INET)",
        "the machine's services": "socket.socket(socket.AF_UNIX).connect('/run/systemd/notify')",
    }
    found = attempts(actions, log, namespaced=namespaced, before=before, network="local")
    assert done(found) == ({"listen", "connect", "accept"} if namespaced else set()), found
    assert attempts(actions, log.with_name("none.log"), before=before)["listen"].startswith("refused")


def test_a_cell_stays_on_its_cores(log: Path):
    core = min(os.sched_getaffinity(0))
    actions = {
        "widen": f"os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))})",
        "held": "os.sched_getaffinity(0)",
    }
    found = attempts(actions, log, before="import os", cores=(core,))
    assert found["held"] == f"done: {{{core}}}"


@pytest.mark.parametrize(
    ("limit", "value"), [("NOFILE", 32), ("FSIZE", 1000), ("CPU", 60), ("AS", 10_000_000), ("STACK", 1 << 17)]
)
def test_a_low_limit_of_the_shell_is_named_and_no_fault_of_the_submission(limit: str, value: int, tmp_path: Path):
    program = (
        "import resource, sys, os; from pathlib import Path; from harness.errors import CouldNotCheck;"
        "from harness.sandbox.policy import SandboxPolicy, refuse_low_limits\n"
        "get = resource.getrlimit\n"
        f"resource.getrlimit = lambda kind: (0, {value}) if kind == resource.RLIMIT_{limit} else get(kind)\n"
        "try: refuse_low_limits(SandboxPolicy((), (), 'none', (), 10**9, 10**6, 64)); print('nothing')\n"
        "except CouldNotCheck as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"RLIMIT_{limit}" in answer.stdout
    assert "ulimit -" in answer.stdout


def test_a_folder_for_sockets_whose_path_is_too_long_stops_the_start_of_cells_that_need_them(monkeypatch):
    """Linux takes 107 bytes for a socket's name; a DataLoader whose workers can't bind theirs hangs."""
    for length, network, stopped in ((55, "local", True), (54, "local", False), (90, "none", False)):
        monkeypatch.setattr(policy.tempfile, "gettempdir", lambda length=length: "/" + "t" * (length - 1))
        expected = pytest.raises(CouldNotCheck, match="no room in it") if stopped else contextlib.nullcontext()
        with expected:
            policy.refuse_low_limits(policy.SandboxPolicy((), (), network, (), 10**9, 10**6, 64))


def test_a_small_stack_of_the_shell_does_not_reach_a_cell(log: Path):
    """With 128 KiB native code crashes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    for own, more in ((1 << 17, 8 << 20), (1 << 24, 1 << 24)):
        try:
            resource.setrlimit(resource.RLIMIT_STACK, (own, hard))
            ended = run_in_cell("import resource; print(resource.getrlimit(resource.RLIMIT_STACK)[0])", log)
        finally:
            resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
        assert ended.text.split()[-1] == str(more)


@pytest.mark.parametrize(("most", "stopped"), [("60", True), ("4096", False), ("max", False)])
def test_a_control_group_for_few_processes_stops_the_start(most: str, stopped: bool, tmp_path: Path, monkeypatch):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "pids.max").write_text(f"{most}\n")
    (tmp_path / "job" / "pids.current").write_text("7\n")
    (tmp_path / "own").write_text("1:name=systemd:/\n0::/job/inner\n")
    monkeypatch.setattr(policy, "GROUPS", tmp_path)
    monkeypatch.setattr(policy, "OWN_GROUPS", tmp_path / "own")
    expected = pytest.raises(CouldNotCheck, match="takes 60 processes") if stopped else contextlib.nullcontext()
    with expected:
        policy.refuse_low_limits(policy.SandboxPolicy((), (), "none", (), 10**9, 10**6, 64))


def test_threads_that_run_already_do_not_count_as_the_cells():
    from cells import policy

    from harness.sandbox.policy import resource_limits, threads_of_user

    assert threads_of_user() >= 1
    assert resource_limits(policy(processes=64))["RLIMIT_NPROC"] > 64


@ways
def test_a_parent_that_ignores_its_children_changes_nothing(tmp_path: Path, namespaced: bool):
    """SIGCHLD ignored, and TERM blocked, are inherited over exec: a cell still starts and tells how it ended."""
    program = (
        "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "from pathlib import Path; from cells import done, run_in_cell\n"
        "code = 'import signal, sys; sys.exit(3 + (signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL)"
        " + len(signal.pthread_sigmask(signal.SIG_BLOCK, [])))'\n"
        f"print(run_in_cell(code, Path({str(tmp_path / 'log')!r}), namespaced={namespaced}).codes)"
    )
    support = Path(__file__).parents[2] / "support"
    environment = os.environ | {"PYTHONPATH": f"{support}:{Path(__file__).parents[3]}"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert answer.stdout.strip() == "[3]", answer.stderr


def test_what_cells_read_is_in_memory_before_them_or_out_of_it_whatever_an_earlier_one_did(tmp_path: Path):
    file = tmp_path / "code" / "large.bin"
    file.parent.mkdir()
    file.write_bytes(bytes(3_000_000))
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        if not runtime.is_resident(opened.fileno(), 3_000_000):
            pytest.skip("needs Linux 6.5 or newer, which reports what of a file is in memory")
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if runtime.is_resident(opened.fileno(), 3_000_000):
            pytest.skip("needs a file system that drops cached pages when asked, which a tmpfs does not")
        runtime.make_resident((), (tmp_path / "code",))
        assert runtime.is_resident(opened.fileno(), 3_000_000)
        part = runtime.Part(runtime.TOOLS, (tmp_path / "code",))
        # The advice drops no page that a busy kernel just holds: what is left goes the next time.
        wait_for(lambda: runtime.turn_out((part,)) or not runtime.is_resident(opened.fileno(), 1))
