"""A text's figures against signed records: what it says of each seed, and its headline mean and deviation.

Runs of several tracks, configurations and submissions may share their seeds, so a table or headline is held against the
pool of seeds that confirms most of its figures; where several do, nothing is judged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from harness.record.predicate import RunRecord
from harness.review.claims import Claim, judge_mean, judge_std, judged
from harness.review.number import NUMBER, Number, mean_of, read_numbers
from harness.review.readme import Document, Row, Table
from harness.rules import Verdict
from harness.stats import pools

PoolOfSeeds = dict[int, RunRecord]
"""Seed -> record; all of one submission, track, code, configuration and data set."""
NEAR = 0.2
_HEADLINE = re.compile(
    rf"({NUMBER})\s*(?:bpb|MB|bytes)?\s*(?:total )?\((\d+)-seed mean(?:[^()]*?std\D{{0,4}}({NUMBER}))?[^()]*\)",
    re.IGNORECASE,
)


def check_against_records(text: str, records: Sequence[RunRecord]) -> list[Claim]:
    """What ``text`` says about runs that ``records`` hold; each table and headline against the pool it speaks of."""
    document = Document(text)
    groups = [{record.submission.seed: record for record in pool} for pool in pools(records)]
    claims = [claim for table in document.tables for claim in _table(table, groups)]
    claims += _headlines(document, groups)
    return sorted(claims, key=lambda claim: claim.line)


def _best(groups: Sequence[PoolOfSeeds], fit: Callable[[PoolOfSeeds], tuple[int, ...]]) -> list[PoolOfSeeds]:
    """The pools that fit best; none where nothing fits."""
    ranked = [(found, pool) for pool in groups if any(found := fit(pool))]
    best = max((found for found, _ in ranked), default=())
    return [pool for found, pool in ranked if found == best]


def _several(found: Sequence[PoolOfSeeds]) -> str:
    first = [next(iter(pool.values())) for pool in found]
    names = (f"{r.submission.name} on {r.track.name}, configuration {r.submission.config_digest[:8]}" for r in first)
    return f"{len(found)} pools of the records may be meant: {'; '.join(names)}"


def _figures(record: RunRecord, kind: str) -> dict[str, float]:
    """What a record says that a text may repeat, of one kind: name -> value in bpb, nats per token or bytes."""
    sizes = record.sizes
    found = {"total bytes": float(sizes.total_bytes), "model bytes": sizes.model_bytes, "code bytes": sizes.code_bytes}
    for score in record.scores:
        found[f"{score.stage} bpb"] = score.bpb
        if score.targets:
            found[f"{score.stage} nats/token"] = score.nats / score.targets
    suffix = {"bpb": " bpb", "nats": " nats/token", "bytes": " bytes"}.get(kind, "?")
    return {name: figure for name, figure in found.items() if name.endswith(suffix)}


def _matching(table: Table, row: Row, column: int, pool: PoolOfSeeds) -> list[str]:
    """Names of the recorded figures that a cell shows."""
    value, record = row.value(column), pool.get(row.seed if row.seed is not None else -1)
    if value is None or record is None:
        return []
    return [name for name, x in _figures(record, table.kind(column)).items() if value.admits(x, x)]


def _table(table: Table, groups: Sequence[PoolOfSeeds]) -> Iterator[Claim]:
    shown, columns = {row.seed for row in table.seed_rows}, range(table.width)

    def fit(pool: PoolOfSeeds) -> tuple[int, ...]:
        cells = sum(bool(_matching(table, row, column, pool)) for row in table.seed_rows for column in columns)
        return cells, len(shown & set(pool))

    found = _best(groups, fit)
    pool = found[0] if len(found) == 1 else {}
    hits = [Counter(n for row in table.seed_rows for n in _matching(table, row, column, pool)) for column in columns]
    for row in table.seed_rows:
        record = pool.get(row.seed if row.seed is not None else -1)
        if record is None:
            text = _several(found) if len(found) > 1 else f"no record of seed {row.label}"
            yield Claim(row.line, row.label, "recorded run", Verdict.UNKNOWN, text, row.label)
            continue
        for column in columns:
            value, figures = row.value(column), _figures(record, table.kind(column))
            if value is None or not figures:
                continue
            meaning = next((name for name, _ in hits[column].most_common(1)), "")
            nearest = min(figures, key=lambda name: abs(figures[name] - value.value))
            name = meaning if meaning in figures else nearest
            figure, holds = figures[name], value.admits(figures[name], figures[name])
            if holds or abs(figure - value.value) <= NEAR * abs(figure):
                words = f"recorded as {name}" if holds else f"recorded is {name} {value.like(figure)}"
                what = f"{table.name(column)} of seed {row.label}"
                yield judged(row.line, f"{row.label} {value.text}", what, value, figure, figure, words)
    left_out = sorted(set(pool) - {seed for seed in shown if seed is not None})
    if left_out and shown & set(pool):
        names = ", ".join(map(str, left_out))
        text = f"the records hold seed {names} as well, which the table leaves out"
        yield Claim(table.line, "table of seeds", "all seeds shown", Verdict.WARN, text, f"{len(shown)} seeds", names)


def _headlines(document: Document, groups: Sequence[PoolOfSeeds]) -> Iterator[Claim]:
    for line in document.lines:
        for match in _HEADLINE.finditer(line.text):
            claimed, seeds = read_numbers(match[0])[0], int(match[2])

            def fit(pool: PoolOfSeeds, claimed: Number = claimed, seeds: int = seeds) -> tuple[int, ...]:
                mean = mean_of(_recorded(claimed, pool))
                return int(claimed.admits(mean.low, mean.high)), int(len(pool) == seeds), 1

            found = _best([pool for pool in groups if len(_recorded(claimed, pool)) > 1], fit)
            what = "mean over the records"
            if len(found) > 1:
                yield Claim(line.number, match[0], what, Verdict.UNKNOWN, _several(found), claimed.text)
            for values in [_recorded(claimed, found[0])] if len(found) == 1 else []:
                yield judge_mean(claimed, values, line.number, match[0], what)
                if seeds != len(values):
                    text, right = f"the records hold {len(values)} seeds", str(len(values))
                    yield Claim(line.number, match[0], "number of seeds", Verdict.WARN, text, match[2], right)
                if match[3]:
                    deviation = read_numbers(match[3])[0]
                    yield judge_std(deviation, values, line.number, match[0], "std over the records", match[0])


def _recorded(claimed: Number, pool: PoolOfSeeds) -> list[Number]:
    """What a headline's figure is the mean of: sizes, or final scores."""
    records = list(pool.values())
    if claimed.kind == "bytes":
        return [Number.exactly(float(record.sizes.total_bytes), "bytes") for record in records]
    finals = [score.bpb for record in records for score in record.scores if score.stage == "final"]
    is_score = claimed.kind in ("", "bpb") and claimed.step < 0.1
    return [Number.exactly(value, "bpb") for value in finals] if is_score else []
