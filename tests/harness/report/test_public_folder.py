"""``harness export``: a public folder that the check finds nothing in and whose records verify; other forms."""

import dataclasses
import errno
import json
import math
import os
import shutil

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from report_samples import store_three_seeds

from harness.cli.report import export_command
from harness.config.tracks import load_track
from harness.errors import CouldNotCheck, RuleBroken, UsageError, machine_trouble
from harness.record.predicate import DataInfo, Sizes, TrackInfo
from harness.record.verification import verify_folder
from harness.report.figures import Report, ReportedRun, pool_runs
from harness.report.public_folder import write_public_folder
from harness.review.folder import check_folder
from harness.rules import Verdict


def export(*arguments):
    return CliRunner().invoke(export_command, [str(argument) for argument in arguments], standalone_mode=False)


def failure(*arguments):
    return export(*arguments).exception


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    store_three_seeds(root)
    return root / "records"


@pytest.fixture(scope="module")
def folder(records, tmp_path_factory):
    out = tmp_path_factory.mktemp("public") / "track_non_record_16mb" / "2026-11-24_sample"
    assert export(records, "--as", "parameter-golf", out, "--author", "Ada", "--github-id", "ada").return_value == 0
    return out


def test_the_check_finds_nothing_to_say_about_an_exported_folder(folder):
    report = check_folder(folder)
    assert [item for item in report.findings if item.verdict not in (Verdict.PASS, Verdict.UNKNOWN)] == []
    assert {"A9-SCORE-MATCH", "A9-JSON", "A9-FILES", "A8-STD", "A9-README-MATCH"} <= {
        item.rule for item in report.findings if item.verdict is Verdict.PASS
    }


def test_the_claim_is_that_of_the_records_and_a_changed_one_is_found(folder, records):
    meta = json.loads((folder / "submission.json").read_text())
    assert meta["seeds"] == [42, 1337, 2025]
    assert meta["val_bpb"] == pytest.approx((12000.5 + 12080.0 + 11950.25) / 3 / (math.log(2) * 9000), abs=1e-8)
    assert (meta["author"], meta["github_id"], meta["referee"]["kind"]) == ("Ada", "ada", "refereed")
    log = folder / "train_seed42.log"
    text = log.read_text()
    log.write_text(text.replace("val_bpb:1.9", "val_bpb:1.8"))
    assert {item.verdict for item in check_folder(folder).findings} & {Verdict.FAIL, Verdict.WARN}
    log.write_text(text)


def test_code_and_signed_records_lie_beside_the_claim(folder, records):
    assert (folder / "submission" / "train" / "loop.py").read_text() == "steps = 50\n"
    report = verify_folder(folder / "records")
    assert (len(report.records), report.verdict) == (3, verify_folder(records).verdict)
    assert report.verdict is not Verdict.FAIL


def test_a_run_on_the_official_track_is_judged_by_its_caps(tmp_path):
    track, targets, n_bytes, runs = load_track("10min_16mb"), 40_540_160, 151_078_222, []
    for index, stored in enumerate(store_three_seeds(tmp_path)):
        bpb = 1.08 + 0.001 * index
        figures = {"nats": bpb * math.log(2) * n_bytes, "targets": targets, "bytes": n_bytes, "bpb": bpb}
        record = replace(
            stored.record,
            track=TrackInfo(track.name, track.digest, True, {}),
            data=DataInfo("fineweb_sp8192", "0" * 64, {}, 50_000, targets, n_bytes, 10**9),
            sizes=Sizes(80_000, 300_000, 15_900_000, 15_980_000, 16_000_000),
            scores=[replace(score, **figures) for score in stored.record.scores],
            machine=replace(stored.record.machine, gpus=["NVIDIA H100 80GB HBM3"] * 8),
        )
        runs.append(ReportedRun(dataclasses.replace(stored, predicate=record), Verdict.PASS, ()))
    out = tmp_path / "track_10min_16mb" / "2026-11-24_sample"
    write_public_folder(Report(pool_runs(runs), ()), out, author="Ada", github_id="ada")
    report = check_folder(out)
    assert report.track == "10min_16mb"
    assert [item for item in report.findings if item.verdict not in (Verdict.PASS, Verdict.UNKNOWN)] == []
    assert {"A7-BYTES", "C4-COVERAGE", "A1-TRAIN-CLOCK", "A2-EVAL-CLOCK", "A1-HARDWARE", "A3-ARTIFACT-BYTES"} <= {
        item.rule for item in report.findings if item.verdict is Verdict.PASS
    }


def test_what_is_not_one_sound_set_is_refused_and_nothing_is_left(records, tmp_path):
    store_three_seeds(tmp_path / "others")
    both = failure(records, tmp_path / "others" / "records", "--as", "parameter-golf", tmp_path / "out")
    assert isinstance(both, UsageError)
    assert isinstance(failure(records, "--as", "parameter-golf", tmp_path / "others"), UsageError)  # it is there
    path = next((tmp_path / "others" / "records" / "runs").glob("*-42-*.json"))
    path.rename(path.with_name("20261124T170000Z-smoke-42-00000000.json"))
    assert isinstance(failure(path.parents[1], "--as", "markdown", tmp_path / "out"), RuleBroken)
    store_three_seeds(tmp_path / "bare")
    for kept in (tmp_path / "bare" / "records" / "artifacts").glob("*"):
        kept.write_bytes(b"another code")
    assert isinstance(failure(tmp_path / "bare" / "records", "--as", "parameter-golf", tmp_path / "out"), CouldNotCheck)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".partial-*"))


def test_a_disk_that_is_full_is_named_once_and_nothing_is_left(records, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)

    monkeypatch.setattr(shutil, "copyfile", refuse)
    said = str(machine_trouble(failure(records, "--as", "parameter-golf", tmp_path / "out")))
    assert said.startswith(f"the disk of {tmp_path} is full.")
    assert not list(tmp_path.iterdir())


def test_what_a_strangers_records_link_to_is_not_exported(records, tmp_path):
    """Who exports publishes: a folder of records may come with a link in place of ``reviews/``."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "id_ed25519").write_text("private")
    shutil.copytree(records, tmp_path / "theirs")
    (tmp_path / "theirs" / "reviews").symlink_to(tmp_path / "secret")
    (tmp_path / "theirs" / "keys" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "theirs" / "intents" / "pipe")
    assert export(tmp_path / "theirs", "--as", "parameter-golf", tmp_path / "out").return_value == 0
    assert not list((tmp_path / "out").rglob("id_ed25519"))
    assert verify_folder(tmp_path / "out" / "records").verdict is Verdict.PASS


def test_markdown_and_the_hub_s_evaluation_results(records, tmp_path):
    assert export(records, "--as", "markdown", tmp_path / "text.md").return_value == 0
    assert (tmp_path / "text.md").read_text().startswith("## sample on track smoke: 1.92")
    yaml = pytest.importorskip("yaml", reason="it comes with the extra train")
    hub = pytest.importorskip("huggingface_hub")
    assert isinstance(failure(records, "--as", "huggingface", tmp_path / "model"), UsageError)
    options = ("--benchmark", "golf/smoke", "--source", "https://example.org/records")
    assert export(records, "--as", "huggingface", tmp_path / "model", *options).return_value == 0
    (path,) = (tmp_path / "model" / ".eval_results").glob("*.yaml")
    data = yaml.safe_load(path.read_text())
    (entry,) = hub.parse_eval_result_entries(data)
    assert hub.eval_result_entries_to_yaml([entry]) == data
    assert (entry.dataset_id, entry.task_id, entry.source_url) == ("golf/smoke", "smoke", "https://example.org/records")
    assert entry.value == pytest.approx(1.9255, abs=0.01)
    assert "lower is better" in entry.notes
