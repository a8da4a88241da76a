"""Fetching from a hub with faults: what comes out is whole and right, or one message and no data set."""

import json
import shutil

import pytest
from click.testing import CliRunner
from corpus import documents, small_dataset, trained
from hub_server import Hub

from harness.cli.data import command
from harness.data import load_validation, open_dataset
from harness.data.build import folder_lock
from harness.data.fetch import fetch
from harness.data.tokenizers import ByteTokenizer
from harness.errors import CouldNotCheck, UsageError
from harness.progress import Reporter

REPO = "someone/export"
BASE = "datasets/datasets/fineweb10B_sp1024"
VAL = f"{BASE}/fineweb_val_000000.bin"
TRAIN = f"{BASE}/fineweb_train_000000.bin"
VAL_DOCS = documents(6)


def exported(built, variant, tokenizer, **described):
    """The files of a repository with the export of a built data set, and its last train shard twice."""
    base = f"datasets/datasets/fineweb10B_{variant}"
    val, train = (sorted(built.glob(f"small_{part}_0*.bin")) for part in ("val", "train"))
    stats = {"files_train": len(train) + 1, "files_val": len(val)}
    manifest = {
        "datasets": [{"name": f"fineweb10B_{variant}", "tokenizer_name": "t", "stats": stats}],
        "tokenizers": [{"name": "t"} | described],
    }
    docs = "".join(json.dumps({"text": text}) + "\n" for text in [*VAL_DOCS, *documents(30, 100)])
    return {
        "datasets/manifest.json": json.dumps(manifest).encode(),
        **{f"{base}/{path.name.replace('small', 'fineweb')}": path.read_bytes() for path in (*val, *train)},
        f"{base}/fineweb_train_{len(train):06d}.bin": train[-1].read_bytes(),
        f"datasets/{next(iter(described.values()))}": tokenizer.file,
        "datasets/docs_selected.jsonl": docs.encode(),
    }


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "x"
    built = small_dataset(folder, val=VAL_DOCS, train=documents(30, 100), shard_tokens=10**6)
    return exported(built, "sp1024", trained(), model_path="tokenizers/fineweb_1024_bpe.model")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("harness.data.fetch.PAUSE_S", 0.01)
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 20)


@pytest.fixture
def hub(export, monkeypatch):
    with Hub(REPO, export) as running:
        monkeypatch.setattr("harness.data.fetch.ENDPOINT", running.endpoint)
        yield running


def get(hub, tmp_path, variant="sp1024", **options):
    folder = tmp_path / f"fineweb_{variant}"
    return folder, fetch(variant, folder, Reporter(), **options)


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.rule("A7-BYTES")
def test_a_fetched_export_with_documents_is_a_data_set_with_an_exact_ledger(hub, tmp_path):
    _, record = get(hub, tmp_path, with_docs=True)
    dataset = open_dataset("fineweb_sp1024", tmp_path, Reporter())
    raw = sum(len(text.encode()) for text in VAL_DOCS)
    assert int(load_validation(dataset).target_bytes.sum()) == dataset.val_bytes == raw
    assert len(dataset.train_shards) == 2
    assert dataset.disjoint.verdict == "PASS"
    assert record.revision == hub.sha


def test_without_documents_there_are_shards_but_no_data_set(hub, tmp_path):
    folder, record = get(hub, tmp_path, train_shards=1)
    assert names(folder) == {
        "manifest.json",
        "fetch.json",
        "fineweb_val_000000.bin",
        "fineweb_train_000000.bin",
        "fineweb_1024_bpe.model",
    }
    assert json.loads((folder / "fetch.json").read_text())["revision"] == record.revision == hub.sha
    with pytest.raises(UsageError, match="--with-docs"):
        open_dataset("fineweb_sp1024", tmp_path, Reporter())


def test_a_fetch_without_documents_leaves_a_complete_data_set_alone(hub, tmp_path):
    folder, _ = get(hub, tmp_path, with_docs=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="holds a complete data set") as refused:
        get(hub, tmp_path, train_shards=1)
    assert "--with-docs" in str(refused.value.remedy)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert open_dataset("fineweb_sp1024", tmp_path, Reporter()).name == "fineweb_sp1024"
    get(hub, tmp_path, with_docs=True)
    assert names(folder) == before.keys()


@pytest.mark.parametrize("faults", [["cut"], [503, 429, 500], ["wrong"], ["slow"]], ids=str)
def test_passing_faults_are_survived(hub, tmp_path, faults):
    hub.faults[TRAIN] = list(faults)
    folder, _ = get(hub, tmp_path)
    assert (folder / "fineweb_train_000000.bin").read_bytes() == hub.files[TRAIN]
    assert not hub.faults[TRAIN]


def test_the_api_may_be_busy_too(hub, tmp_path):
    hub.api_faults = [503, 429]
    get(hub, tmp_path, train_shards=0)
    assert not hub.api_faults


def test_a_cut_transfer_goes_on_where_it_stopped(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 256)
    hub.faults[TRAIN] = ["cut"]
    get(hub, tmp_path)
    assert any(path == TRAIN and asked for path, asked in hub.gets)


@pytest.mark.parametrize(
    ("faults", "says"), [(["wrong"] * 9, "in two downloads"), ([503] * 99, "could not be fetched in 5 tries")]
)
def test_lasting_faults_end_in_one_message_and_the_next_try_goes_on(hub, tmp_path, faults, says):
    hub.faults[TRAIN] = list(faults)
    with pytest.raises(CouldNotCheck, match=says):
        get(hub, tmp_path)
    assert not (tmp_path / "fineweb_sp1024").exists()
    hub.faults.clear()
    hub.gets.clear()
    folder, _ = get(hub, tmp_path)
    assert VAL not in [path for path, _ in hub.gets]
    assert (folder / "fineweb_train_000000.bin").read_bytes() == hub.files[TRAIN]


def test_a_second_fetch_takes_nothing_again_and_more_shards_only_those(hub, tmp_path):
    get(hub, tmp_path, train_shards=1)
    hub.gets.clear()
    get(hub, tmp_path, train_shards=1)
    assert hub.gets == []
    folder, _ = get(hub, tmp_path, train_shards=2)
    assert [path for path, _ in hub.gets] == [f"{BASE}/fineweb_train_000001.bin"]
    assert (folder / "fineweb_train_000000.bin").exists()


def test_a_manifest_that_changes_under_a_pinned_revision_is_refused(hub, tmp_path):
    hub.faults[TRAIN] = [503] * 99
    with pytest.raises(CouldNotCheck):
        get(hub, tmp_path)
    hub.faults.clear()
    changed = json.loads(hub.files["datasets/manifest.json"])
    changed["note"] = "changed"
    hub.files["datasets/manifest.json"] = json.dumps(changed).encode()
    with pytest.raises(CouldNotCheck, match="is not the one that this fetch began with"):
        get(hub, tmp_path)
    assert not (tmp_path / "fineweb_sp1024").exists()


def test_digests_of_the_manifest_win_over_the_bytes(hub, tmp_path):
    content = json.loads(hub.files["datasets/manifest.json"])
    content["datasets"][0]["sha256"] = {VAL: "0" * 64}
    hub.files["datasets/manifest.json"] = json.dumps(content).encode()
    with pytest.raises(CouldNotCheck, match="different digests"):
        get(hub, tmp_path)


def test_documents_of_another_export_are_refused(hub, tmp_path):
    hub.files["datasets/docs_selected.jsonl"] = b"".join(
        json.dumps({"text": t}).encode() + b"\n" for t in documents(9, 50)
    )
    with pytest.raises(CouldNotCheck, match="document 0 of docs_selected"):
        get(hub, tmp_path, with_docs=True)
    assert not (tmp_path / "fineweb_sp1024").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda files: files.pop(TRAIN), "lacks .*fineweb_train_000000.bin"),
        (lambda files: files.pop("datasets/manifest.json"), "lacks datasets/manifest.json"),
        (lambda files: files.update({"datasets/manifest.json": b"[]"}), "does not describe fineweb10B_sp1024"),
    ],
)
def test_an_incomplete_repository_is_named(hub, tmp_path, change, says):
    change(hub.files)
    with pytest.raises(CouldNotCheck, match=says):
        get(hub, tmp_path)


def test_a_missing_repository_a_full_disk_and_a_second_run_are_one_message_each(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "someone/else")
    with pytest.raises(CouldNotCheck, match="someone/else: revision main is not there"):
        get(hub, tmp_path)
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", REPO)
    with folder_lock(tmp_path / "fineweb_sp1024"), pytest.raises(CouldNotCheck, match="another process"):
        get(hub, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(CouldNotCheck, match="1,000 bytes free"):
        get(hub, tmp_path)


def test_no_network_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.data.fetch.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CouldNotCheck, match=r"could not be fetched in 5 tries.*"):
        get(None, tmp_path)


def test_the_command_reads_the_public_overrides(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "other")
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path))
    hub.files = {path.replace("datasets/", "other/", 1): content for path, content in hub.files.items()}
    result = CliRunner().invoke(command, ["fetch", "--variant", "sp1024", "--with-docs", "--json"])
    assert json.loads(result.stdout)["revision"] == hub.sha
    assert open_dataset("fineweb_sp1024", tmp_path / "datasets", Reporter()).name == "fineweb_sp1024"


@pytest.mark.parametrize("options", [("sp99",), ("sp1024", "--train-shards", "-1")])
def test_wrong_options_are_usage_errors(options):
    assert CliRunner().invoke(command, ["fetch", "--variant", *options]).exit_code == 2


@pytest.mark.rule("A7-BYTES")
def test_the_byte_export_is_fetched_with_its_tokenizer_of_json(tmp_path, monkeypatch):
    tokenizer = ByteTokenizer()
    built = small_dataset(tmp_path / "x", val=VAL_DOCS, train=documents(5, 100), tokenizer=tokenizer)
    files = exported(built, "byte260", tokenizer, path="tokenizers/fineweb_pure_byte_260.json")
    with Hub(REPO, files) as hub:
        monkeypatch.setattr("harness.data.fetch.ENDPOINT", hub.endpoint)
        get(hub, tmp_path, "byte260", with_docs=True)
    dataset = open_dataset("fineweb_byte260", tmp_path, Reporter())
    assert dataset.val_bytes == sum(len(text.encode()) for text in VAL_DOCS)
    assert dataset.vocab_size == 260
