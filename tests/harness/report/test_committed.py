"""The records that are committed: they verify, and their report is the one that their figures give."""

from pathlib import Path

import pytest

from harness.claims import check_text
from harness.claims.against_records import check_against_records
from harness.record import verify_folder
from harness.report import collect, render_markdown
from harness.rules import Verdict
from harness.stats import pools

RECORDS = Path(__file__).parents[3] / "records"
pytestmark = pytest.mark.skipif(not (RECORDS / "runs").is_dir(), reason="no records are committed: make smoke-set")


def test_the_committed_records_verify():
    assert [f for f in verify_folder(RECORDS).findings if f.verdict in (Verdict.FAIL, Verdict.ERROR)] == []


def test_the_committed_records_are_three_seeds_of_one_thing():
    (pool,) = pools([run.record for run in collect([RECORDS]).runs])
    assert sorted(record.submission.seed for record in pool) == [42, 1337, 2025]


def test_the_committed_report_is_the_one_of_the_records():
    text = (RECORDS / "report" / "report.md").read_text()
    report = collect([RECORDS])
    assert text == render_markdown(report)
    claims = [*check_text(text), *check_against_records(text, [run.record for run in report.runs])]
    assert [claim for claim in claims if claim.verdict in (Verdict.FAIL, Verdict.WARN)] == []
