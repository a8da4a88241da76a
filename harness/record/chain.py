"""What only the whole folder shows: gaps, forks, cut ends, unannounced and unreported runs, results shown twice.

Every signer has one chain of intents, records and reviews in which each entry names the digest of the one before.
What is not covered: a signer who throws away the end of a chain *and* restores an older head, and one who dates a whole
chain back. Nothing inside the folder can show that; its history in version control, a timestamp, or a digest that a
reviewer noted, does.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations

from harness.record.canonical import CLOCK_SLACK, parse_utc
from harness.record.predicate import Head, Intent, RunRecord
from harness.record.statement import Entry, date_of
from harness.record.store import intent_mismatch
from harness.rules import Finding, Verdict

DAY = timedelta(days=1)
_fail, _warn = (partial(Finding, "R3-CHAIN", verdict) for verdict in (Verdict.FAIL, Verdict.WARN))


def check_chains(entries: Iterable[Entry]) -> list[Finding]:
    """Findings over the well-formed, rightly signed entries of a folder, heads among them [R3-CHAIN, R5-INTENT].

    Each names the file it is about in ``where``.
    """
    by_signer: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_signer[entry.signer].append(entry)
    found: list[Finding] = []
    for signer in sorted(by_signer):
        chain = _Chain(signer, by_signer[signer])
        for part in (chain.order, chain.dates, chain.end, chain.intents, chain.unreported, chain.repeats):
            found += part()
    return found


class _Chain:
    """One signer's entries."""

    def __init__(self, signer: str, entries: Sequence[Entry]) -> None:
        self.head: Head | None = None
        self.head_name = f"heads/{signer}.json"
        self.entries: list[Entry] = []
        self.by_digest: dict[str, Entry] = {}
        self.followers: dict[str, list[Entry]] = defaultdict(list)
        for entry in sorted(entries, key=lambda entry: str(entry.path)):
            if isinstance(entry.predicate, Head):
                self.head = entry.predicate
                continue
            self.entries.append(entry)
            if self.by_digest.setdefault(entry.digest, entry) is entry:
                self.followers[entry.predecessor].append(entry)
        self.records = [(e, e.predicate) for e in self.by_digest.values() if isinstance(e.predicate, RunRecord)]
        self.depth: dict[str, int] = {}
        front = [(entry, 1) for entry in self.followers[""]]
        while front:
            entry, place = front.pop()
            self.depth[entry.digest] = place
            front += [(following, place + 1) for following in self.followers[entry.digest]]

    def order(self) -> Iterator[Finding]:
        """Each entry lies in one file, after one that is there, before one other."""
        for entry in self.entries:
            first, before = self.by_digest[entry.digest], entry.predecessor
            if first is not entry:
                yield _fail(f"is the same entry as {first.name}: one digest, two files", entry.name)
            elif before and before not in self.by_digest:
                gone = f"{before[:16]}…, which is missing: an entry was removed, or this one is foreign"
                yield _fail(f"names the predecessor {gone}", entry.name)
        for predecessor, entries in self.followers.items():
            for entry in entries[1:]:
                before_it = self.by_digest.get(predecessor)
                place = f"after {before_it.name}" if before_it else "at its start"
                yield _fail(f"forks the chain {place}: {', '.join(other.name for other in entries)}", entry.name)

    def dates(self) -> Iterator[Finding]:
        """Intents and reviews are dated when they are signed, so along the chain their dates go forward."""
        latest: tuple[datetime, Entry] | None = None
        now = datetime.now(UTC)
        for entry in sorted(self.by_digest.values(), key=lambda entry: self.depth.get(entry.digest, 0)):
            at = parse_utc(date_of(entry.predicate))
            if at > now + DAY:
                yield _warn(f"is dated {at:%Y-%m-%d}, which is still to come", entry.name)
            if isinstance(entry.predicate, RunRecord):
                continue
            if latest and latest[0] - at > CLOCK_SLACK:
                place = f"{latest[1].name}, which stands before it in the chain"
                yield _fail(f"is dated before {place}: dated back", entry.name)
            elif latest is None or at > latest[0]:
                latest = at, entry

    def end(self) -> Iterator[Finding]:
        head, fail = self.head, partial(_fail, where=self.head_name)
        if head is None:
            yield fail(f"is missing; {len(self.entries)} entries of this signer can't be told from a chain cut short")
        elif head.newest not in self.by_digest and head != Head("", 0):  # that one is written before the first entry
            yield fail(f"names the newest entry {head.newest[:16]}…, which is missing: the chain was cut short")
        elif (place := self.depth.get(head.newest)) not in (None, head.entries):
            yield fail(f"counts {head.entries:,} entries up to the newest; the folder holds {place:,}")
        elif self.followers[head.newest]:
            text = "is older than the chain's end: an interrupted write or an old copy; the next signed entry renews it"
            yield _warn(text, self.head_name)

    def intents(self) -> Iterator[Finding]:
        """Each record reports on an intent of before, alone and as announced."""
        first_of: dict[str, Entry] = {}
        for entry, record in self.records:
            announced = self.by_digest.get(record.intent)
            first = first_of.setdefault(record.intent, entry)
            texts = [] if first is entry else [f"is a second result of the intent that {first.name} reports on"]
            if announced is None or not isinstance(announced.predicate, Intent):
                texts.append(f"names the intent {record.intent[:16]}…, which this signer has not stored here")
            else:
                if differing := intent_mismatch(announced.predicate, record):
                    texts.append(f"differs from its intent {announced.name} in {', '.join(differing)}")
                apart = parse_utc(record.started_at) - parse_utc(announced.predicate.announced_at)
                if not -CLOCK_SLACK <= apart <= DAY:
                    text = f"is dated {record.started_at}, its intent {announced.predicate.announced_at}"
                    texts.append(f"{text}: a run starts when it is announced")
                if self.depth.get(record.intent, 0) >= self.depth.get(entry.digest, 1 << 62):
                    texts.append("stands in the chain before its own intent")
            yield from (Finding("R5-INTENT", Verdict.FAIL, text, entry.name) for text in texts)

    def unreported(self) -> Iterator[Finding]:
        """Intents without a result; where another seed of the same thing has one, the best may have been chosen."""
        results = {record.intent for _, record in self.records}
        groups: dict[tuple[str, str, str], list[tuple[Entry, Intent]]] = defaultdict(list)
        for entry in self.by_digest.values():
            if isinstance(intent := entry.predicate, Intent):
                groups[intent.track, intent.code_digest, intent.config_digest].append((entry, intent))
        for announced in groups.values():
            reported = sum(entry.digest in results for entry, _ in announced)
            for entry, intent in announced:
                if entry.digest not in results:
                    text = f"seed {intent.seed} was announced and has no result"
                    if reported:
                        text += f"; {reported} of {len(announced)} announced runs have one: best-of-n is possible"
                    yield Finding("R5-INTENT", Verdict.WARN, text, entry.name)

    def repeats(self) -> Iterator[Finding]:
        seeds: dict[tuple[str, str, str, int], tuple[Entry, RunRecord]] = {}
        artifacts: dict[str, tuple[Entry, RunRecord]] = {}
        for entry, record in self.records:
            run = record.submission
            same_seed = record.track.digest, run.code_digest, run.config_digest, run.seed
            first, earlier = seeds.setdefault(same_seed, (entry, record))
            if earlier is not record:
                same = "the same" if earlier.artifact_digest == record.artifact_digest else "another"
                text = f"repeats seed {run.seed} of {first.name} with {same} artifact; only one can count"
                yield _warn(text, entry.name)
            first, earlier = artifacts.setdefault(record.artifact_digest, (entry, record))
            if earlier.submission.seed != run.seed:
                other = f"{first.name}, which was trained with seed {earlier.submission.seed}"
                yield _warn(f"has the artifact of {other}: the seed has no effect, or a result was copied", entry.name)


def check_copies(entries: Iterable[Entry]) -> Iterator[Finding]:
    """One result under several keys. When a run is repeated, bits may agree; its audits' draws and times never do."""
    by_artifact: dict[str, list[tuple[Entry, set[str]]]] = defaultdict(list)
    for entry in entries:
        if isinstance(record := entry.predicate, RunRecord):
            times = repr([(span.start_s, span.seconds) for span in record.spans])
            by_artifact[record.artifact_digest].append((entry, {times, *(audit.entropy for audit in record.audits)}))
    for found in by_artifact.values():
        for (entry, ours), (other, theirs) in permutations(found, 2):
            if other.signer != entry.signer:
                what = "one of them is a copy" if ours & theirs else "repeated or copied"
                text = f"under another key: {what}, and dates can't tell which was first"
                yield _warn(f"has the artifact of {other.name} {text}", entry.name)
