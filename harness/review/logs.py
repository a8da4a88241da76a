"""A log file is a sequence of runs: decoded, freed of prefixes, ranks, bars and printed source, then read line by line.

Patterns are anchored and free of nested repeats, and lines are cut at :data:`MAX_LINE` characters, so time is linear in
the size. What can't be understood is passed over.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isfinite
from typing import NamedTuple

from harness.review.number import Number
from harness.review.patterns import PATTERNS, WORDS

MAX_LINE, MAX_KEPT, MAX_RUNS = 1_000, 400, 40
RAW_MODEL_BYTES = 4e7
"""An unlabelled total from this size on is the uncompressed model's."""
BITS_PER_NAT = 1.4426950408889634


class Stat(NamedTuple):
    """A number that a line states, under a label."""

    label: str
    value: float
    line: int


@dataclass(frozen=True)
class Pass:
    """One scoring pass by its full name: bpb, nats a token (``None`` when not printed), and its time in seconds."""

    name: str
    line: int
    bpb: Number
    loss: Number | None = None
    seconds: float | None = None
    diagnostic: bool = False

    @property
    def printed(self) -> tuple[str, str]:
        """Both figures as they are written."""
        return self.bpb.text, self.loss.text if self.loss else ""

    def same(self, other: Pass) -> bool:
        """Whether two lines can print one score with different digits."""
        if not (isfinite(self.bpb.value) and isfinite(other.bpb.value)):
            return self.bpb.text == other.bpb.text
        return abs(self.bpb.value - other.bpb.value) <= 1.02 * max(self.bpb.step, other.bpb.step)


@dataclass
class Run:
    """What one run says. Times are in seconds, sizes in bytes; ``None`` or empty where it says nothing.

    curve:    validations during training; passes: scorings after it, the last of each name
    settings: key -> value and line; block: they were printed as a block of all
    said:     what its lines state, by name; ``run["totals"]`` reads it
    marks:    lines that name a method
    unread:   the last line that looks like a score and is of no known form
    headed:   a heading began it, and not the first lines of a script
    chunked:  test-time training went chunk by chunk
    span:     from the first to the last time stamp of a log that stamps its lines
    """

    file: str
    first_line: int = 1
    seed: int | None = None
    passes: list[Pass] = field(default_factory=list)
    curve: list[Pass] = field(default_factory=list)
    settings: dict[str, tuple[str, int]] = field(default_factory=dict)
    block: bool = False
    last_step: int | None = None
    stop: Stat | None = None
    longest_train: Stat | None = None
    gpus: list[str] = field(default_factory=list)
    said: dict[str, list[Stat]] = field(default_factory=dict)
    marks: list[Stat] = field(default_factory=list)
    unread: Stat | None = None
    headed: bool = False
    chunked: bool = False
    span: float | None = None

    def __getitem__(self, name: str) -> list[Stat]:
        return self.said.get(name, [])

    def one(self, name: str) -> Stat | None:
        """The fact that holds where a run states it more than once: the largest token count, the first of others."""
        found = self[name]
        return max(found, key=lambda item: item.value) if found and name == "val_tokens" else next(iter(found), None)

    @property
    def final(self) -> Pass | None:
        """The last pass that counts."""
        return next(reversed(self.by_name.values()), None)

    @property
    def by_name(self) -> dict[str, Pass]:
        """Counting passes by name."""
        return {item.name: item for item in self.passes if not item.diagnostic}

    @property
    def total(self) -> Stat | None:
        """The submission's size: the last labelled total; the unlabelled one is the uncompressed model's."""
        labelled = [item for item in self["totals"] if item.label]
        small = [item for item in self["totals"] if item.value < RAW_MODEL_BYTES and not self.packed]
        chosen = labelled or small
        return chosen[-1] if chosen else None

    @property
    def packed(self) -> list[Stat]:
        """Sizes of packed models."""
        return [item for item in self["models"] if item.label]

    @property
    def train_time(self) -> Stat | None:
        """The training clock at its longest."""
        spans = [item for item in (self.stop, self.longest_train, *self["train_times"]) if item]
        return max(spans, key=lambda item: item.value) if spans else None

    @property
    def trained(self) -> bool:
        """Whether it trained a model, and not only scored one."""
        return bool(self.last_step or self.stop)

    @property
    def world(self) -> int | None:
        """GPUs that took part, as far as the log tells."""
        stated, setting = self.one("world"), self.settings.get("world_size", ("", 0))[0]
        return int(stated.value) if stated else int(setting[:6]) if setting.isdigit() else None

    @property
    def other_hardware(self) -> str:
        """What the run was on, where the log says that it was not 8 H100."""
        others = [gpu for gpu in self.gpus if "H100" not in gpu or "PCIe" in gpu]
        if others or 0 < len(self.gpus) < 8:
            return f"{len(self.gpus)} x {(others or self.gpus)[0]}"
        return f"{self.world} GPUs" if self.world not in (None, 8) else ""

    @property
    def key(self) -> int | str:
        """The seed; the file of a run that tells none."""
        return self.file if self.seed is None else self.seed

    @property
    def early_adaptation(self) -> Stat | None:
        """The line where test-time training begins after training and before the model is packed."""
        packed, begun = next((model.line for model in self.packed), 0), self.stop.line if self.stop else 0
        marks = (mark for mark in self.marks if begun < mark.line < packed)
        return next((mark for mark in marks if WORDS["adapts"].match(mark.label)), None)

    @property
    def epochs_first(self) -> Stat | None:
        """The end of test-time training of the packed model, by epochs or chunks, before any score of its tokens."""
        hits = ((mark, WORDS["last_epoch"].match(mark.label)) for mark in self.marks)
        epochs = [mark for mark, hit in hits if hit and int(hit["n"] or hit["m"]) > 1]
        # A pass of another name and with a clock of its own is not the sum over the chunks, however these are called.
        apart = self.final and self.final.seconds and "ttt" not in self.final.name.lower()
        found = (self["adaptations"] if apart else []) or ([] if self.chunked else epochs)
        late = found and not self.early_adaptation and self.final and self.final.line > found[0].line
        return found[-1] if late else None

    @property
    def before_packing(self) -> dict[str, Pass]:
        """Scores taken before the artifact was made, by name; the last of training under none."""
        found = {item.name: item for item in self.passes if item.diagnostic}
        return found | ({"": self.curve[-1]} if self.curve else {})

    @property
    def hessian_seconds(self) -> float:
        """Hessian time of one rank: lines that differ in their figures alone, one a rank, count once."""
        groups: dict[str, list[float]] = {}
        for item in self["hessians"]:
            groups.setdefault(re.sub(r"[\d.]+", "#", item.label), []).append(item.value)
        ranks = self.world or 8
        return sum(max(spans) if ranks > 1 and len(spans) == ranks else sum(spans) for spans in groups.values())

    @property
    def model_and_code(self) -> tuple[Stat | None, Stat | None]:
        """The compressed model's size, and the code size that counts."""
        counted = [code for code in self["codes"] if code.label != "uncompressed"] or self["codes"]
        return (self.packed[-1] if self.packed else None), (counted[-1] if counted else None)

    def settle(self) -> None:
        """Of each pass the last scoring, with the digits of its exact line and the time of whichever printed it."""
        full = [item for item in self.passes if not WORDS["summary"].search(item.name)]
        self.passes = full or self.passes  # Where a pass has a line of its own, a summary only repeats it.
        merged: dict[str, Pass] = {}
        for above, item in zip([None, *self.passes], self.passes, strict=False):
            fine = above is not None and above.bpb.decimals > 5 and not above.diagnostic
            if fine and above and above.name != item.name and above.printed == item.printed:
                continue  # Public scripts repeat the score of any pass under a name of their first one.
            before = merged.pop(item.name, None)
            same = before is not None and before.same(item)
            exact = before if before and same and before.bpb.decimals > item.bpb.decimals else item
            seconds = item.seconds if item.seconds is not None or not (before and same) else before.seconds
            merged[item.name] = replace(exact, loss=exact.loss or item.loss, seconds=seconds)
        self.passes = list(merged.values())
        if not self.trained and WORDS["only_scores"].search(self.file) and all(item.diagnostic for item in self.passes):
            # What only scores is no diagnosis of a training.
            self.passes = [replace(item, diagnostic=False) for item in self.passes]

    def unlike(self, other: Run) -> Iterator[str]:
        """Settings that both print, with other values."""
        for key in sorted(set(self.settings) & set(other.settings)):
            a, b = self.settings[key][0], other.settings[key][0]
            try:
                same = float(a) == float(b)
            except ValueError:
                same = a.lower() == b.lower()
            if not same:
                yield key

    def place(self, stat: Stat | Pass | None) -> tuple[str, int]:
        """File and line of a fact."""
        return self.file, stat.line if stat else 0


_CALIBRATES = ("reserves", "hessians", "calibrations")
LOSS = re.compile(r"(?:(?:train|val)_(?:loss|bpb)[:=]\s*|\bstep[ :]\s*\d[^\n]{0,40}\bloss[:= ]\s*)(?:\d|nan)")
"""What a run log prints, and no other text."""


def seed_of_name(name: str) -> int | None:
    """The seed that a file name states, such as ``train_seed42.log``; else the one of its folder's name."""
    for part in reversed(name.split("/")):
        found = WORDS["seed_of_name"].search(part)
        if found:
            return int(found[1] or found[2])
    return None


def decode(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 by its mark or its zero bytes; what is broken becomes U+FFFD."""
    head = data[:4_000]
    if data[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return data.decode("utf-32", "replace")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    share = [head[i::4].count(0) / max(1, len(head) // 4) for i in range(4)]
    zero_bytes = {"utf-16-le": (1, 3), "utf-16-be": (0, 2), "utf-32-le": (1, 2, 3), "utf-32-be": (0, 1, 2)}
    for codec, zeros in zero_bytes.items():
        if all((share[i] > 0.7) == (i in zeros) for i in range(4)):
            return data.decode(codec, "replace")
    return data.decode("utf-8-sig", "replace")


def read_log(name: str, text: str) -> list[Run]:
    """The runs of a log in their order; at least one. Never raises."""
    runs = [Run(name)]
    reader = _Reader(runs[0])
    for number, line in _lines(text):
        if reader.begins_anew(line) and len(runs) < MAX_RUNS:
            runs.append(Run(name, number, headed=WORDS["section"].match(line) is not None))
            reader = _Reader(runs[-1])
        reader.take(line, number)
    runs = _joined(runs)
    for run in runs:
        if run.seed is None or not run.trained:  # What only scores may print the default seed of its script.
            run.seed = run.seed if (named := seed_of_name(name)) is None else named
        run.settle()
    stamps = [hit[1] for line in text.split("\n") if (hit := WORDS["stamp"].match(line))] if len(runs) == 1 else []
    if len(stamps) > max(5, 0.9 * text.count("\n")):
        with suppress(ValueError):  # such as a month 13
            first, last = datetime.fromisoformat(stamps[0]), datetime.fromisoformat(stamps[-1])
            runs[0].span = (last - first).total_seconds()
    return runs


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and bare text of each line that a program printed for people."""
    raw = [
        (number, piece[:MAX_LINE])
        for number, line in enumerate(text.split("\n"), 1)
        for piece in (line.split("\r") if "\r" in line else (line,))
        if piece
    ]
    prefixes = _prefixes(raw)
    recent: deque[str] = deque(maxlen=16)
    source = False
    for number, line in raw:
        line = WORDS["escapes"].sub("", line) if "\x1b" in line else line
        if "%|" in line:
            line = WORDS["bar"].sub("", line, count=1)
        for prefix in prefixes:
            hit = prefix.match(line)
            if hit and hit.end() < len(line):
                line = line[hit.end() :]
                break
        for _ in range(3):
            fixed = WORDS["fixed_prefix"].match(line)
            if not fixed:
                break
            line = line[fixed.end() :]
        if source and WORDS["source_ends"].match(line):
            source = False
        elif not source and WORDS["source_starts"].match(line):
            source = True
        if source or (line in recent and line[:2] != "  "):
            continue
        recent.append(line)
        yield number, line


def _prefixes(raw: list[tuple[int, str]]) -> list[re.Pattern[str]]:
    """What stands before most lines of known form, as patterns: a shape of words and signs, such as ``INFO:root:``."""
    shapes: Counter[str] = Counter()
    for _, line in raw:
        hit = WORDS["anchor"].search(line, 0, 200)
        if hit is None:
            continue
        prefix = line[: hit.start()]
        if not prefix:
            shapes[""] += 1
            continue
        delimited = re.search(r"[\])>|:-]\s*$", prefix) or re.match(r"\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d|\d{9,}", prefix)
        shape = re.sub(r"(?:\\ )+(?!$|\\ )", r"\\s+", re.sub(r"\w+", r"\\w+", re.escape(prefix)))
        shapes[shape if prefix.strip() and delimited else ""] += 1
    total = sum(shapes.values())
    return [
        re.compile(shape)
        for shape, count in shapes.most_common(6)
        if shape and 10 * count >= max(total, 20 * (total > 40))
    ]


class _Reader:
    """Takes the lines of one run."""

    def __init__(self, run: Run) -> None:
        self.run, self.in_block, self.losses = run, False, False

    def begins_anew(self, line: str) -> bool:
        """Whether the line starts another run in the same file: its head, or a step far before the last one."""
        run = self.run
        if not (run.last_step or run.passes):
            return False
        if line.startswith(("Hyperparameters:", "warmup_step:1/", "train_loader:", "val_bpb:enabled")):
            return True
        if run.passes and WORDS["section"].match(line):
            return True
        step = WORDS["step"].match(line)
        return bool(step and run.last_step and int(step[1]) * 4 < run.last_step and int(step[1]) < 200)

    def take(self, line: str, number: int) -> None:
        """One line."""
        run, self.losses = self.run, self.losses or "loss" in line
        if line.startswith("Hyperparameters:"):
            self.in_block = run.block = True
            return
        self.in_block = self.in_block and line.startswith("  ")
        pair = WORDS["lone_setting"].match(line) if self.in_block or (run.block and run.last_step is None) else None
        if pair and (self.in_block or " " not in pair[2].strip()) and len(run.settings) < MAX_KEPT:
            run.settings.setdefault(pair[1], (pair[2].strip(), number))
            if pair[1] == "seed" and pair[2].strip().isdigit():
                run.seed = int(pair[2].strip()[:10])
            if line.startswith("  "):
                return
        step = WORDS["step"].match(line)
        if step:
            self._step(line, number, step)
            return
        if "onfig: {'" in line:
            run.settings |= {key: (value, number) for key, value in WORDS["literal"].findall(line)}
        code = "{" in line or WORDS["code"].search(line)
        if ("bpb" in line or "BPB" in line or "bits" in line) and not code:
            self._pass(line, number)
        if line[:1] == "|":
            gpu = WORDS["gpu"].match(line)
            if gpu and len(run.gpus) < 64:
                run.gpus.append(gpu[1])
        elif (":" in line or "=" in line or "->" in line) and not code:
            self._facts(line, number)
            self._settings(line, number)

    def _step(self, line: str, number: int, step: re.Match[str]) -> None:
        run = self.run
        run.last_step = max(run.last_step or 0, int(step[1]))
        spent = WORDS["train_time"].search(line)
        if spent and spent[2] != "m":
            seconds = round(_seconds(spent[1], spent[2]), 3)
            if run.longest_train is None or seconds > run.longest_train.value:
                run.longest_train = Stat("train_time", seconds, number)
        bpb = WORDS["val_bpb"].search(line) if step[3] == "val" else None
        if bpb and len(run.curve) < 4 * MAX_KEPT:
            score, loss, tokens = Number.of(bpb[1]), Number.of(step[4]), run.one("val_tokens")
            bits_a_token = abs(loss.value * BITS_PER_NAT - score.value) <= 2 * (score.step + loss.step)
            if not bits_a_token or (tokens and tokens.value > 1e8):
                run.curve.append(Pass(f"step {step[1]}", number, score, loss, diagnostic=True))

    def _pass(self, line: str, number: int) -> None:
        run = self.run
        names = ("scoring_pass", "bpb_only", "labelled_score")[: 3 if self.losses else 2]
        hit = next((hit for name in names if (hit := WORDS[name].match(line))), None)
        if hit and len(run.passes) < MAX_KEPT:
            name = " ".join(hit["name"].split()).removesuffix("_exact") + (" sliding" if hit["how"] else "")
            spent = WORDS["eval_time"].search(line, hit.end())
            seconds = _seconds(spent[1] or spent[3], spent[2] or spent[4]) if spent else None
            bpb, loss = Number.of(hit[hit.re.groups]), Number.of(hit[3]) if hit.re.groups == 4 else None
            run.passes.append(Pass(name, number, bpb, loss, seconds, bool(WORDS["diagnostic"].search(name))))
        elif not hit and WORDS["some_score"].search(line) and not WORDS["any_step"].match(line):
            run.unread = Stat(line[:160], 0, number)

    def _facts(self, line: str, number: int) -> None:
        run = self.run
        stop = WORDS["stop"].match(line)
        if stop:
            run.stop = Stat(stop[1], int(stop[2]) / 1000, number)
            run.last_step = max(run.last_step or 0, int(stop[3]))
            return
        gptq = line[:4].lower() == "gptq" and not WORDS["no_calibration"].search(line)
        for name, word, pattern in PATTERNS.lines:
            if word not in line or len(run[name]) == MAX_KEPT or (not gptq and name in _CALIBRATES):
                continue
            if hit := pattern.match(line):
                groups = hit.groupdict()
                value = _seconds(groups["n"].replace(",", "") or "0", groups.get("unit") or "")
                stat = Stat((groups["label"] or "") if "label" in groups else line[:160], value, number)
                run.said.setdefault(name, []).append(stat)
        run.chunked = run.chunked or "ttt_chunk" in line or "chunks=" in line
        if len(run.marks) < 60 and WORDS["marks"].search(line):
            run.marks.append(Stat(line[:160], 0, number))

    def _settings(self, line: str, number: int) -> None:
        run = self.run
        seed = WORDS["seed_line"].match(line) if "seed" in line and run.seed is None else None
        if seed and (seed[1] or run.last_step is None):
            run.seed = int(seed[1] or seed[2])
        if run.last_step is None and not WORDS["any_step"].match(line):
            pairs = [WORDS["pair"].fullmatch(word) for word in line.split()[:25]]
            found = {pair[1]: (pair[2], number) for pair in pairs if pair}
            if 0 < len(pairs) < 25 and all(pairs) and not any(map(WORDS["no_setting"].match, found)):
                run.settings = found | run.settings if len(run.settings) < MAX_KEPT else run.settings


def _seconds(number: str, unit: str) -> float:
    return float(number) / 1000 if unit == "ms" else float(number)


def _joined(runs: list[Run]) -> list[Run]:
    """Runs of one file, settled: a part without training goes to the run that it scores; a broken start to the next."""
    out: list[Run] = []
    for run in runs:
        before = out[-1] if out else None
        if before is None:
            out.append(run)
        elif not before.passes and not before.curve:
            heads = ("val_tokens", "world")
            run.said = {name: before[name] for name in heads if before[name]} | run.said
            run.seed = before.seed if run.seed is None else run.seed
            run.settings, run.gpus = run.settings or before.settings, run.gpus or before.gpus
            out[-1] = run
        elif (
            not (run.trained or run["models"])
            and run.seed in (None, before.seed)
            and (run.headed or not {item.name for item in before.passes} & {item.name for item in run.passes})
        ):
            for name, found in run.said.items():
                before.said.setdefault(name, []).extend(found)
            before.passes, before.marks = before.passes + run.passes, before.marks + run.marks
        else:
            out.append(run)
    return out
