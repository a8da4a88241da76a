"""A log file is a sequence of runs: decoded, freed of prefixes, ranks, bars and printed source, then read line by line.

Patterns are anchored and free of nested repeats, and lines are cut at :data:`MAX_LINE` characters, so time is linear in
the size. What can't be understood is passed over.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import NamedTuple

from harness.review.number import Number

MAX_LINE, MAX_KEPT, MAX_RUNS = 1_000, 400, 40
RAW_MODEL_BYTES = 4e7
"""An unlabelled total from this size on is the uncompressed model's."""
BITS_PER_NAT = 1.4426950408889634
NUM = r"(-?(?:[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][-+]?[0-9]{1,3})?|nan|inf))(?![0-9.])"


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


@dataclass
class Run:
    """What one run says. Times are in seconds, sizes in bytes; ``None`` or empty where it says nothing.

    curve:    validations during training; passes: scorings after it, the last of each name
    rescored: name -> first and last scoring, where they differ
    settings: key -> value and line; block: they were printed as a block of all
    figures:  scores on lines of a form that isn't known; checks: what the run finds about itself
    """

    file: str
    first_line: int = 1
    seed: int | None = None
    passes: list[Pass] = field(default_factory=list)
    rescored: dict[str, tuple[Pass, Pass]] = field(default_factory=dict)
    curve: list[Pass] = field(default_factory=list)
    settings: dict[str, tuple[str, int]] = field(default_factory=dict)
    block: bool = False
    last_step: int | None = None
    stop: Stat | None = None
    longest_train: Stat | None = None
    totals: list[Stat] = field(default_factory=list)
    models: list[Stat] = field(default_factory=list)
    codes: list[Stat] = field(default_factory=list)
    eval_times: list[Stat] = field(default_factory=list)
    warmups: list[Stat] = field(default_factory=list)
    reserve: Stat | None = None
    hessians: list[Stat] = field(default_factory=list)
    calibrations: list[Stat] = field(default_factory=list)
    val_tokens: Stat | None = None
    train_shards: Stat | None = None
    parameters: Stat | None = None
    scored: list[Stat] = field(default_factory=list)
    documents: Stat | None = None
    gpus: list[str] = field(default_factory=list)
    world: int | None = None
    figures: list[Stat] = field(default_factory=list)
    marks: list[Stat] = field(default_factory=list)
    adaptations: list[Stat] = field(default_factory=list)
    checks: list[Stat] = field(default_factory=list)

    @property
    def final(self) -> Pass | None:
        """The last pass that counts."""
        counting = [item for item in self.passes if not item.diagnostic]
        return counting[-1] if counting else None

    @property
    def by_name(self) -> dict[str, Pass]:
        """Counting passes by name."""
        return {item.name: item for item in self.passes if not item.diagnostic}

    @property
    def total(self) -> Stat | None:
        """The submission's size: the last labelled total; the unlabelled one is the uncompressed model's."""
        labelled = [item for item in self.totals if item.label]
        small = [item for item in self.totals if item.value < RAW_MODEL_BYTES and not self.labelled_models]
        chosen = labelled or small
        return chosen[-1] if chosen else None

    @property
    def labelled_models(self) -> list[Stat]:
        """Sizes of packed models."""
        return [item for item in self.models if item.label]

    @property
    def train_time(self) -> Stat | None:
        """The training clock at its longest."""
        spans = [item for item in (self.stop, self.longest_train) if item]
        return max(spans, key=lambda item: item.value) if spans else None

    @property
    def trained(self) -> bool:
        """Whether it trained a model, and not only scored one."""
        return bool(self.last_step or self.stop)

    def place(self, stat: Stat | Pass | None) -> tuple[str, int]:
        """File and line of a fact."""
        return self.file, stat.line if stat else 0


_ANCHOR = re.compile(
    r"(?:step[: ]\s*\d+/\d+|\d+/\d+ (?:train|val)_loss|final_\w+[ :]|legal_ttt|stopping_early:|Total submission size|"
    r"Serialized model|Code size|val_loader:|train_loader:|model_params:|Hyperparameters:|seed:\s*\d|GPTQ:|gptq:|"
    r"world_size:|val_tokens:|train_shards:|peak memory|warmup_step:|quantized\w*[ :]+val_loss|prequant_ttt)"
)
_FIXED_PREFIX = re.compile(
    r"(?:\d{9,}\.\d+ |\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*(?:Z|[+-]\d\d:?\d\d)?\]?[ :|-]{1,4}"
    r"|\[(?:rank|default)?\d+\]:? ?|\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]? |\d{1,3}: (?=[a-zA-Z]))"
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]{0,20}[A-Za-z]|\][^\x07\x1b]{0,80}(?:\x07|\x1b\\))")
_BAR = re.compile(r"[^|]{0,80}\d{1,3}%\|[^|]{0,300}\|[^\[a-z]{0,40}(?:\[[^\]]{0,80}\])?")
_SOURCE_STARTS = re.compile(r"(?:import \w|from \w[\w.]* import |#!/usr|\"\"\"|class \w+[:(]|def \w+\()")
_SOURCE_ENDS = re.compile(
    r"={20,}|Running P|\+-{20,}|Hyperparameters:|[WI]\d{4} |logs/\S+\.txt|(?:step:)?\d+/\d+ |warmup_step:\d|"
    r"train_loader:|val_loader:|model_params:\d|Total submission|Serialized model|val_bpb:enabled|val_tokens:\s*\d"
    r"|\|\s+\d+\s+NVIDIA"
)
_CODE = re.compile(r"""log0?\(|print\(|f["']|["']\)$|^\s*(?:def|class|import|from|return|if|for|with)\b.*[:(]""")
_PASS = re.compile(
    r"(?P<name>[A-Za-z][\w.+ /()-]{0,70}?)[ :]+(?:stride:\d+ )?(?P<how>sliding )?val_loss[:=]\s*"
    + NUM
    + r",?\s+(?:sliding )?val_bpb[:=]\s*"
    + NUM,
    re.IGNORECASE,
)
_BPB_ONLY = re.compile(
    r"(?P<name>(?:final|quantized|legal)[\w.+-]{0,60})[ :]+(?:stride:\d+ )?(?P<how>sliding )?val_bpb[:=]\s*" + NUM
)
_STEP = re.compile(r"(?:step[: ]\s*)?(\d{1,15})/(\d{1,15})\s+(train|val)_loss:\s*" + NUM)
_ANY_STEP = re.compile(r"\s*(?:step|iter|epoch|batch|chunk|warmup)\w*[:= ]\s*\d", re.IGNORECASE)
_TRAIN_TIME = re.compile(r"train_time:\s*" + NUM.replace("(?![0-9.])", "") + r"(ms|m|s)\b")
_ANY_BPB = re.compile(r"(?:bpb|bits.per.byte)[\w\])]{0,20}[:=~≈ |]{1,4}([0-9]\.[0-9]{3,15})", re.IGNORECASE)
_VAL_BPB = re.compile(r"val_bpb:\s*" + NUM)
_STOP = re.compile(r"stopping_early: (\w+)\s+train_time:\s*(\d{1,18})ms\s+step:\s*(\d{1,15})")
_TOTALS = (
    re.compile(r"Total submission size(?: (?P<label>\S+))?: (?P<n>\d{1,18}) bytes"),
    re.compile(r".*?(?P<label>\bTotal submission): (?P<n>\d{1,18}) bytes"),
    re.compile(r".*?(?P<label>budget):\s*(?P<n>\d{1,18})/16000000\b"),
    re.compile(r".*?(?P<label>artifact_bytes):\s*(?P<n>\d{1,18})"),
)
_MODEL = re.compile(r"Serialized model(?: (\S+))?: (\d{1,18}) bytes|(?:.{0,60}\s)?(\S+) model: (\d{1,18}) bytes")
_CODE_SIZE = re.compile(r"\bCode(?: size)?(?: \((\w+)\))?: (\d{1,18}) bytes")
_EVAL_TIME = re.compile(r"((?:total_)?eval_time)[:=]\s*" + NUM.replace("(?![0-9.])", "") + r"\s*(ms|s)\b")
_PASS_TIME = re.compile(r"\btime:(\d{1,18})ms")
_WARMUP = re.compile(r"compile warmup done \(([\d.]{1,15})s\)")
_EXTRA = re.compile(r"(\w+:precompute)\b.*\belapsed=([\d.]{1,15})s")
_RESERVE = re.compile(r"gptq:reserving ([\d.]{1,15})(ms|s)")
_HESSIAN = re.compile(r"gptq:\s*(?:collected|calibrated)\b.{0,80}?\bin ([\d.]{1,15})s", re.IGNORECASE)
_CALIBRATION = re.compile(r"gptq:.*(?:calibrat|hessian)", re.IGNORECASE)
_NO_CALIBRATION = re.compile(
    r"\b(?:without|no|not|skip\w*)\b[\w -]{0,24}(?:calibrat|hessian)|gptq:\s*(?:skip\w*|disabled|off)\b"
    r"|(?:calibrat\w*|hessians?)[ :=]{1,3}(?:skipped|disabled|off|none)\b|\b0 (?:layers|hessians)\b",
    re.IGNORECASE,
)
_SEED = re.compile(r"\s*(?:random_)?seed[:=] ?(\d{1,10})\s*$")
_SEED_INSIDE = re.compile(r"\bseed[:=](\d{1,10})\b")
_COUNTS = (
    ("val_tokens", re.compile(r"(?<![\w-])val[_ ]tokens:\s*([\d,]+)|val_loader:.*\btokens:([\d,]+)")),
    ("train_shards", re.compile(r"\btrain_shards:\s*(\d+)")),
    ("parameters", re.compile(r"model_params:\s*([\d,]+)|\btotal: ([\d,]+) params\b")),
)
_SCORED = re.compile(r"\b(n_tok|scored_tokens|tokens_scored|target_tokens|eval_tokens)[=:]\s*(\d{5,18})")
_DOCUMENTS = re.compile(r"ttt.*\btotal_docs:\s*(\d{1,18})|^ttt_lora:docs:(\d{1,18})")
_GPU = re.compile(r"\|\s+\d+\s+(NVIDIA [\w ]{3,40}?)\s{2,}")
_WORLD = re.compile(r"\bworld_size:\s*(\d{1,6})")
_PAIR = re.compile(r"([A-Za-z]\w{0,60}):(\S{1,200})")
_LONE = re.compile(r"(?:  )?([a-z_]\w{0,60}):\s?(.{0,300})$")
_NO_SETTING = re.compile(
    r"^(?:step|loss|t|avg|time|mem|tok|dt|\w*_?step|\w*loss|\w*time|\w*_ms|eta|https?|model_params)$"
)
_MUST_BE = re.compile(
    r"(\w[\w .()-]{0,60}?)[:=]\s*([\d,]+(?:\.\d+)?)\s*(?:s|bytes|ms)?\s*\(?must be (?:<|<=|≤) ?([\d,]+(?:\.\d+)?)"
)
_DIAGNOSTIC = re.compile(
    r"diagnostic|pre[-_ ]?quant|post[-_ ]ema|^step\b|^ttt?_?(?:chunk|progress)|^ttp\b|running|^val$|^epoch\b|^swa\b",
    re.I,
)
_MARKS = re.compile(
    r"(pre[-_ ]?quant[-_ ]?ttt|\bslot\b|\bppm|n-?gram[-_ ]?(?:cache|mix)|two[-_ ]pass|rescor|within_(?:gate|beta)"
    r"|word_(?:gate|beta)|oracle|force_stop_step|paid[_ ]prefix|\b16777216\b|temp_search|best_temp|ttt[ _]temp"
    r"|final_temped)",
    re.IGNORECASE,
)
_MARK_WORDS = (
    "ttt",
    "slot",
    "ppm",
    "gram",
    "pass",
    "resc",
    "_gate",
    "_beta",
    "oracle",
    "force",
    "prefix",
    "167772",
    "temp",
)
_SCORES = re.compile(r"eval|scor|quant|ttt", re.IGNORECASE)
_ADAPTS = re.compile(r"\s{0,8}[a-z]{0,20}_?ttt[a-z]{0,20}[:_ ] ?(?:start|epoch|begin)", re.IGNORECASE)
_SEED_OF_NAME = re.compile(r"seed[_-]?(\d{1,10})(?!\d)|(?:^|[/_-])s(\d{2,6})(?=[._-])", re.IGNORECASE)


def seed_of_name(name: str) -> int | None:
    """The seed that a file name states, such as ``train_seed42.log``; else the one of its folder's name."""
    for part in reversed(name.split("/")):
        found = _SEED_OF_NAME.search(part)
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
    for codec, zeros in (
        ("utf-16-le", (1, 3)),
        ("utf-16-be", (0, 2)),
        ("utf-32-le", (1, 2, 3)),
        ("utf-32-be", (0, 1, 2)),
    ):
        if all((share[i] > 0.7) == (i in zeros) for i in range(4)):
            return data.decode(codec, "replace")
    return data.decode("utf-8-sig", "replace")


def looks_like_log(text: str) -> bool:
    """Whether a text is a run log."""
    return re.search(r"(?:train|val)_(?:loss|bpb)[:=]\s*(?:\d|nan)", text) is not None


def read_log(name: str, text: str) -> list[Run]:
    """The runs of a log in their order; at least one. Never raises."""
    runs = [Run(name)]
    reader = _Reader(runs[0])
    for number, line in _lines(text):
        if reader.begins_anew(line) and len(runs) < MAX_RUNS:
            runs.append(Run(name, number))
            reader = _Reader(runs[-1])
        reader.take(line, number)
    runs = _joined(runs)
    for run in runs:
        if run.seed is None:
            run.seed = seed_of_name(name)
        _settle(run)
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
        line = _ESCAPES.sub("", line) if "\x1b" in line else line
        if "%|" in line:
            line = _BAR.sub("", line, count=1)
        for prefix in prefixes:
            hit = prefix.match(line)
            if hit and hit.end() < len(line):
                line = line[hit.end() :]
                break
        for _ in range(3):
            fixed = _FIXED_PREFIX.match(line)
            if not fixed:
                break
            line = line[fixed.end() :]
        if source and _SOURCE_ENDS.match(line):
            source = False
        elif not source and _SOURCE_STARTS.match(line):
            source = True
        if source or (line in recent and line[:2] != "  "):
            continue
        recent.append(line)
        yield number, line


def _prefixes(raw: list[tuple[int, str]]) -> list[re.Pattern[str]]:
    """What stands before most lines of known form, as patterns: a shape of words and signs, such as ``INFO:root:``."""
    shapes: Counter[str] = Counter()
    for _, line in raw:
        hit = _ANCHOR.search(line, 0, 200)
        if hit is None:
            continue
        prefix = line[: hit.start()]
        delimited = re.search(r"[\])>|:-]\s*$", prefix) or re.match(r"\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d|\d{9,}", prefix)
        shapes[_shape(prefix) if prefix.strip() and delimited else ""] += 1
    total = sum(shapes.values())
    return [
        re.compile(shape)
        for shape, count in shapes.most_common(6)
        if shape and 10 * count >= max(total, 20 * (total > 40))
    ]


def _shape(prefix: str) -> str:
    parts = re.findall(r"\w+|\s+|[^\w\s]", prefix)
    end = parts[-1] if parts[-1].isspace() else ""
    body = parts[:-1] if end else parts
    return (
        "".join(r"\w+" if p[0].isalnum() or p[0] == "_" else r"\s+" if p.isspace() else re.escape(p) for p in body)
        + end
    )


class _Reader:
    """Takes the lines of one run."""

    def __init__(self, run: Run) -> None:
        self.run, self.in_block = run, False

    def begins_anew(self, line: str) -> bool:
        """Whether the line starts another run in the same file: its head, or a step far before the last one."""
        run = self.run
        if not (run.last_step or run.passes):
            return False
        if line.startswith(("Hyperparameters:", "warmup_step:1/", "train_loader:", "val_bpb:enabled")):
            return True
        step = _STEP.match(line)
        return bool(step and run.last_step and int(step[1]) * 4 < run.last_step and int(step[1]) < 200)

    def take(self, line: str, number: int) -> None:
        """One line."""
        run = self.run
        if line.startswith("Hyperparameters:"):
            self.in_block = run.block = True
            return
        self.in_block = self.in_block and line.startswith("  ")
        pair = _LONE.match(line) if self.in_block or (run.block and run.last_step is None) else None
        if pair and (self.in_block or " " not in pair[2].strip()) and len(run.settings) < MAX_KEPT:
            run.settings.setdefault(pair[1], (pair[2].strip(), number))
            if pair[1] == "seed" and pair[2].strip().isdigit():
                run.seed = int(pair[2].strip()[:10])
            if line.startswith("  "):
                return
        step = _STEP.match(line)
        if step:
            self._step(line, number, step)
            return
        code = "{" in line or _CODE.search(line)
        if ("bpb" in line or "BPB" in line or "bits" in line) and not code:
            self._pass(line, number)
        if line[:1] == "|":
            gpu = _GPU.match(line)
            if gpu and len(run.gpus) < 64:
                run.gpus.append(gpu[1])
        elif (":" in line or "=" in line) and not code:
            self._sizes(line, number)
            self._clocks(line, number)
            self._data(line, number)

    def _step(self, line: str, number: int, step: re.Match[str]) -> None:
        run = self.run
        run.last_step = max(run.last_step or 0, int(step[1]))
        spent = _TRAIN_TIME.search(line)
        if spent and spent[2] != "m":
            seconds = round(float(spent[1]) * (1e-3 if spent[2] == "ms" else 1.0), 3)
            if run.longest_train is None or seconds > run.longest_train.value:
                run.longest_train = Stat("train_time", seconds, number)
        bpb = _VAL_BPB.search(line) if step[3] == "val" else None
        if bpb and len(run.curve) < 4 * MAX_KEPT:
            score, loss = Number.of(bpb[1]), Number.of(step[4])
            bits_a_token = abs(loss.value * BITS_PER_NAT - score.value) <= 2 * (score.step + loss.step)
            if not bits_a_token or (run.val_tokens and run.val_tokens.value > 1e8):
                run.curve.append(Pass(f"step {step[1]}", number, score, loss, diagnostic=True))

    def _pass(self, line: str, number: int) -> None:
        run = self.run
        hit = _PASS.match(line) or _BPB_ONLY.match(line)
        if hit is None:
            for other in _ANY_BPB.finditer(line):
                if len(run.figures) < 10 * MAX_KEPT:
                    run.figures.append(Stat(line[:80], float(other[1]), number))
            return
        if len(run.passes) >= MAX_KEPT:
            return
        name = " ".join(hit["name"].split()).removesuffix("_exact") + (" sliding" if hit["how"] else "")
        rest = line[hit.end() :]
        spent, plain = _EVAL_TIME.search(rest), _PASS_TIME.search(rest)
        seconds = _seconds(spent[2], spent[3]) if spent else (float(plain[1]) / 1000 if plain else None)
        loss = Number.of(hit[3]) if hit.re is _PASS else None
        bpb = Number.of(hit[4] if hit.re is _PASS else hit[3])
        run.passes.append(Pass(name, number, bpb, loss, seconds, bool(_DIAGNOSTIC.search(name))))

    def _sizes(self, line: str, number: int) -> None:
        run = self.run
        if "bytes" not in line and "budget" not in line:
            return
        total = next((hit for pattern in _TOTALS if (hit := pattern.match(line))), None)
        if total:
            run.totals.append(Stat(total["label"] or "", int(total["n"]), number))
        model = _MODEL.match(line)
        if model and not total:
            label, size = (model[1], model[2]) if model[2] else (model[3], model[4])
            run.models.append(Stat("" if label == "Raw" else label or "", int(size), number))
        code = _CODE_SIZE.search(line)
        if code:
            run.codes.append(Stat(code[1] or "", int(code[2]), number))

    def _clocks(self, line: str, number: int) -> None:
        run = self.run
        stop = _STOP.match(line)
        if stop:
            run.stop = Stat(stop[1], int(stop[2]) / 1000, number)
            run.last_step = max(run.last_step or 0, int(stop[3]))
            return
        spent = _EVAL_TIME.search(line)
        if spent:
            label = (
                spent[1]
                if line.startswith("total")
                else " ".join(line.split(" val_loss")[0].split(":")[0][:60].split())
            )
            run.eval_times.append(Stat(label, _seconds(spent[2], spent[3]), number))
        if warm := _WARMUP.search(line):
            run.warmups.append(Stat("compile warm-up", float(warm[1]), number))
        if extra := _EXTRA.match(line):
            run.eval_times.append(Stat(extra[1], float(extra[2]), number))
        if line[:4].lower() == "gptq" and not _NO_CALIBRATION.search(line):
            if reserve := _RESERVE.match(line):
                run.reserve = Stat("reserve", _seconds(*reserve.groups()), number)
            if hessian := _HESSIAN.match(line):
                run.hessians.append(Stat(line[:120], float(hessian[1]), number))
            if _CALIBRATION.match(line):
                run.calibrations.append(Stat(line[:160], 0, number))

    def _data(self, line: str, number: int) -> None:
        run = self.run
        if "seed" in line and run.seed is None:
            seed = _SEED.match(line) or (_SEED_INSIDE.search(line) if run.last_step is None else None)
            run.seed = int(seed[1]) if seed else None
        for name, pattern in _COUNTS:
            before = getattr(run, name)
            if (before is None or name == "val_tokens") and (found := pattern.search(line)):
                digits = next(group for group in found.groups() if group)
                stat = Stat(name, int(digits.replace(",", "")[:18] or 0), number)
                if before is None or stat.value > before.value:  # a quick validation may come before the whole one
                    setattr(run, name, stat)
        if "tok" in line and (scored := _SCORED.search(line)):  # running counts end at the largest: one entry a label
            others = [item for item in run.scored if item.label != scored[1]][:20]
            same = [item for item in run.scored if item.label == scored[1]]
            run.scored = [*others, max([*same, Stat(scored[1], int(scored[2]), number)], key=lambda item: item.value)]
        if run.documents is None and "docs:" in line and (documents := _DOCUMENTS.search(line)):
            run.documents = Stat("documents", int(documents[1] or documents[2]), number)
        if world := _WORLD.search(line):
            run.world = int(world[1])
        lower = line.lower()
        if len(run.adaptations) < 20 and "ttt" in lower and _ADAPTS.match(line):
            run.adaptations.append(Stat(line[:160], 0, number))
        if len(run.marks) < 60 and any(word in lower for word in _MARK_WORDS) and _MARKS.search(line):
            run.marks.append(Stat(line[:160], 0, number))
        must = _MUST_BE.search(line) if "must be" in line else None
        if must and float(must[2].replace(",", "")) > float(must[3].replace(",", "")):
            run.checks.append(Stat(line[:160], float(must[2].replace(",", "")), number))
        if run.last_step is None and not _ANY_STEP.match(line):
            pairs = [_PAIR.fullmatch(word) for word in line.split()[:25]]
            if pairs and len(pairs) < 25 and all(pairs) and not any(p and _NO_SETTING.match(p[1]) for p in pairs):
                for pair in pairs:
                    if pair and len(run.settings) < MAX_KEPT:
                        run.settings.setdefault(pair[1], (pair[2], number))


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
            for name in ("seed", "val_tokens", "train_shards", "parameters", "world"):
                if getattr(run, name) is None:
                    setattr(run, name, getattr(before, name))
            run.settings = run.settings or before.settings
            run.gpus = run.gpus or before.gpus
            out[-1] = run
        elif not run.trained and run.seed in (None, before.seed) and not _names(before) & _names(run):
            for name in ("passes", "totals", "models", "codes", "eval_times", "warmups", "figures", "marks", "checks"):
                getattr(before, name).extend(getattr(run, name))
        else:
            run.gpus, run.world = run.gpus or before.gpus, run.world or before.world
            out.append(run)
    return out


def _names(run: Run) -> set[str]:
    return {item.name for item in run.passes}


def _settle(run: Run) -> None:
    """Of each pass the last scoring, with the digits of its exact line and the time of whichever printed it."""
    merged: dict[str, Pass] = {}
    first: dict[str, Pass] = {}
    for item in run.passes:
        before = merged.pop(item.name, None)
        same = before is not None and _same(before, item)
        exact = before if before and same and before.bpb.decimals > item.bpb.decimals else item
        seconds = item.seconds if item.seconds is not None or not (before and same) else before.seconds
        merged[item.name] = Pass(item.name, exact.line, exact.bpb, exact.loss or item.loss, seconds, exact.diagnostic)
        base = re.sub(r"[ _-]*(?:epoch|pass|round|iter|repeat)[ _-]?\d{1,6}$", "", item.name, flags=re.IGNORECASE)
        start = first.setdefault(base or item.name, item)
        if not item.diagnostic and not _same(start, item):
            run.rescored[base or item.name] = (start, item)
    run.passes = list(merged.values())
    if not run.trained and _SCORES.search(run.file) and all(item.diagnostic for item in run.passes):
        # What only scores is no diagnosis of a training.
        run.passes = [replace(item, diagnostic=False) for item in run.passes]


def _same(one: Pass, other: Pass) -> bool:
    """Whether two lines can print one score with different digits."""
    if not (isfinite(one.bpb.value) and isfinite(other.bpb.value)):
        return one.bpb.text == other.bpb.text
    return abs(one.bpb.value - other.bpb.value) <= 1.02 * max(one.bpb.step, other.bpb.step)
