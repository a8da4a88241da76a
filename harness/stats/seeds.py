"""Several seeds of one code, configuration, data set and track, as one result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.record.predicate import RunRecord
from harness.stats.compare import Summary, TestResult, paired, summarise, welch
from harness.units import Margin, Text, to_bpb


@dataclass(frozen=True)
class Worst:
    """The seed that comes nearest to a limit; ``value`` and ``limit`` share a unit (bytes or seconds)."""

    seed: int
    value: float
    limit: float

    def share(self) -> float:
        """How much of the limit it takes."""
        return self.value / self.limit if self.limit else float("inf")


@dataclass(frozen=True)
class SeedStatistics:
    """What several seeds of one thing gave, by seed. ``stages`` holds bpb by stage; ``bpb`` is the final stage's.

    ``origin`` is what all its records share: see :func:`pool_fields`. ``steps`` are those of training by seed, empty
    where a record does not state them; ``cut_short`` names the seeds whose training the clock ended early.
    """

    submission: str
    track: str
    official: bool
    origin: dict[str, str]
    code_digest: str
    config_digest: str
    seeds: tuple[int, ...]
    text: Text
    bpb: Summary
    nats_per_token: Summary
    stages: dict[str, Summary]
    total_bytes: Summary
    worst_bytes: Worst
    worst_clocks: dict[str, Worst]
    steps: tuple[int, ...]
    cut_short: tuple[int, ...]

    @property
    def warning(self) -> str:
        """What to mind in these figures: seeds that did not train alike; "" for nothing."""
        if not self.steps or min(self.steps) == max(self.steps):
            return ""
        text = f"the seeds took different numbers of steps, {min(self.steps):,} to {max(self.steps):,}"
        return text + (f", {len(self.cut_short)} cut short by the clock" if self.cut_short else "")


def pool_fields(record: RunRecord) -> dict[str, str]:
    """What records must share to be pooled."""
    return {
        "track": f"{record.track.name} {record.track.digest}",
        "submission": record.submission.name,
        "code": record.submission.code_digest,
        "config": record.submission.config_digest,
        "data": f"{record.data.name} {record.data.fingerprint}",
        "kind": record.kind,
    }


def aggregate(records: Sequence[RunRecord]) -> SeedStatistics:
    """Sum up one of the :func:`pools`. Raises ``UsageError`` for a record without a final score over the whole set."""
    ordered = sorted(records, key=lambda record: record.submission.seed)
    finals = []
    by_stage: dict[str, list[float]] = defaultdict(list)
    clocks: dict[str, list[Worst]] = defaultdict(list)
    for record in ordered:
        if record.final is None or not record.final.whole_set:
            raise UsageError(
                f"record {record.run_id} has no final score over the whole validation set.",
                remedy="Leave it out of the statistics.",
            )
        finals.append(record.final)
        for score in record.scores:
            by_stage[score.stage].append(score.bpb)
        for budget in record.clocks:
            clocks[budget.name].append(Worst(record.submission.seed, budget.used_s, budget.limit_s))
    first = ordered[0]
    sizes = [Worst(record.submission.seed, record.sizes.total_bytes, record.sizes.cap_bytes) for record in ordered]
    training = [record.training for record in ordered if record.training]
    return SeedStatistics(
        submission=first.submission.name,
        track=first.track.name,
        official=first.track.official,
        origin=pool_fields(first),
        code_digest=first.submission.code_digest,
        config_digest=first.submission.config_digest,
        seeds=tuple(record.submission.seed for record in ordered),
        text=Text(finals[0].targets, finals[0].bytes),
        bpb=summarise([score.bpb for score in finals]),
        nats_per_token=summarise([score.nats / score.targets for score in finals]),
        stages={stage: summarise(found) for stage, found in by_stage.items() if len(found) == len(ordered)},
        total_bytes=summarise([size.value for size in sizes]),
        worst_bytes=max(sizes, key=Worst.share),
        worst_clocks={name: max(found, key=Worst.share) for name, found in clocks.items()},
        steps=tuple(trained.steps for trained in training) if len(training) == len(ordered) else (),
        cut_short=tuple(r.submission.seed for r in ordered if r.training and r.training.ended == "clock"),
    )


def compare(candidate: SeedStatistics, baseline: SeedStatistics, margin: Margin) -> tuple[TestResult, TestResult]:
    """Test whether ``candidate`` beats ``baseline`` by more than ``margin``, both on the same text.

    Returns the one test whose p counts, in bpb, and Welch's, which it is without pairs. Pairs decide where both sides
    have the same seeds and their differences a spread: they take out what seeds share.
    A margin in nats per token is taken at the text's own tokens. Raises ``UsageError`` for different texts, data or
    tracks, naming what differs. Code, configuration and submission differ by nature; ``kind`` may, and is to be told.
    """
    for name in ("track", "data"):
        if candidate.origin[name] != baseline.origin[name]:
            ours, theirs = (short_digests(side.origin[name]) for side in (candidate, baseline))
            raise UsageError(
                f"candidate and baseline can't be compared: {name} differs: {ours} against {theirs}.",
                remedy="Compare records of one track, with the same limits, and one data set.",
            )
    if candidate.text != baseline.text:
        raise UsageError(
            f"candidate ({candidate.text}) and baseline ({baseline.text}) differ in the text that was scored.",
            remedy="Compare records of one track and data set.",
        )
    margin_bpb = to_bpb(margin.value, margin.unit, candidate.text)
    values = candidate.bpb.values, baseline.bpb.values
    unpaired = welch(*values, margin=margin_bpb)
    pairs = paired(*values, margin=margin_bpb) if candidate.seeds == baseline.seeds else None
    return pairs or unpaired, unpaired


def pools(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Records grouped into what :func:`aggregate` takes; of a repeated seed the first by time counts."""
    groups: dict[tuple[str, ...], dict[int, RunRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: record.started_at):
        groups[tuple(pool_fields(record).values())].setdefault(record.submission.seed, record)
    return [list(group.values()) for group in groups.values()]


def short_digests(text: str) -> str:
    """``text`` with twelve digits of each digest in it."""
    return " ".join(word[:12] if len(word) == 64 else word for word in text.split(" "))
