"""Progress lines for logs, and text made fit for a terminal."""

import io
from pathlib import Path

import pytest
from record_samples import make_artifact, make_record

from harness import progress
from harness.cli.submit import show
from harness.progress import LineReporter, Reporter, printable
from harness.run.runs import RunOutcome


def test_control_characters_do_not_reach_the_terminal():
    assert printable("a\x1b[31mb\nc\x07") == "a [31mb c "


def test_long_text_is_cut():
    assert len(printable("x" * 1000, 50)) == 50


def test_lines_name_the_stage_and_an_eta(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    with LineReporter().stage("train", 100, "steps") as stage:
        stage.update(50, "loss 3.2")
    text = capsys.readouterr().err
    assert "train: 50/100 steps" in text
    assert "ETA" in text
    assert "loss 3.2" in text
    assert "done in" in text
    with LineReporter().stage("script", None) as stage:
        stage.update(0, "of at most 9 s")
    assert "script: 0 s  of at most 9 s\n" in capsys.readouterr().err


def test_the_silent_reporter_says_nothing(capsys):
    with Reporter().stage("train", 1) as stage:
        stage.update(1)
    Reporter().note("x")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_one_display_shows_every_stage_once_within_the_width(monkeypatch: pytest.MonkeyPatch, columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = io.StringIO()
    reporter = progress.BarReporter(out)
    for title in ("train", "package"):
        with reporter.stage(title, 10, "s") as stage:
            stage.update(5, "step 7 " + "loss 3.2 " * 30)
    lines = [line for line in out.getvalue().splitlines() if line.strip()]
    assert [line.split()[1] for line in lines] == ["train", "package"]
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_summary_fits_and_ends_with_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    record = make_record(make_artifact(tmp_path, 0), 7)
    said = []
    for verbose in (False, True):
        show(RunOutcome(record, None, Path("run")), as_json=False, verbose=verbose)
        said.append(capsys.readouterr().out)
    brief, whole = said
    tables, _, _ = whole.partition("\nscore ")
    assert max(map(len, tables.splitlines())) <= width
    assert all(f"{score.bpb:.4f}" in tables for score in record.scores)
    assert [line.split()[0] for line in brief.splitlines()[-6:]] == [
        "score", "bytes", "clocks", "verdict", "record", "next",
    ]  # fmt: skip
    assert " PASS " not in brief.split("\nscore ")[0]
    assert " PASS " in whole.split("\nscore ")[0]
