"""Records of every past version verify for ever. These files are never edited; a new version adds a folder."""

from pathlib import Path

import pytest

from harness.record import load_records, verify_folder
from harness.rules import Verdict

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.rule("R2-SCHEMA")
@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
def test_golden_records_still_verify(version: str):
    report = verify_folder(GOLDEN / version)
    assert len(report.records) == 3
    assert len(report.entries) > 6
    assert [finding for finding in report.findings if finding.verdict is Verdict.FAIL] == []


def test_a_golden_record_still_reads_as_it_did():
    first = load_records(GOLDEN / "v1", skipped=pytest.fail)[0]
    assert first.digest.startswith(first.path.stem.rpartition("-")[2])
    assert first.record.submission.config["MATRIX_LR"] == 0.025
    assert {score.stage for score in first.record.scores} == {"float", "packed", "final"}
