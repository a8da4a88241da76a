"""Values, names, streams and file systems of the user's own: nothing of them is run, and each ends in a plain word."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import files, program
from harness.config import variables
from harness.config.tracks import Hardware
from harness.errors import UsageError, machine_trouble
from harness.files import write_atomic
from harness.fleet.engines import worker_command
from harness.fleet.queue import Queue
from harness.text import guarded_streams

ROOT = Path(__file__).parents[3]
HARNESS = Path(sys.executable).with_name("harness")

OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # the suite may itself run under make, which tells the next one


def make(tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``make`` in a folder with the Makefile and an environment whose harness prints what it was given."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    command = tmp_path / ".venv" / "bin" / "harness"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(
        '#!/bin/sh\nfor word; do printf "<%s>" "$word"; done; printf "$SUBMISSION $SEED $TRACK"\n'
        'test "$PYTHONPATH" != x || printf PYTHONPATH\n'
        'printf "$GIVEN_TO_MAKE" >&2\n'
    )
    command.chmod(0o755)
    shutil.copy(command, command.with_name("python"))
    (tmp_path / ".venv" / ".made").write_text(f"{tmp_path.resolve()}\n")
    for stamp in (".installed", ".installed-train"):
        (tmp_path / ".venv" / stamp).touch()
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE} | variables
    return subprocess.run(["make", *words], cwd=tmp_path, env=own, capture_output=True, text=True, check=False)


HOSTILE = (
    "x;touch ran;#",
    "$(shell touch ran)",
    "`touch ran`",
    '"; touch ran; "',
    "'; touch ran; '",
    "$$(touch ran)",
    "-h",
)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("way", ["argument", "environment", "make -e"])
def test_a_value_given_to_make_is_text(tmp_path: Path, value: str, way: str):
    words = {"argument": [f"FOLDER={value}"], "environment": [], "make -e": ["-e"]}[way]
    done = make(tmp_path, "check", *words, **({} if way == "argument" else {"FOLDER": value}))
    assert not (tmp_path / "ran").exists()
    assert done.stdout.strip() == f"<check><folder><--><{value}>"


@pytest.mark.parametrize("name", ["SEEDS", "OUT"])
def test_the_table_of_claims_takes_its_variables_as_text(tmp_path: Path, name: str):
    make(tmp_path, "seed-table", **{name: " ".join(HOSTILE)})
    assert not (tmp_path / "ran").exists()
    done = make(tmp_path, "seed-table", "SEEDS=1 2", "OUT=my folder")
    assert done.stdout.strip() == "<tests/bench/seed_table.py><--run><1><2><--out><my folder/seed.md>"


def test_make_hands_its_variables_to_the_command(tmp_path: Path):
    done = make(tmp_path, "submit", "SUBMISSION=mine", "SEED=5", "TRACK=smoke", PYTHONPATH="x")
    assert done.stdout == "<submit>mine 5 smoke"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("submit EPOCHS=3 OUT=x", {"EPOCHS", "OUT"}),
        ("check FOLDER=x RECORD=y", {"RECORD"}),
        ("rerun RECORD=y GIVEN_TO_MAKE=x", {"GIVEN_TO_MAKE"}),
        ("verify TRACK=x MAKEFLAGS=-k SHELL=/bin/sh PYTHON=python3", {"TRACK"}),
        ("verify report OUT=x", set()),
    ],
)
def test_make_tells_a_command_which_names_it_was_given(tmp_path: Path, words: str, told: set[str]):
    done = make(tmp_path, *words.split())
    assert set(done.stderr.split()) == told, done
    assert make(tmp_path, *words.split(), MAKELEVEL="1").stderr == ""  # another Makefile's variables come along


def test_constraints_that_are_not_there_are_no_fault_of_the_package_index(tmp_path: Path):
    done = make(tmp_path, "setup-dev", "CONSTRAINTS=other.txt")
    assert (done.returncode, "CONSTRAINTS is no file that can be read" in done.stderr) == (2, True)
    assert "package index" not in done.stderr


@pytest.mark.parametrize("name", ["PYTHON", "CONSTRAINTS", "VENV", "BIN", "PIP", "CORE_STAMP", "SEED", "OUT"])
def test_no_variable_of_make_is_run(tmp_path: Path, name: str):
    for value in HOSTILE[:3]:
        make(tmp_path, "verify", f"{name}={value}")
        assert not (tmp_path / "ran").exists(), value


def test_a_copied_environment_is_made_anew_and_a_moved_stamp_is_not_believed(tmp_path: Path):
    make(tmp_path, "verify")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copy"))
    done = subprocess.run(["make", "verify", "PYTHON=false"], cwd=copy, capture_output=True, text=True, check=False)
    assert "Python 3.11 or newer is needed" in done.stderr  # it set out to make the environment
    assert done.returncode != 0


def test_a_copied_environment_does_not_run_the_original_s_referee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = Path(sys.prefix) / "bin" / "harness"
    monkeypatch.setattr(sys, "argv", [str(own)])
    program.refuse_surroundings()
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").write_text("")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "harness")])
    with pytest.raises(UsageError, match=r"is a copy of the environment .*make it anew"):
        program.refuse_surroundings()


@pytest.mark.parametrize("name", ["harness", "pip"])
def test_nothing_is_imported_from_the_working_folder(tmp_path: Path, monkeypatch, name: str):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("open('ran', 'w')")
    (tmp_path / "json.py").write_text("open('ran', 'w')")
    queue = Queue(tmp_path / "queue")
    monkeypatch.chdir(tmp_path)
    job = queue.add([sys.executable, "-c", "print('{}')"], needs=Hardware(0, 0), title="t")
    done = subprocess.run(worker_command(queue, job), cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert queue.result(job) is not None
    # Whatever a command starts itself inherits the same.
    start = f"import sys, os; sys.path.insert(0, {str(ROOT)!r}); from harness.cli.main import run\n"
    start += "try: run(['--version'])\nexcept SystemExit: os.execvp('mine', ['mine', '-c', 'import json'])"
    (tmp_path / "mine").write_text("#!/bin/sh\n: > ran\n")
    (tmp_path / "mine").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mine").symlink_to(sys.executable)
    own = os.environ | {"PATH": f":.:{tmp_path}/bin:{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-P", "-c", start], cwd=tmp_path, check=True, capture_output=True, env=own)
    assert not (tmp_path / "ran").exists()


def test_no_file_beside_the_referee_s_folder_runs_where_a_cell_is_started(tmp_path: Path):
    """That process is outside the sandbox, and in a clone the folder beside is the working folder."""
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("resource", "tomllib", "msvcrt"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    launcher = tmp_path / "harness" / "sandbox" / "launcher.py"
    done = subprocess.run([sys.executable, "-I", "-S", "-B", launcher], input=b"", capture_output=True, check=False)
    assert b"JSONDecodeError" in done.stderr, "it came as far as reading its order"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [("{0}", 0, ""), ("/opt:", 2, "an empty or relative entry"), ("/opt:.", 2, "an empty or relative entry")],
)
def test_no_module_of_pythonpath_stands_in_for_the_referee_s(tmp_path: Path, given: str, code: int, says: str):
    (tmp_path / "msgspec.py").write_text("open('ran', 'w')")
    done = subprocess.run(
        [HARNESS, "--version"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": given.format(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, says in done.stderr) == (code, True)
    assert not (tmp_path / "ran").exists()


def test_a_working_folder_that_was_removed_is_no_broken_rule(tmp_path: Path):
    done = shell(f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; $0 verify", tmp_path)
    assert (done.returncode, "the working folder was removed" in done.stderr) == (3, True)


def test_escapes_in_a_file_name_do_not_reach_the_terminal(tmp_path: Path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "\x1b[31mred\u202e").symlink_to("nowhere")
    done = subprocess.run(
        [HARNESS, "submit", "--submission", folder], capture_output=True, text=True, check=False, env=quiet(tmp_path)
    )
    assert done.returncode == 2
    assert "\\u001b[31mred\\u202e is a symbolic link" in done.stderr
    assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr)


def quiet(tmp_path: Path) -> dict[str, str]:
    names = ("CACHE", "KEYS", "RUNS", "RECORDS")
    return os.environ | {f"GOLF_{name}_DIR": str(tmp_path / name.lower()) for name in names}


def shell(line: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line, str(HARNESS), str(ROOT)],
        env=quiet(tmp_path) | variables, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('"$0" data list 2>&-', 0),
        ('"$0" data list >&-', 0),
        ('"$0" data list <&- >&- 2>&-', 0),
        ('"$0" verify nowhere 2>&-', 3),
        ('"$0" data list > /dev/full', 3),
        ('"$0" data list 2> /dev/full', 0),
        ('"$0" verify nowhere > /dev/full 2>&1', 3),
        ('"$0" nothing 2> /dev/full', 2),
        ('"$0" data list | (exec <&-; sleep 1); exit ${PIPESTATUS[0]}', 0),
        ('"$0" keys --help | true; exit ${PIPESTATUS[0]}', 0),
    ],
)
def test_the_exit_code_does_not_depend_on_who_reads_the_output(tmp_path: Path, line: str, code: int):
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["check", "--explain", "S5-DETERMINISM"], 0, "S5-DETERMINISM"),
        (["check", "claims", "claim.md"], 0, "“Mean 1.0805 bpb, std 4×10⁻⁴ over 3 seeds.”"),
        (["verify", "日本"], 3, "日本"),
    ],
)
def test_what_an_encoding_lacks_is_replaced(tmp_path: Path, encoding: str, words: list[str], code: int, said: str):
    table = "| Seed | val_bpb |\n|---|---|\n| 1 | 1.0801 |\n| 2 | 1.0809 |\n| 3 | 1.0805 |\n\n"
    (tmp_path / "claim.md").write_text(f"{table}Mean 1.0805 bpb, std 4×10⁻⁴ over 3 seeds.\n")
    done = subprocess.run(
        [HARNESS, *words], cwd=tmp_path, capture_output=True, check=False,
        env=quiet(tmp_path) | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    out = done.stdout + done.stderr
    assert done.returncode == code, out
    assert said.encode(encoding, "replace") in out
    assert b"Traceback" not in out


def test_json_stays_the_same_document_behind_the_guard(capsys: pytest.CaptureFixture[str]):
    import json

    with guarded_streams():
        print(json.dumps({"name": "a\x9b\u202e\x1b"}, ensure_ascii=False))
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": "a\x9b\u202e\x1b"}
    assert "\x9b" not in out


def test_a_user_without_a_home_is_told_which_folders_to_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def nobody(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(variables.platformdirs, "user_cache_dir", nobody)
    monkeypatch.delenv("GOLF_CACHE_DIR", raising=False)
    with pytest.raises(UsageError, match="GOLF_CACHE_DIR and GOLF_KEYS_DIR"):
        variables.cache_dir()
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path))
    assert variables.cache_dir() == tmp_path


def refusing(number: int):
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("call", "number"), [("link", errno.EPERM), ("fchmod", errno.EPERM), ("link", errno.EOPNOTSUPP)]
)
def test_a_file_system_without_links_or_modes_is_named(tmp_path: Path, monkeypatch, call: str, number: int):
    monkeypatch.setattr(os, call, refusing(number))
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        write_atomic(tmp_path / "x", b"", replace=False)
    said = machine_trouble(caught.value)
    assert f"file system of {tmp_path} does not permit it" in said.message
    assert "lack file modes and hard links" in said.message
    assert "GOLF_RECORDS_DIR" in said.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_file_never_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for path in (pipe, link, Path("/dev/golf-of-a-test")):  # as /dev/stdout, a link to where the output goes
        with pytest.raises(UsageError, match="is a device or a pipe"):
            write_atomic(path, b"", replace=True)
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)


def test_a_folder_that_cannot_be_synced_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: refusing(errno.EINVAL)() if Path(f"/proc/self/fd/{fd}").is_dir() else real(fd)
    )
    write_atomic(tmp_path / "x", b"whole", replace=False)
    assert (tmp_path / "x").read_bytes() == b"whole"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.ENOENT])
def test_a_folder_that_can_not_be_used_is_named_with_the_way_out(number: int):
    assert "GOLF_CACHE_DIR" in machine_trouble(OSError(number, "no", "/etc/passwd/.cache")).remedy
    assert machine_trouble(OSError(number, "no")).remedy == ""  # of what nobody named


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644)])
def test_two_users_of_a_group_write_to_one_folder_where_their_umask_says_so(tmp_path: Path, umask: int, mode: int):
    before = os.umask(umask)
    try:
        with files.locked(tmp_path / ".lock"):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(("umask", "mode"), [("0777", 0o700), ("0177", 0o700), ("0022", 0o755)])
def test_a_mask_for_the_owner_too_does_not_take_his_own_folders_from_him(tmp_path: Path, umask: str, mode: int):
    """Else a cell can't read what it wrote, and that would look like its own fault."""
    assert shell(f'umask {umask}; "$0" keys new', tmp_path).returncode == 0
    assert (tmp_path / "records" / "keys").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_and_nobody_is_accused_of_holding_one(tmp_path, monkeypatch, number: int):
    (tmp_path / "turn.lock").touch()
    monkeypatch.setattr(files.fcntl, "flock", refusing(number))
    with pytest.raises(OSError, match="No locks") as caught, files.locked(tmp_path / "turn.lock"):
        pass
    said = machine_trouble(caught.value)
    assert f"file system of {tmp_path} offers no file locks" in said.message
    with files.locked(tmp_path / "turn.lock", shared=True) as mine:  # where no writer can lock, a reader needs none
        assert mine
    assert "GOLF_CACHE_DIR" in said.remedy


def test_a_lock_that_is_a_link_makes_no_file_where_it_leads(tmp_path: Path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), files.locked(tmp_path / ".lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
