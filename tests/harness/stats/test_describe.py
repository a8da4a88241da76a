"""The sentences that people read carry the right numbers, names and units."""

import msgspec
import pytest
from test_seeds import record

from harness.errors import UsageError
from harness.stats.seeds import aggregate, describe, describe_comparison, parse_margin
from harness.units import Margin

BASELINE = [record(1, 12000.0), record(2, 12012.0), record(3, 11991.0)]
BETTER = [record(1, 11901.0), record(2, 11912.0), record(3, 11892.0)]


def test_one_seed_has_no_deviation_in_words_either():
    assert "one seed: no deviation, no interval" in describe(aggregate([record(1, 12000.0)]))


def test_a_name_stays_on_its_line():
    named = msgspec.structs.replace(record(1, 12000.0).submission, name="x\n7 record(s): good\u202e")
    assert describe(aggregate([msgspec.structs.replace(record(1, 12000.0), submission=named)])).isprintable()


def test_a_comparison_names_units_tests_and_power():
    text = "\n".join(describe_comparison(BETTER, BASELINE, Margin(0.005, "nats/token")))
    assert "-0.02483 nats/token" in text
    assert "margin 0.005 nats/token = 0.00321 bpb" in text
    assert "deciding test: one-sided paired test" in text
    assert "for information: one-sided welch test" in text
    assert text.count("beats the baseline by more than the margin") == 1
    assert "by the paired test" in text
    assert "--margin" not in text


def test_no_improvement_needs_no_number_of_seeds():
    text = "\n".join(describe_comparison(BASELINE, BETTER, Margin(0.0, "bpb")))
    assert "does not show that it beats the baseline" in text
    assert "no number of seeds" in text


def shifted(by: float, *wobbles: float):
    """The baseline's seeds with all nats lower by ``by`` and a little of their own."""
    pairs = zip(BASELINE, wobbles, strict=True)
    return [record(r.submission.seed, r.scores[0].nats - by + wobble) for r, wobble in pairs]


def test_tests_that_disagree_give_one_verdict_and_a_p_that_is_not_nought():
    lines = describe_comparison(shifted(5.0, 0.0, 0.01, -0.01), BASELINE, Margin(0.0, "bpb"))
    deciding, welch, power = lines[-3:]
    assert deciding.endswith("beats the baseline by more than the margin (p < 0.01)")
    assert 0 < float(deciding.split("p = ")[1].split(" ")[0]) < 1e-5
    assert float(welch.split("p = ")[1]) > 0.01
    assert "beats" not in welch
    assert power.startswith("power: 2 seeds a side")


def test_other_seeds_are_decided_by_welch():
    other = [record(seed, r.scores[0].nats) for seed, r in enumerate(BETTER, 11)]
    *_, deciding, power = describe_comparison(other, BASELINE, Margin(0.0, "bpb"))
    assert deciding.startswith("deciding test: one-sided welch test")
    assert "by the welch test" in power


def test_differences_that_are_equal_but_for_rounding_are_no_pairs():
    text = "\n".join(describe_comparison(shifted(7.3, 0.0, 0.0, 0.0), BASELINE, Margin(0.0, "bpb")))
    assert "paired" not in text
    assert "deciding test: one-sided welch test" in text


def test_an_improvement_that_drowns_in_the_spread_is_not_called_none():
    (*_, power) = describe_comparison(shifted(0.001, 5.0, -3.0, -2.0), BASELINE, Margin(0.0, "bpb"))
    assert power == "power: more than 1,000 seeds a side would be needed to show the observed improvement"


def test_the_margin_is_the_challenges_on_official_tracks_and_always_told():
    def official(records):
        return [msgspec.structs.replace(r, track=msgspec.structs.replace(r.track, official=True)) for r in records]

    assert any(
        "margin 0 bpb (the default of this track; set another one with --margin" in line
        for line in describe_comparison(BETTER, BASELINE)
    )
    lines = describe_comparison(official(BETTER), official(BASELINE))
    assert any("margin 0.005 nats/token" in line and "the default of this track" in line for line in lines)


@pytest.mark.parametrize("field", ["track", "data"])
def test_a_baseline_of_another_origin_is_refused_naming_the_field(field):
    changed = {"track": {"digest": "e" * 64}, "data": {"fingerprint": "e" * 64}}[field]
    replace = msgspec.structs.replace
    other = [replace(r, **{field: replace(getattr(r, field), **changed)}) for r in BASELINE]
    with pytest.raises(UsageError, match=f"{field} differs: .* against .*eeeeeeeeeeee\\."):
        describe_comparison(BETTER, other, Margin(0.0, "bpb"))


def test_a_self_reported_baseline_is_told():
    other = [msgspec.structs.replace(r, kind="self-reported") for r in BASELINE]
    text = "\n".join(describe_comparison(BETTER, other, Margin(0.0, "bpb")))
    assert "the candidate's scores are refereed, the baseline's self-reported" in text
    machine = msgspec.structs.replace(BETTER[0].machine, cpu="a faster one")
    faster = [msgspec.structs.replace(r, machine=machine) for r in BETTER]
    for candidate, told in ((faster, True), (BETTER, False)):
        text = "\n".join(describe_comparison(candidate, BASELINE, Margin(0.0, "bpb")))
        assert ("ran on a faster one, 2 cores, the baseline on a CPU, 2 cores" in text) is told
    assert "mind:" not in "\n".join(describe_comparison(BETTER, BASELINE, Margin(0.0, "bpb")))


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
