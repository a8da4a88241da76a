"""What only the whole folder shows: gaps, forks, cut ends, unannounced and unreported runs, results shown twice.

Every signer has one chain of intents, records and reviews in which each entry names the digest of the one before.
What is not covered: a signer who throws away the end of a chain *and* restores an older head, and one who dates a whole
chain back. Nothing inside the folder can show that; its history in version control, a timestamp, or a digest that a
reviewer noted, does.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.record.canonical import parse_utc
from harness.record.entries import Head, Intent
from harness.record.predicate import RunRecord
from harness.record.statement import Entry, date_of
from harness.record.store import intent_mismatch
from harness.rules import Finding, Verdict

CLOCK_SLACK = timedelta(minutes=10)  # a clock that is set, a writer that waits for the folder's lock
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Link:
    """A well-formed, rightly signed entry and the file it lies in."""

    path: Path
    entry: Entry

    @property
    def name(self) -> str:
        """Its place in the records folder, such as ``runs/….json``: what findings call it."""
        return f"{self.entry.folder}/{self.path.name}"

    @property
    def predecessor(self) -> str:
        """Digest of the entry before this one; "" for the first. Heads have none."""
        predicate = self.entry.predicate
        return "" if isinstance(predicate, Head) else predicate.predecessor


def check_chains(links: Iterable[Link], heads: Iterable[Link]) -> list[Finding]:
    """Findings over the whole folder [R3-CHAIN]; each names the file it is about in ``where``."""
    by_signer: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        by_signer[link.entry.signer].append(link)
    head_of = {head.entry.signer: head for head in heads}
    findings: list[Finding] = []
    for signer in sorted(set(by_signer) | set(head_of)):
        findings += _Chain(by_signer[signer], head_of.get(signer), signer).findings()
    return findings


class _Chain:
    """One signer's entries."""

    def __init__(self, links: list[Link], head: Link | None, signer: str) -> None:
        self.links = sorted(links, key=lambda link: str(link.path))
        self.head, self.signer = head, signer
        self.by_digest: dict[str, Link] = {}
        self.followers: dict[str, list[Link]] = defaultdict(list)
        for link in self.links:
            if self.by_digest.setdefault(link.entry.digest, link) is link:
                self.followers[link.predecessor].append(link)
        self.depth = self._depths()

    def _depths(self) -> dict[str, int]:
        depth: dict[str, int] = {}
        front = [(link, 1) for link in self.followers[""]]
        while front:
            link, place = front.pop()
            depth[link.entry.digest] = place
            front += [(following, place + 1) for following in self.followers[link.entry.digest]]
        return depth

    def findings(self) -> Iterator[Finding]:
        """Everything wrong with this chain, and what is worth knowing about it."""
        yield from self._twice()
        yield from self._dates()
        yield from self._gaps()
        yield from self._forks()
        yield from self._end()
        yield from self._intents()
        yield from self._repeats()

    def _finding(self, rule: str, verdict: Verdict, link: Link | None, message: str) -> Finding:
        where = link.name if link else f"heads/{self.signer}.json"
        return Finding(rule, verdict, message, where=where)

    def _twice(self) -> Iterator[Finding]:
        for link in self.links:
            first = self.by_digest[link.entry.digest]
            if first is not link:
                text = f"is the same entry as {first.name}: one digest, two files"
                yield self._finding("R3-CHAIN", Verdict.FAIL, link, text)

    def _gaps(self) -> Iterator[Finding]:
        for link in self.by_digest.values():
            if link.predecessor and link.predecessor not in self.by_digest:
                text = (
                    f"names the predecessor {link.predecessor[:16]}…, which is missing: an entry was removed, "
                    "or this one is foreign"
                )
                yield self._finding("R3-CHAIN", Verdict.FAIL, link, text)

    def _forks(self) -> Iterator[Finding]:
        for predecessor, links in self.followers.items():
            if len(links) > 1:
                before = self.by_digest.get(predecessor)
                place = f"after {before.name}" if before else "at its start"
                names = ", ".join(link.name for link in links)
                for link in links[1:]:
                    yield self._finding("R3-CHAIN", Verdict.FAIL, link, f"forks the chain {place}: {names}")

    def _dates(self) -> Iterator[Finding]:
        """Intents and reviews are dated when they are signed, so along the chain their dates go forward."""
        latest: tuple[datetime, Link] | None = None
        now = datetime.now(UTC)
        for link in sorted(self.by_digest.values(), key=lambda link: self.depth.get(link.entry.digest, 0)):
            try:
                at = parse_utc(date_of(link.entry.predicate))
            except ValueError:
                continue  # said elsewhere
            if at > now + DAY:
                yield self._finding("R3-CHAIN", Verdict.WARN, link, f"is dated {at:%Y-%m-%d}, which is still to come")
            if isinstance(link.entry.predicate, RunRecord):
                continue
            if latest and at < latest[0] - CLOCK_SLACK:
                text = f"is dated before {latest[1].name}, which stands before it in the chain: dated back"
                yield self._finding("R3-CHAIN", Verdict.FAIL, link, text)
            elif latest is None or at > latest[0]:
                latest = at, link

    def _end(self) -> Iterator[Finding]:
        if self.head is None:
            text = f"is missing; {len(self.links)} entries of this signer can't be told from a chain cut short"
            yield self._finding("R3-CHAIN", Verdict.FAIL, None, text)
            return
        head = self.head.entry.predicate
        assert isinstance(head, Head)
        empty = (head.newest, head.entries) == ("", 0)  # written before a signer's first entry
        if head.newest not in self.by_digest and not empty:
            text = f"names the newest entry {head.newest[:16]}…, which is missing: the chain was cut short"
            yield self._finding("R3-CHAIN", Verdict.FAIL, None, text)
        elif self.depth.get(head.newest) not in (None, head.entries):
            text = f"counts {head.entries:,} entries up to the newest; the folder holds {self.depth[head.newest]:,}"
            yield self._finding("R3-CHAIN", Verdict.FAIL, None, text)
        elif self.followers[head.newest]:
            text = "is older than the chain's end: an interrupted write or an old copy; the next signed entry renews it"
            yield self._finding("R3-CHAIN", Verdict.WARN, None, text)

    def _intents(self) -> Iterator[Finding]:
        results: dict[str, list[Link]] = defaultdict(list)
        for link, record in self._records():
            results[record.intent].append(link)
            yield from self._announced(link, record)
        for links in results.values():
            for link in links[1:]:
                text = f"is a second result of the intent that {links[0].name} reports on"
                yield self._finding("R5-INTENT", Verdict.FAIL, link, text)
        yield from self._unreported(results)

    def _announced(self, link: Link, record: RunRecord) -> Iterator[Finding]:
        announced = self.by_digest.get(record.intent)
        if announced is None or not isinstance(announced.entry.predicate, Intent):
            text = f"names the intent {record.intent[:16]}…, which this signer has not stored here"
            yield self._finding("R5-INTENT", Verdict.FAIL, link, text)
            return
        differing = intent_mismatch(announced.entry.predicate, record)
        if differing:
            text = f"differs from its intent {announced.name} in {', '.join(differing)}"
            yield self._finding("R5-INTENT", Verdict.FAIL, link, text)
        with contextlib.suppress(ValueError):  # a malformed time is said elsewhere
            apart = parse_utc(record.started_at) - parse_utc(announced.entry.predicate.announced_at)
            if not -CLOCK_SLACK <= apart <= DAY:
                text = f"is dated {record.started_at}, its intent {announced.entry.predicate.announced_at}"
                yield self._finding("R5-INTENT", Verdict.FAIL, link, f"{text}: a run starts when it is announced")
        if self.depth.get(record.intent, 0) >= self.depth.get(link.entry.digest, 1 << 62):
            yield self._finding("R5-INTENT", Verdict.FAIL, link, "stands in the chain before its own intent")

    def _unreported(self, results: dict[str, list[Link]]) -> Iterator[Finding]:
        groups: dict[tuple[str, str, str], list[tuple[Link, Intent, bool]]] = defaultdict(list)
        for link in self.by_digest.values():
            intent = link.entry.predicate
            if isinstance(intent, Intent):
                same = (intent.track, intent.code_digest, intent.config_digest)
                groups[same].append((link, intent, link.entry.digest in results))
        for announced in groups.values():
            reported = sum(done for _, _, done in announced)
            for link, intent, done in announced:
                if not done:
                    text = f"seed {intent.seed} was announced and has no result"
                    if reported:
                        text += f"; {reported} of {len(announced)} announced runs have one: best-of-n is possible"
                    yield self._finding("R5-INTENT", Verdict.WARN, link, text)

    def _repeats(self) -> Iterator[Finding]:
        seeds: dict[tuple[str, str, str, int], tuple[Link, RunRecord]] = {}
        artifacts: dict[str, tuple[Link, RunRecord]] = {}
        for link, record in self._records():
            run = record.submission
            first, earlier = seeds.setdefault(
                (record.track.digest, run.code_digest, run.config_digest, run.seed), (link, record)
            )
            if earlier is not record:
                same = "the same" if earlier.artifact_digest == record.artifact_digest else "another"
                text = f"repeats seed {run.seed} of {first.name} with {same} artifact; only one can count"
                yield self._finding("R3-CHAIN", Verdict.WARN, link, text)
            first, earlier = artifacts.setdefault(record.artifact_digest, (link, record))
            if earlier.submission.seed != run.seed:
                text = (
                    f"has the artifact of {first.name}, which was trained with seed {earlier.submission.seed}: "
                    "the seed has no effect, or a result was copied"
                )
                yield self._finding("R3-CHAIN", Verdict.WARN, link, text)

    def _records(self) -> Iterator[tuple[Link, RunRecord]]:
        for link in self.by_digest.values():
            if isinstance(link.entry.predicate, RunRecord):
                yield link, link.entry.predicate


def check_copies(links: Iterable[Link]) -> Iterator[Finding]:
    """One result under several keys. When a run is repeated, bits may agree; its audits' draws and times never do."""
    by_artifact: dict[str, list[tuple[Link, RunRecord]]] = defaultdict(list)
    for link in links:
        if isinstance(link.entry.predicate, RunRecord):
            by_artifact[link.entry.predicate.artifact_digest].append((link, link.entry.predicate))
    for found in by_artifact.values():
        for link, record in found:
            for other, theirs in found:
                if other.entry.signer != link.entry.signer:
                    copied = _measured(record) & _measured(theirs)
                    what = "one of them is a copy" if copied else "repeated or copied"
                    text = f"has the artifact of {other.name} under another key: {what}, and dates can't tell which "
                    text += "was first"
                    yield Finding("R3-CHAIN", Verdict.WARN, text, where=link.name)


def _measured(record: RunRecord) -> set[str]:
    """What no two runs share."""
    return {audit.entropy for audit in record.audits} | {repr([(span.start_s, span.seconds) for span in record.spans])}
