"""Run logs of the public challenge and its relatives, read line by line into what they say.

Tolerant of time stamps, rank prefixes, terminal colours, CRLF, embedded source, cut ends and bad UTF-8. Patterns are
anchored and free of nested repeats, and lines are cut at :data:`MAX_LINE` characters, so time is linear in the size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.public.figures import decimals_of
from harness.public.runlog import Count, RunLog, Score, Scorings, base_label, seed_of_name

MAX_LINE = 1_000
MAX_KEPT = 400
NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?(?:e-?[0-9]{1,2})?)(?![0-9])"

ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
PREFIX = re.compile(
    r"(?:\d{9,}\.\d+ |\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*(?:Z|[+-]\d\d:?\d\d)?\]?[ :|-]{1,4}"
    r"|\[(?:rank|default)?\d+\]:? ?|\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]? |\d{1,3}: (?=[a-zA-Z]))"
)
PASS_LINE = re.compile(
    r"(?P<name>[A-Za-z][\w.+ /()-]{0,70}?)[ :]+(?:stride:\d+ )?(?:sliding )?val_loss[:=]\s*"
    + NUMBER
    + r",?\s+(?:sliding )?val_bpb[:=]\s*"
    + NUMBER
)
BPB_ONLY = re.compile(r"(?P<name>(?:final|quantized|legal)[\w.+-]{0,60})[ :]+(?:stride:\d+ )?val_bpb[:=]\s*" + NUMBER)
STEP_LINE = re.compile(r"(?:step[: ]\s*)?(\d{1,15})/(\d{1,15})\s+(train|val)_loss:\s*" + NUMBER)
TRAIN_TIME = re.compile(r"train_time:\s*" + NUMBER + r"(ms|m|s)\b")
ANY_BPB = re.compile(r"bpb[a-z_]{0,20}[:= ]{1,3}([0-9]\.[0-9]{5,10})\b")
VAL_BPB = re.compile(r"val_bpb:\s*" + NUMBER)
STOP_LINE = re.compile(r"stopping_early: (\w+)\s+train_time:\s*(\d{1,18})ms\s+step:\s*(\d{1,15})")
TOTAL_LINE = re.compile(r"Total submission size(?: (\S+))?: (\d{1,18}) bytes")
TOTAL_TAIL = re.compile(r"\bTotal submission: (\d{1,18}) bytes")
BUDGET_LINE = re.compile(r"budget:\s*(\d{1,18})/16000000\b")
ARTIFACT_LINE = re.compile(r"artifact_bytes:\s*(\d{1,18})")
MODEL_LINE = re.compile(r"Serialized model(?: (\S+))?: (\d{1,18}) bytes")
MODEL_TAIL = re.compile(r"(\S+) model: (\d{1,18}) bytes")
CODE_LINE = re.compile(r"\bCode(?: size)?(?: \((\w+)\))?: (\d{1,18}) bytes")
EVAL_TIME = re.compile(r"(?:total_)?eval_time[:=]\s*" + NUMBER + r"\s*(ms|s)\b")
PASS_TIME = re.compile(r"\btime:(\d{1,18})ms")
WARMUP_LINE = re.compile(r"compile warmup done \(" + NUMBER + r"s\)")
EXTRA_LINE = re.compile(r"(\w+:precompute)\b.*\belapsed=" + NUMBER + "s")
RESERVE_LINE = re.compile(r"gptq:reserving " + NUMBER + r"(ms|s)")
HESSIAN_LINE = re.compile(r"gptq:\s*(?:collected|calibrated)\b.{0,80}?\bin " + NUMBER + "s", re.IGNORECASE)
CALIBRATION_LINE = re.compile(r"gptq:.*(?:calibrat|hessian)", re.IGNORECASE)
NO_CALIBRATION = re.compile(
    r"\b(?:without|no|not|skip\w*)\b[\w -]{0,24}(?:calibrat|hessian)|gptq:\s*(?:skip\w*|disabled|off)\b"
    r"|(?:calibrat\w*|hessians?)[ :=]{1,3}(?:skipped|disabled|off|none)\b|\b0 (?:layers|hessians)\b",
    re.IGNORECASE,
)
SEED_LINE = re.compile(r"\s*(?:random_)?seed[:=] ?(\d+)\s*$")
SEED_INSIDE = re.compile(r"\bseed[:=](\d+)\b")
VAL_TOKENS = re.compile(r"val[_ ]tokens:\s*(\d+)|val_loader:.*\btokens:(\d+)")
SHARDS = re.compile(r"\btrain_shards:\s*(\d+)")
PARAMETERS = re.compile(r"model_params:\s*([\d,]+)|\btotal: ([\d,]+) params\b")
SCORED = re.compile(r"\b(n_tok|scored_tokens|tokens_scored|target_tokens|eval_tokens)[=:]\s*(\d{5,})")
DOCUMENTS = re.compile(r"\btotal_docs:\s*(\d+)|^ttt_lora:docs:(\d+)")
GPU_LINE = re.compile(r"\|\s+\d+\s+(NVIDIA [\w ]{3,40}?)\s{2,}")
WORLD = re.compile(r"\bworld_size:\s*(\d+)")
KEY_VALUE = re.compile(r"[A-Za-z]\w{0,60}:\S{1,200}")
INDENTED = re.compile(r"  ([a-z_]\w{0,60}):\s?(.{0,300})$")
SOURCE_MARK = re.compile(r"""log0?\(|print\(|f["']|["']\)$|^\s*(?:def|class|import|from|return|if|for|with)\b.*[:(]""")
DIAGNOSTIC = re.compile(
    r"diagnostic|pre[-_ ]?quant|post[-_ ]ema|^step\b|^ttt?_?(?:chunk|progress)|^ttp\b|running", re.I
)


MARKS = re.compile(
    r"(pre[-_ ]?quant[-_ ]?ttt|\bslot\b|\bppm|n-?gram[-_ ]?(?:cache|mix)|two[-_ ]pass|rescor"
    r"|within_(?:gate|beta)|word_(?:gate|beta)|oracle|force_stop_step"
    r"|paid[_ ]prefix|\b16777216\b|temp_search|best_temp|ttt[ _]temp|final_temped)",
    re.IGNORECASE,
)


ADAPTS = re.compile(r"\s{0,8}[a-z]{0,20}_?ttt[a-z]{0,20}[:_ ] ?(?:start|epoch|begin)", re.IGNORECASE)


def parse_log(name: str, data: bytes) -> RunLog:
    """Read a log. Never raises: what can't be understood is passed over."""
    log = RunLog(name)
    in_block = False
    for number, line in _lines(data):
        if line.startswith("Hyperparameters:"):
            in_block = log.block = True
            continue
        if in_block:
            pair = INDENTED.match(line)
            if pair and len(log.settings) < MAX_KEPT:
                log.settings[pair[1]] = (pair[2].strip(), number)
                if pair[1] == "seed" and pair[2].strip().isdigit():
                    log.seed = int(pair[2])
                continue
            in_block = not line.strip()
        _take_line(log, line, number)
    if log.seed is None:
        log.seed = seed_of_name(name)
    log.rescored = _rescored(log.passes)
    log.passes = _merged(log.passes)
    return log


def looks_like_log(data: bytes) -> bool:
    """Whether a text file is a run log."""
    return re.search(rb"(?:train|val)_loss[:=]\s*\d", data) is not None


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(data.split(b"\n"), 1):
        text = raw[:MAX_LINE].decode("utf-8", "replace").rstrip("\r")
        if "\r" in text:
            text = text.rsplit("\r", 1)[1]
        if "\x1b" in text:
            text = ESCAPES.sub("", text)
        for _ in range(3):
            prefix = PREFIX.match(text)
            if not prefix or not prefix[0]:
                break
            text = text[prefix.end() :]
        yield number, text


def _take_line(log: RunLog, line: str, number: int) -> None:
    step = STEP_LINE.match(line)
    if step:
        _take_step(log, line, number, step)
        return
    if "bpb" in line and "{" not in line and not SOURCE_MARK.search(line):
        _take_pass(log, line, number)
    if line[:1] == "|":
        gpu = GPU_LINE.match(line)
        if gpu and len(log.gpus) < 64:
            log.gpus.append(gpu[1])
        return
    if ":" not in line or SOURCE_MARK.search(line) or "{" in line:
        return
    _take_sizes(log, line, number)
    _take_clocks(log, line, number)
    _take_data(log, line, number)
    if log.last_step is None:
        _take_pairs(log, line, number)


def _take_step(log: RunLog, line: str, number: int, step: re.Match[str]) -> None:
    log.last_step = max(log.last_step or 0, int(step[1]))
    spent = TRAIN_TIME.search(line)
    if spent:
        seconds = round(float(spent[1]) * {"ms": 1e-3, "s": 1.0, "m": 60.0}[spent[2]], 3)
        if spent[2] != "m" and (log.longest_train is None or seconds > log.longest_train.value):
            log.longest_train = Count("train_time", seconds, number)
    bpb = VAL_BPB.search(line) if step[3] == "val" else None
    if bpb and len(log.curve) < 4 * MAX_KEPT:
        log.curve.append(Score(f"step {step[1]}", number, bpb[1], step[4], diagnostic=True))


def _take_pass(log: RunLog, line: str, number: int) -> None:
    found = PASS_LINE.match(line)
    bare = None if found else BPB_ONLY.match(line)
    hit = found or bare
    if hit is None:
        other = ANY_BPB.search(line)
        if other and len(log.figures) < 10 * MAX_KEPT:
            log.figures.append(Count(line[:80], float(other[1]), number))
    if hit is None or len(log.passes) >= MAX_KEPT:
        return
    label = " ".join(hit["name"].split())
    rest = line[hit.end() :]
    spent = EVAL_TIME.search(rest)
    plain = PASS_TIME.search(rest)
    seconds = _seconds(spent[1], spent[2]) if spent else (float(plain[1]) / 1000 if plain else None)
    loss = found[2] if found else None
    bpb = found[3] if found else hit[2]
    log.passes.append(Score(label, number, bpb, loss, seconds, bool(DIAGNOSTIC.search(label))))


def _take_sizes(log: RunLog, line: str, number: int) -> None:
    if "bytes" not in line and "budget" not in line:
        return
    total = TOTAL_LINE.match(line)
    if total:
        log.totals.append(Count(total[1] or "", int(total[2]), number))
        return
    for pattern, label in ((TOTAL_TAIL, "total"), (ARTIFACT_LINE, "artifact_bytes"), (BUDGET_LINE, "budget")):
        other = pattern.search(line)
        if other:
            log.totals.append(Count(label, int(other[1]), number))
    model = MODEL_LINE.match(line) or MODEL_TAIL.match(line)
    if model:
        log.models.append(Count("" if model[1] == "Raw" else model[1] or "", int(model[2]), number))
    code = CODE_LINE.search(line)
    if code:
        log.codes.append(Count(code[1] or "", int(code[2]), number))


def _take_clocks(log: RunLog, line: str, number: int) -> None:
    stop = STOP_LINE.match(line)
    if stop:
        log.stop = Count(stop[1], int(stop[2]) / 1000, number)
        log.last_step = max(log.last_step or 0, int(stop[3]))
        return
    spent = EVAL_TIME.search(line)
    if spent:
        log.eval_times.append(Count(line.split(":")[0][:60].split(" val_loss")[0], _seconds(*spent.groups()), number))
    warm = WARMUP_LINE.search(line)
    if warm:
        log.warmups.append(Count("compile warm-up", float(warm[1]), number))
    extra = EXTRA_LINE.match(line)
    if extra:
        log.eval_times.append(Count(extra[1], float(extra[2]), number))
    if line[:4].lower() != "gptq" or NO_CALIBRATION.search(line):
        return
    reserve = RESERVE_LINE.match(line)
    if reserve:
        log.reserve = Count("reserve", _seconds(*reserve.groups()), number)
    hessian = HESSIAN_LINE.match(line)
    if hessian:
        log.hessians.append(Count(line[:120], float(hessian[1]), number))
    if CALIBRATION_LINE.match(line):
        log.calibrations.append(Count(line[:160], 0, number))


def _take_data(log: RunLog, line: str, number: int) -> None:
    seed = SEED_LINE.match(line) or (SEED_INSIDE.search(line) if log.last_step is None else None)
    if seed and log.seed is None:
        log.seed = int(seed[1])
    for name, pattern in (("val_tokens", VAL_TOKENS), ("train_shards", SHARDS), ("parameters", PARAMETERS)):
        found = pattern.search(line)
        if found and getattr(log, name) is None:
            digits = next(group for group in found.groups() if group)
            setattr(log, name, Count(name, int(digits.replace(",", "")[:18]), number))
    scored = SCORED.search(line)
    if scored:
        _keep_largest(log.scored, Count(scored[1], int(scored[2][:18]), number))
    documents = DOCUMENTS.search(line)
    if documents and log.documents is None and "ttt" in line:
        log.documents = Count("documents", int((documents[1] or documents[2])[:18]), number)
    world = WORLD.search(line)
    if world:
        log.world = int(world[1][:6])
    if len(log.adaptations) < 20 and ADAPTS.match(line):
        log.adaptations.append(Count(line[:160], 0, number))
    mark = MARKS.search(line)
    if mark and len(log.marks) < 60:
        log.marks.append(Count(line[:160], 0, number))


def _keep_largest(counts: list[Count], new: Count) -> None:
    """Running counts end at the largest: one entry a label."""
    old = next((count for count in counts if count.label == new.label), None)
    if old is None:
        if len(counts) < 20:
            counts.append(new)
    elif new.value > old.value:
        counts[counts.index(old)] = new


def _take_pairs(log: RunLog, line: str, number: int) -> None:
    words = line.split()
    if not words or len(words) > 24 or not all(KEY_VALUE.fullmatch(word) for word in words):
        return
    for word in words:
        key, _, value = word.partition(":")
        if len(log.settings) < MAX_KEPT and key not in ("step", "warmup_step", "loop_warmup_step"):
            log.settings.setdefault(key, (value, number))


def _seconds(number: str, unit: str) -> float:
    return float(number) / 1000 if unit == "ms" else float(number)


def _merged(passes: list[Score]) -> list[Score]:
    """``X`` and ``X_exact`` as one pass: the digits of the longer, the time of whichever printed it. Of a pass that was
    scored again, the last; :func:`_rescored` tells of the first."""
    merged: dict[str, Score] = {}
    for score in passes:
        label = score.label.removesuffix("_exact")
        before = merged.pop(label, None)
        again = before is not None and _same(before, score)
        exact = before if before and again and len(before.bpb_text) > len(score.bpb_text) else score
        seconds = before.eval_s if before and again and score.eval_s is None else score.eval_s
        merged[label] = Score(label, exact.line, exact.bpb_text, exact.loss_text, seconds, exact.diagnostic)
    return list(merged.values())


def _rescored(passes: list[Score]) -> dict[str, Scorings]:
    """Passes that count and were scored more than once with different values, by :func:`base_label`."""
    found: dict[str, Scorings] = {}
    for score in passes:
        base = base_label(score.label.removesuffix("_exact"))
        before = found.get(base)
        if score.diagnostic:
            continue
        if before is None:
            found[base] = Scorings(score, score, 1)
        elif not _same(before.last, score):
            found[base] = Scorings(before.first, score, before.number + 1)
        elif len(score.bpb_text) > len(before.last.bpb_text):
            found[base] = Scorings(score if before.number == 1 else before.first, score, before.number)
    return {base: scorings for base, scorings in found.items() if scorings.number > 1}


def _same(one: Score, other: Score) -> bool:
    """Whether two lines can print one score with different digits."""
    decimals = min(decimals_of(one.bpb_text), decimals_of(other.bpb_text))
    return abs(one.bpb - other.bpb) <= 1.02 * 10.0**-decimals
