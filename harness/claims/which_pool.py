"""Which pool of seeds a table or a headline speaks of: the one named above it, else the one that fits it best.

Runs of several tracks, configurations and submissions may share their seeds, so a seed alone tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from harness.claims.document import Document
from harness.claims.tables import plain
from harness.record.predicate import RunRecord

PoolOfSeeds = dict[int, RunRecord]
"""Seed -> record; all of one submission, track, code, configuration and data set."""

REACH = 500
"""Lines above in which a name is looked for."""
_HEADING = re.compile(r"(#{1,6})\s")


def choose(
    pools: Sequence[PoolOfSeeds], document: Document, line: int, fit: Callable[[PoolOfSeeds], tuple[int, ...]]
) -> list[PoolOfSeeds]:
    """The pools that line ``line`` (1-based) may speak of: one where the text tells, more where nothing does.

    Only pools with any fit count. Those whose track, then whose submission is named nearest above go before the others;
    among the rest the largest ``fit`` decides.
    """
    fits = [(fit(pool), pool) for pool in pools]
    left = [(found, pool) for found, pool in fits if any(found)]
    for name in (_track, _submission):
        meant = _named({name(pool) for _, pool in left}, document, line)
        left = [(found, pool) for found, pool in left if name(pool) in meant]
    best = max((found for found, _ in left), default=())
    return [pool for found, pool in left if found == best]


def title(pool: PoolOfSeeds) -> str:
    """How a message names a pool."""
    record = next(iter(pool.values())).submission
    return f"{_submission(pool)} on {_track(pool)}, configuration {record.config_digest[:8]}"


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
    for raw in reversed(document.raw[max(0, line - REACH) : line]):
        heading = _HEADING.match(raw)
        if (level == 7 and not raw.lstrip().startswith("|")) or (heading and len(heading[1]) < level):
            yield plain(raw)
        level = min(level, len(heading[1])) if heading else level
