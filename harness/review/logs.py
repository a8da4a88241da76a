"""A log file is a sequence of runs: decoded, freed of prefixes, ranks, bars and printed source, then read line by line.

Patterns are anchored and free of nested repeats, and lines are cut at :data:`MAX_LINE` characters, so time is linear in
the size. What can't be understood is passed over.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from harness.review.number import Number
from harness.review.patterns import PATTERNS, WORDS

MAX_LINE, MAX_KEPT, MAX_RUNS = 1_000, 400, 40
RAW_MODEL_BYTES = 4e7
"""An unlabelled total from this size on is the uncompressed model's."""
MOST_CODE = 1e6
"""By so much at most a total exceeds the packed model that it counts."""
BITS_PER_NAT = 1.4426950408889634


class Stat(NamedTuple):
    """A number that a line states, under a label."""

    label: str
    value: float
    line: int


@dataclass(frozen=True)
class Pass:
    """One scoring pass by its full name: bpb, nats a token (``None`` when not printed), and its time in seconds.

    how: settings that its own line names, such as a stride
    """

    name: str
    line: int
    bpb: Number
    loss: Number | None = None
    seconds: float | None = None
    diagnostic: bool = False
    how: tuple[tuple[str, str], ...] = ()


@dataclass
class Run:
    """What one run says. Times are in seconds, sizes in bytes; ``None`` or empty where it says nothing.

    curve:    validations during training; passes: scorings after it, the last of each name
    settings: key -> value and line; block: they were printed as a block of all
    said:     what its lines state, by name; ``run["totals"]`` reads it. Beside those of ``patterns.toml``: "stops", the
              longest of "step_times", and as "unread" the last line that looks like a score and is of no known form
    headed:   a heading began it, and not the first lines of a script
    last_step: none where it trained no model, and only scored one
    """

    file: str
    first_line: int = 1
    seed: int | None = None
    passes: list[Pass] = field(default_factory=list)
    curve: list[Pass] = field(default_factory=list)
    settings: dict[str, tuple[str, int]] = field(default_factory=dict)
    block: bool = False
    last_step: int | None = None
    said: dict[str, list[Stat]] = field(default_factory=dict)
    headed: bool = False

    def __getitem__(self, name: str) -> list[Stat]:
        return self.said.get(name, [])

    def one(self, name: str) -> Stat | None:
        """The fact that holds where a run states it more than once: the largest."""
        return max(self[name], key=lambda item: item.value, default=None)

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
        """The submission's size as the log states or adds it; an unlabelled total is the uncompressed model's."""
        labelled = [item for item in self["totals"] if item.label]
        model, code = self.model_and_code
        room = (model.value, model.value + MOST_CODE) if model else (0, RAW_MODEL_BYTES)
        small = [item for item in self["totals"] if room[0] < item.value < room[1]]
        added = [Stat("model + code", model.value + code.value, model.line)] if model and code else []
        return next(reversed(labelled or small or added), None)

    @property
    def packed(self) -> list[Stat]:
        """Sizes of packed models."""
        return [item for item in self["models"] if item.label]

    @property
    def train_time(self) -> Stat | None:
        """The training clock at its longest."""
        told = [*self["stops"], *self["step_times"], *self["train_times"]]
        return max(told, key=lambda item: item.value, default=None)

    @property
    def world(self) -> int | None:
        """GPUs that took part, as far as the log tells."""
        stated, setting = self.one("world"), self.settings.get("world_size", ("", 0))[0]
        return int(stated.value) if stated else int(setting[:6]) if setting.isdigit() else None

    @property
    def other_hardware(self) -> str:
        """What the run was on, where the log says that it was not 8 H100."""
        gpus = [gpu.label for gpu in self["gpus"]]
        others = [gpu for gpu in gpus if "H100" not in gpu or "PCIe" in gpu]
        if others or 0 < len(gpus) < 8:
            return f"{len(gpus)} x {(others or gpus)[0]}"
        return f"{self.world} GPUs" if self.world not in (None, 8) else ""

    @property
    def key(self) -> int | str:
        """The seed; the file of a run that tells none."""
        return self.file if self.seed is None else self.seed

    @property
    def early_adaptation(self) -> Stat | None:
        """The line where test-time training begins after training and before the model is packed."""
        packed, begun = next((model.line for model in self.packed), 0), max((i.line for i in self["stops"]), default=0)
        marks = (mark for mark in self["marks"] if begun < mark.line < packed)
        return next((mark for mark in marks if WORDS["adapts"].match(mark.label)), None)

    @property
    def epochs_first(self) -> Stat | None:
        """The end of test-time training of the packed model, by epochs or chunks, before any score of its tokens."""
        hits = ((mark, WORDS["last_epoch"].match(mark.label)) for mark in self["marks"])
        epochs = [mark for mark, hit in hits if hit and int(hit["n"] or hit["m"]) > 1]
        # A pass of another name and with a clock of its own is not the sum over the chunks, however these are called.
        apart = self.final and self.final.seconds and "ttt" not in self.final.name.lower()
        found = (self["adaptations"] if apart else []) or ([] if self["chunks"] else epochs)
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
        total, model = self.total, self.model_and_code[0]  # which tell a code size that no line states
        if total and model and not self["codes"] and 0 < total.value - model.value < MOST_CODE:
            self.said["codes"] = [Stat("total - model", total.value - model.value, total.line)]
        full = [item for item in self.passes if not WORDS["summary"].search(item.name)]
        self.passes = full or self.passes  # Where a pass has a line of its own, a summary only repeats it.
        merged: dict[str, Pass] = {}
        for above, item in zip([None, *self.passes], self.passes, strict=False):
            again = above is not None and above.name != item.name and (above.bpb, above.loss) == (item.bpb, item.loss)
            if above and again and above.bpb.decimals > 5 and not above.diagnostic:
                continue  # Public scripts repeat the score of any pass under a name of their first one.
            before, bpb = merged.pop(item.name, None), item.bpb
            same = before is not None and abs(before.bpb.value - bpb.value) <= 1.02 * max(before.bpb.step, bpb.step)
            exact = before if before and same and before.bpb.decimals > item.bpb.decimals else item
            seconds = item.seconds if item.seconds is not None or not (before and same) else before.seconds
            merged[item.name] = replace(exact, loss=exact.loss or item.loss, seconds=seconds, how=exact.how or item.how)
        self.passes = list(merged.values())
        only_scores = not self.last_step and WORDS["only_scores"].search(self.file)
        if only_scores and all(item.diagnostic for item in self.passes):  # of no training
            self.passes = [replace(item, diagnostic=False) for item in self.passes]

    def place(self, stat: Stat | Pass | None) -> tuple[str, int]:
        """File and line of a fact."""
        return self.file, stat.line if stat else 0


def alike(one: str, other: str) -> bool:
    """Whether two settings are the same number, or the same word."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one.lower() == other.lower()


def seed_of_name(name: str) -> int | None:
    """The seed that a file name states, such as ``train_seed42.log``; else the one of its folder's name."""
    found = (WORDS["seed_of_name"].search(part) for part in reversed(name.split("/")))
    return next((int(hit[1] or hit[2]) for hit in found if hit), None)


def decode(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 or UTF-32 by its mark or first zero bytes; what is broken becomes U+FFFD."""
    return data.decode(json.detect_encoding(data), "replace")


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
        if run.seed is None or not run.last_step:  # What only scores may print the default seed of its script.
            run.seed = run.seed if (named := seed_of_name(name)) is None else named
        run.settle()
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
        hits = (hit for prefix in prefixes if (hit := prefix.match(line)) and hit.end() < len(line))
        line = next((line[hit.end() :] for hit in hits), line)
        line = WORDS["fixed_prefix"].sub("", line, count=1)
        source ^= WORDS["source_ends" if source else "source_starts"].match(line) is not None
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
        delimited = re.search(r"[\])>|:-]\s*$", prefix) or re.match(r"\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d|\d{9,}", prefix)
        shape = re.sub(r"(?:\\ )+(?!$|\\ )", r"\\s+", re.sub(r"\w+", r"\\w+", re.escape(prefix)))
        shapes[shape if prefix.strip() and delimited else ""] += 1
    return [re.compile(shape) for shape, count in shapes.most_common(6) if shape and 10 * count >= shapes.total()]


class _Reader:
    """Takes the lines of one run."""

    def __init__(self, run: Run) -> None:
        self.run, self.in_block, self.losses, self.how = run, False, False, dict[str, str]()

    def begins_anew(self, line: str) -> bool:
        """Whether the line starts another run in the same file: its head, or a step far before the last one."""
        run, step = self.run, WORDS["step"].match(line)
        back = step and run.last_step and int(step[1]) * 4 < run.last_step and int(step[1]) < 200
        head = line.startswith(("Hyperparameters:", "warmup_step:1/", "train_loader:", "val_bpb:enabled"))
        section = run.passes and WORDS["section"].match(line)
        return bool((run.last_step or run.passes) and (head or section or back))

    def take(self, line: str, number: int) -> None:
        """One line."""
        run, self.losses = self.run, self.losses or "loss" in line or line.lstrip().startswith("val_bpb")
        if line.startswith("Hyperparameters:"):
            self.in_block = run.block = True
            return
        self.in_block = self.in_block and line.startswith("  ")
        alone = (run.block and run.last_step is None) or line.startswith("train_shards:")
        pair = WORDS["lone_setting"].match(line) if self.in_block or alone else None
        if pair and (self.in_block or " " not in pair[2].strip()) and len(run.settings) < MAX_KEPT:
            run.settings.setdefault(pair[1], (pair[2].strip(), number))
            if line.startswith("  ") and pair[1] != "seed":
                return
        if step := WORDS["step"].match(line):
            self._step(line, number, step)
            return
        if "onfig: {'" in line:
            run.settings |= {key: (value, number) for key, value in WORDS["literal"].findall(line)}
        code = "{" in line or WORDS["code"].search(line)
        if ("bpb" in line or "BPB" in line or "bits" in line) and not code:
            self._pass(line, number)
        if (":" in line or "=" in line or "->" in line or "→" in line or line[:1] == "|") and not code:
            self._facts(line, number)
            self._settings(line, number)

    def _step(self, line: str, number: int, step: re.Match[str]) -> None:
        run = self.run
        run.last_step = max(run.last_step or 0, int(step[1]))
        spent = WORDS["train_time"].search(line)
        if spent and spent[2] != "m":
            here = Stat("train_time", round(_seconds(spent[1], spent[2]), 3), number)
            run.said["step_times"] = [max([*run["step_times"], here], key=lambda stat: stat.value)]
        bpb = WORDS["val_bpb"].search(line) if step[3] == "val" else None
        if bpb and len(run.curve) < 4 * MAX_KEPT:
            score, loss, tokens = Number.of(bpb[1]), Number.of(step[4]), run.one("val_tokens")
            if step[2] == "0":  # of no steps at all: the run only scores
                run.passes.append(Pass("score", number, score, loss))
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
            how = tuple((self.how | dict(WORDS["pass_setting"].findall(line))).items())
            run.passes.append(Pass(name, number, bpb, loss, seconds, bool(WORDS["diagnostic"].search(name)), how))
        elif not hit and WORDS["some_score"].search(line) and not WORDS["any_step"].match(line):
            run.said["unread"] = [Stat(line[:160], 0, number)]

    def _facts(self, line: str, number: int) -> None:
        run = self.run
        told = WORDS["announced_setting"].findall(line) if WORDS["announced"].match(line) else ()
        self.how |= dict(told or (WORDS["pruned"].findall(line) if "prun" in line else ()))
        if stop := WORDS["stop"].match(line):
            run.said.setdefault("stops", []).append(Stat(stop[1], int(stop[2]) / 1000, number))
            run.last_step = max(run.last_step or 0, int(stop[3]))
            return
        for name, word, pattern in PATTERNS.lines:
            hit = pattern.match(line) if word in line and len(run[name]) < MAX_KEPT else None
            if hit and not (name in ("reserves", "hessians", "calibrations") and WORDS["no_calibration"].search(line)):
                groups = hit.groupdict()
                value = _seconds(groups["n"].replace(",", "") or "0", groups.get("unit") or "")
                stat = Stat((groups["label"] or "") if "label" in groups else line[:160], value, number)
                run.said.setdefault(name, []).append(stat)

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
        before, names = out[-1] if out else None, {item.name for item in run.passes}
        again = before and not run.headed and names & {item.name for item in before.passes}
        if before is None:
            out.append(run)
        elif not before.passes and not before.curve:
            run.said = {name: before[name] for name in ("val_tokens", "world", "gpus") if before[name]} | run.said
            run.seed = before.seed if run.seed is None else run.seed
            run.settings = run.settings or before.settings
            out[-1] = run
        elif not (run.last_step or run["models"] or again) and run.seed in (None, before.seed):
            for name, found in run.said.items():
                before.said.setdefault(name, []).extend(found)
            before.passes += run.passes
        else:
            out.append(run)
    return out
