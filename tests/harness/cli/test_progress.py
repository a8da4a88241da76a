"""Progress lines for logs, and text made fit for a terminal."""

import io

from harness.cli import progress
from harness.cli.progress import LineReporter, Silent, printable


def test_control_characters_do_not_reach_the_terminal():
    assert printable("a\x1b[31mb\nc\x07") == "a [31mb c "


def test_long_text_is_cut():
    assert len(printable("x" * 1000, 50)) == 50


def test_lines_name_the_stage_and_an_eta(monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.0)
    out = io.StringIO()
    with LineReporter(out).stage("train", 100, "steps") as stage:
        stage.update(50, "loss 3.2")
    text = out.getvalue()
    assert "train: 50/100 steps" in text
    assert "ETA" in text
    assert "loss 3.2" in text
    assert "done in" in text


def test_the_silent_reporter_says_nothing(capsys):
    with Silent().stage("train", 1) as stage:
        stage.update(1)
    Silent().note("x")
    assert capsys.readouterr() == ("", "")
