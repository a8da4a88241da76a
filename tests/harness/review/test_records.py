"""A text against signed records, and the command around it."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from report_samples import store_three_seeds

from harness.cli.check_claims import command
from harness.errors import CouldNotCheck, UsageError
from harness.report import collect, render_markdown
from harness.review.against_records import check_against_records
from harness.rules import Verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("claims")
    store_three_seeds(root)
    return root / "records"


@pytest.fixture
def text(folder):
    return render_markdown(collect([folder]))


def problems(text, folder):
    claims = check_against_records(text, [run.record for run in collect([folder]).runs])
    assert len(claims) > 3
    return [claim for claim in claims if claim.verdict is not Verdict.PASS]


def test_what_the_records_say_is_confirmed(text, folder):
    assert problems(text, folder) == []


def test_another_score_and_another_size_are_found(text, folder):
    (claim,) = problems(text.replace("| 1.9364 |", "| 1.9264 |"), folder)
    assert (claim.verdict, claim.right) == (Verdict.FAIL, "1.9364")
    assert "of seed 42" in claim.what
    (claim,) = problems(text.replace("1.9252 bpb (3-seed", "1.9152 bpb (3-seed"), folder)
    assert (claim.line, claim.verdict, claim.right) == (1, Verdict.FAIL, "1.9252 bpb")


def test_a_seed_that_is_left_out_and_one_without_a_record_are_named(text, folder):
    lines = [line for line in text.splitlines() if not line.startswith("| 2025 |")]
    (claim,) = problems("\n".join(lines), folder)
    assert (claim.verdict, claim.right) == (Verdict.WARN, "2025")
    found = problems(text.replace("| 2025 |", "| 7 |"), folder)
    assert {claim.verdict for claim in found} == {Verdict.UNKNOWN, Verdict.WARN}


def elsewhere(record, track="one_gpu_120s", worse=0.1):
    """The same seed on another track, with other scores."""
    scores = [msgspec.structs.replace(score, bpb=score.bpb + worse) for score in record.scores]
    return msgspec.structs.replace(record, track=msgspec.structs.replace(record.track, name=track), scores=scores)


def verdicts(text, records):
    return Counter(claim.verdict for claim in check_against_records(text, records))


def test_tables_of_several_pools_with_the_same_seeds_are_told_apart_by_fit(folder):
    report = collect([folder])
    records = [run.record for run in report.runs]
    both = [*map(elsewhere, records), *records]
    plain = "\n".join(line for line in render_markdown(report).splitlines() if line.startswith("|"))
    assert verdicts(plain, both) == verdicts(plain, records)
    assert verdicts(plain, records).keys() == {Verdict.PASS}
    assert verdicts(plain.replace("| 1.9364 |", "| 1.9264 |"), both)[Verdict.FAIL] == 1


def test_where_nothing_tells_which_pool_is_meant_nothing_is_judged(text, folder):
    records = [run.record for run in collect([folder]).runs]
    both = [*(elsewhere(record, worse=0.0) for record in records), *records]
    found = check_against_records(text, both)
    assert {claim.verdict for claim in found} == {Verdict.UNKNOWN}
    assert all("2 pools of the records may be meant" in claim.message for claim in found)


def call(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


def test_the_command_gives_lines_words_and_exit_codes(text, folder, tmp_path: Path):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(text)
    bad.write_text(text.replace("| Mean | 1.9236", "| Mean | 1.9336"))
    assert call(good, "--records", folder).return_value == 0
    result = call(bad, "--problems")
    assert result.return_value == 1
    assert "WRONG" in result.output
    assert "line 8: mean of bpb before quantisation 1.9336" in result.output
    document = json.loads(call(good, bad, "--json").output)
    assert [item["counts"].get("FAIL", 0) for item in document["files"]] == [0, 1]


def test_what_can_not_be_read_is_said_in_a_sentence(tmp_path: Path):
    assert isinstance(call(tmp_path / "nothing.md").exception, UsageError)
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    assert isinstance(call(tmp_path / "binary.md").exception, CouldNotCheck)
    (tmp_path / "empty.md").write_text("")
    assert call(tmp_path / "empty.md").return_value == 0
    (tmp_path / "records").mkdir()
    assert isinstance(call(tmp_path / "empty.md", "--records", tmp_path / "records").exception, CouldNotCheck)


def test_claims_are_checked_without_torch():
    import subprocess
    import sys

    code = (
        "import sys, harness.cli.check_claims as c; from harness.review.claims import check_text; check_text('a 1.2'); "
    )
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
