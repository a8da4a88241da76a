"""The README's figures of the committed runs are those of the committed report, which is made from the records."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
STAGES = (
    "trained model, before quantisation",
    "after quantisation and packing",
    "after test-time training (the score)",
)


def section(track: str) -> dict[str, list[str]]:
    """Rows of the track's table in the report: label -> [bpb float, bpb packed, bpb final, bytes, …]."""
    heading = f"on track {track}:".replace("_", "\\_")
    (part,) = [text for text in (ROOT / "records/report/report.md").read_text().split("## ") if heading in text]
    rows = (line.strip("|").split("|") for line in part.splitlines() if line.startswith("| "))
    return {label.strip(): [cell.strip() for cell in cells] for label, *cells in rows}


def stated(pattern: str) -> list[str]:
    """The groups of the one place where the README says it; line breaks and digit groups as written."""
    (found,) = re.findall(pattern.replace(" ", r"\s+"), README)
    return [found] if isinstance(found, str) else list(found)


def test_the_three_seeds():
    rows = section("smoke")
    assert stated(r"mean ([\d.]+) bpb, sample standard deviation ([\d.]+?)\.\s") == [
        rows["Mean"][2],
        rows["Sample std"][2],
    ]


def test_the_run_on_a_gpu():
    ((_, run),) = [item for item in section("one_gpu_120s").items() if item[0].isdigit()]
    assert stated(r": ([\d.]+) bpb in ([\d,]+) bytes") == [run[2], run[3]]


@pytest.mark.parametrize("place", range(3), ids=STAGES)
def test_the_stages_of_the_run_that_is_shown(place: int):
    (seed,) = stated(r"mamba3-hybrid on track smoke, seed (\d+)\n")
    words = re.escape(STAGES[place]).replace("\\ ", " ")
    assert stated(rf"(?m)^{words} ([\d.]+) ") == [section("smoke")[seed][place]]


def test_the_bytes_of_the_run_that_is_shown():
    (seed,) = stated(r"mamba3-hybrid on track smoke, seed (\d+)\n")
    assert stated(r"(?m)^bytes ([\d,]+) of ") == [section("smoke")[seed][3]]
