"""Claims of synthetic texts: what is right passes without an alarm, what is changed is found with its line."""

import re
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.review.claims import LEFT_OUT, check_text, render_claims
from harness.review.number import read_numbers, read_one, std_of
from harness.rules import Verdict

# The figures that pull request #1890 published, its table pasted without a table's marks, as the page shows it.
FIGURES_OF_1890 = """val_bpb: 1.1456 (3-seed mean, std 0.0011) | 15.93 MB total (3-seed mean)

Seed BF16 Post-quant+TTT Total submission
1337 1.1389 1.1441 15,930,191 B
42 1.1462 1.1460 15,961,203 B
2025 1.1495 1.1468 15,975,083 B
Mean 1.1449 1.1456 15,955,492 B
Std 0.0045 0.0011 18,852 B

3-seed mean: post-quant+TTT 1.1456 ± 0.0011, 15.93 MB total ± 19 KB.
"""

RIGHT = """# Record: Better Sorting — val_bpb 1.2003 (3-seed mean)

**val_bpb: 1.2003** (3-seed mean, std 0.0010) | **~15.51 MB** | 8xH100

| Seed | Pre-quant | **Final bpb** | Gain | Artifact |
|---|---|---|---|---|
| 1 | 1.2050 | **1.1993** | -0.0057 | 15,500,000 |
| 2 | 1.2061 | **1.2003** | -0.0058 | 15,510,000 |
| 3 | 1.2072 | **1.2013** | -0.0059 | 15,520,000 |
| **Mean** | 1.2061 | **1.2003** | -0.0058 | 15,510,000 |
| Std | 0.0011 | 0.0010 | | 10,000 |
"""

CHANGES = [
    ("| **Mean** | 1.2061", "| **Mean** | 1.2063", "1.2061"),
    ("| Std | 0.0011 | 0.0010", "| Std | 0.0011 | 0.0013", "0.0010"),
    ("| | 10,000 |", "| | 10,400 |", "10,000"),
    ("**val_bpb: 1.2003** (3", "**val_bpb: 1.1993** (3", "1.2003"),
    ("(3-seed mean, std", "(5-seed mean, std", "3"),
    ("std 0.0010)", "std 0.0020)", "0.0010"),
]


def problems(text):
    return [claim for claim in check_text(text) if claim.verdict in (Verdict.FAIL, Verdict.WARN)]


def test_a_right_text_raises_no_alarm_and_is_confirmed():
    claims = check_text(RIGHT)
    assert [claim for claim in claims if claim.verdict is not Verdict.PASS] == []
    assert len(claims) > 8


@pytest.mark.parametrize(("old", "new", "right"), CHANGES, ids=[new.strip("| ")[:24] for _, new, _ in CHANGES])
def test_each_changed_number_is_found_with_line_and_right_value(old, new, right):
    assert RIGHT.count(old) == 1
    text = RIGHT.replace(old, new)
    changed = next(i for i, (a, b) in enumerate(zip(RIGHT.splitlines(), text.splitlines(), strict=True), 1) if a != b)
    found = [claim for claim in problems(text) if claim.line == changed]
    assert any(claim.verdict is Verdict.FAIL and right in claim.right for claim in found), found


TABLE = """| Seed | Pre | val_bpb | bytes |
|---|---|---|---|
| 1 | 1.1389 | 1.1441 | 15,930,191 |
| 2 | 1.1462 | 1.1460 | 15,961,203 |
| 3 | 1.1495 | 1.1468 | 15,975,083 |

"""
SENTENCES = [
    ("Mean 1.1456, std 0.0014 over 3 seeds.", "1.1456", "1.1476", "1.1456"),
    ("Mean 1.1456, std 0.0014 over 3 seeds.", "0.0014", "0.0024", "0.0014"),
    ("Average: 1.1456 BPB", "1.1456", "1.1416", "1.1456"),
    ("val_bpb = 1.1456 (mean of 3 seeds)", "1.1456", "1.1441", "1.1456"),
    ("We get 1.1456±0.0014 bpb (n=3).", "0.0014", "0.0019", "0.0014"),
    ("Artifact: 15,955,492 bytes mean / 15,975,083 bytes max", "15,955,492", "15,955,592", "15,955,492"),
    ("The mean size is 15.96 MB and the standard deviation is 22,984 bytes.", "22,984", "18,852", "22,984"),
]


@pytest.mark.parametrize(
    ("sentence", "old", "new", "right"), SENTENCES, ids=[f"{text[:30]} {new}" for text, _, new, _ in SENTENCES]
)
def test_sentences_about_seeds_hold_as_written_and_fail_when_changed(sentence, old, new, right):
    good = check_text(TABLE + sentence)
    assert {claim.verdict for claim in good} == {Verdict.PASS}
    found = [claim for claim in problems(TABLE + sentence.replace(old, new)) if claim.verdict is Verdict.FAIL]
    assert any(claim.line == 7 and right in claim.right for claim in found), found


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ("Std | 0.00010", Verdict.PASS),
        ("Std | 0.00008", Verdict.WARN),
        ("Population std | 0.00008", Verdict.PASS),
        ("Sample std | 0.00008", Verdict.FAIL),
        ("Std | 0.00012", Verdict.FAIL),
    ],
)
def test_the_deviation_is_the_sample_one_unless_the_text_names_the_other(row, verdict):
    text = f"| Seed | bpb |\n|---|---|\n| 1 | 1.10000 |\n| 2 | 1.10010 |\n| 3 | 1.10020 |\n| {row} |\n"
    assert [claim.verdict for claim in check_text(text)] == [verdict]


def test_a_deviation_of_unrounded_seeds_is_the_sample_one_before_it_is_the_population_one():
    exact = [1.11181, 1.11266, 1.11211]
    assert (statistics.stdev(exact) < 0.00045, f"{statistics.pstdev(exact):.4f}") == (True, "0.0004")
    rows = "".join(f"| {seed} | {value:.4f} |\n" for seed, value in enumerate(exact, 1))
    claims = check_text(f"bpb 1.1122 (3-seed mean, std 0.0004)\n\n| Seed | bpb |\n|---|---|\n{rows}")
    assert {claim.verdict for claim in claims} == {Verdict.PASS}
    assert any("sample deviation of such values (sample 0.0005, population 0.0004" in c.message for c in claims)


def test_a_mean_of_the_best_seeds_is_disputed():
    rows = "".join(f"| {seed} | 1.{2000 + seed} |\n" for seed in range(1, 8))
    text = f"bpb 1.2003 (5-seed mean)\n\n| seed | bpb |\n|---|---|\n{rows}"
    (claim,) = problems(text)
    assert (claim.line, claim.verdict) == (1, Verdict.WARN)
    assert "5 best of 7" in claim.message


def test_two_runs_and_another_submissions_mean_raise_no_alarm():
    text = RIGHT + "\nThe SOTA (PR #9, 3-seed mean): 1.2111 BPB (3-seed mean).\n"
    assert problems(text) == []


def test_a_pasted_table_is_read():
    pasted = "Seed\tbpb\n1\t1.1000\n2\t1.2000\nMean\t1.1600\n"
    spaced = "Seed bpb Size\n1 1.1000 10 MB\n2 1.2000 12 MB\nMean 1.1600 11 MB\n"
    for text in (pasted, spaced):
        (claim,) = problems(text)
        assert claim.right == "1.1500"


@given(st.lists(st.integers(10_000, 12_000), min_size=2, max_size=9), st.data())
@settings(max_examples=60, deadline=None)
def test_figures_of_any_unrounded_seeds_are_never_called_wrong(thousands, data):
    exact = [value / 10_000 + data.draw(st.floats(-4.9e-5, 4.9e-5)) for value in thousands]
    mean, deviation = statistics.fmean(exact), statistics.stdev(exact)
    rows = "".join(f"| {seed} | {value:.4f} |\n" for seed, value in enumerate(exact, 1))
    table = f"| Seed | bpb |\n|---|---|\n{rows}| Mean | {mean:.4f} |\n| Sample std | {deviation:.4f} |\n"
    claims = check_text(f"bpb {mean:.4f} ({len(exact)}-seed mean, sample std {deviation:.4f})\n\n{table}")
    assert [claim for claim in claims if claim.verdict is Verdict.FAIL] == []


@given(st.lists(st.floats(1.0, 2.0), min_size=2, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_the_range_of_a_deviation_holds_every_deviation_inside_it(values, data):
    printed = [read_one(f"{value:.3f}") for value in values]
    drawn = [data.draw(st.floats(p.low, p.high)) for p in printed]
    found = std_of(printed, sample=True)
    assert found.low - 1e-12 <= statistics.stdev(drawn) <= found.high + 1e-12


@given(st.text(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_without_a_crash(text):
    check_text(text)
    check_text(f"| Seed | a |\n|---|---|\n| 1 | {text} |\n| Mean | {text} |")


@pytest.mark.parametrize(
    ("text", "value", "kind", "half"),
    [
        ("1.1456 bpb", 1.1456, "bpb", 5e-5),
        ("−1.7 mBPB", -0.0017, "bpb", 5e-5),
        ("15,930,191 B", 15_930_191, "bytes", 0.5),
        ("15.93 MB", 15_930_000, "bytes", 5_000),
        ("10 MiB", 10 * 1024**2, "bytes", 512 * 1024),
        ("~8,300", 8300, "", 100),
        ("600s", 600, "seconds", 0.5),
    ],
)
def test_printed_numbers(text, value, kind, half):
    found = read_one(text)
    assert (round(found.value, 9), found.kind) == (value, kind)
    assert found.half == pytest.approx(half)


def test_identifiers_are_no_numbers():
    assert [q.text for q in read_numbers("#1644 int6 H100 SP8192 v1.2.3x fp16 A4")] == []


def test_the_figures_of_a_pasted_table():
    claims = check_text(FIGURES_OF_1890)
    found = {(c.line, re.sub(r" of .*", "", c.what), c.verdict, c.right) for c in claims if c.verdict != Verdict.PASS}
    assert {entry for entry in found if entry[2] != Verdict.UNKNOWN} == {
        (1, "mean", Verdict.FAIL, "15.96 MB"),
        (1, "std", Verdict.WARN, "0.0014"),
        (8, "std", Verdict.WARN, "0.0014"),
        (8, "std", Verdict.WARN, "0.0054"),
        (8, "std", Verdict.FAIL, "22,984 B"),
        (10, "mean", Verdict.FAIL, "15.96 MB"),
        (10, "std", Verdict.WARN, "0.0014"),
        (10, "std", Verdict.WARN, "23 KB"),
    }
    right = {(c.line, c.claimed) for c in claims if c.verdict is Verdict.PASS}
    assert {(7, "1.1449"), (7, "1.1456"), (7, "15,955,492 B")} <= right


def test_a_seed_column_anywhere_labels_the_rows():
    text = "| Run | Seed | bpb |\n|---|---:|---:|\n| `a` | 7 | 1.20010 |\n| `b` | 8 | 1.20030 |\n| mean | | {} |\n"
    assert problems(text.format("1.20020")) == []
    (claim,) = problems(text.format("1.20050"))
    assert (claim.line, claim.right.strip()) == (5, "1.20020")


def left_out(text):
    return {claim.line: claim.message for claim in check_text(text) if claim.what == LEFT_OUT}


@pytest.mark.parametrize(
    ("more", "says"), [("word " * 1000, "5,000 characters"), ("no number\n" * 20_000, "first 200,000 characters")]
)
def test_what_is_too_much_to_check_is_named_and_the_rest_is_checked(more, says):
    text = f"{RIGHT}\n{more}"
    assert [line > RIGHT.count("\n") for line, words in left_out(text).items() if says in words] == [True]
    assert left_out(RIGHT) == {}
    expected = check_text(RIGHT)
    assert [claim for claim in check_text(text) if claim in expected] == expected
    shown = render_claims("README.md", check_text(text), every=False)
    assert says in shown
    assert "holds\n" not in shown
