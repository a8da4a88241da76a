"""The sentences that people read carry the right numbers, names and units."""

import pytest
from test_seeds import record

from harness.errors import UsageError
from harness.stats import Margin, aggregate, describe, describe_comparison, parse_margin

BASELINE = [record(1, 12000.0), record(2, 12012.0), record(3, 11991.0)]
BETTER = [record(1, 11901.0), record(2, 11912.0), record(3, 11892.0)]


def test_one_seed_has_no_deviation_in_words_either():
    assert "one seed: no deviation, no interval" in describe(aggregate([record(1, 12000.0)]))


def test_a_comparison_names_units_tests_and_power():
    text = "\n".join(describe_comparison(BETTER, BASELINE, Margin(0.005, "nats/token")))
    assert "-0.02483 nats/token" in text
    assert "margin 0.005 nats/token" in text
    assert "one-sided welch test" in text
    assert "one-sided paired test" in text
    assert "beats the baseline by more than the margin" in text


def test_no_improvement_needs_no_number_of_seeds():
    text = "\n".join(describe_comparison(BASELINE, BETTER, Margin(0.0, "bpb")))
    assert "does not show it" in text
    assert "no number of seeds" in text


def test_a_mixed_side_is_refused():
    with pytest.raises(UsageError, match="config differs"):
        describe_comparison([*BETTER[:2], record(3, 11900.0, config={"MATRIX_LR": 0.1})], BASELINE, Margin(0.0, "bpb"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0.005 nats/token", Margin(0.005, "nats/token")), (" 0.01  bpb ", Margin(0.01, "bpb"))],
)
def test_a_margin_is_read_with_its_unit(text, wanted):
    assert parse_margin(text) == wanted


@pytest.mark.parametrize("text", ["0.005", "0.005 nats", "much bpb", "", "-1 bpb", "nan bpb"])
def test_a_margin_without_unit_or_number_is_refused(text):
    with pytest.raises(UsageError, match="margin"):
        parse_margin(text)
