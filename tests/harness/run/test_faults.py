"""A referee that dies, a disk that is full, memory that runs out, a second run: no false record, and a way on."""

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny_run
from cells import wait_for
from tiny_run import assert_nothing_false, cell_processes, stored

from harness.errors import CouldNotCheck, UsageError
from harness.files import remove_tree, write_atomic
from harness.progress import Reporter
from harness.record import store
from harness.record.predicate import Intent
from harness.record.signing import open_signing_key, rotate_key
from harness.record.store import load_record, sign_entry
from harness.record.verification import verify_folder
from harness.rules import Verdict
from harness.run import conversation, refereed
from harness.run.refereed import kept_files, nothing_half_written, recall
from harness.run.runs import CannotGoOn, resume_run

PROGRAM = Path(tiny_run.__file__)


def start_referee(house: Path, *arguments: str) -> subprocess.Popen:
    paths = os.pathsep.join([str(PROGRAM.parents[2]), str(PROGRAM.parent)])
    command = [sys.executable, str(PROGRAM), str(house), *arguments]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stderr=(house / "stderr").open("ab"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house whose referee was killed -9 right after training."""
    house = tmp_path_factory.mktemp("interrupted") / "house"
    tiny_run.make_house(house)
    with start_referee(house) as referee:
        wait_for(lambda: list(house.glob("runs/*/trained.json")) or referee.poll() is not None)
        referee.kill()
        referee.wait()
    assert list(house.glob("runs/*/trained.json")), (house / "stderr").read_text()
    return house


@pytest.fixture
def house(interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the interrupted house that a test may change."""
    copy = tmp_path / "house"
    shutil.copytree(interrupted, copy, symlinks=True)
    tiny_run.use_house(copy, monkeypatch.setattr, monkeypatch.setenv)
    return copy


@pytest.mark.rule("S2-NO-SURVIVORS")
def test_a_killed_referee_leaves_no_process_and_no_false_record(interrupted: Path):
    wait_for(lambda: not cell_processes(interrupted))
    assert len(stored(interrupted, "intents")) == 1
    assert_nothing_false(interrupted)


@pytest.mark.slow
def test_neither_a_new_key_nor_somebody_s_damaged_record_keeps_a_run_from_going_on(house: Path):
    (house / "records" / "runs").mkdir(exist_ok=True)
    (house / "records" / "runs" / "20260101T000000Z-smoke-1-00000000.json").write_bytes(b"damaged")
    old, _ = rotate_key(house / "keys", house / "records")
    outcome = tiny_run.resume_tiny(house)
    assert load_record(outcome.path).signer == old.keyid
    failed = {f.where for f in verify_folder(house / "records").findings if f.verdict is Verdict.FAIL}
    assert failed == {"runs/20260101T000000Z-smoke-1-00000000.json"}


def test_a_run_whose_key_is_gone_is_not_resumed_to_an_end_without_a_signature(house: Path):
    for path in (house / "keys").glob("*.pem"):
        path.unlink()
    with pytest.raises(CouldNotCheck, match="private half is not in"):
        tiny_run.resume_tiny(house)
    assert recall(next(house.glob("runs/*")))


@pytest.mark.rule("R5-INTENT")
def test_a_run_is_resumed_after_its_training_and_only_once(house: Path, monkeypatch: pytest.MonkeyPatch):
    """The second time from within the audits: these look at the same places again, and the record tells."""
    secrets = []

    def machine_down(context, *_, **__):
        secrets.append(context.audit_secret)
        raise CouldNotCheck("the kernel killed processes", remedy="Free some memory.")

    with monkeypatch.context() as patch:
        patch.setattr(refereed, "audit", machine_down)
        with pytest.raises(CouldNotCheck):
            tiny_run.resume_tiny(house)
    outcome = tiny_run.resume_tiny(house)
    record = outcome.record
    assert {result.entropy for result in record.audits} == {secret.hex() for secret in secrets}
    assert ["in the packaging or evaluation" in record.resumes[0], "in the audits: " in record.resumes[1]] == [True] * 2
    assert "kernel killed" in record.resumes[1]
    (causal,) = [finding for finding in record.findings if finding.rule == "C1-CAUSAL"]
    assert causal.verdict is Verdict.WARN
    assert "Resumed 2 time(s), the text had been seen in 1 of them" in causal.message
    assert outcome.path is not None
    names = [span.name for span in record.spans]
    assert names.index("train") < names.index("resumed") < names.index("package")
    assert [span.name for span in record.spans if span.budget == "train"] == ["train"]
    assert {budget.name for budget in record.budgets if budget.used_s > 0} == {"train", "eval"}
    assert record.loss_curve is not None
    (ends,) = [finding.message for finding in record.findings if finding.rule == "S2-NO-SURVIVORS"]
    stop_ms, gone_ms = map(int, re.search(r"slowest stop (\d+) ms, all gone after (\d+) ms", ends).groups())
    assert stop_ms <= gone_ms
    assert verify_folder(house / "records").verdict in (Verdict.PASS, Verdict.WARN)
    with pytest.raises(CouldNotCheck, match="or the run has its record already"):
        tiny_run.resume_tiny(house, outcome.run_dir.name)


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


SEEN = {"reached": "audits", "resumes": [{"at": "now", "reached": "scored pass", "ended": "by itself"}] * 2}
CHANGES = {
    "checkpoint": (lambda run: next((run / "checkpoint").iterdir()).write_bytes(b"better"), "not as training left it"),
    "another file": (lambda run: (run / "checkpoint" / "more").write_bytes(b"x"), "not as training left it"),
    "a link": (lambda run: (run / "checkpoint" / "newest").symlink_to("counts"), "not as training left it"),
    "no checkpoint": (lambda run: remove_tree(run / "checkpoint"), "not as training left it"),
    "code": (lambda run: (run / "code.bundle").write_bytes(b"other"), "not the code that was announced"),
    "track": (lambda run: change_json(run / "trained.json", track_digest="00"), "the track changed"),
    "data": (lambda run: change_json(run / "trained.json", data_fingerprint="00"), "the data set changed"),
    "seed": (
        lambda run: change_json(run / "trained.json", seed=7),
        "what trained.json says of the announced run changed",
    ),
    "secret": (
        lambda run: change_json(run / "trained.json", audit_secret=f"{43 * 'A'}="),
        "says of the announced run changed",
    ),
    "a copy": (lambda run: run.rename(f"{run}-copy"), "what trained.json says of the announced run changed"),
    "another referee": (lambda run: change_json(run / "trained.json", referee="00"), "the referee changed"),
    "tries": (lambda run: change_json(run / "trained.json", **SEEN), "the text was seen in 3 tries"),
    "cut short": (lambda run: (run / "trained.json").write_bytes(b'{"track": "smo'), "is damaged"),
    "no training": (lambda run: (run / "trained.json").unlink(), "its training did not end, or the run has its record"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_sound_any_more_is_not_resumed_and_says_why(name: str, house: Path):
    change, words = CHANGES[name]
    (run_dir,) = (house / "runs").iterdir()
    change(run_dir)
    with pytest.raises(CouldNotCheck, match=words):
        tiny_run.resume_tiny(house)
    if name == "tries":
        assert not kept_files(run_dir)  # so that no message promises that it goes on
    assert_nothing_false(house)


def test_a_run_that_another_records_folder_announced_does_not_go_on_in_this_one(house: Path):
    (run_dir,) = (house / "runs").iterdir()
    with pytest.raises(CannotGoOn, match="announces this run"):  # so `SEEDS=… make submit` starts its seed again
        resume_run(run_dir.name, records_dir=house / "elsewhere", progress=Reporter())


@pytest.mark.rule("S4-STATE-DECLARED")
def test_a_replica_that_dies_is_an_error_when_memory_ran_out_and_else_a_fail(house: Path, monkeypatch):
    """In the way of a cheat that hopes for other draws: only replicas have a state loaded a third time.

    A disk that the replica itself filled does not excuse it.
    """
    entry = house / "mini" / "eval_entry.py"
    text = entry.read_text().replace(
        '"""Nothing is derived from the counts between calls."""',
        "import os\n        self.loads = getattr(self, 'loads', 0) + 1\n        if self.loads == 3:\n"
        "            open('full', 'w').close()\n            print('No space left on device', flush=True)\n"
        "            os.kill(os.getpid(), 9)",
    )
    entry.write_text(text)

    def allocate(*_: object) -> None:
        if list(Path(tempfile.gettempdir()).glob("golf-cell-*/full")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    with monkeypatch.context() as patch:
        patch.setattr(conversation, "killed_for_memory", lambda: 1 << 40)
        with pytest.raises(CouldNotCheck, match="want of memory"):
            tiny_run.run_tiny(house, seed=2)
    monkeypatch.setattr(conversation, "killed_for_memory", lambda: 0)  # whatever else this machine lacks meanwhile
    outcome = tiny_run.resume_tiny(house)
    (state,) = [finding for finding in outcome.record.findings if finding.rule == "S4-STATE-DECLARED"]
    assert state.verdict is Verdict.FAIL
    assert "killed by signal 9" in state.message
    assert "want of memory" in outcome.record.resumes[0]
    with pytest.raises(CouldNotCheck, match="or the run has its record already"):
        tiny_run.resume_tiny(house, outcome.run_dir.name)


def test_an_unknown_run_is_refused(house: Path):
    with pytest.raises(UsageError, match="no run 'other'"):
        tiny_run.resume_tiny(house, "other")


def intent_of(seed: int) -> Intent:
    when = f"2026-11-24T17:00:0{seed}Z"
    return Intent(f"run-{seed}", when, "smoke", "a" * 64, "mini", "b" * 64, "c" * 64, "d" * 64, seed)


@pytest.mark.rule("R3-CHAIN")
@pytest.mark.parametrize("earlier", [0, 1])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_kill_between_any_two_writes_leaves_a_folder_that_takes_the_next_entry(
    write: int, earlier: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    records, keys = tmp_path / "records", tmp_path / "keys"
    open_signing_key(keys, records)
    for seed in range(earlier):
        sign_entry(intent_of(seed), records, keys)
    calls = []

    def killed(*arguments, **options):
        calls.append(1)
        if len(calls) == write:
            raise KeyboardInterrupt
        write_atomic(*arguments, **options)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(store, "write_atomic", killed)
        sign_entry(intent_of(5), records, keys)
    assert verify_folder(records).verdict in (Verdict.PASS, Verdict.WARN)
    sign_entry(intent_of(6), records, keys)
    assert verify_folder(records).verdict in (Verdict.PASS, Verdict.WARN)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_message_and_nothing_half_written(number: int, tmp_path: Path):
    def fill() -> None:
        with nothing_half_written(tmp_path):
            (tmp_path / "artifact").mkdir()
            (tmp_path / "artifact" / "model.bin").write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(CouldNotCheck, match=r"disk.* of .* is (full|used up)") as caught:
        fill()
    assert "GOLF_RUNS_DIR" in caught.value.remedy
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_removed_does_not_hide_why_a_run_ended(tmp_path: Path, monkeypatch):
    def refuse(place: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr("harness.run.refereed.remove_tree", refuse)
    with pytest.raises(CouldNotCheck, match=r"disk.* of .* is full"), nothing_half_written(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FULL = """
import ctypes, sys
from pathlib import Path
from harness.files import remove_tree, write_atomic
from harness.sandbox import namespaces
namespaces.enter()
folder = Path(sys.argv[1])
if ctypes.CDLL(None).mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, b"size=256k"):
    sys.exit("no tmpfs")
write_atomic(folder / "first.json", b"1" * 100_000, replace=False)
try:
    write_atomic(folder / "new" / "deep" / "second.json", b"2" * 300_000, replace=False)
except OSError as error:
    print("refused", error.errno, sorted(path.name for path in folder.iterdir()))
"""


def test_a_record_is_not_half_written_on_a_disk_that_is_really_full(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[2])}
    answer = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    if answer.returncode != 0 and ("no tmpfs" in answer.stderr or "unshare" in answer.stderr):
        pytest.skip("needs a tmpfs in a user namespace as a small disk, and this kernel does not allow it to this user")
    assert answer.stdout.split(" ", 2)[:2] == ["refused", str(errno.ENOSPC)], answer.stderr
    assert "['first.json']" in answer.stdout
