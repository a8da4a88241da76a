"""Records of every past version verify for ever. These files are never edited; a new version adds a folder."""

from pathlib import Path

import pytest

from harness.record.store import load_records
from harness.record.verification import verify_folder
from harness.rules import Verdict

GOLDEN = Path(__file__).parent / "golden"
FORMAT = ("R1-SIGNATURE", "R2-SCHEMA", "R3-CHAIN", "R5-INTENT")


@pytest.mark.rule("R2-SCHEMA")
def test_golden_records_still_read_and_chain():
    """Made-up runs over a made-up text, so their form is judged alone."""
    report = verify_folder(GOLDEN / "v1")
    assert len(report.records) == 3
    assert len(report.entries) > 6
    assert [f for f in report.findings if f.verdict is Verdict.FAIL and f.rule in FORMAT] == []
    older = [f.where for f in report.findings if "is of version 1" in f.message and f.verdict is Verdict.WARN]
    assert older == [entry.name for entry in report.records]


def test_a_golden_record_still_reads_as_it_did():
    first = load_records(GOLDEN / "v1", skipped=pytest.fail)[0]
    assert first.digest.startswith(first.path.stem.rpartition("-")[2])
    assert first.record.submission.config["MATRIX_LR"] == 0.025
    assert {score.stage for score in first.record.scores} == {"float", "packed", "final"}
