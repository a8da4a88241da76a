"""``harness verify`` and ``harness keys`` as people and CI call them."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from junitparser import JUnitXml
from record_samples import make_artifact, make_findings, make_intent, make_record, sign_run, store_run

from harness.config.tracks import load_track
from harness.record.predicate import BudgetEntry, TrackInfo
from harness.record.store import sign_entry


def break_file(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])


@pytest.mark.parametrize("name", ["records", "mistyped"])
def test_a_folder_without_records_could_not_be_checked(call, tmp_path: Path, name: str):
    (tmp_path / "records").mkdir()
    code, text = call("verify", tmp_path / name)
    assert code == 3
    assert f"{tmp_path / name} {'holds no records' if name == 'records' else 'does not exist'}" in text


def test_good_records_give_a_table_statistics_and_zero(call, tmp_path: Path):
    for seed in (1, 2, 3):
        store_run(tmp_path, seed, nats=12000.0 + seed)
    code, text = call("verify")
    assert code == 0
    assert "3 record(s) among 7 signed file(s)" in text
    assert "dates are the signers' own: --tsa asks" in text  # a whole chain that is dated back verifies
    assert "sample std" in text


def test_one_file_is_judged_with_its_chain_and_without_its_neighbours_faults(call, tmp_path: Path):
    good, broken = store_run(tmp_path, 1).path, store_run(tmp_path, 2).path
    good_intent = tmp_path / "records" / "intents"
    break_file(broken)
    assert call("verify", broken)[0] == 1
    code, text = call("verify", good)
    assert (code, broken.name in text) == (0, False), text
    assert len(list(good_intent.iterdir())) == 2


GONE = {"nothing": "", "a result": "best-of-n is possible", "a run": "the chain was cut short"}


@pytest.mark.rule("R5-INTENT")
@pytest.mark.parametrize("gone", GONE)
def test_what_a_chain_lacks_is_told_with_each_file_and_in_what_is_made_of_it(call, tmp_path: Path, gone: str):
    first, last = store_run(tmp_path, 1), store_run(tmp_path, 2, nats=13000.0)
    records, out, cut = tmp_path / "records", tmp_path / "out", gone == "a run"
    if gone == "a result":
        sign_entry(make_intent(make_record(make_artifact(tmp_path / "third", 3), 3)), records, tmp_path / "keys")
    for path in (last.path, *(records / "intents").glob("*-2-*")) if cut else ():
        path.unlink()
    code, text = call("verify", first.path)
    assert (code, GONE[gone] in text, "WARN" in text) == (0, True, gone != "nothing")
    assert call("report", records, "--out", out)[0] == cut
    assert GONE[gone] in (out / "report.md").read_text()
    assert call("rerun", first.path, "--code", tmp_path / "gone")[0] == 2  # it is repeated, if there is its code
    code, text = call("export", records, out / "folder", "--as", "parameter-golf")
    assert (code, GONE[gone] in (text if cut else (out / "folder" / "README.md").read_text())) == (cut, True)


def test_a_mistyped_list_of_keys_is_no_verdict_on_records(call, tmp_path: Path):
    store_run(tmp_path)
    code, text = call("verify", "--trust", tmp_path / "records")
    assert (code, "holds no public keys" in text) == (2, True)
    assert call("verify", "--trust", tmp_path / "records" / "keys")[0] == 0


@pytest.mark.parametrize("name", ["nothing.json", "alone.json"])
def test_a_file_outside_a_records_folder_could_not_be_checked(call, tmp_path: Path, name: str):
    (tmp_path / "alone.json").write_text("{}")
    code, text = call("verify", tmp_path / name)
    assert code == 3
    assert name in text


def over_time(tmp_path: Path):
    artifact = make_artifact(tmp_path / "artifacts" / "late", 5)
    record = make_record(artifact, 5)
    spans = [msgspec.structs.replace(s, seconds=95.0) if s.name == "train" else s for s in record.spans]
    findings = make_findings(A1_TRAIN_CLOCK="FAIL")
    budgets = [BudgetEntry("train", 95.0, 90.0), record.budgets[1]]
    return sign_run(tmp_path, artifact, record, spans=spans, findings=findings, budgets=budgets)


@pytest.mark.rule("A1-TRAIN-CLOCK")
def test_an_honest_record_of_a_run_that_broke_a_rule_fails_unless_only_records_are_judged(call, tmp_path: Path):
    over_time(tmp_path)
    code, text = call("verify")
    assert code == 1
    assert "A1-TRAIN-CLOCK FAIL" in text
    assert call("verify", "--integrity-only")[0] == 0


def test_json_holds_every_finding(call, tmp_path: Path):
    stored = store_run(tmp_path)
    code, text = call("verify", "--json")
    (folder,) = json.loads(text)["folders"]
    assert (code, folder["exit_code"], folder["verdict"]) == (0, 0, "PASS")
    (run_file,) = [entry for entry in folder["files"] if entry["file"].startswith("runs/")]
    assert run_file["digest"] == stored.digest
    assert {finding["rule"] for finding in run_file["findings"]} >= {"R1-SIGNATURE", "R2-SCHEMA", "R3-CHAIN"}


def test_junit_is_read_by_other_tools(call, tmp_path: Path):
    store_run(tmp_path, 1)
    break_file(store_run(tmp_path, 2).path)
    assert call("verify", "--junit", tmp_path / "out" / "verify.xml")[0] == 1
    parsed = JUnitXml.fromfile(str(tmp_path / "out" / "verify.xml"))
    ElementTree.parse(tmp_path / "out" / "verify.xml")
    assert sum(suite.failures for suite in parsed) >= 1
    assert sum(suite.tests for suite in parsed) > 5


def test_keys_are_made_listed_revoked_and_rotated(call, tmp_path: Path):
    assert call("keys", "list") == (0, "No key is listed yet; the first signed run adds one.\n")
    assert call("keys", "new", "--owner", "Ada")[0] == 0
    first = json.loads(call("keys", "list", "--json")[1])[0]
    assert first["owner"] == "Ada"
    assert call("keys", "rotate")[0] == 0
    keys = {key["keyid"]: key for key in json.loads(call("keys", "list", "--json")[1])}
    assert keys[first["keyid"]]["status"] == "retired"
    assert call("keys", "revoke", first["keyid"][:12], "--reason", "lost")[0] == 0
    code, text = call("keys", "list")
    assert code == 0
    assert "revoked" in text
    assert "signs here" in text


def test_a_key_that_is_not_listed_is_a_usage_error(call, tmp_path: Path):
    call("keys", "new")
    code, text = call("keys", "revoke", "zzzz", "--reason", "x")
    assert code == 2
    assert "'zzzz'" in text


def test_a_key_from_another_folder_is_trusted_with_a_window(call, tmp_path: Path, monkeypatch):
    call("keys", "new")
    (path,) = (tmp_path / "records" / "keys").iterdir()
    monkeypatch.setenv("GOLF_RECORDS_DIR", str(tmp_path / "mine"))
    code, text = call("keys", "trust", path, "--owner", "Bo", "--until", "2027-01-01T00:00:00Z")
    assert code == 0
    assert "until 2027-01-01T00:00:00Z" in text
    assert json.loads(call("keys", "list", "--json")[1])[0]["not_after"] == "2027-01-01T00:00:00Z"


@pytest.mark.rule("A3-CONTAINER")
def test_an_exchanged_artifact_fails_its_record(call, tmp_path: Path):
    stored = store_run(tmp_path, 1)
    code, text = call("verify", stored.path, "--artifact", tmp_path / "artifacts" / "a-1")
    assert code == 1
    assert "A3-CONTAINER FAIL" in text
    with_kept = call("verify", stored.path, "--rescore")
    assert with_kept[0] == 1  # the kept copy is the recorded one; a made-up model can't be scored again
    assert "A3-CONTAINER FAIL" in with_kept[1]
    store_run(tmp_path, 2)
    code, text = call("verify", "--artifact", tmp_path / "artifacts" / "a-1")
    assert code == 2
    assert "2 are given" in text


def test_records_are_tested_against_a_baseline_folder(call, tmp_path: Path):
    for seed, extra in ((1, 0.0), (2, 12.0), (3, -9.0)):
        store_run(tmp_path / "old", seed, nats=12000.0 + extra, started_at="2026-11-24T17:00:00Z")
        store_run(tmp_path, seed, nats=11900.0 + extra + seed)
    code, text = call("verify", "--baseline", tmp_path / "old" / "records", "--margin", "0.005 nats/token")
    assert code == 0
    assert "one-sided welch test" in text
    assert "beats the baseline" in text
    assert call("verify", "--baseline", tmp_path / "old" / "records", "--margin", "0.005")[0] == 2
    (tmp_path / "empty").mkdir()
    code, text = call("verify", "--baseline", tmp_path / "empty")
    assert (code, "holds no records" in text) == (3, True)


@pytest.mark.parametrize("command", ["verify", "report"])
def test_the_list_of_trusted_keys_counts_for_the_baseline_too(call, tmp_path: Path, command: str, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    old, mine = tmp_path / "old" / "records", tmp_path / "mine"
    mine.mkdir()
    for seed, extra in ((1, 0.0), (2, 12.0)):
        store_run(tmp_path / "old", seed, nats=12000.0 + extra, started_at="2026-11-24T17:00:00Z")
        store_run(tmp_path, seed, nats=11900.0 + extra + seed)
    for path in (tmp_path / "records" / "keys").iterdir():
        (mine / path.name).write_bytes(path.read_bytes())
    code, text = call(command, "--trust", mine, "--baseline", old)
    assert (code, "have no track in common: smoke and none that counts" in text) == (2, True)
    for path in (old / "keys").iterdir():
        (mine / path.name).write_bytes(path.read_bytes())
    code, text = call(command, "--trust", mine, "--baseline", old)
    assert (code, "deciding test" in text) == (0, True)


def test_rescoring_needs_the_artifact(call, tmp_path: Path):
    stored = store_run(tmp_path)
    shutil.rmtree(tmp_path / "records" / "artifacts")
    code, text = call("verify", stored.path, "--rescore")
    assert code == 3
    assert "no model.bin" in text


def test_a_foreign_record_is_no_part_of_a_pool(call, tmp_path: Path):
    for seed in (1, 2, 3):
        store_run(tmp_path, seed, nats=12000.0 + seed)
    foreign = store_run(tmp_path, 9, nats=20000.0, keys="foreign").path
    code, text = call("verify")
    assert (code, "seeds 1, 2, 3: bpb mean 1.92391" in text) == (0, True), text
    break_file(foreign)
    code, text = call("verify")
    assert (code, "seeds 1, 2, 3: bpb mean 1.92391" in text) == (1, True), text
    code, text = call("verify", "--baseline", tmp_path / "records", "--margin", "0 bpb")
    assert code == 1
    assert f"left out: 'runs/{foreign.name}', which does not verify" in text
    assert "p = 0.5" in text


def test_records_of_several_tracks_are_compared_a_track_at_a_time(call, tmp_path: Path):
    track = load_track("one_gpu_120s")
    other = TrackInfo(track.name, track.digest, track.official, msgspec.to_builtins(track.readings))
    for seed in (1, 2):
        store_run(tmp_path, seed, nats=12000.0 + seed)
        store_run(tmp_path, 10 + seed, nats=12000.0 + seed, track=other)
    code, text = call("verify", "--integrity-only", "--baseline", tmp_path / "records")
    assert text.count("deciding test") == 1, text  # the other one's limits are not its track's
    code, text = call("verify", "--baseline", tmp_path / "records", "--track", "10min_16mb")
    assert (code, "have no track 10min_16mb in common" in text) == (2, True)


def test_of_pools_with_equally_many_seeds_the_newest_is_compared(call, tmp_path: Path):
    for seed in (1, 2):
        store_run(tmp_path, seed, nats=12000.0 + seed)
        store_run(tmp_path, 2 + seed, nats=20000.0 + seed, keys="foreign")
    code, text = call("verify", "--baseline", tmp_path / "records")
    assert (code, text.count("left out: 2 record(s)")) == (0, 2), text
