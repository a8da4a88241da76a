"""Degradation: the documented order, back when time allows, and the rest always fits when it can."""

from submission.eval.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def drive(
    limit_s: float,
    chunks: int,
    score_s: float,
    epoch_s: float,
    epochs: int,
    *,
    slow: range = range(0),
    rest_s: float = 0,
    guess: float = 0.0,
):
    """Levels after each chunk, and the time it all took; in the chunks ``slow`` the machine is three times slower.

    rest_s: what ``adapt`` takes at every level besides its epochs
    guess:  what the warm-up measures over what is true; 0 for no warm-up
    """
    clock, levels = Clock(), list(range(epochs, -1, -1))
    pace = Pace(limit_s, chunks * 100, levels, clock)
    if guess:
        pace.scored(clock() - guess * score_s, 100)
        pace.learnt(clock() - guess * epoch_s * epochs, epochs)
        pace.adapted(clock() - guess * (epoch_s * epochs + rest_s))
    pace.restart()
    level, seen = 0, []
    for chunk in range(chunks):
        factor = 3.0 if chunk in slow else 1.0
        started = clock()
        clock.s += factor * score_s
        pace.scored(started, 100)
        started = clock()
        clock.s += factor * rest_s
        if levels[level]:
            begun = clock()
            clock.s += factor * epoch_s * levels[level]
            pace.learnt(begun, levels[level])
        pace.adapted(started)
        level = pace.affordable(level)
        seen.append(level)
    return seen, clock()


def test_enough_time_changes_nothing() -> None:
    seen, _ = drive(1000.0, 20, 1.0, 1.0, 2)
    assert set(seen) == {0}


def test_a_slow_warm_up_costs_no_chunk_its_epochs() -> None:
    seen, took = drive(68.0, 20, 1.0, 1.0, 2, guess=1.2)  # 60 s are needed, 64 s may be used, 72 s were guessed
    assert set(seen) == {0}
    assert took <= 64.0


def test_two_chunks_too_many_for_the_clock_still_end_in_time() -> None:
    for limit_s in (3.0, 4.0, 5.0, 6.0, 7.0):
        _, took = drive(limit_s, 3, 1.0, 1.0, 2)
        assert took <= max(limit_s, 5.0)  # the first chunk gets the full plan: 3 s, and the two others need 1 s each


def test_a_short_clock_costs_epochs_and_still_ends_in_time() -> None:
    seen, took = drive(50.0, 20, 1.0, 1.0, 2)
    assert set(seen) >= {1}
    assert 45.0 <= took <= 50.0  # and what the cheaper chunks saved goes into epochs again


def test_a_machine_that_slows_down_freezes_the_weights() -> None:
    seen, took = drive(80.0, 20, 1.0, 1.0, 2, slow=range(5, 20))
    assert max(seen) >= 2
    assert took <= 80.0


def test_a_machine_that_was_busy_for_a_while_adapts_again() -> None:
    seen, took = drive(85.0, 20, 1.0, 1.0, 2, slow=range(5, 8))
    assert max(seen) > 0
    assert seen[-5:] == [0] * 5
    assert took <= 85.0


def test_when_nothing_fits_the_cheapest_level_is_taken() -> None:
    seen, _ = drive(1.0, 20, 1.0, 1.0, 64)
    assert seen[0] == 64


def test_what_adapting_costs_without_epochs_counts_too() -> None:
    seen, _ = drive(65.0, 20, 1.0, 1.0, 1, rest_s=1.0)
    assert set(seen) == {0}, "60 s of work fit into 65 s less the reserve"
    seen, took = drive(56.0, 20, 1.0, 1.0, 1, rest_s=1.0)
    assert max(seen) == 1, "40 s of scoring and learning would fit, with 20 s of the rest they do not"
    assert took <= 56.0


def test_the_level_stays_until_the_clock_runs() -> None:
    assert Pace(1e9, 100, [2, 1, 0], Clock()).affordable(2) == 2
