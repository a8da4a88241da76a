"""What backs a folder from outside: its history in git, timestamps, and a published list of intents."""

import shutil
import subprocess
from pathlib import Path

import pytest
from record_samples import store_run

from harness.errors import CouldNotCheck, UsageError
from harness.record.trust import change_key, load_trust, store_public
from harness.record.verification import verify_folder
from harness.record.witness import check_history, check_stamps, extend_log
from harness.rules import Finding, Verdict

WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    store_run(tmp_path, 1)
    return tmp_path / "records"


def commit(folder: Path, *how: str) -> None:
    if not (folder.parent / ".git").exists():
        subprocess.run(["git", "init", "-q", str(folder.parent)], check=True)
    subprocess.run(["git", "-C", str(folder), *WHO, "add", "-A", "."], check=True)
    subprocess.run(["git", "-C", str(folder), *WHO, *how, "commit", "-qm", "x"], check=True)


def history(records: Path) -> list[Finding]:
    """What speaks against the folder."""
    return [finding for finding in check_history(records) if finding.verdict is not Verdict.PASS]


def listed(records: Path):
    return next(iter(load_trust(records / "keys")[0].values()))


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *WHO, *words], check=True, capture_output=True)


@pytest.mark.parametrize(
    "way", ["committed", "here alone", "by a merge", "by a link", "behind a configuration", "behind a graph"]
)
def test_a_revocation_that_was_taken_back_stands_in_the_history(records: Path, way: str):
    key = listed(records)
    commit(records)
    git(records, "branch", "before")
    change_key(records, key, status="revoked", reason="stolen")
    commit(records)
    git(records, "branch", "after")
    assert history(records) == []
    if way == "by a merge":  # of two branches, the one that never knew of it wins
        git(records, "checkout", "-q", "before")
        git(records, "merge", "-q", "-s", "ours", "--no-ff", "-m", "x", "after")
    elif way == "behind a configuration":
        ran, program = records.parent / "ran", records.parent / "program"
        program.write_text(
            f"#!/bin/sh\ntouch {ran}\necho -----BEGIN PGP SIGNATURE-----; echo '[GNUPG:] SIG_CREATED ' >&2\n"
        )
        program.chmod(0o755)
        git(records, "config", "gpg.program", str(program))
        git(records, "config", "core.fsmonitor", str(program))
        store_public(records, key)
        git(records, "commit", "-S", "-aqm", "x")
        ran.unlink()
        git(records, "config", "log.showSignature", "true")
        git(records, "config", "log.showRoot", "false")
        git(records, "config", "i18n.logOutputEncoding", "UTF-16")
    else:
        path = store_public(records, key)
        if way == "by a link":
            path.rename(records / "note")
            path.symlink_to(records / "note")
        if way != "here alone":
            commit(records)
    if way == "behind a graph":  # git's cache of who follows whom, which may say that the last commit is the first
        git(records, "commit-graph", "write", "--reachable")
        graph = records.parent / ".git" / "objects" / "info" / "commit-graph"
        data = bytearray(graph.read_bytes())
        tables = {
            bytes(data[at : at + 4]): int.from_bytes(data[at + 4 : at + 12]) for at in range(8, 8 + 12 * data[6], 12)
        }
        head = subprocess.check_output(["git", "-C", str(records), "rev-parse", "HEAD"], text=True).strip()
        place = (data.index(bytes.fromhex(head), tables[b"OIDL"]) - tables[b"OIDL"]) // 20
        parent = tables[b"CDAT"] + 36 * place + 20
        data[parent : parent + 4] = b"\x70\0\0\0"  # none
        graph.chmod(0o644)
        graph.write_bytes(data)
    assert [f for f in verify_folder(records).findings if f.verdict is Verdict.FAIL] == []  # the folder can't show it
    (found,) = history(records)
    assert (found.verdict, found.where) == (Verdict.FAIL, f"keys/{key.keyid}.json")
    assert "revocation of this key was taken back" in found.message
    change_key(records, key, status="revoked", reason="stolen")
    assert history(records) == []
    assert not (records.parent / "ran").exists()  # what came with the folder is not run


def test_records_of_two_branches_merge_without_a_word(records: Path, tmp_path: Path):
    commit(records)
    git(records, "branch", "other")
    store_run(tmp_path, 2)
    change_key(records, listed(records), status="revoked", reason="lost")
    commit(records)
    git(records, "checkout", "-q", "other")
    store_run(tmp_path, 3, keys="second")
    commit(records)
    git(records, "merge", "-q", "--no-edit", "-")
    assert history(records) == []


def test_a_shallow_clone_shows_no_history(records: Path, tmp_path: Path):
    commit(records)
    store_run(tmp_path, 2)
    commit(records)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}", "clone")
    with pytest.raises(CouldNotCheck, match="shallow"):
        history(tmp_path / "clone" / "records")


@pytest.mark.parametrize(
    "settings", [(), ("core.bare=false",), ("core.worktree=.",)], ids=["bare", "not bare", "with a tree"]
)
@pytest.mark.parametrize("place", ["records", "."])
def test_a_repository_among_the_records_does_not_stand_for_the_one_around_them(
    tmp_path: Path, settings: tuple[str, ...], place: str
):
    """Its files travel with a clone, and git takes the folder that holds them for a repository without a tree."""
    home = tmp_path / "home"
    store_run(home, 1)
    records = home / "records"
    commit(home)
    first = next((records / "runs").iterdir())
    first.write_bytes(first.read_bytes() + b" ")
    commit(home)
    assert any("was rewritten" in finding.message for finding in history(records))
    store_run(tmp_path / "other", 2)
    commit(tmp_path / "other" / "records")
    shutil.copytree(tmp_path / "other" / ".git", home / place, dirs_exist_ok=True)
    git(home, "config", "-f", f"{home / place}/config", "core.bare", "true")
    for setting in settings:
        git(home, "config", "-f", f"{home / place}/config", *setting.split("="))
    with pytest.raises(CouldNotCheck, match="hide the one around"):
        history(records)


def test_entries_that_were_removed_or_rewritten_stand_in_the_history(records: Path, tmp_path: Path):
    commit(records)
    store_run(tmp_path, 2)
    commit(records)
    assert history(records) == []  # added, and the head rewritten: as it should be
    first, second = sorted((records / "runs").iterdir())
    first.write_bytes(second.read_bytes())
    second.unlink()
    commit(records)
    found = {finding.where: (finding.verdict, finding.message.split(" in commit")[0]) for finding in history(records)}
    assert found == {
        f"runs/{first.name}": (Verdict.FAIL, "was rewritten"),
        f"runs/{second.name}": (Verdict.WARN, "was removed"),
    }


def test_a_folder_without_history_could_not_be_checked(records: Path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(records.parent))
    with pytest.raises(CouldNotCheck, match=r"git (rev-parse|log) in "):
        history(records)
    monkeypatch.delenv("GIT_CEILING_DIRECTORIES")
    (records.parent / "elsewhere").mkdir()
    (records.parent / "elsewhere" / "file").touch()
    commit(records.parent / "elsewhere")  # a repository around it shows no more than none
    with pytest.raises(CouldNotCheck, match="no commit holds a file of it"):
        history(records)
    commit(records)
    assert history(records) == []


def test_a_history_with_holes_is_not_fetched_by_what_the_folder_names(records: Path, tmp_path: Path):
    commit(records)
    git = ["git", "-C", str(records)]
    tree = subprocess.run([*git, "rev-parse", "HEAD^{tree}"], capture_output=True, check=True, text=True).stdout.strip()
    (tmp_path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    program = {"remote.x.url": f"ext::touch {tmp_path}/ran", "protocol.ext.allow": "always"}
    partial = {"extensions.partialClone": "x", "core.repositoryFormatVersion": "1", "remote.x.promisor": "true"}
    for name, value in (program | partial).items():
        subprocess.run([*git, "config", name, value], check=True)
    with pytest.raises(CouldNotCheck, match=r"git (rev-parse|log) in "):
        history(records)
    assert not (tmp_path / "ran").exists()


@pytest.mark.rule("R5-INTENT")
def test_the_published_list_of_intents_still_has_what_a_folder_lost(records: Path, tmp_path: Path):
    log = tmp_path / "intents.jsonl"
    store_run(tmp_path, 2)
    assert extend_log([verify_folder(records)], log) == []
    published = log.read_bytes()
    store_run(tmp_path, 3)
    assert extend_log([verify_folder(records)], log) == []
    assert log.read_bytes().startswith(published)
    assert len(log.read_bytes().splitlines()) == 3
    next(path for path in (records / "intents").iterdir() if "-smoke-3-" in path.name).unlink()
    (gone,) = extend_log([verify_folder(records)], log)
    assert (gone.rule, gone.verdict) == ("R5-INTENT", Verdict.FAIL)
    assert len(log.read_bytes().splitlines()) == 3


def test_a_list_of_intents_with_a_line_cut_out_is_refused(records: Path, tmp_path: Path):
    log = tmp_path / "intents.jsonl"
    store_run(tmp_path, 2)
    extend_log([verify_folder(records)], log)
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[1])
    with pytest.raises(UsageError, match=r"line 1 of .* does not follow"):
        extend_log([verify_folder(records)], log)


AUTHORITY = """[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
"""
CERTIFICATE = ("-subj", "/CN=tsa", "-addext", "extendedKeyUsage=critical,timeStamping", "-days", "2", "-nodes")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
def test_a_timestamp_backs_a_date_and_names_one_that_was_written_back(records: Path, tmp_path: Path):
    folder = tmp_path / "tsa"
    folder.mkdir()
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(AUTHORITY.format(folder=folder))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", folder / "tsa.key", "-out", folder / "tsa.pem"]
    subprocess.run([*map(str, made), *CERTIFICATE], check=True, capture_output=True)
    report = verify_folder(records)
    assert [f.where for f in check_stamps(report, folder / "tsa.pem")] == ["timestamps"]  # none
    entry = report.records[0]
    request, answer = tmp_path / "query.tsq", records / "timestamps" / f"{entry.entry.digest}.tsr"
    answer.parent.mkdir()
    ask = ["openssl", "ts", "-query", "-digest", entry.entry.digest, "-sha256", "-cert", "-out", str(request)]
    subprocess.run(ask, check=True, capture_output=True)
    command = ["openssl", "ts", "-reply", "-section", "tsa", "-config", folder / "tsa.cnf", "-queryfile", request]
    subprocess.run([*map(str, command), "-out", str(answer)], check=True, capture_output=True)
    (found,) = check_stamps(report, folder / "tsa.pem")
    assert (found.verdict, found.where) == (Verdict.WARN, entry.name)  # the sample is dated long ago
    assert "day(s) after the date it gives itself" in found.message
    # The answer around the signed token has room for words.
    told = answer.read_bytes()
    token = told[told.index(bytes.fromhex("06092a864886f70d010702")) - 4 :]  # of type SignedData
    said = b"\nTime stamp: Nov 24 17:00:00 2026 GMT\n"
    text = bytes((0x30, 7 + len(said), 0x02, 1, 0, 0x30, 2 + len(said), 0x0C, len(said))) + said
    answer.write_bytes(b"\x30\x82" + (len(text) + len(token)).to_bytes(2, "big") + text + token)
    assert next(check_stamps(report, folder / "tsa.pem")) == found
    (folder / "other.pem").write_text("")
    (other,) = check_stamps(report, folder / "other.pem")
    assert (other.verdict, "does not hold" in other.message) == (Verdict.ERROR, True)
    *signed, last = answer.read_bytes()
    answer.write_bytes(bytes((*signed, last ^ 1)))
    (found,) = check_stamps(report, folder / "tsa.pem")
    assert (found.verdict, "does not verify" in found.message) == (Verdict.FAIL, True)


def test_the_command_asks_all_three(records: Path, tmp_path: Path, call):
    commit(records)
    assert call("verify", records, "--history", "--intents", tmp_path / "log")[0] == 0
    assert len((tmp_path / "log").read_bytes().splitlines()) == 1
