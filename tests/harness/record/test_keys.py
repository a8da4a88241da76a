"""Keys: made once, kept private, and unlike causes of distrust told apart."""

import contextlib
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from record_samples import make_artifact, make_intent, make_record, store_run

from harness.errors import CouldNotCheck, UsageError
from harness.files import write_atomic
from harness.record.canonical import canonical_bytes, utc_now
from harness.record.dsse import encode, sign
from harness.record.predicate import RunRecord
from harness.record.signing import (
    bind_key,
    create_key,
    describe_key,
    load_private,
    open_signing_key,
    read_active,
    rotate_key,
)
from harness.record.store import sign_and_store, sign_entry
from harness.record.trust import (
    LIST_TYPE,
    change_key,
    load_public,
    load_trust,
    public_path,
    read_lists,
    sign_list,
    store_public,
)
from harness.record.verification import verify_folder
from harness.rules import Verdict

replace = msgspec.structs.replace


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch):
    monkeypatch.delenv("GOLF_KEY_PASSPHRASE", raising=False)


def listed(records: Path):
    (path,) = (records / "keys").iterdir()
    return load_public(path)


def failures(records: Path) -> str:
    report = verify_folder(records)
    return "\n".join(f.message for f in report.findings if f.verdict is Verdict.FAIL and f.rule == "R1-SIGNATURE")


def test_the_first_use_makes_a_private_key_that_only_its_owner_reads(tmp_path: Path):
    key = open_signing_key(tmp_path / "keys", tmp_path / "records")
    path = tmp_path / "keys" / f"{key.keyid}.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert listed(tmp_path / "records").keyid == key.keyid
    assert open_signing_key(tmp_path / "keys", tmp_path / "records").keyid == key.keyid


def test_a_passphrase_encrypts_and_is_asked_for(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("GOLF_KEY_PASSPHRASE", "correct horse")
    key = open_signing_key(tmp_path / "keys", tmp_path / "records")
    pem = (tmp_path / "keys" / f"{key.keyid}.pem").read_bytes()
    assert b"ENCRYPTED" in pem
    with pytest.raises(TypeError):
        serialization.load_pem_private_key(pem, None)
    assert open_signing_key(tmp_path / "keys", tmp_path / "records").keyid == key.keyid
    monkeypatch.setenv("GOLF_KEY_PASSPHRASE", "wrong")
    with pytest.raises(CouldNotCheck, match="does not open with the passphrase"):
        open_signing_key(tmp_path / "keys", tmp_path / "records")
    monkeypatch.delenv("GOLF_KEY_PASSPHRASE")
    with pytest.raises(CouldNotCheck, match="has a passphrase"):
        open_signing_key(tmp_path / "keys", tmp_path / "records")


UNFIT = {
    "others-read-it": (lambda path: path.chmod(0o644), r"mode 0644; wanted 0600. chmod 600"),
    "rubbish": (lambda path: path.write_bytes(b"rubbish"), "is not a PKCS#8 PEM key"),
    "missing": (lambda path: path.unlink(), "missing"),
    "another": (
        lambda path: shutil.move(next(path.parents[1].glob("other/*.pem")), path),
        "not the Ed25519 key whose id is its name",
    ),
}


@pytest.mark.parametrize(("change", "reason"), UNFIT.values(), ids=UNFIT)
def test_a_private_key_that_can_not_be_used_is_named_with_the_reason(tmp_path: Path, change, reason):
    key = open_signing_key(tmp_path / "keys", tmp_path / "records")
    create_key(tmp_path / "other")
    path = tmp_path / "keys" / f"{key.keyid}.pem"
    change(path)
    with pytest.raises(CouldNotCheck, match=reason) as caught:
        open_signing_key(tmp_path / "keys", tmp_path / "records")
    assert str(path) in str(caught.value)


@pytest.mark.rule("R1-SIGNATURE")
def test_unknown_expired_early_and_revoked_keys_have_different_messages(tmp_path: Path):
    store_run(tmp_path)
    records = tmp_path / "records"
    assert failures(records) == ""
    key = listed(records)
    store_public(records, replace(key, not_after="2026-01-01T00:00:00Z"))
    assert "expired at 2026-01-01T00:00:00Z" in failures(records)
    store_public(records, replace(key, not_before="2027-01-01T00:00:00Z"))
    assert "is valid from 2027-01-01T00:00:00Z on" in failures(records)
    change_key(records, key, status="revoked", reason="laptop stolen")
    assert "is revoked (laptop stolen)" in failures(records)
    public_path(records, key.keyid).unlink()
    assert "unknown key" in failures(records)


@pytest.mark.parametrize(("end", "told"), [("2024-02-01T00:00:00Z", True), ("2999-01-01T00:00:00Z", False)])
def test_dates_before_the_end_of_a_window_that_is_over_are_the_keys_own_word(tmp_path: Path, end: str, told: bool):
    store_run(tmp_path, started_at="2024-01-01T00:00:00Z")
    store_public(tmp_path / "records", replace(listed(tmp_path / "records"), not_after=end))
    assert ("is expired; its dates" in str(verify_folder(tmp_path / "records").findings)) is told


def test_a_revoked_key_does_not_sign_and_is_not_trusted_again(tmp_path: Path):
    store_run(tmp_path)
    records = tmp_path / "records"
    change_key(records, listed(records), status="revoked", reason="lost")
    with pytest.raises(CouldNotCheck, match="revoked"):
        store_run(tmp_path, 2)
    with pytest.raises(UsageError, match="revoked and stays so"):
        change_key(records, listed(records), status="trusted")


def test_after_a_rotation_old_records_stay_good_and_new_ones_have_the_new_key(tmp_path: Path):
    records = tmp_path / "records"
    first = store_run(tmp_path, 1)
    old, new = rotate_key(tmp_path / "keys", records)
    # The sample's date lies before the rotation or after it, whatever the clock says: set the window around it.
    store_public(records, replace(old, not_after="2026-11-24T17:30:00Z"))
    second = store_run(tmp_path, 2, started_at="2026-11-24T18:00:00Z")
    assert (first.signer, second.signer) == (old.keyid, new.keyid)
    assert failures(records) == ""
    assert new.replaces == old.keyid
    store_public(records, replace(old, not_after="2026-11-24T16:00:00Z"))
    assert "retired at 2026-11-24T16:00:00Z" in failures(records)


def announced(root: Path, started_at: str) -> tuple[RunRecord, Path]:
    """A run that was announced and goes on: its record to be, and its artifact."""
    artifact = make_artifact(root / "artifact", 1)
    record = make_record(artifact, 1, started_at=started_at)
    digest = sign_entry(make_intent(record, record.started_at), root / "records", root / "keys").digest
    return replace(record, intent=digest), artifact


CHANGES_OF_THE_KEY = {
    "rotated": lambda keys, records: rotate_key(keys, records),
    "rotated twice": lambda keys, records: (rotate_key(keys, records), rotate_key(keys, records)),
    "a new one": lambda keys, _: create_key(keys),
}


@pytest.mark.parametrize("name", CHANGES_OF_THE_KEY)
def test_a_run_under_way_is_signed_by_the_key_that_announced_it(tmp_path: Path, name: str):
    keys, records = tmp_path / "keys", tmp_path / "records"
    record, artifact = announced(tmp_path, utc_now())
    announcing = read_active(keys)
    CHANGES_OF_THE_KEY[name](keys, records)
    assert sign_and_store(record, artifact, records, keys).signer == announcing
    assert store_run(tmp_path, 2, started_at=utc_now()).signer == read_active(keys) != announcing
    assert failures(records) == ""
    found = verify_folder(records).findings
    assert {f.verdict for f in found} <= {Verdict.PASS, Verdict.WARN}
    dates = [f.message for f in found if "its dates are its own word" in f.message]
    assert bool(dates) is (name != "a new one")


def test_a_run_that_began_in_the_window_is_signed_after_it_and_none_begins_then(tmp_path: Path):
    keys, records = tmp_path / "keys", tmp_path / "records"
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    record, artifact = announced(tmp_path, an_hour_ago)
    store_public(records, replace(listed(records), not_after=an_hour_ago))
    stored = sign_and_store(record, artifact, records, keys)
    assert failures(records) == ""
    with pytest.raises(CouldNotCheck, match="expired"):
        sign_entry(make_intent(record, utc_now()), records, keys)
    with pytest.raises(CouldNotCheck, match="expired"):
        sign_and_store(replace(stored.record, started_at=utc_now(), predecessor=""), artifact, records, keys)


def test_a_key_that_was_revoked_or_is_gone_signs_no_result_whatever_its_date(tmp_path: Path):
    keys, records = tmp_path / "keys", tmp_path / "records"
    record, artifact = announced(tmp_path, utc_now())
    old, _ = rotate_key(keys, records)
    private = keys / f"{old.keyid}.pem"
    private.rename(tmp_path / "elsewhere")
    with pytest.raises(CouldNotCheck, match="private half is not in"):
        sign_and_store(record, artifact, records, keys)
    (tmp_path / "elsewhere").rename(private)
    change_key(records, old, status="revoked", reason="lost")
    with pytest.raises(CouldNotCheck, match="revoked"):
        sign_and_store(record, artifact, records, keys)
    assert not list((records / "runs").glob("*"))


class Killed(BaseException):
    pass


def stopped(monkeypatch, after: int, what, *arguments, **options) -> None:
    """Call ``what``, and end it at the write after so many."""
    left = [None] * after

    def dying(*written, **how):
        if not left:
            raise Killed
        left.pop()
        write_atomic(*written, **how)

    with monkeypatch.context() as patch:
        patch.setattr("harness.record.signing.write_atomic", dying)
        patch.setattr("harness.record.trust.write_atomic", dying)
        with pytest.raises(Killed):
            what(*arguments, **options)


@pytest.mark.parametrize("writes", range(3))
def test_a_new_key_that_can_not_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch, writes: int):
    keys, records = tmp_path / "keys", tmp_path / "records"
    old = open_signing_key(keys, records)
    before = sorted(tmp_path.rglob("*"))
    stopped(monkeypatch, writes, create_key, keys, records_dir=records, owner="Ada")
    assert sorted(tmp_path.rglob("*")) == before
    assert read_active(keys) == old.keyid


def test_a_new_key_that_is_active_already_is_kept_whatever_ends_its_making(tmp_path: Path, monkeypatch):
    keys, records = tmp_path / "keys", tmp_path / "records"

    def interrupted(path, *written, **how):
        write_atomic(path, *written, **how)
        if path.name == "active":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("harness.record.signing.write_atomic", interrupted)
        with pytest.raises(KeyboardInterrupt):
            create_key(keys, records_dir=records)
    assert open_signing_key(keys, records).keyid == listed(records).keyid


@pytest.mark.parametrize("writes", range(4))
def test_a_rotation_that_is_killed_loses_no_endorsement(tmp_path: Path, monkeypatch, writes: int):
    keys, records = tmp_path / "keys", tmp_path / "records"
    record, artifact = announced(tmp_path, utc_now())
    before = sign_and_store(record, artifact, records, keys)
    stopped(monkeypatch, writes, rotate_key, keys, records, owner="Ada")
    assert len(list(keys.glob("*.pem"))) == (1 if writes < 1 else 2)
    assert read_active(keys) == before.signer
    assert failures(records) == ""
    old, new = rotate_key(keys, records)
    assert (old.keyid, new.replaces, read_active(keys)) == (before.signer, before.signer, new.keyid)
    trusted, bad = load_trust(records / "keys")
    assert {key.keyid: key.status for key in trusted.values()} == {old.keyid: "retired", new.keyid: "trusted"}
    assert not bad
    assert store_run(tmp_path, 2, started_at=utc_now()).signer == new.keyid
    assert failures(records) == ""


def test_a_successor_that_the_old_key_did_not_endorse_is_caught(tmp_path: Path):
    records = tmp_path / "records"
    key = open_signing_key(tmp_path / "keys", records)
    usurper = describe_key(create_key(tmp_path / "other"))
    store_public(records, replace(usurper, replaces=key.keyid, endorsement=bytes(3)))
    keys, bad = load_trust(records / "keys")
    assert set(keys) == {key.keyid}
    assert "has not signed that" in next(iter(bad.values()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("trusted", "adored"), "adored"),
        (lambda text: text.replace("{", "{ ", 1), "canonical"),
        (lambda text: text[:-40], "is not a public key entry"),
    ],
    ids=["status", "white-space", "cut"],
)
def test_an_edited_trust_entry_is_named(tmp_path: Path, change, reason):
    records = tmp_path / "records"
    open_signing_key(tmp_path / "keys", records)
    (path,) = (records / "keys").iterdir()
    path.write_text(change(path.read_text()))
    with pytest.raises(UsageError, match=reason) as caught:
        load_public(path)
    assert str(path) in str(caught.value)
    assert verify_folder(records).verdict is Verdict.FAIL


def test_a_trust_list_elsewhere_decides_instead(tmp_path: Path):
    store_run(tmp_path)
    mine = store_public(tmp_path / "other", describe_key(create_key(tmp_path / "another"))).parent
    assert verify_folder(tmp_path / "records", trust=mine).verdict is Verdict.FAIL
    (path,) = (tmp_path / "records" / "keys").iterdir()
    (mine / path.name).write_bytes(path.read_bytes())
    assert verify_folder(tmp_path / "records", trust=mine).verdict is Verdict.PASS


def test_a_window_that_ends_before_it_starts_is_refused(tmp_path: Path):
    open_signing_key(tmp_path / "keys", tmp_path / "records")
    key = listed(tmp_path / "records")
    window = {"not_before": "2027-01-01T00:00:00Z", "not_after": "2026-01-01T00:00:00Z"}
    with pytest.raises(UsageError, match="ends"):
        change_key(tmp_path / "records", key, status="trusted", owner="A", **window)
    with pytest.raises(UsageError, match="form"):
        change_key(tmp_path / "records", key, status="trusted", not_before="soon")


def test_two_runs_that_start_together_sign_with_one_key(tmp_path: Path):
    together = threading.Barrier(4)

    def first_use(_: int) -> str:
        together.wait()
        return open_signing_key(tmp_path / "keys", tmp_path / "records").keyid

    with ThreadPoolExecutor(4) as pool:
        used = set(pool.map(first_use, range(4)))
    assert {path.stem for path in (tmp_path / "keys").glob("*.pem")} == used
    assert used == {listed(tmp_path / "records").keyid}


@pytest.mark.rule("R1-SIGNATURE")
@pytest.mark.parametrize(
    ("roles", "folders"), [(("reviewer",), {"runs", "intents"}), (("runner",), set()), ((), set())]
)
def test_a_key_signs_in_its_roles_alone(tmp_path: Path, roles, folders):
    store_run(tmp_path)
    records = tmp_path / "records"
    change_key(records, listed(records), status="trusted", roles=roles)
    found = [f for f in verify_folder(records).findings if f.verdict is Verdict.FAIL and "not as runner" in f.message]
    assert {f.where.partition("/")[0] for f in found} == folders
    record = make_record(tmp_path / "artifacts" / "a-1337", 1337)
    refused = pytest.raises(CouldNotCheck, match="not as runner")
    announced = refused if roles == ("reviewer",) else contextlib.nullcontext()
    with announced:  # a run that verify would not count does not begin
        sign_entry(make_intent(record, utc_now()), records, tmp_path / "keys")


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A folder whose list of keys is signed by a root that signs nothing else; returns the root's keys."""
    store_run(tmp_path)
    root = create_key(tmp_path / "root")
    sign_list(tmp_path / "records", root.keyid, root.private)
    return tmp_path / "root"


def sign_again(tmp_path: Path, keys_dir: Path) -> Path:
    key = load_private(keys_dir, read_active(keys_dir))
    return sign_list(tmp_path / "records", key.keyid, key.private)


def test_a_signed_list_decides_and_is_held_to_its_root(tmp_path: Path, signed: Path):
    records, root = tmp_path / "records", read_active(signed)
    assert verify_folder(records, root=root).verdict is Verdict.PASS
    assert verify_folder(records).accepted.source == "version 1 of the signed list"
    messages = [f.message for f in verify_folder(records, root="0" * 64).findings if f.verdict is Verdict.FAIL]
    assert any("not the next version" in message for message in messages)
    store_run(tmp_path, 2, keys="other")
    assert "unknown key" in failures(records)  # until a root lists it
    sign_again(tmp_path, signed)
    assert failures(records) == ""


@pytest.mark.rule("R1-SIGNATURE")
def test_a_revocation_that_is_signed_can_not_be_undone(tmp_path: Path, signed: Path):
    records = tmp_path / "records"
    key = load_public(next((records / "keys").glob("*.json")))
    change_key(records, key, status="revoked", reason="stolen")
    revoking = sign_again(tmp_path, signed)
    assert "is revoked (stolen)" in failures(records)
    store_public(records, key)  # the file is edited …
    assert "is not as version 2 of the signed list has it" in failures(records)
    assert "is revoked (stolen)" in failures(records)
    with pytest.raises(UsageError, match="takes back that key"):  # … and even a root can't sign that
        sign_again(tmp_path, signed)
    lists, digest, _ = read_lists(records / "keys")  # … nor list the key a second time, as if it were not
    twice = replace(lists[-1], version=3, previous=digest, keys=[*lists[-1].keys, key])
    root = load_private(signed, read_active(signed))
    again = sign(canonical_bytes(twice), root.keyid, root.private, payload_type=LIST_TYPE)
    (revoking.parent / "0003.json").write_bytes(encode(again))
    assert "it lists a key twice" in failures(records)
    assert "is revoked (stolen)" in failures(records)
    revoking.write_bytes((records / "keys" / "list" / "0001.json").read_bytes())
    assert "not the next version of the signed list" in failures(records)


def test_a_list_is_signed_by_a_root_of_the_version_before(tmp_path: Path, signed: Path):
    with pytest.raises(UsageError, match="not a root of the list"):
        sign_again(tmp_path, tmp_path / "keys")
    records = tmp_path / "records"
    root = describe_key(load_private(signed, read_active(signed)))
    store_public(records, root)
    sign_again(tmp_path, signed)
    change_key(records, root, status="revoked", reason="stolen")
    sign_again(tmp_path, signed)  # its last word
    with pytest.raises(UsageError, match="not a root"):
        sign_again(tmp_path, signed)
    (records / "keys" / "list" / "0004.json").write_bytes(b"{}")
    assert "0004.json is not the next version" in failures(records)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed here")
def test_a_key_is_bound_to_an_ssh_key_and_to_no_other(tmp_path: Path):
    store_run(tmp_path)
    records, ssh = tmp_path / "records", tmp_path / "id"
    for name in ("id", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    bound = bind_key(tmp_path / "keys", records, ssh)
    assert bound.ssh.split()[1] in ssh.with_suffix(".pub").read_text()
    assert failures(records) == ""
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    store_public(records, replace(bound, ssh=other))
    assert "has not signed that" in failures(records)
