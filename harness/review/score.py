"""The claimed score against the logs, and every further figure of JSON and README against logs and each other (A9)."""

from __future__ import annotations

import math
import re
from statistics import fmean

from harness.review.jsonfile import is_number, shown
from harness.review.logs import Run
from harness.review.number import Number, read_numbers
from harness.review.patterns import PATTERNS
from harness.review.record import ENOUGH, TABLES, Record, each, is_score, matches
from harness.review.statistics import pools

OTHER_RECORD = re.compile(
    r"PR\W{0,2}#?\d|#\d{2,}|/pull/|\bSOTA\b|baseline|previous|\bold\b|parent|target", re.IGNORECASE
)
"""A line that compares with another record: its figures need not be this folder's."""
_HEADLINE = re.compile(r"(?:val[\\_ ]{1,3}bpb|final (?:result|score))\W{1,8}(\d\.\d{3,10})", re.IGNORECASE)
_OWN_HEADLINE = re.compile(
    r"\W{0,4}(?:(?:\d[- ]seed )?(?:mean|average|final)\W{1,3})?(?:val[\\_ ]{1,3}bpb|final (?:result|score))",
    re.IGNORECASE,
)
_EARLY = re.compile(r"pre[-_ ]?quant", re.IGNORECASE)
_TOP = 25
"""Lines within which a README states its own score."""
_OTHER_SCORE = re.compile(r"pre[-_ ]?(?:quant|ttt)|standard|baseline|\bPR\b|\|", re.IGNORECASE)
_OTHER_TABLE = re.compile(
    r"^\W*(?:baseline|control|reference|previous|prior|ablation)|\bwithout\b|\bsupplement|\bnot\W+part of\b",
    re.IGNORECASE,
)
"""What stands above a table of runs that do not make the claim."""
_FACT = re.compile(
    r"^\s*[-*]?\s*([^:|]{2,60}?)\s*(?:\||:)\s*[~≈]?\s*([\d,]{3,15}(?:\.\d+)?|\d\.\d{4,10})(?:\s*(?:bytes|B))?\W*(?:\(|$)"
)
_MODEL = re.compile(
    r"\b(\d{1,2})(?:L|[- ](?:\w{4,12} )?layers?)\b[^.|]{0,12}?\b(\d{3,4})(?:d\b|[- ]?dim\b| embedding dim)"
)
_SHAPE = (("num_layers", "model_dim"), ("n_layer", "n_embd"))
_DISOWNED = re.compile(r"\bnot (?:a |yet )?(?:legal|valid)\b|\b(?:invalid|illegal)\b", re.IGNORECASE)
_BY_SCRIPT = "Copy the figures from the logs by script."


def claim(record: Record) -> None:
    """The claimed score is the logs' mean, or what else gives it."""
    rule, out, meta, bound, claimed = "A9-SCORE-MATCH", record.out, record.metadata, record.bound, record.claimed
    for run in bound.runs:
        last = run.final
        if last is not None and not math.isfinite(last.bpb.value):
            finite = f"claimed is {claimed.text}" if claimed else ""
            message = f"the last scoring pass, {last.name}, is {last.bpb.text}: there is no score."
            out.fail(rule, message, run.place(last), last.bpb.text, finite, "Repeat the run; find out what overflows.")
    if meta is None or claimed is None or out.has(rule):
        return
    finals = [run.final.bpb.value for run in record.runs if run.final and math.isfinite(run.final.bpb.value)]
    at, scores = (record.json_file, meta.line("val_bpb")), [item.bpb.value for item in bound.scores()]
    if not finals and bound.how != "training":
        out.unknown(rule, "no log has a final score to compare the claim with.", record.json_file)
        return
    mean = f"{fmean(scores or finals):.8f}" if scores or finals else ""
    kind = f"the mean over {len(scores)} seeds" if len(scores) > 1 else "the score"
    if bound.how in ("mean", "score") and claimed.decimals < ENOUGH and not matches(claimed, fmean(scores)):
        message = f"the claim has too few decimals to be compared: {kind} of the pass {bound.name} rounds to it."
        out.warn(rule, message, at, claimed.text, mean, f"Claim the score with at least {ENOUGH} decimals.")
    elif bound.how in ("mean", "score"):
        out.passed(rule, f"the claim is {kind} of the pass {bound.name}.", at, claimed.text)
    elif bound.how == "seed" and bound.source is not None:
        of = next(run.file for run in record.runs if any(item is bound.source for item in run.passes))
        best = "the best" if bound.source.bpb.value <= min(finals) + 1e-9 else "not the mean"
        message = f"the claim is one seed's score ({best} of {len(finals)} runs)."
        computed = f"{of}; the mean of the last passes is {fmean(finals):.8f}"
        out.warn(rule, message, at, claimed.text, computed, "Claim the mean over all seeds.")
    elif bound.how == "subset":
        message = f"the claim is the mean of {len(bound.runs)} of {len(finals)} runs."
        runs = f"seeds {', '.join(str(run.seed) for run in bound.runs)}"
        out.warn(rule, message, at, claimed.text, runs, "Say which runs count, or claim the mean over all.")
    elif bound.how == "training" and bound.source is not None:
        what = f"the claim equals only {bound.source.name}, taken before the artifact was scored."
        worse = scores and min(scores) > claimed.value + 5e-4
        alone = len(bound.runs) == 1 and not record.incomplete  # the run of that step has a final score itself
        report = out.fail if worse and (bound.certain or alone) else out.warn
        report(rule, what, at, claimed.text, f"{mean} by the last pass", "Claim what the final artifact scored.")
    elif claimed.decimals >= ENOUGH and record.mentions(claimed):
        message = "the claim stands on lines of a form that isn't known; which pass made it can't be told."
        out.warn(rule, message, at, claimed.text, f"mean of the last passes {mean}")
    else:
        near = min(finals, key=lambda x: abs(x - claimed.value))
        values = (claimed.text, f"nearest {near:.8f}, mean {mean}", "Claim the mean over the logs that are shipped.")
        read = not record.incomplete and all(r.final for r in record.runs)
        unread = [n for n in record.folder.listing if n.endswith(TABLES) and n not in record.folder.sizes]
        if read and not unread and claimed.high < min(finals) - 5e-4:
            out.fail(rule, "the claimed score stands in no log, and every final one there is worse.", at, *values)
        elif record.incomplete and abs(near - claimed.value) < 0.005:
            out.warn(rule, "the claim rests on seeds whose logs are not here.", at, *values)
        else:
            more = f"; {', '.join(unread[:3])} may, which is not here" if unread else ""
            out.warn(rule, f"no score of a log, mean or rounding gives the claim{more}.", at, *values)


def last_pass(record: Record) -> None:
    """The pass that made the claim is the last."""
    rule, out, name, claimed = "A9-SCORER", record.out, record.bound.name, record.claimed
    if claimed is None:
        return
    named = [(run, run.final, run.by_name[name]) for run in record.bound.runs if run.final and name in run.by_name]
    later = [(run, last) for run, last, item in named if abs(last.bpb.value - item.bpb.value) > 1e-4]
    told = record.metadata is not None and any(f"{name} val_bpb" in line for line in record.metadata.source)
    if later and not told:  # The JSON itself says which pass it claims.
        run, score = later[0]
        message = f"the claimed number is of the pass {name}; a later pass of {len(later)} log(s) gave another."
        found = f"{name}: {claimed.text}"
        remedy = "Say why the last pass doesn't count, and leave it out of the run."
        out.warn(rule, message, run.place(score), found, f"{score.name}: {score.bpb.text}", remedy)
    elif name and not later:
        out.passed(rule, f"the last pass of every log, {name}, made the claimed number.", "", name)


def _kind(name: str) -> str:
    """What a figure is, by its key, column or label; empty where that can't be told."""
    words = re.sub(r"[\W_]+", " ", name.lower()).strip()
    kind = next((kind for kind, pattern in PATTERNS.figures.items() if pattern.search(words)), "")
    return "" if kind == "none" else kind


def _known(runs: list[Run], kind: str) -> list[float]:
    """What runs say of a kind; times in seconds."""
    passes = [item for run in runs for item in run.passes + run.curve]
    if kind in ("bpb", "nats"):
        return [number.value for item in passes if (number := item.bpb if kind == "bpb" else item.loss)]
    if kind == "steps":
        return [float(run.last_step) for run in runs if run.last_step]
    if kind == "train":
        return [span.value for run in runs for span in (run.stop, run.longest_train) if span]
    if kind == "eval":
        times = [[c.value for c in run["eval_times"]] + [s.seconds for s in run.passes if s.seconds] for run in runs]
        return [x for spans in times for x in [*spans, sum(spans)] if x]
    names = {"bytes": ("totals", "models"), "model": ("models",), "code": ("codes",)}.get(kind, ())
    return [item.value for run in runs for name in names for item in run[name]]


def unlike(record: Record, runs: list[Run], kind: str, name: str, value: Number, seconds: float = 0.0) -> str:
    """The nearest that ``runs`` say to a figure; empty when they give it, or say nothing of the kind.

    name: its key or column; seconds: the figure where it is a time
    """
    known, figure = _known(runs, kind), seconds or value.value
    if _EARLY.search(name) and not any(run.before_packing for run in runs):
        return ""  # Nothing here was scored before the model was packed.
    fine = kind in ("bpb", "nats")
    room = {"steps": 1.0, "train": max(0.011, 1.02 * value.step), "eval": 1.0, "bpb": 5e-5, "nats": 5e-5}.get(kind, 0.0)
    if not known or (fine and value.decimals < 3) or not math.isfinite(figure):
        return ""
    if any(abs(figure - x) <= room or (fine and (is_score(value, x) or value.gives(x))) for x in known):
        return ""
    if kind not in ("train", "eval") and record.mentions(value, [run.file for run in runs]):
        return ""
    if kind in ("train", "eval") and value.decimals > 2 and record.mentions(value):
        return ""
    rounded = 10.0 ** (len(value.text) - len(value.text.rstrip("0,"))) / 2 if value.text.endswith("000") else 0.0
    if value.whole and any(abs(figure - x) <= rounded for x in known):
        return ""
    return f"nearest {min(known, key=lambda x: abs(x - figure)):,.10g}"


@each("runs")
def seeds(record: Record, run: Run) -> None:
    """One seed's figures in the JSON against every run of that seed."""
    meta, out = record.metadata, record.out
    if meta is None:
        return
    same = [other for other in record.runs if other.seed == run.seed]
    for key, value in meta.results.get(-1 if run.seed is None else run.seed, {}).items():
        kind = _kind(key)
        if record.folder.late() or kind in ("", "bytes", "code") or (kind == "bpb" and value.decimals < ENOUGH):
            continue
        near = unlike(record, same, kind, key, value, value.value / 1000 if key.endswith("_ms") else value.value)
        if near:
            at = (record.json_file, meta.lines.get(str(run.seed), 0))
            elsewhere = any(is_score(value, x) for x in _known(record.runs, "bpb"))
            certain = key == "val_bpb" and len(same) == 1 and record.bound.certain and not elsewhere
            rule, report = "A9-SCORE-MATCH" if key == "val_bpb" else "A9-JSON-MATCH", out.fail if certain else out.warn
            message = f"seed {run.seed}: {key} is not what the log says."
            report(rule, message, at, shown(value), f"{near} in {run.file}", _BY_SCRIPT)


def whole(record: Record) -> None:
    """Other scores, steps and bytes of the model in the JSON. Any run, or their mean, may give them."""
    meta, means = record.metadata, [fmean(pool) for pool in pools(record)]
    if meta is None or not record.bound.runs or record.incomplete:
        return
    for key, value in meta.raw.items():
        repeats = is_number(value) and record.claimed is not None and value.text == record.claimed.text
        kind = _kind(key) if is_number(value) and key not in meta.spelt.values() and not repeats else ""
        if kind not in ("bpb", "steps", "model") or (kind == "bpb" and value.decimals < ENOUGH):
            continue
        known = _known(record.runs, kind)
        between = known and kind != "bpb" and min(known) <= value.value <= max(known)
        near = (
            "" if between or any(is_score(value, x) for x in means) else unlike(record, record.runs, kind, key, value)
        )
        if near and not record.mentions(value):
            at = (record.json_file, meta.lines.get(key, 0))
            record.out.warn("A9-JSON-MATCH", f"{key} is not what the logs say.", at, shown(value), near, _BY_SCRIPT)


def model(record: Record) -> None:
    """Layers and width that README or JSON name together, against those that the logs print."""
    told = [(hit, number) for number, line in enumerate(record.told, 1) for hit in _MODEL.findall(line)]
    printed = [(run.settings, names) for run in record.bound.any for names in _SHAPE if set(names) <= set(run.settings)]
    logged = [tuple(settings[name][0] for name in names) for settings, names in printed]
    if told and logged and not {hit for hit, _ in told} & set(logged):
        (layers, width), line = told[0]
        at = (record.readme_file, line) if record.readme and line <= len(record.readme.raw) else record.json_file
        found, ran = f"{layers} layers of {width}", f"{logged[0][0]} layers of {logged[0][1]}"
        message = "the model of the README is none of the logs'."
        record.out.warn("A9-README-MATCH", message, at, found, ran, "Ship the logs of this model.", "likely")


def tables(record: Record) -> None:
    """Cells of tables over seeds against every run of the seed."""
    readme = record.readme
    own = [table for table in readme.tables if not _OTHER_TABLE.search(readme.above(table.line))] if readme else []
    for one, row in ((table, row) for table in own for row in table.seed_rows):
        runs = [run for run in record.runs if run.seed == row.seed]
        for column in range(len(row.cells)) if runs else ():
            value, kind = row.value(column), _kind(one.name(column))
            if kind in ("bpb", "nats"):
                kind = one.kinds[column] if one.kinds[column] in ("bpb", "nats") else kind
            elif value is None or not value.whole or kind not in ("steps", "bytes", "model"):
                continue
            if value is not None and not value.about and (near := unlike(record, runs, kind, one.name(column), value)):
                message = f"seed {row.seed}, column {one.name(column)[:40]!r}: the figure is not in the log."
                at, remedy = (record.readme_file, row.line), "Write the table from the logs by script."
                record.out.warn("A9-README-MATCH", message, at, value.text, f"{near} in {runs[0].file}", remedy)


def headline(record: Record) -> None:
    """README and JSON claim one score."""
    readme, claimed = record.readme, record.claimed
    if readme is None or claimed is None:
        return
    figures = [(line.number, n) for line in readme.every_line for n in line.numbers if n.decimals >= ENOUGH]
    own = dict.fromkeys(number for number, n in figures if claimed.gives(n.value))
    for first in own if claimed.decimals >= ENOUGH else ():
        for number in range(first, first + 5):
            text = readme.with_rows.get(number, "")
            if (number > first and number in readme.headings) or OTHER_RECORD.search(text):
                break
            if _DISOWNED.search(text):
                message = "the README says of the claimed score that it does not count."
                at, remedy = (record.readme_file, number), "Claim the score that does."
                record.out.warn("A9-README-MATCH", message, at, claimed.text, text[:160], remedy)
    stated = [
        (Number.of(hit[1]), line.number)
        for line in readme.lines
        if (hit := _HEADLINE.search(line.text))
        and not _OTHER_SCORE.search(line.text)
        and line.number <= _TOP
        and (line.heading or _OWN_HEADLINE.match(line.text))
    ]
    if not stated:
        return
    numbers = [number for line in readme.every_line for number in line.numbers if number.decimals > 2]
    if any(is_score(number, claimed.value) or is_score(claimed, number.value) for number in numbers):
        record.out.passed("A9-README-MATCH", "README and JSON claim the same score.", record.readme_file)
        return
    score, line = stated[0]
    logged = any(score.gives(x) for run in record.runs for x in _known([run], "bpb"))
    more = "; the README's stands in a log." if logged else "."
    message, values = f"README and JSON state different scores{more}", (score.text, f"{claimed.text} in the JSON")
    record.out.warn("A9-README-MATCH", message, (record.readme_file, line), *values)


def facts(record: Record) -> None:
    """Key facts (a two-column row, a list entry) that come near what the logs say, and are something else."""
    readme, means = record.readme, [fmean(pool) for pool in pools(record)]
    if readme is None or record.incomplete:
        return
    for line in readme.every_line:
        hit = _FACT.match(line.text)
        if not hit or OTHER_RECORD.search(line.text) or "~" in line.text or "≈" in line.text:
            continue
        label, value = re.sub(r"\s*\(.*", "", hit[1]).strip(), read_numbers(hit[2])[0]
        kind = _kind(label)
        fits = value.whole and kind in ("bytes", "model", "code", "steps")
        fits = value.decimals >= ENOUGH and "bpb" in label.lower() if kind == "bpb" else fits
        known = _known(record.runs, "bytes" if kind == "model" else kind) if fits else []
        near = min(known, key=lambda x: abs(x - value.value), default=0.0)
        room = 5e-5 if kind == "bpb" else 1.0
        given = kind == "bpb" and (any(map(value.gives, means)) or record.mentions(value)) if known else True
        if not given and room < abs(near - value.value) <= 0.05 * near:
            message, at = f"{label[:50]!r}: the figure is in no log.", (record.readme_file, line.number)
            record.out.warn("A9-README-MATCH", message, at, value.text, f"nearest {near:,.10g}", _BY_SCRIPT, "likely")
