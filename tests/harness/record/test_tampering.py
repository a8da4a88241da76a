"""Whoever changes anything in a records folder is found out, and the file is named."""

import hashlib
import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_samples import make_artifact, make_intent, make_record, sign_run, store_run

from harness.errors import CouldNotCheck, ExitCode
from harness.record import dsse, store
from harness.record.predicate import Sizes
from harness.record.signing import create_key, describe_key, load_private, read_active
from harness.record.statement import encode_statement, read_entry
from harness.record.store import load_record, sign_entry
from harness.record.trust import store_public
from harness.record.verification import verify_folder, verify_paths
from harness.rules import Finding, Verdict, exit_code_of

SETTINGS = settings(
    deadline=None, max_examples=75, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
FOLDERS = ("runs", "intents", "heads")


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("honest")
    for seed in (1, 2, 3):
        store_run(root, seed, nats=12000.0 + seed)
    return root


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    shutil.copytree(honest, tmp_path, dirs_exist_ok=True)
    return tmp_path / "records"


def failures(folder: Path) -> list[Finding]:
    report = verify_folder(folder)
    found = [finding for finding in report.findings if finding.verdict is Verdict.FAIL]
    assert bool(found) == (exit_code_of(report.findings) == ExitCode.RULE_BROKEN)
    return found


def warnings(folder: Path) -> list[str]:
    return [f.message for f in verify_folder(folder).findings if f.verdict is Verdict.WARN]


def signed_files(folder: Path) -> list[Path]:
    return sorted(path for name in FOLDERS for path in (folder / name).iterdir())


def names(found: list[Finding]) -> set[str]:
    return {finding.where for finding in found}


@pytest.mark.rule("R1-SIGNATURE")
@SETTINGS
@given(data=st.data())
def test_one_byte_changed_gone_or_added_in_any_file_is_caught_and_named(folder: Path, data):
    path = data.draw(st.sampled_from(signed_files(folder)))
    original = path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    other = st.integers(0, 255).filter(lambda byte: byte != original[place]).map(lambda byte: (bytes([byte]), 1))
    new, gone = data.draw(other | st.sampled_from([(b"", 1), (b" ", 0), (b"\n", 0), (b"\x00", 0)]))
    path.write_bytes(original[:place] + new + original[place + gone :])
    try:
        found = failures(folder)
    finally:
        path.write_bytes(original)
    assert any(path.name in finding.where for finding in found)


@pytest.mark.rule("R3-CHAIN")
@pytest.mark.parametrize("kind", FOLDERS)
def test_a_renamed_file_is_caught(folder: Path, kind: str):
    path = sorted((folder / kind).iterdir())[0]
    path.rename(path.with_name(path.name.replace("2", "3", 1) if kind != "heads" else "0" * 64 + ".json"))
    assert any(kind in finding.where for finding in failures(folder))


@pytest.mark.rule("R3-CHAIN")
def test_any_removed_file_is_caught(folder: Path):
    for path in sorted(folder.rglob("*.json")):
        content = path.read_bytes()
        path.unlink()
        assert failures(folder), path
        path.write_bytes(content)
    assert failures(folder) == []


@pytest.mark.rule("R3-CHAIN")
def test_a_chain_cut_short_is_caught_by_its_head(folder: Path):
    last = max((folder / "runs").iterdir(), key=lambda path: read_entry(path, "runs").predicate.submission.seed)
    last.unlink()
    (found,) = [f for f in failures(folder) if "cut short" in f.message]
    assert found.where.startswith("heads/")


@pytest.mark.rule("R3-CHAIN")
def test_one_record_in_two_files_is_caught(folder: Path):
    path = next((folder / "runs").iterdir())
    shutil.copy(path, path.with_name("20270101T000000Z-smoke-9-00000000.json"))
    found = failures(folder)
    assert any("one digest, two files" in finding.message for finding in found)
    assert any("is called" in finding.message for finding in found)


@pytest.mark.rule("R5-INTENT")
def test_a_record_replayed_from_another_folder_is_caught(folder: Path, tmp_path: Path):
    other = store_run(tmp_path / "other", 9)
    shutil.copy(other.path, folder / "runs" / other.path.name)
    for key in (tmp_path / "other" / "records" / "keys").iterdir():
        shutil.copy(key, folder / "keys" / key.name)
    rules = {f.rule for f in failures(folder) if other.path.name in f.where}
    assert rules == {"R3-CHAIN", "R5-INTENT"}


def seal(folder: Path, path: Path, payload: bytes) -> None:
    """What a signer could do with his own key: sign other content and put it in place of a file."""
    keys_dir = folder.parent / "keys"
    key = load_private(keys_dir, read_active(keys_dir))
    path.write_bytes(dsse.encode(dsse.sign(payload, key.keyid, key.private)))


@pytest.mark.rule("R3-CHAIN")
def test_a_record_that_its_own_signer_rewrote_is_caught(folder: Path):
    path = next(p for p in (folder / "runs").iterdir() if "-smoke-2-" in p.name)
    record = read_entry(path, "runs").predicate
    seal(folder, path, encode_statement("runs", msgspec.structs.replace(record, harness_version="9")))
    assert "R3-CHAIN" in {finding.rule for finding in failures(folder)}


@pytest.mark.rule("R3-CHAIN")
def test_a_fork_is_caught(folder: Path):
    intent = read_entry(next((folder / "intents").iterdir()), "intents").predicate
    payload = encode_statement("intents", msgspec.structs.replace(intent, run_id="another"))
    name = f"20261124T165959Z-smoke-{intent.seed}-{hashlib.sha256(payload).hexdigest()[:8]}.json"
    seal(folder, folder / "intents" / name, payload)
    assert any("forks the chain" in finding.message for finding in failures(folder))


@pytest.mark.rule("R1-SIGNATURE")
@SETTINGS
@given(data=st.data())
def test_a_changed_public_key_is_caught_and_named(folder: Path, data):
    (path,) = (folder / "keys").iterdir()
    original = path.read_bytes()
    entry = json.loads(original)
    field = data.draw(st.sampled_from(["keyid", "public"]))
    place = data.draw(st.integers(0, len(entry[field]) - 1))
    letter = data.draw(st.sampled_from("0123456789abcdef").filter(lambda c: c != entry[field][place]))
    entry[field] = entry[field][:place] + letter + entry[field][place + 1 :]
    path.write_bytes(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    try:
        found = failures(folder)
    finally:
        path.write_bytes(original)
    assert path.name in names(found)


@pytest.mark.rule("R1-SIGNATURE")
@pytest.mark.parametrize("spare", [1, 2, 3])
def test_a_public_key_has_one_spelling(folder: Path, spare: int):
    (path,) = (folder / "keys").iterdir()
    entry = json.loads(path.read_bytes())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet.index(entry["public"][42])  # of its 6 bits 4 belong to the key
    entry["public"] = entry["public"][:42] + alphabet[last ^ spare] + "="
    path.write_bytes(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    assert path.name in names(failures(folder))


@pytest.mark.rule("R1-SIGNATURE")
def test_a_signature_under_another_trusted_key_is_caught(folder: Path, tmp_path: Path):
    other = create_key(tmp_path / "other-keys")
    store_public(folder, describe_key(other))
    path = next((folder / "runs").iterdir())
    path.write_bytes(path.read_bytes().replace(load_record(path).signer.encode(), other.keyid.encode()))
    assert any("does not fit" in finding.message and path.name in finding.where for finding in failures(folder))


@pytest.mark.rule("R5-INTENT")
def test_an_intent_without_a_result_is_reported_with_best_of_n(tmp_path: Path):
    store_run(tmp_path, 1)
    record = make_record(make_artifact(tmp_path / "artifacts" / "lost", 2), 2)
    sign_entry(make_intent(record), tmp_path / "records", tmp_path / "keys")
    (text,) = warnings(tmp_path / "records")
    assert "seed 2 was announced and has no result; 1 of 2" in text
    assert failures(tmp_path / "records") == []


@pytest.mark.rule("R3-CHAIN")
def test_a_seed_run_twice_is_reported(tmp_path: Path):
    store_run(tmp_path, 1)
    store_run(tmp_path, 1, name="again", started_at="2026-11-24T18:00:00Z")
    assert any("repeats seed 1" in text and "another artifact" in text for text in warnings(tmp_path / "records"))


@pytest.mark.rule("R3-CHAIN")
def test_one_artifact_under_two_seeds_is_reported(tmp_path: Path):
    store_run(tmp_path, 1)
    artifact = tmp_path / "artifacts" / "a-1"
    record = make_record(artifact, 2)
    sign_run(tmp_path, artifact, record)
    assert any("trained with seed 1" in text for text in warnings(tmp_path / "records"))


@pytest.mark.parametrize(
    ("seed", "message"), [(b'0,"seed":', "appears twice"), (b"1" * 300, "a whole number of 301 digits is over 2^53")]
)
def test_ambiguous_json_is_refused_even_when_signed(folder: Path, seed: bytes, message: str):
    path = next((folder / "intents").iterdir())
    seal(folder, path, dsse.decode(path.read_bytes()).payload.replace(b'"seed":', b'"seed":' + seed, 1))
    assert any(message in finding.message for finding in failures(folder))


@pytest.mark.rule("R2-SCHEMA")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document["subject"][1]["digest"].update(sha256="0" * 64), "subjects are not"),
        (lambda document: document["predicate"].update(started_at="yesterday"), "time 'yesterday' is not of the form"),
    ],
    ids=["subject", "date"],
)
def test_what_does_not_follow_from_the_content_is_caught_even_when_signed(folder: Path, change, message: str):
    path = next((folder / "runs").iterdir())
    document = json.loads(dsse.decode(path.read_bytes()).payload)
    change(document)
    seal(folder, path, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    assert any(message in finding.message and path.name in finding.where for finding in failures(folder))


@pytest.mark.rule("R3-CHAIN")
def test_an_intent_that_is_dated_before_what_stands_before_it_is_not_signed_and_caught(tmp_path: Path, monkeypatch):
    store_run(tmp_path, 1, started_at="2026-11-24T17:00:00Z")
    store_run(tmp_path, 2, started_at="2026-11-24T16:55:00Z")  # two writers that waited for the lock
    with pytest.raises(CouldNotCheck, match="this machine's clock says 2026-11-20"):  # set back since, or ahead then
        store_run(tmp_path, 3, started_at="2026-11-20T17:00:00Z")
    assert failures(tmp_path / "records") == []
    monkeypatch.setattr(store, "CLOCK_SLACK", timedelta(weeks=1))  # a signer's own tool
    store_run(tmp_path, 3, started_at="2026-11-20T17:00:00Z")
    (found,) = failures(tmp_path / "records")
    assert (found.rule, "dated back" in found.message) == ("R3-CHAIN", True)
    assert found.where.startswith("intents/20261120T170000Z-smoke-3")


def test_a_chain_that_starts_in_the_year_1_stops_nothing(tmp_path: Path):
    store_run(tmp_path, 1, started_at="0001-01-01T00:00:00Z")  # less the skew allowed: before the first date there is
    store_run(tmp_path, 2)
    assert failures(tmp_path / "records") == []


@pytest.mark.rule("R5-INTENT")
def test_a_record_that_is_dated_long_before_its_intent_is_caught(tmp_path: Path):
    artifact = make_artifact(tmp_path / "artifact", 1)
    record = make_record(artifact, 1, started_at="2026-11-01T00:00:00Z")
    sign_run(tmp_path, artifact, record, at="2026-11-24T17:00:00Z")
    assert ["a run starts when it is announced" in f.message for f in failures(tmp_path / "records")] == [True]


@pytest.mark.rule("R3-CHAIN")
@pytest.mark.parametrize("same_draw", [True, False])
def test_one_result_under_two_keys_is_reported_on_both(tmp_path: Path, same_draw: bool):
    first = store_run(tmp_path, 1)
    record = first.record
    if not same_draw:  # a repetition of one's own gives the same bits, never the same draws and times
        audits = [msgspec.structs.replace(audit, entropy="cd" * 32) for audit in record.audits]
        spans = [msgspec.structs.replace(span, start_s=span.start_s + 0.5) for span in record.spans]
        record = msgspec.structs.replace(record, audits=audits, spans=spans)
    sign_run(tmp_path, tmp_path / "artifacts" / "a-1", record, keys="thief", at="2026-11-24T17:00:01Z")
    found = [text for text in warnings(tmp_path / "records") if "under another key" in text]
    sign_run(tmp_path / "elsewhere", tmp_path / "artifacts" / "a-1", record, keys="other", at="2026-11-24T17:00:01Z")
    apart = verify_paths([tmp_path / "records", tmp_path / "elsewhere" / "records"])[1]  # a folder of the copier's own
    assert {f.rule for f in apart.findings if f.verdict is Verdict.WARN} == {"R3-CHAIN"}
    assert len(found) == 2
    assert all(("one of them is a copy" if same_draw else "repeated or copied") in text for text in found)


def test_a_pipe_and_a_huge_file_stop_nothing_else(folder: Path):
    os.mkfifo(folder / "runs" / "20270101T000000Z-smoke-9-00000000.json")
    with (folder / "runs" / "20270101T000000Z-smoke-8-00000000.json").open("wb") as huge:
        huge.truncate(10**10)
    os.mkfifo(folder / "keys" / f"{'0' * 64}.json")
    (folder / ".lock").unlink()
    os.mkfifo(folder / ".lock")
    report = verify_folder(folder)
    wrong = {f.where.partition("/")[2] or f.where: f.verdict for f in report.findings if f.verdict is not Verdict.PASS}
    assert wrong == {
        "20270101T000000Z-smoke-9-00000000.json": Verdict.ERROR,
        "20270101T000000Z-smoke-8-00000000.json": Verdict.ERROR,
        f"{'0' * 64}.json": Verdict.FAIL,
    }
    store_run(folder.parent, 4)  # and a writer goes on


def test_a_record_counts_the_bytes_of_the_files_that_are_kept_with_it(tmp_path: Path):
    store_run(tmp_path, 1)
    store_run(tmp_path, 2, sizes=Sizes(1, 1, 17, 18, 1_000_000))
    assert {(f.rule, "-2-" in f.where) for f in failures(tmp_path / "records")} == {("A3-ARTIFACT-BYTES", True)}


def test_a_kept_file_of_an_artifact_is_what_its_name_says(folder: Path):
    kept = sorted((folder / "artifacts").iterdir())
    assert len(kept) == 4  # three models, and one bundle that they share
    kept[0].write_bytes(b"another")
    (found,) = failures(folder)
    assert (found.rule, found.where) == ("A3-CONTAINER", f"artifacts/{kept[0].name}")
