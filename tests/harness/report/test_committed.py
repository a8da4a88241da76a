"""The records that are committed: they verify, and their report is the one that their figures give."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.record.verification import verify_folder
from harness.report.figures import collect
from harness.report.page import render_markdown
from harness.review.claims import check_text
from harness.review.readme import Document
from harness.rules import Verdict
from harness.stats.seeds import pools

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records folder as it was committed, without what the user's own runs have added since."""
    if shutil.which("git") is None:
        pytest.skip("needs git to read the committed files, and git is not installed")
    done = subprocess.run(["git", "archive", "HEAD", "records"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        pytest.skip(f"needs a git checkout to read the committed files; git says: {reason}")
    folder = tmp_path_factory.mktemp("committed")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "records"


def test_the_committed_records_verify(committed: Path):
    assert [f for f in verify_folder(committed).findings if f.verdict in (Verdict.FAIL, Verdict.ERROR)] == []


@pytest.mark.parametrize("track", ["smoke", "one_gpu_120s"])
def test_three_seeds_are_committed_of_a_cpu_and_of_a_gpu(committed: Path, track: str):
    found = pools([run.record for run in collect([committed]).runs])
    assert [42, 1337, 2025] in [
        sorted(r.submission.seed for r in pool) for pool in found if pool[0].track.name == track
    ]


def test_the_committed_report_is_the_one_of_the_records(committed: Path):
    text = (committed / "report" / "report.md").read_text()
    report = collect([committed])
    assert text == render_markdown(report)
    assert [claim for claim in check_text(text) if claim.verdict is not Verdict.PASS] == []
    shown = {row.label for table in Document(text).tables for row in table.seed_rows}
    assert shown == {str(run.seed) for run in report.runs}
