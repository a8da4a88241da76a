"""Claims at the digits that they state: rounded or cut, never a unit better; t with its sign, p by its digits."""

import json
import time
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from public_folders import PublicFolder

from harness.review.folder import check_folder
from harness.review.number import Number
from harness.rules import Verdict


def verdicts(folder, rule):
    return {item.verdict for item in check_folder(folder).findings if item.rule == rule}


@pytest.mark.parametrize(
    ("text", "decimals"),
    [("1.10", 2), ("1", 0), ("0.00051", 5), ("2.1e-5", 6), ("3E-4", 4), ("4e-004", 4), ("1.5e3", 0), ("0.0", 1)],
)
def test_the_spelling_tells_the_digits(text, decimals):
    assert Number.of(text).decimals == decimals


@given(st.integers(-500_000_000, 500_000_000), st.integers(1, 7))
def test_what_is_rounded_or_cut_fits_and_two_units_off_does_not(hundred_millionths, decimals):
    exact, unit = Decimal(hundred_millionths).scaleb(-8), Decimal(1).scaleb(-decimals)
    for rounding in (ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_DOWN):
        claimed = exact.quantize(unit, rounding)
        if claimed or rounding != ROUND_DOWN or exact >= 0:
            assert Number.of(f"{claimed:f}").gives(float(exact))
        for off in (2 * unit, -2 * unit):
            assert not Number.of(f"{claimed + off:f}").gives(float(exact), 0.51e-8)


@pytest.mark.rule("A9-SCORE-MATCH")
@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (1.0805, Verdict.PASS),
        (1.0804, Verdict.WARN),
        (1.0, Verdict.FAIL),
        (1.1, Verdict.WARN),
        (1.08, Verdict.WARN),
        (1.07, Verdict.FAIL),
        (1, Verdict.WARN),
    ],
)
def test_a_claim_may_be_rounded_but_needs_four_decimals(tmp_path, claim, verdict):
    """The mean of the made-up seeds is 1.0805."""
    folder = PublicFolder(metadata={"val_bpb": claim, "seed_results": {}}).write(tmp_path)
    assert verdicts(folder, "A9-SCORE-MATCH") == {verdict}


@pytest.mark.rule("A9-SCORE-MATCH")
def test_the_digits_are_those_of_the_field_and_not_of_an_equal_number(tmp_path):
    raw = PublicFolder().derived() | {"val_bpb": "@", "seed_results": {}}
    text = json.dumps({"note_a": 1.5, **raw}).replace("1.5", "1.10").replace('"@"', "1.1000")
    assert verdicts(PublicFolder(files={"submission.json": text}).write(tmp_path), "A9-SCORE-MATCH") == {Verdict.WARN}


@pytest.mark.rule("A9-SCORE-MATCH")
def test_a_mean_of_scores_that_were_rounded_first_is_believed(tmp_path):
    """1.080548, 1.080548, 1.080546 have the mean 1.0805473; rounded to five decimals first, 1.08055."""
    folder = PublicFolder(metadata={"val_bpb": 1.08055, "seed_results": {}})
    for run, bpb in zip(folder.seeds, (1.080545, 1.080545, 1.080544), strict=True):
        run.bpb = bpb + 0.0000001
    assert verdicts(folder.write(tmp_path), "A9-SCORE-MATCH") == {Verdict.PASS}


@pytest.mark.rule("A9-READABLE")
def test_many_numbers_in_the_json_take_linear_time(tmp_path):
    many = {f"k{i}_val_bpb": round(1 + i * 1e-6, 6) for i in range(8_000)}
    text = json.dumps(PublicFolder().derived() | many)
    folder = PublicFolder(files={"submission.json": text}).write(tmp_path)
    began = time.process_time()
    check_folder(folder)
    assert time.process_time() - began < 20


@pytest.mark.rule("A9-READABLE")
def test_checks_that_the_time_does_not_suffice_for_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.review.source.FOLDER_SECONDS", -1.0)
    report = check_folder(PublicFolder().write(tmp_path))
    left = [item for item in report.findings if item.verdict is Verdict.ERROR]
    assert "deviations" in left[0].message


@pytest.mark.rule("A9-READABLE")
def test_a_last_check_that_runs_out_of_time_is_no_pass(tmp_path, monkeypatch):
    import harness.review.folder as module

    def slow(record):
        record.folder.deadline = 0.0

    monkeypatch.setattr(module, "CHECKS", (slow,))
    assert check_folder(PublicFolder().write(tmp_path)).verdict is Verdict.ERROR
