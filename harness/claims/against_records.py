"""The same figures against signed records: what the text says of each seed, and its headline mean and deviation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from harness.claims.claim import Claim, disputed, failed, passed, unknown
from harness.claims.document import Document
from harness.claims.judge import judge_mean, judge_std
from harness.claims.quantity import NUMBER, Quantity, read_quantities
from harness.claims.spread import mean_of
from harness.claims.tables import Row, Table
from harness.claims.which_pool import PoolOfSeeds, choose, title
from harness.record.predicate import RunRecord
from harness.stats import pools

NEAR = 0.2
_HEADLINE = re.compile(
    rf"({NUMBER})\s*(?:bpb|MB|bytes)?\s*(?:total )?\((\d+)-seed mean(?:[^()]*?std\D{{0,4}}({NUMBER}))?[^()]*\)",
    re.IGNORECASE,
)


def check_against_records(text: str, records: Sequence[RunRecord]) -> list[Claim]:
    """What ``text`` says about runs that ``records`` hold; each table and headline against the pool it speaks of."""
    document = Document(text)
    groups = [{record.submission.seed: record for record in pool} for pool in pools(records)]
    claims = [claim for table in document.tables for claim in _against_pool(document, table, groups)]
    claims += _headlines(document, groups)
    return sorted(claims, key=lambda claim: claim.line)


def figures_of(record: RunRecord) -> dict[str, float]:
    """What a record says that a text may repeat: name -> value in bpb, nats per token or bytes."""
    figures: dict[str, float] = {}
    for score in record.scores:
        figures[f"{score.stage} bpb"] = score.bpb
        if score.targets:
            figures[f"{score.stage} nats/token"] = score.nats / score.targets
    sizes = record.sizes
    return figures | {
        "total bytes": sizes.total_bytes,
        "model bytes": sizes.model_bytes,
        "code bytes": sizes.code_bytes,
    }


def _against_pool(document: Document, table: Table, groups: Sequence[PoolOfSeeds]) -> Iterator[Claim]:
    shown = {row.seed for row in table.seed_rows}

    def fit(pool: PoolOfSeeds) -> tuple[int, int]:
        return _confirmed(table, pool), len(shown & set(pool))

    found = choose(groups, document, table.line, fit)
    if len(found) < 2:
        yield from _table(table, found[0] if found else {})
        return
    for row in table.seed_rows:
        yield unknown(row.line, row.label, "recorded run", _several(found), row.label)


def _several(found: Sequence[PoolOfSeeds]) -> str:
    return f"{len(found)} pools of the records may be meant: {'; '.join(map(title, found))}"


def _confirmed(table: Table, by_seed: PoolOfSeeds) -> int:
    """How many cells show a figure of their seed's record."""
    rows = ((row, by_seed.get(row.seed if row.seed is not None else -1)) for row in table.seed_rows)
    return sum(
        any(value.admits(figure, figure) for figure in _figures(record, table.kind(column)).values())
        for row, record in rows
        if record is not None
        for column in range(len(row.cells))
        if (value := row.value(column)) is not None
    )


def _table(table: Table, by_seed: PoolOfSeeds) -> Iterator[Claim]:
    shown = {row.seed for row in table.seed_rows}
    if not shown:
        return
    meanings = [_meaning(table, column, by_seed) for column in range(max(len(row.cells) for row in table.seed_rows))]
    for row in table.seed_rows:
        record = by_seed.get(row.seed if row.seed is not None else -1)
        if record is None:
            text = f"no record of seed {row.label}"
            yield unknown(row.line, row.label, "recorded run", text, row.label)
            continue
        for column in range(len(row.cells)):
            yield from _cell(table, row, column, record, meanings[column])
    left_out = sorted(set(by_seed) - {seed for seed in shown if seed is not None})
    if left_out and shown & set(by_seed):
        names = ", ".join(map(str, left_out))
        text = f"the records hold seed {names} as well, which the table leaves out"
        yield disputed(table.line, "table of seeds", "all seeds shown", text, f"{len(shown)} seeds", names)


def _figures(record: RunRecord, kind: str) -> dict[str, float]:
    suffix = {"bpb": " bpb", "nats": " nats/token", "bytes": " bytes"}.get(kind, "?")
    return {name: figure for name, figure in figures_of(record).items() if name.endswith(suffix)}


def _meaning(table: Table, column: int, by_seed: PoolOfSeeds) -> str:
    """The recorded figure that the column shows, as most of its seeds tell; "" when none of them does."""
    hits: Counter[str] = Counter()
    for row in table.seed_rows:
        value, record = row.value(column), by_seed.get(row.seed if row.seed is not None else -1)
        if value is not None and record is not None:
            hits.update(n for n, f in _figures(record, table.kind(column)).items() if value.admits(f, f))
    return hits.most_common(1)[0][0] if hits else ""


def _cell(table: Table, row: Row, column: int, record: RunRecord, meaning: str) -> Iterator[Claim]:
    value = row.value(column)
    figures = _figures(record, table.kind(column))
    if value is None or not figures:
        return
    nearest = min(figures, key=lambda name: abs(figures[name] - value.value))
    name = meaning if meaning in figures else nearest
    figure = figures[name]
    what = f"{table.name(column)} of seed {row.label}"
    right = value.like(figure)
    if value.admits(figure, figure):
        yield passed(row.line, f"{row.label} {value.text}", what, f"recorded as {name}", value.text)
    elif abs(figure - value.value) <= NEAR * abs(figure):
        text = f"recorded is {name} {right}"
        yield failed(row.line, f"{row.label} {value.text}", what, text, value.text, right)


def _headlines(document: Document, groups: Sequence[PoolOfSeeds]) -> Iterator[Claim]:
    for line in document.lines:
        for match in _HEADLINE.finditer(line.text):
            claimed = read_quantities(match[0])[0]
            several = [pool for pool in groups if len(_recorded(claimed, pool)) > 1]
            found = choose(several, document, line.number, _fit_of_headline(claimed, int(match[2])))
            if len(found) > 1:
                yield unknown(line.number, match[0], "mean over the records", _several(found), claimed.text)
            elif found:
                yield from _headline(line.number, match, claimed, _recorded(claimed, found[0]))


def _fit_of_headline(claimed: Quantity, seeds: int) -> Callable[[PoolOfSeeds], tuple[int, ...]]:
    def fit(pool: PoolOfSeeds) -> tuple[int, ...]:
        mean = mean_of(_recorded(claimed, pool))
        return int(claimed.admits(mean.low, mean.high)), int(len(pool) == seeds), 1

    return fit


def _headline(line: int, match: re.Match[str], claimed: Quantity, values: Sequence[Quantity]) -> Iterator[Claim]:
    yield judge_mean(claimed, values, line, match[0], "mean over the records")
    if int(match[2]) != len(values):
        text = f"the records hold {len(values)} seeds"
        yield disputed(line, match[0], "number of seeds", text, match[2], str(len(values)))
    if match[3]:
        deviation = read_quantities(match[3])[0]
        yield judge_std(deviation, values, line, match[0], "std over the records", match[0])


def _recorded(claimed: Quantity, pool: PoolOfSeeds) -> list[Quantity]:
    records = list(pool.values())
    if claimed.kind == "bytes":
        return [_exactly(float(record.sizes.total_bytes), "bytes") for record in records]
    finals = [score.bpb for record in records for score in record.scores if score.stage == "final"]
    return [_exactly(value, "bpb") for value in finals] if claimed.kind in ("", "bpb") and claimed.step < 0.1 else []


def _exactly(value: float, kind: str) -> Quantity:
    return Quantity(repr(value), value, 0.0, 0.0, kind, "", signed=False, about=False, whole=False)
