"""A text's figures against signed records: what it says of each seed, and its headline mean and deviation.

Runs of several tracks, configurations and submissions may share their seeds, so a table or headline is held against the
pool of seeds that is named nearest above it, else against the one that fits it best.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from harness.record.predicate import RunRecord
from harness.review.claims import judge_mean, judge_std
from harness.review.number import NUMBER, Claim, Number, judged, mean_of, read_numbers
from harness.review.readme import Document, Row, Table
from harness.rules import Verdict
from harness.stats import pools

PoolOfSeeds = dict[int, RunRecord]
"""Seed -> record; all of one submission, track, code, configuration and data set."""
NEAR = 0.2
REACH = 500
"""Lines above in which a name is looked for."""
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


def _against_pool(document: Document, table: Table, groups: Sequence[PoolOfSeeds]) -> Iterator[Claim]:
    shown = {row.seed for row in table.seed_rows}

    def fit(pool: PoolOfSeeds) -> tuple[int, ...]:
        cells = ((row, column) for row in table.seed_rows for column in range(len(row.cells)))
        confirmed = sum(bool(_matching(table, row, column, pool)) for row, column in cells)
        return confirmed, len(shown & set(pool))

    found = choose(groups, document, table.line, fit)
    if len(found) < 2:
        yield from _table(table, found[0] if found else {})
        return
    for row in table.seed_rows:
        yield Claim(row.line, row.label, "recorded run", Verdict.UNKNOWN, _several(found), row.label)


def _matching(table: Table, row: Row, column: int, pool: PoolOfSeeds) -> list[str]:
    """Names of the recorded figures that a cell shows."""
    value, record = row.value(column), pool.get(row.seed if row.seed is not None else -1)
    if value is None or record is None:
        return []
    return [name for name, x in _figures(record, table.kind(column)).items() if value.admits(x, x)]


def _several(found: Sequence[PoolOfSeeds]) -> str:
    return f"{len(found)} pools of the records may be meant: {'; '.join(map(title, found))}"


def _table(table: Table, pool: PoolOfSeeds) -> Iterator[Claim]:
    shown = {row.seed for row in table.seed_rows}
    meanings: list[str] = []
    for column in range(max((len(row.cells) for row in table.seed_rows), default=0)):
        hits = Counter(name for row in table.seed_rows for name in _matching(table, row, column, pool))
        meanings.append(hits.most_common(1)[0][0] if hits else "")
    for row in table.seed_rows:
        record = pool.get(row.seed if row.seed is not None else -1)
        if record is None:
            yield Claim(
                row.line, row.label, "recorded run", Verdict.UNKNOWN, f"no record of seed {row.label}", row.label
            )
            continue
        for column in range(len(row.cells)):
            yield from _cell(table, row, column, record, meanings[column])
    left_out = sorted(set(pool) - {seed for seed in shown if seed is not None})
    if left_out and shown & set(pool):
        names = ", ".join(map(str, left_out))
        text = f"the records hold seed {names} as well, which the table leaves out"
        yield Claim(table.line, "table of seeds", "all seeds shown", Verdict.WARN, text, f"{len(shown)} seeds", names)


def _cell(table: Table, row: Row, column: int, record: RunRecord, meaning: str) -> Iterator[Claim]:
    value, figures = row.value(column), _figures(record, table.kind(column))
    if value is None or not figures:
        return
    nearest = min(figures, key=lambda name: abs(figures[name] - value.value))
    name = meaning if meaning in figures else nearest
    figure, what = figures[name], f"{table.name(column)} of seed {row.label}"
    if abs(figure - value.value) <= NEAR * abs(figure) or value.admits(figure, figure):
        words = f"recorded as {name}" if value.admits(figure, figure) else f"recorded is {name} {value.like(figure)}"
        yield judged(row.line, f"{row.label} {value.text}", what, value, figure, figure, words)


def _headlines(document: Document, groups: Sequence[PoolOfSeeds]) -> Iterator[Claim]:
    for line in document.lines:
        for match in _HEADLINE.finditer(line.text):
            claimed, seeds = read_numbers(match[0])[0], int(match[2])

            def fit(pool: PoolOfSeeds, claimed: Number = claimed, seeds: int = seeds) -> tuple[int, ...]:
                mean = mean_of(_recorded(claimed, pool))
                return int(claimed.admits(mean.low, mean.high)), int(len(pool) == seeds), 1

            several = [pool for pool in groups if len(_recorded(claimed, pool)) > 1]
            found = choose(several, document, line.number, fit)
            if len(found) > 1:
                what = "mean over the records"
                yield Claim(line.number, match[0], what, Verdict.UNKNOWN, _several(found), claimed.text)
            elif found:
                yield from _headline(line.number, match, claimed, _recorded(claimed, found[0]))


def _headline(line: int, match: re.Match[str], claimed: Number, values: Sequence[Number]) -> Iterator[Claim]:
    yield judge_mean(claimed, values, line, match[0], "mean over the records")
    if int(match[2]) != len(values):
        text = f"the records hold {len(values)} seeds"
        yield Claim(line, match[0], "number of seeds", Verdict.WARN, text, match[2], str(len(values)))
    if match[3]:
        yield judge_std(read_numbers(match[3])[0], values, line, match[0], "std over the records", match[0])


def _recorded(claimed: Number, pool: PoolOfSeeds) -> list[Number]:
    records = list(pool.values())
    if claimed.kind == "bytes":
        return [Number.exactly(float(record.sizes.total_bytes), "bytes") for record in records]
    finals = [score.bpb for record in records for score in record.scores if score.stage == "final"]
    return (
        [Number.exactly(value, "bpb") for value in finals] if claimed.kind in ("", "bpb") and claimed.step < 0.1 else []
    )


def choose(
    pools: Sequence[PoolOfSeeds], document: Document, line: int, fit: Callable[[PoolOfSeeds], tuple[int, ...]]
) -> list[PoolOfSeeds]:
    """The pools that line ``line`` (1-based) may speak of: one where the text tells, more where nothing does.

    Only pools with any fit count. Those whose track, then whose submission is named nearest above go before the others;
    among the rest the largest ``fit`` decides.
    """
    left = [(found, pool) for pool in pools if any(found := fit(pool))]
    for name in (_track, _submission):
        meant = _named({name(pool) for _, pool in left}, document, line)
        left = [(found, pool) for found, pool in left if name(pool) in meant]
    best = max((found for found, _ in left), default=())
    return [pool for found, pool in left if found == best]


def title(pool: PoolOfSeeds) -> str:
    """How a message names a pool."""
    digest = next(iter(pool.values())).submission.config_digest
    return f"{_submission(pool)} on {_track(pool)}, configuration {digest[:8]}"


def _track(pool: PoolOfSeeds) -> str:
    return next(iter(pool.values())).track.name


def _submission(pool: PoolOfSeeds) -> str:
    return next(iter(pool.values())).submission.name


def _named(names: set[str], document: Document, line: int) -> set[str]:
    """Those of ``names`` that the nearest line above says; all of them where none does, or where there is no choice."""
    for text in _above(document, line) if len(names) > 1 else ():
        found = {name for name in names if _says(text, name)}
        if found:
            return found
    return names


def _says(text: str, name: str) -> bool:
    """A name made of letters alone may be any word, so it counts only beside "track" or "submission"."""
    word = rf"(?<![\w-]){re.escape(name)}(?![\w-])"
    if name.isalpha():
        word = rf"(?:track|submission)\W{{1,4}}{word}|{word}\W{{1,4}}(?:track|submission)"
    return bool(re.search(word, text, re.IGNORECASE))


def _above(document: Document, line: int) -> Iterator[str]:
    """The line itself and those above it to the heading of its section, then the headings around that one."""
    level = 7
    for number in range(min(line, len(document.raw)), max(0, line - REACH), -1):
        hashes = re.match(r"#{1,6}", document.raw[number - 1]) if number in document.headings else None
        if (level == 7 and number not in document.in_tables) or (hashes and len(hashes[0]) < level):
            yield document.text.get(number, "")
        level = min(level, len(hashes[0])) if hashes else level
