"""The statistics give what public records of the challenge published, from the per-seed scores they published."""

import pytest

from harness.stats.compare import summarise, welch
from harness.units import Text, from_bpb, to_bpb

# Per-seed bpb of public pull requests.
PR549 = [1.11922988, 1.12002032, 1.11888882]
PR1019 = [1.11508120, 1.11437394, 1.11475014]


def test_1019_barely_passes_with_the_margin_of_0_005_nats_a_token():
    margin = to_bpb(0.005, "nats/token", Text(62_021_632, 151_079_964))
    result = welch(PR1019, PR549, margin=margin)
    assert result.p == pytest.approx(0.0095, abs=5e-5)
    assert result.beats()


def test_1890_quoted_the_population_deviation():
    found = summarise([1.1441, 1.1460, 1.1468])
    assert round(found.population_std, 4) == 0.0011
    assert round(found.sample_std, 4) == 0.0014
    size = summarise([15_930_191, 15_961_203, 15_975_083])
    assert (round(size.mean), round(size.population_std), round(size.sample_std)) == (15_955_492, 18_767, 22_984)


@pytest.mark.parametrize(
    ("unit", "text", "bpb"),
    [
        ("nats/token", Text(62_021_632, 151_079_964), 0.00296),
        ("nats/token", Text(40_540_160, 151_078_222), 0.00194),
        ("nats/byte", Text(40_540_160, 151_078_222), 0.00721),
        ("bpb", Text(1, 1), 0.005),
    ],
)
def test_three_readings_of_0_005_nats(unit, text, bpb):
    assert round(to_bpb(0.005, unit, text), 5) == bpb
    assert from_bpb(to_bpb(0.005, unit, text), unit, text) == pytest.approx(0.005, rel=1e-14)
