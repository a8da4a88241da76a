"""Several seeds of one code, configuration, data set and track, as one result: figures, comparisons, sentences."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.record.predicate import RunRecord
from harness.record.verification import VerifyReport, beside
from harness.rules import Verdict
from harness.stats.compare import ALPHA, MAX_SEEDS, POWER, Summary, TestResult, paired, summarise, welch
from harness.text import templates
from harness.units import UNITS, Margin, Text, from_bpb, to_bpb

TEXTS = templates(Path(__file__).parent)
CHALLENGE_MARGIN = Margin(0.005, "nats/token")  # the public rule, in the reading that submissions use most (A8)
OTHER_MARGIN = '"0.005 nats/token", "… nats/byte" or "… bpb"'


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

    ``origin`` is what all its records share: see :func:`pool_fields`. ``steps`` are those of training by seed, 0 where
    none are known; ``cut_short`` names the seeds whose training the clock ended early.
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
        if min(self.steps) == max(self.steps):
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
            text = f"record {record.run_id} has no final score over the whole validation set."
            raise UsageError(text, remedy="Leave it out of the statistics.")
        finals.append(record.final)
        for score in record.scores:
            by_stage[score.stage].append(score.bpb)
        for budget in record.clocks:
            clocks[budget.name].append(Worst(record.submission.seed, budget.used_s, budget.limit_s))
    first = ordered[0]
    sizes = [Worst(record.submission.seed, record.sizes.total_bytes, record.sizes.cap_bytes) for record in ordered]
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
        steps=tuple(record.steps for record in ordered),
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
            ours, theirs = (re.sub(r"(\w{12})\w{52}", r"\1", side.origin[name]) for side in (candidate, baseline))
            text = f"candidate and baseline can't be compared: {name} differs: {ours} against {theirs}."
            raise UsageError(text, remedy="Compare records of one track, with the same limits, and one data set.")
    if candidate.text != baseline.text:
        text = f"candidate ({candidate.text}) and baseline ({baseline.text}) differ in the text that was scored."
        raise UsageError(text, remedy="Compare records of one track and data set.")
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


def describe_pools(records: Sequence[RunRecord]) -> list[str]:
    """One paragraph for each pool of two or more seeds; a pool without figures to pool says why."""
    lines = []
    for pool in pools(records):
        if len(pool) > 1:
            try:
                lines.append(describe(aggregate(pool)))
            except UsageError as error:
                seeds = ", ".join(str(record.submission.seed) for record in pool)
                lines.append(f"seeds {seeds} are not summed up: {error}")
    return lines


def counted_pools(report: VerifyReport) -> tuple[list[list[RunRecord]], list[str]]:
    """The records asked for that count, by owner and by what seeds must share; a sentence on all else in their chains.

    One owner's records are never pooled with another's: a foreign record in the folder must not move a mean.
    """
    owners: dict[str, list[RunRecord]] = {}
    left_out = []
    for entry in report.records:
        if entry.record is not None and entry.verdict not in (Verdict.FAIL, Verdict.ERROR):
            owners.setdefault(report.owner_of(entry), []).append(entry.record)
        else:
            left_out.append(f"left out: {entry.name!r}, which does not verify")
    left_out += [
        f"{f.where}: {f.message}" for one in beside(report, report.records) for f in one.findings if f.verdict != "PASS"
    ]
    return [pool for records in owners.values() for pool in pools(records)], left_out


def describe_against(
    reports: Sequence[VerifyReport], baseline: VerifyReport, *, track: str | None = None, margin: str | None = None
) -> list[str]:
    """What :func:`describe_comparison` says for each track (or ``track`` alone) of which both sides hold records.

    Of several pools on one side the one of most seeds counts, the newest of equals. Raises ``UsageError`` where the
    sides share no track.
    """
    asked = None if margin is None else parse_margin(margin)
    sides: dict[str, dict[str, list[list[RunRecord]]]] = {"candidate": {}, "baseline": {}}
    lines: list[str] = []
    for name, report in (*(("candidate", report) for report in reports), ("baseline", baseline)):
        found, left_out = counted_pools(report)
        lines += (f"{name}: {line}" for line in left_out)
        for pool in found:
            sides[name].setdefault(pool[0].track.name, []).append(pool)
    shared = [name for name in sides["candidate"] if name in sides["baseline"] and track in (None, name)]
    if not shared:
        held = " and ".join(", ".join(side) or "none that counts" for side in sides.values())
        text = f"candidate and baseline have no track{f' {track}' if track else ''} in common: {held}."
        raise UsageError(text, remedy="Compare records of one track; `harness verify` says why one does not count.")
    for name in shared:
        largest: list[list[RunRecord]] = []
        try:
            for side_name, of_track in sides.items():
                first, *others = sorted(
                    of_track[name], key=lambda pool: (len(pool), max(run.started_at for run in pool)), reverse=True
                )
                if others:
                    left = f"{side_name}: left out: {sum(map(len, others))} record(s) on track {name}, older or of "
                    lines.append(f"{left}fewer seeds, of other code, configuration, data or owner")
                largest.append(first)
            lines += describe_comparison(largest[0], largest[1], asked)
        except UsageError as error:
            if len(shared) == 1:
                raise
            lines.append(f"track {name} is not compared: {error}")
    return lines


def describe(found: SeedStatistics) -> str:
    """Mean, both deviations by name, interval, largest artifact, slowest clocks."""
    return TEXTS.get_template("pool.txt.jinja").render(found=found).strip()


def describe_comparison(
    records: Sequence[RunRecord], baseline: Sequence[RunRecord], margin: Margin | None = None
) -> list[str]:
    """The candidate's pool against the baseline's; without a ``margin`` that of the challenge, or 0 on other tracks.

    The deciding test has the verdict; Welch's figures, which public records quote, stand beside it without one.
    Raises ``UsageError`` unless each side is one pool and both are comparable.
    """
    old, new = aggregate(baseline), aggregate(records)
    asked = margin or (CHALLENGE_MARGIN if new.official else Margin(0.0, "bpb"))
    test, other = compare(new, old, asked)
    bpb = test.difference
    shown = {
        "differences": (bpb, from_bpb(bpb, "nats/byte", new.text), from_bpb(bpb, "nats/token", new.text)),
        "machines": [sorted({record.machine.kind for record in side}) for side in (records, baseline)],
        "constants": (ALPHA, POWER, MAX_SEEDS, OTHER_MARGIN),
    }
    text = TEXTS.get_template("comparison.txt.jinja")
    lines = text.render(shown, new=new, old=old, margin=asked, default=margin is None, test=test, other=other)
    return [f"candidate: {describe(new)}", f"baseline:  {describe(old)}", *lines.strip().splitlines()]


def parse_margin(text: str) -> Margin:
    """A margin such as "0.005 nats/token", "0.005 nats/byte" or "0.002 bpb". Raises ``UsageError`` otherwise."""
    number, _, named = text.strip().partition(" ")
    with suppress(ValueError, StopIteration):
        found = Margin(float(number), next(unit for unit in UNITS if unit == named.strip()))
        if 0 <= found.value < math.inf:
            return found
    words = f"margin is {text!r}; wanted a finite number, not negative, and one of {', '.join(UNITS)}."
    raise UsageError(words, remedy=f"Give number and unit: {OTHER_MARGIN}.")
