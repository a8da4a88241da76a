"""The records that are committed: they verify, and their report is the one that their figures give."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.claims import check_text
from harness.claims.against_records import check_against_records
from harness.record import verify_folder
from harness.report import collect, render_markdown
from harness.rules import Verdict
from harness.stats import pools

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records folder as it was committed, without what the user's own runs have added since."""
    if shutil.which("git") is None:
        pytest.skip("what was committed is read from git, which is not installed here")
    done = subprocess.run(["git", "archive", "HEAD", "records"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        pytest.skip(f"what was committed is read from git, which says here: {reason}")
    folder = tmp_path_factory.mktemp("committed")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "records"


def test_the_committed_records_verify(committed: Path):
    assert [f for f in verify_folder(committed).findings if f.verdict in (Verdict.FAIL, Verdict.ERROR)] == []


def test_the_committed_records_are_three_seeds_on_a_cpu_and_a_run_on_a_gpu(committed: Path):
    found = {pool[0].track.name: pool for pool in pools([run.record for run in collect([committed]).runs])}
    assert sorted(record.submission.seed for record in found.pop("smoke")) == [42, 1337, 2025]
    ((run,),) = found.values()
    assert (run.track.name, run.submission.seed, len(run.machine.gpus)) == ("one_gpu_120s", 1337, 1)


def test_the_committed_report_is_the_one_of_the_records(committed: Path):
    text = (committed / "report" / "report.md").read_text()
    report = collect([committed])
    assert text == render_markdown(report)
    tracks = {run.record.track.name for run in report.runs}
    sections = {track: part for part in text.split("\n## ") for track in tracks if track_heading(track) in part}
    assert sections.keys() == tracks
    for track, section in sections.items():
        pool = [run.record for run in report.runs if run.record.track.name == track]
        claims = [*check_text(section), *check_against_records(section, pool)]
        assert any(claim.verdict is Verdict.PASS for claim in claims)
        assert [claim for claim in claims if claim.verdict in (Verdict.FAIL, Verdict.WARN)] == []


def track_heading(track: str) -> str:
    """How the heading of a track's section names it, in Markdown."""
    return f"on track {track}:".replace("_", "\\_")
