"""The schedule against a clock that the test moves: by steps where they fit, by the clock where they do not."""

import itertools

import pytest
from small_models import small_config

from submission.train.schedule import Schedule

LIMIT_S, MARGIN_S = 90.0, 4.0


def run(step_seconds, behind: int = 0, **changes) -> tuple[list[float], float, Schedule]:
    """(multipliers, seconds at the end, the schedule) of a run whose step ``i`` takes ``step_seconds(i)``."""
    changes = {"iterations": 480, "warmdown_iters": 280, "train_clock_margin_s": MARGIN_S} | changes
    config = small_config(**changes)
    schedule, now, multipliers = Schedule(config, behind), 0.0, []
    while True:
        multiplier = schedule.multiplier(len(multipliers), now, LIMIT_S - now)
        if multiplier <= 0 or (config.iterations and len(multipliers) >= config.iterations):
            return multipliers, now, schedule
        multipliers.append(multiplier)
        now += step_seconds(len(multipliers) - 1)


def by_step(step: int) -> float:
    return min(1.0, (480 - step) / 280)


@pytest.mark.parametrize(
    "step_seconds",
    [
        lambda i: 0.14,
        lambda i: 15.0 if i == 0 else 0.14,  # a late compilation
        lambda i: 0.4 if i < 30 else 0.14,  # another process at the start
        lambda i: 10.0 if i == 300 else 0.14,  # a pause in the fall
    ],
)
def test_steps_that_fit_are_all_done_by_step_whatever_single_ones_took(step_seconds):
    multipliers, _, schedule = run(step_seconds)
    assert multipliers == [by_step(i) for i in range(480)]
    assert not schedule.by_clock


@pytest.mark.parametrize("seconds", [0.19, 0.3, 0.6, 3.0])
def test_a_slow_machine_falls_to_zero_within_the_clock_and_says_so(seconds):
    multipliers, end, schedule = run(lambda i: seconds)
    assert schedule.by_clock
    assert LIMIT_S - MARGIN_S - 2 * seconds <= end <= LIMIT_S - MARGIN_S + seconds
    assert all(later <= earlier for earlier, later in itertools.pairwise(multipliers))
    assert multipliers[-1] < 0.11 or len(multipliers) < 40


def test_steps_that_stop_coming_end_with_the_clock():
    multipliers, _, schedule = run(lambda i: 100.0 if i == 100 else 0.14)
    assert len(multipliers) == 101
    assert schedule.by_clock


def test_without_iterations_the_fall_takes_the_time_of_warmdown_steps_whatever_the_first_step_took():
    multipliers, end, _ = run(lambda i: 14.0 if i == 0 else 0.1, iterations=0, warmdown_iters=200)
    falling = [m for m in multipliers if m < 1.0]
    assert 195 <= len(falling) <= 200
    assert multipliers[: -len(falling)] == [1.0] * (len(multipliers) - len(falling))
    assert falling == sorted(falling, reverse=True)
    assert end == pytest.approx(LIMIT_S - MARGIN_S, abs=0.2)


def test_a_step_that_the_device_still_has_to_do_ends_within_the_clock():
    """The host asks for a step while the device is one behind: when the last one was asked for, two are left."""
    seconds = 0.7
    _, asked_at, _ = run(lambda i: seconds, behind=1, iterations=0, warmdown_iters=20)
    assert LIMIT_S - MARGIN_S - 2 * seconds <= asked_at <= LIMIT_S - MARGIN_S
