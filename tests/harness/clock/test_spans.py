import itertools
from collections.abc import Iterator

import pytest

from harness.clock import spans
from harness.clock.spans import READINGS, Ledger, read_clock
from harness.config.tracks import load_track
from harness.errors import CouldNotCheck, HarnessError, RuleBroken
from harness.record.predicate import SpanEntry


class FakeMachine:
    """Three clocks that a test moves: by working, sleeping (suspend), or setting the calendar; in place of ``time``.

    pauses: seconds that pass before each clock is read, by its name
    """

    CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.now_ns, self.slept_ns, self.set_ns = 5_000_000_000, 0, 0
        self.pauses: dict[str, Iterator[float]] = {}

    def work(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def monotonic_ns(self) -> int:
        return self.now_ns

    def clock_gettime_ns(self, _: int) -> int:
        self.work(next(self.pauses.get("boottime", iter(())), 0.0))
        return self.now_ns + self.slept_ns

    def time_ns(self) -> int:
        self.work(next(self.pauses.get("calendar", iter(())), 0.0))
        return self.now_ns + self.slept_ns + self.set_ns


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    machine = FakeMachine()
    monkeypatch.setattr(spans, "time", machine)
    return machine


def test_spans_have_start_end_limit_and_budget_and_the_pauses_are_idle(machine: FakeMachine):
    ledger = Ledger()
    machine.work(0.5)
    with ledger.span("setup", limit_s=60.0):
        machine.work(2.0)
    with ledger.span("train", limit_s=90.0, budget="train") as span:
        assert span.deadline_ns == machine.now_ns + 90_000_000_000
        machine.work(30.0)
    machine.work(1.0)
    with ledger.span("eval", limit_s=120.0, budget="eval"):
        machine.work(4.0)
    assert ledger.entries() == [
        SpanEntry("idle", 0.0, 0.5, None, ""),
        SpanEntry("setup", 0.5, 2.0, 60.0, ""),
        SpanEntry("train", 2.5, 30.0, 90.0, "train"),
        SpanEntry("idle", 32.5, 1.0, None, ""),
        SpanEntry("eval", 33.5, 4.0, 120.0, "eval"),
    ]
    used = {budget.name: budget.used_s for budget in ledger.budgets(load_track("smoke"))}
    assert used == {"train": 30.0, "eval": 4.0}


def train_while(machine: FakeMachine, ledger: Ledger, clock: str) -> None:
    with ledger.span("train", budget="train"):
        machine.work(1.0)
        if clock:
            setattr(machine, clock, -20_000_000_000 if clock == "set_ns" else 20_000_000_000)


@pytest.mark.rule("A1-TRAIN-CLOCK")
@pytest.mark.parametrize("when", ["during", "before"])
@pytest.mark.parametrize(("clock", "words"), [("slept_ns", "slept 20.0 s"), ("set_ns", "jumped by")])
def test_a_suspend_or_a_set_calendar_voids_the_run(machine: FakeMachine, when: str, clock: str, words: str):
    ledger = Ledger()
    if when == "before":
        setattr(machine, clock, 20_000_000_000)
    with pytest.raises(CouldNotCheck, match=words) as caught:
        train_while(machine, ledger, clock if when == "during" else "")
    assert when in caught.value.message


@pytest.mark.rule("A1-TRAIN-CLOCK")
@pytest.mark.parametrize(("slept_ns", "kind"), [(20_000_000_000, CouldNotCheck), (0, RuleBroken)])
def test_a_limit_that_passed_while_the_machine_slept_breaks_no_rule(machine: FakeMachine, slept_ns: int, kind: type):
    def fail() -> None:
        with Ledger().span("train", budget="train"):
            machine.slept_ns = slept_ns
            raise RuleBroken("A1-TRAIN-CLOCK", "not done after 90 s.", remedy="Stop earlier.")

    with pytest.raises(HarnessError) as caught:
        fail()
    assert type(caught.value) is kind


@pytest.mark.parametrize("between", ["boottime", "calendar"])
@pytest.mark.parametrize("pause_s", [0.06, 8.0])
def test_a_referee_that_waits_between_two_clocks_did_not_sleep(machine: FakeMachine, between: str, pause_s: float):
    ledger = Ledger()
    for _ in range(2):
        machine.pauses[between] = iter([pause_s])
        train_while(machine, ledger, "")
    assert [entry.seconds for entry in ledger.entries() if entry.name == "train"] == [1.0, 1.0]


def test_a_machine_that_never_reads_its_clocks_at_once_is_judged_by_the_narrowest_reading(machine: FakeMachine):
    machine.pauses["boottime"] = itertools.cycle([0.2, 0.004, 0.09])
    train_while(machine, Ledger(), "")


def test_a_slowly_adjusted_calendar_is_no_jump(machine: FakeMachine):
    ledger = Ledger()
    for _ in range(3):
        with ledger.span("train"):
            machine.work(600.0)
            machine.set_ns += 300_000_000
    assert [entry.name for entry in ledger.entries()] == ["train"] * 3


def test_a_span_that_fails_is_in_the_ledger_all_the_same(machine: FakeMachine):
    ledger = Ledger()

    def fail() -> None:
        with ledger.span("eval", budget="eval"):
            machine.work(3.0)
            raise ValueError("worker")

    with pytest.raises(ValueError, match="worker"):
        fail()
    assert ledger.entries() == [SpanEntry("eval", 0.0, 3.0, None, "eval")]


def test_a_resumed_run_goes_on_behind_its_earlier_spans_and_counts_them(machine: FakeMachine):
    earlier = [SpanEntry("setup", 0.0, 2.0, 60.0, ""), SpanEntry("train", 2.0, 30.0, 90.0, "train")]
    ledger = Ledger(earlier)
    with ledger.span("package", budget="eval"):
        machine.work(5.0)
    names = [(entry.name, entry.start_s) for entry in ledger.entries()]
    assert names == [("setup", 0.0), ("train", 2.0), ("resumed", 32.0), ("package", 32.0)]
    used = {budget.name: budget.used_s for budget in ledger.budgets(load_track("smoke"))}
    assert used == {"train": 30.0, "eval": 5.0}


@pytest.mark.rule("A2-EVAL-CLOCK")
def test_every_published_reading_has_its_own_sum():
    seconds = {
        "setup": 10.0,
        "train": 590.0,
        "package": 20.0,
        "warmup float": 1.0,
        "eval float": 100.0,
        "warmup packed": 2.0,
        "eval packed": 200.0,
        "warmup": 80.0,
        "eval": 400.0,
        "audit": 50.0,
        "idle": 7.0,
    }
    entries = [SpanEntry(name, 0.0, value, None, "") for name, value in seconds.items()]
    train = [value for _, value in read_clock("A1-TRAIN-CLOCK", entries)]
    evaluation = [value for _, value in read_clock("A2-EVAL-CLOCK", entries)]
    assert train == [590.0, 610.0, 620.0]
    assert evaluation == [400.0, 420.0, 720.0, 803.0]
    assert {reading.rule for reading in READINGS} == {"A1-TRAIN-CLOCK", "A2-EVAL-CLOCK"}
