"""Signing and storing: what verifies afterwards, and what is refused before anything is signed."""

import multiprocessing
import os
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from record_samples import make_artifact, make_intent, make_record, sign_run, store_run

from harness.errors import CouldNotCheck, ExitCode, RuleBroken
from harness.record import dsse
from harness.record.canonical import locked
from harness.record.statement import encode_statement
from harness.record.store import load_record, sign_and_store
from harness.record.verification import verify_folder
from harness.rules import Verdict, exit_code_of


def test_a_stored_run_verifies_and_reads_back(tmp_path: Path):
    stored = store_run(tmp_path)
    report = verify_folder(tmp_path / "records")
    assert exit_code_of(report.findings) == ExitCode.GOOD
    assert report.verdict is Verdict.PASS
    assert [entry.path for entry in report.records] == [stored.path]
    assert load_record(stored.path) == stored
    assert stored.path.name.startswith("20261124T170000Z-smoke-1337-" + stored.digest[:8])


@pytest.mark.rule("R5-INTENT")
def test_an_unannounced_run_is_not_signed(tmp_path: Path):
    artifact = make_artifact(tmp_path / "artifact", 1)
    record = make_record(artifact, 1, intent="0" * 64)
    with pytest.raises(RuleBroken, match="R5-INTENT"):
        sign_and_store(record, artifact, tmp_path / "records", tmp_path / "keys")
    assert not list((tmp_path / "records").glob("runs/*"))


@pytest.fixture
def made(tmp_path: Path):
    artifact = make_artifact(tmp_path / "artifact", 1)
    return artifact, make_record(artifact, 1)


@pytest.mark.rule("R5-INTENT")
@pytest.mark.parametrize("field", ["seed", "config_digest", "code_digest"])
def test_a_run_that_differs_from_its_intent_is_not_signed(made, tmp_path: Path, field: str):
    artifact, record = made
    other = {"seed": 2, "config_digest": "1" * 64, "code_digest": "2" * 64}[field]
    announced = msgspec.structs.replace(record.submission, **{field: other})
    with pytest.raises(RuleBroken, match=field.replace("_", " ")):
        sign_run(
            tmp_path, artifact, msgspec.structs.replace(record, submission=announced), submission=record.submission
        )


@pytest.mark.rule("R5-INTENT")
def test_one_intent_takes_one_result(tmp_path: Path):
    stored = store_run(tmp_path)
    artifact = tmp_path / "artifacts" / "a-1337"
    again = msgspec.structs.replace(stored.record, started_at="2026-11-24T18:00:00Z", predecessor="")
    with pytest.raises(RuleBroken, match="has a result already"):
        sign_and_store(again, artifact, tmp_path / "records", tmp_path / "keys")


@pytest.mark.parametrize("name", ["model.bin", "code.bundle"])
def test_an_exchanged_artifact_is_not_signed(made, tmp_path: Path, name: str):
    artifact, record = made
    (artifact / name).write_bytes(b"something else")
    with pytest.raises(CouldNotCheck, match=name):
        sign_run(tmp_path, artifact, record)


def test_nan_is_not_signed(made, tmp_path: Path):
    with pytest.raises(CouldNotCheck, match="can't be recorded"):
        sign_run(tmp_path, *made, loss_curve=[(1, float("nan"))])
    assert not list((tmp_path / "records").glob("runs/*"))


def _writer(root: Path, seeds: range) -> None:
    for seed in seeds:
        store_run(root, seed, name=f"p{os.getpid()}")


@pytest.mark.rule("R3-CHAIN")
def test_concurrent_writers_do_not_fork_the_chain(tmp_path: Path):
    store_run(tmp_path, 0)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_writer, args=(tmp_path, range(n, n + 5))) for n in (10, 20, 30)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    report = verify_folder(tmp_path / "records")
    assert len(report.records) == 16
    assert report.verdict is Verdict.PASS, [f for f in report.findings if f.verdict is not Verdict.PASS]


def test_an_interrupted_write_is_healed_by_the_next(tmp_path: Path):
    store_run(tmp_path, 1)
    head = next((tmp_path / "records" / "heads").iterdir())
    old = head.read_bytes()
    store_run(tmp_path, 2)
    head.write_bytes(old)
    assert verify_folder(tmp_path / "records").verdict is Verdict.WARN
    store_run(tmp_path, 3)
    assert verify_folder(tmp_path / "records").verdict is Verdict.PASS


def test_nothing_is_appended_to_a_chain_cut_short(tmp_path: Path):
    store_run(tmp_path, 1)
    store_run(tmp_path, 2).path.unlink()
    with pytest.raises(CouldNotCheck, match="not in the folder"):
        store_run(tmp_path, 3)


def test_a_neighbours_damage_does_not_cost_a_run_its_signature(tmp_path: Path):
    damaged = store_run(tmp_path, 9, keys="other").path
    damaged.write_bytes(b"damaged")
    whole = store_run(tmp_path, 1)
    report = verify_folder(tmp_path / "records")
    assert len(report.records) == 2
    assert exit_code_of(report.findings) == ExitCode.RULE_BROKEN
    assert whole.path in [entry.path for entry in report.records]


def test_an_entry_forged_under_a_signers_name_does_not_stop_him(tmp_path: Path):
    first = store_run(tmp_path, 1)
    intent = msgspec.structs.replace(make_intent(first.record), predecessor=first.digest)
    forged = dsse.sign(encode_statement("intents", intent), first.signer, Ed25519PrivateKey.generate())
    (tmp_path / "records" / "intents" / "20261124T170000Z-smoke-1-00000000.json").write_bytes(dsse.encode(forged))
    second = store_run(tmp_path, 2)
    wrong = [f for f in verify_folder(tmp_path / "records").findings if f.verdict is Verdict.FAIL]
    assert {finding.where.rpartition("-")[2] for finding in wrong} == {"00000000.json"}
    assert load_record(second.path) == second


def test_an_unwritable_folder_is_named_and_nothing_is_left(tmp_path: Path, monkeypatch):
    store_run(tmp_path, 1)
    before = sorted(path for path in (tmp_path / "records").rglob("*"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store_run(tmp_path, 2)
    assert sorted(path for path in (tmp_path / "records").rglob("*")) == before


def test_a_writer_waits_for_a_reader_and_gives_up_with_a_message(tmp_path: Path, monkeypatch):
    store_run(tmp_path, 1)
    monkeypatch.setattr("harness.record.canonical.LOCK_TIMEOUT_S", 0.05)
    with locked(tmp_path / "records", shared=True), pytest.raises(CouldNotCheck, match="stayed locked"):
        store_run(tmp_path, 2)
    assert verify_folder(tmp_path / "records").verdict is Verdict.PASS
