"""One public record, loaded; and the set of its runs that the claimed score rests on."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, wraps
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Literal

from harness.review.findings import Findings, Readings
from harness.review.jsonfile import JsonProblem, Metadata, parse_json, read_metadata
from harness.review.logs import Pass, Run, decode, read_log, seed_of_name
from harness.review.number import Number, read_one
from harness.review.patterns import WORDS
from harness.review.readme import Document
from harness.review.source import Folder, open_folder
from harness.review.unwrap import Unwrapped, unwrap

MAX_LOGS, MAX_CODE_FILES, MAX_SCRIPTS, CODE_BYTES = 40, 24, 12, 1 << 20
RECORD, NON_RECORD = "10min_16mb", "non_record_16mb"
ENOUGH = 4
"""Decimals that a score needs: with fewer, a rounded claim may be better than its logs by more than a record's gain."""
LARGEST_SCORE = 8.0
"""Bits a byte that a model needs which knows nothing."""
MAX_TEXT = 1 << 20
"""Characters of a log whose text is kept for a second look."""


Check = Callable[["Record"], None]
"""A check puts what it finds into the record's findings."""


@dataclass
class RunSet:
    """The runs that a claim rests on.

    runs:   one a seed; training: the same runs, or those that trained the model where a run only scores it
    name:   full name of the pass; empty when none explains the claim
    how:    "mean", "score" (one run), "seed" (the score of one of them), "training" (before the last pass), or ""
    others: runs of the folder beside these
    """

    runs: list[Run]
    name: str = ""
    how: str = ""
    others: list[Run] = field(default_factory=list)
    training: list[Run] = field(default_factory=list)
    certain: bool = False
    source: Pass | None = None

    @property
    def sized(self) -> list[Run]:
        """For each claimed run the one that tells the artifact's size: itself, or the one that trained the model."""
        return [run if run.total or run.packed else by for run, by in zip(self.runs, self.training, strict=True)]

    @property
    def any(self) -> list[Run]:
        """The runs that trained and those that scored, each once."""
        return list({id(run): run for run in [*self.training, *self.runs]}.values())

    @property
    def later(self) -> list[tuple[Run, Pass, Pass]]:
        """Runs whose last pass gave another score than the claimed one, and both passes."""
        named = ((run, run.by_name.get(self.name), run.final) for run in self.runs)
        return [
            (r, item, last) for r, item, last in named if item and last and abs(last.bpb.value - item.bpb.value) > 1e-4
        ]

    def scores(self) -> list[Pass]:
        """The claimed pass of each run, else the last pass of each."""
        return [item for run in self.runs if (item := run.by_name.get(self.name) or run.final)]


@dataclass
class Record:
    """All that the checks look at. ``runs``: every run of every log, copies dropped; ``texts``: the logs' own."""

    folder: Folder
    readings: Readings
    out: Findings
    metadata: Metadata = field(default_factory=lambda: Metadata({}, [], {}))
    json_file: str = ""
    readme: Document = field(default_factory=lambda: Document(""))
    readme_file: str = ""
    runs: list[Run] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    absent_logs: list[str] = field(default_factory=list)
    code: dict[str, bytes] = field(default_factory=dict)
    main_code: str | None = None
    track: str = RECORD
    _printed: dict[str, list[float]] = field(default_factory=dict)

    @property
    def told(self) -> list[str]:
        """The lines of README and JSON, as written."""
        return [*self.readme.raw, *self.metadata.source]

    @property
    def study(self) -> bool:
        """Whether it lies outside the record track and claims no score: a report or a tool, and no model."""
        claim = self.metadata.values.get("val_bpb")
        return not self.official and bool(self.metadata.source) and claim in (None, "", [])

    @property
    def official(self) -> bool:
        """Whether the caps of the record track hold."""
        return self.track == RECORD

    @cached_property
    def claimed(self) -> Number | None:
        """The claimed bpb; a placeholder such as 0.0 is none."""
        found = self.metadata.number("val_bpb")
        return found if found is not None and found.value > 0 else None

    @cached_property
    def bound(self) -> RunSet:
        """The runs that the claim rests on."""
        scored, claimed = [run for run in self.runs if run.final], self.claimed
        sets = list(_candidates(self, scored)) if scored else [self.runs]
        plain = next(filter(_distinct, sets), sets[0])
        given = _explanations(self, claimed, scored, sets, plain) if claimed is not None and scored else iter(())
        found = next(given, RunSet(plain))
        found.others = [run for run in self.runs if not any(run is other for other in found.runs)]
        for run in found.runs:  # The run that trained what this one only scores.
            same = [other for other in found.others if other.seed == run.seed and other.last_step and not run.last_step]
            found.training.append(same[0] if len(same) == 1 else run)
        seeds = [run.seed for run in found.runs]
        found.certain = bool(found.how in ("mean", "score") or (not found.others and len(set(seeds)) == len(seeds)))
        return found

    @cached_property
    def scripts(self) -> dict[str, Unwrapped]:
        """The training script and every file of the folder that it executes or imports, unwrapped."""
        reached: dict[str, Unwrapped] = {}
        waiting = [self.main_code or ""]
        while waiting and len(reached) < MAX_SCRIPTS and not self.folder.late():
            name = waiting.pop()
            if name in reached or name not in self.code:
                continue
            script = reached[name] = unwrap(self.code[name].decode("utf-8", "replace"), self.folder.late)
            if name.endswith(".py"):
                modules = (module.replace(".", "/") for module in script.imports)
                waiting += [n.removeprefix("./") for n in script.executes]
                waiting += [n for path in modules for n in (f"{path}.py", f"{path}/__init__.py") if n in self.code]
        return reached

    @cached_property
    def known_seeds(self) -> set[int]:
        """Seeds that the JSON names, or the README with a figure."""
        tables = (one for one in self.readme.tables if not WORDS["other_table"].search(self.readme.above(one.line)))
        rows = (row for one in tables for row in one.seed_rows if "seed" in one.corner.lower())
        told = {row.seed for row in rows if row.seed is not None and any(map(read_one, row.cells))}
        return told | set(self.metadata.seeds)

    def mentions(self, number: Number, files: Iterable[str] | None = None) -> bool:
        """Whether a log, or a table of results beside it, prints a number like this one anywhere."""
        texts = (n for n in self.folder.sizes if WORDS["table_file"].search(n) or n.endswith((".txt", ".log")))
        names = files or [n for n in texts if n != self.json_file]
        for name in names:
            if name not in self._printed:
                here = name in self.folder.sizes and name not in self.texts
                text = decode(self.folder.reader(name, 8 << 20)[0]) if here else self.texts.get(name, "")
                text = WORDS["passing"].sub("", text)
                self._printed[name] = sorted({float(x.replace(",", "")) for x in set(WORDS["printed"].findall(text))})
            printed, reach = self._printed[name], 2 * number.step
            span = printed[bisect_left(printed, number.value - reach) : bisect_right(printed, number.value + reach)]
            if any(number.gives(value) for value in span):
                return True
        return False

    @property
    def incomplete(self) -> bool:
        """Whether logs are missing that JSON, README or an excerpt's listing tell of."""
        return bool(self.absent_logs) or bool(self.known_seeds - {run.seed for run in self.runs})


def each(runs: Literal["runs", "training", "sized", "any"]) -> Callable[[Callable[[Record, Run], None]], Check]:
    """A check of one run becomes one of the record: of its claimed runs, those that trained or sized them, or any."""

    def over(check: Callable[[Record, Run], None]) -> Check:
        @wraps(check)
        def checked(record: Record) -> None:
            for run in getattr(record.bound, runs):
                check(record, run)

        return checked

    return over


def load_record(path: Path, readings: Readings) -> Record:
    """Read a folder of the disk. Raises ``UsageError`` when ``path`` is not a folder."""
    out = Findings()
    return read_record(open_folder(path, readings, out), readings, out)


def read_record(folder: Folder, readings: Readings, out: Findings) -> Record:
    """Read what a folder holds into a :class:`Record`."""
    record = Record(folder, readings, out)
    _load_json(record)
    here = sorted(folder.sizes)
    names = [n for n in here if n.lower() in ("readme.md", "readme.txt", "readme")]
    names += [n for n in here if re.fullmatch(r"[^/]*readme[^/]*\.md", n, re.IGNORECASE)]
    data = folder.read(names[0], out, limit=1 << 20) if names else None
    if data is not None:
        record.readme_file, record.readme = names[0], Document(decode(data))
    _load_code(record)
    _load_logs(record)
    _settle_claim(record, record.metadata)
    stated = record.metadata.text("track")
    filed = re.match(r"track_|non[-_]?record", folder.parent) and not re.fullmatch(RECORD, stated)
    record.track = track_named(folder.parent if filed else stated)
    return record


def _settle_claim(record: Record, meta: Metadata) -> None:
    """A ``val_loss`` that is the logs' bpb, and not their loss, is the claim where no ``val_bpb`` stands."""
    loss, finals = meta.number("val_loss"), [item for run in record.runs for item in run.passes if item.loss]
    if loss is not None and finals:
        bpb = min(abs(loss.value - item.bpb.value) for item in finals)
        nats = min(abs(loss.value - item.loss.value) for item in finals if item.loss)
        meta.loss_is_bpb = bpb < 0.02 < nats
    if meta.loss_is_bpb and meta.values.get("val_bpb") is None:
        meta.values["val_bpb"], meta.spelt["val_bpb"] = loss, "val_loss"


def track_named(text: str) -> str:
    """The track that a folder's name or a JSON field means."""
    words = re.sub(r"[^a-z0-9]+", "_", text.lower())
    return NON_RECORD if "non_record" in words or "nonrecord" in words or "unlimited" in words else RECORD


def _load_json(record: Record) -> None:
    top = sorted(n for n in record.folder.sizes if re.fullmatch(r"submission[^/]*\.json", n))
    chosen = "submission.json" if "submission.json" in top else next(iter(top), None)
    data = record.folder.read(chosen, record.out, limit=2 << 20) if chosen else None
    if chosen is None or data is None:
        return
    record.json_file = chosen
    try:
        raw = parse_json(data)
    except JsonProblem as problem:
        remedy = "Write one JSON object in UTF-8, each key once."
        record.out.fail("A9-JSON", str(problem), chosen, remedy=remedy)
        return
    if isinstance(raw, dict):
        record.metadata = read_metadata(raw, decode(data))
        record.out.passed("A9-JSON", "one JSON object, each key once.", chosen)
    else:
        record.out.fail("A9-JSON", "the file holds no JSON object.", chosen, type(raw).__name__)


def _load_code(record: Record) -> None:
    names = [n for n in record.folder.names if WORDS["code_file"].search(n)]
    top = [n for n in names if "/" not in n and n.endswith(".py")]
    named = [n for n in top if n == "train_gpt.py"] or [n for n in top if n.startswith("train")]
    alone = top if len(top) == 1 and not WORDS["not_at_eval"].search(top[0]) else []
    record.main_code = next(iter(named or alone), None)
    for name in sorted(names, key=lambda n: n != record.main_code)[:MAX_CODE_FILES]:
        data = record.folder.read(name, record.out, limit=CODE_BYTES) if record.folder.sizes.get(name) else None
        if data is not None:
            record.code[name] = data


def _load_logs(record: Record) -> None:
    names = [name for name in record.folder.names if WORDS["log_name"].fullmatch(name)]
    names.sort(key=lambda n: (seed_of_name(n) is None, "/" in n, n))
    seen: set[tuple[object, ...]] = set()
    for name in names[:MAX_LOGS]:
        data = record.folder.read(name, record.out)
        if data is None:
            record.absent_logs.append(name)
            continue
        text = decode(data)
        if len(text) < MAX_TEXT:
            record.texts[name] = text
        for run in read_log(name, text) if WORDS["loss_line"].search(text) else ():
            spent = run.train_time.value if run.train_time else None
            scores = tuple((item.name, item.bpb.text, item.seconds) for item in run.passes)
            # Two runs agree in every printed figure only when one is a copy of the other.
            mark = (run.seed, spent, run.last_step, scores) if scores else (name, run.first_line)
            if mark not in seen:
                seen.add(mark)
                record.runs.append(run)
    if not record.runs:  # what an excerpt cut off may hold them, where it was long enough for a log
        here, listed = record.folder.sizes, record.folder.listing
        record.absent_logs += [n for n in names if n in here and listed.get(n, 0) > max(4_000, 2 * here[n])]
    record.runs.sort(key=lambda run: (run.file, run.first_line))


def is_score(claimed: Number, logged: float) -> bool:
    """Whether the claim is what a log says. A claim of few decimals must be its rounding; none is cut."""
    return matches(claimed, logged) or (claimed.decimals < ENOUGH and abs(claimed.value - logged) <= claimed.half)


def matches(claimed: Number, logged: float) -> bool:
    """The same for claims of enough decimals, which may also be cut."""
    return (claimed.decimals >= ENOUGH and claimed.gives(logged, 0.51e-8)) or abs(claimed.value - logged) < 0.5e-4


def shared_passes(runs: list[Run]) -> dict[str, list[Pass]]:
    """Passes that every run has, by name, last first; the last pass of each where the names differ."""
    shared = [name for run in runs[:1] for name in run.by_name if all(name in run.by_name for run in runs)]
    found = {name: [run.by_name[name] for run in runs] for name in reversed(shared)}
    finals = [run.final for run in runs if run.final]
    if len({item.name for item in finals}) > 1:
        found.setdefault("the last pass", finals)
    return found


def group_of(run: Run) -> str:
    """Runs whose files differ by their seed alone belong together."""
    return re.sub(r"\d+", "#", re.sub(r"(?:seed)?[_-]?\d{1,10}", "#", run.file, flags=re.IGNORECASE))


def _comparable(one: Run, other: Run) -> bool:
    """Runs on hardware of one kind, whose scorers divide by about as many bytes: loss over bpb is alike."""
    ratios = [item.loss.value / item.bpb.value for run in (one, other) if (item := run.final) and item.loss]
    same = len(ratios) < 2 or abs(ratios[0] - ratios[1]) < 0.05 * ratios[0]
    sections = one.file == other.file and (one.headed or other.headed)  # headings tell variants apart
    return same and not sections and bool(one.other_hardware) == bool(other.other_hardware)


def _distinct(runs: list[Run]) -> bool:
    """Runs of different seeds; those that tell no seed are told apart by files of one form."""
    alike = len({group_of(run) for run in runs if run.seed is None}) < 2
    return alike and len({run.key for run in runs}) == len(runs)


def _candidates(record: Record, scored: list[Run]) -> Iterator[list[Run]]:
    """Sets of runs that may make the claim, the likeliest first.

    Those of the JSON's seeds, of one form of file name, the last of each seed, all.
    """
    meta, exact = record.metadata, list[Run]()  # the runs that have the scores of the JSON's own list
    owners = list(meta.results) if len(meta.results) == len(meta.scores) else []
    for seed, stated in zip_longest(owners, meta.scores):
        fresh = (run for run in scored if seed in (None, run.seed) and not any(run is other for other in exact))
        exact += [r for r in fresh if any(is_score(stated, item.bpb.value) for item in r.by_name.values())][:1]
    if exact and len(exact) == len(meta.scores):
        yield exact
    seeds = list(dict.fromkeys(meta.seeds))
    by_seed = [[run for run in scored if run.seed == seed] for seed in seeds]
    if by_seed and all(len(runs) == 1 for runs in by_seed):
        yield [runs[0] for runs in by_seed]
    ordered = [[run for run in scored if group_of(run) == name] for name in dict.fromkeys(map(group_of, scored))]
    ordered.sort(key=lambda runs: (bool(WORDS["other_runs"].search(group_of(runs[0]))), -len(runs)))
    for runs in ordered:
        if seeds and set(seeds) < {run.seed for run in runs}:
            yield [run for run in runs if run.seed in seeds]
    yield from (*ordered, list({run.key: run for run in scored}.values()), scored)


def _explanations(
    record: Record, claimed: Number, scored: list[Run], sets: list[list[Run]], plain: list[Run]
) -> Iterator[RunSet]:
    """Sets of runs whose scores give the claim, the likeliest first."""
    lone = any(is_score(claimed, item.bpb.value) for run in scored for item in run.by_name.values())
    for runs in sets:
        if (len(runs) > 1 and (_distinct(runs) or not lone)) or len(scored) == 1:
            for name, items in shared_passes(runs).items():
                if is_score(claimed, fmean(item.bpb.value for item in items)):
                    yield RunSet(runs, name, "mean" if len(runs) > 1 else "score")
    for run in sorted(scored, key=lambda run: not any(claimed.gives(item.bpb.value) for item in run.passes)):
        for item in reversed(run.by_name.values()):
            if is_score(claimed, item.bpb.value):
                like = [other for other in scored if _comparable(run, other)]
                alone = not any(other.key != run.key and _distinct([run, other]) for other in like)
                around = (runs for runs in sets if len(runs) > 1 and _distinct(runs) and any(r is run for r in runs))
                named = {other.key: other for other in like if item.name in other.by_name} | {run.key: run}
                pool = [run] if alone else next(around, list(named.values()))
                yield RunSet(pool, item.name, "score" if alone else "seed", source=item)
    for runs in [plain, *([run] for run in record.runs)]:
        before = [run.before_packing for run in runs]
        for name in before[0]:
            items = [found[name] for found in before if name in found]
            given = matches if len(runs) == 1 else is_score
            if len(items) == len(runs) and given(claimed, fmean(item.bpb.value for item in items)):
                yield RunSet(runs, "", "training", source=items[0])
