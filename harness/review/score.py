"""The claimed score against the logs, and every further figure of JSON and README against logs and each other (A9)."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from statistics import fmean, stdev

from harness.review.jsonfile import Metadata, is_number, shown
from harness.review.logs import Run, alike
from harness.review.number import Number, read_numbers, student_tail
from harness.review.patterns import PATTERNS, WORDS, first_of
from harness.review.readme import Document
from harness.review.record import ENOUGH, LARGEST_SCORE, Record, is_score, matches, track_named
from harness.review.statistics import final_scores, pools

_TIMES = {"train": 0.011, "eval": 1.0, "pace": 0.0005}
"""Kinds of time, and the seconds by which each may be off; "pace" is that of a step."""
_TOP, _NEAR = 25, 45
"""Lines within which a README states its own score; characters between a word and the number that it is about."""
_SHAPE = (("num_layers", "model_dim"), ("n_layer", "n_embd"), ("layers", "dim"))
_BASELINE = "17059912", {"num_layers": ("9", 0), "model_dim": ("512", 0), "mlp_mult": ("2", 0)}
LARGEST_RATIO = 2.6
"""Nats a token for one bit a byte, with the largest of the published vocabularies."""
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
    if claimed is None or out.has(rule):
        return
    finals = [run.final.bpb.value for run in record.runs if run.final and math.isfinite(run.final.bpb.value)]
    at, scores = (record.json_file, meta.line("val_bpb")), [item.bpb.value for item in bound.scores()]
    if not finals and bound.how != "training":
        out.unknown(rule, "no log has a final score to compare the claim with.", record.json_file)
        return
    mean = f"{fmean(scores or finals):.8f}" if scores or finals else ""
    kind, source = f"the mean over {len(scores)} seeds" if len(scores) > 1 else "the score", bound.source
    certain, computed, remedy = False, mean, "Claim the mean over all seeds."
    if bound.how in ("mean", "score"):
        if claimed.decimals >= ENOUGH or matches(claimed, fmean(scores)):
            off = "" if claimed.gives(fmean(scores)) else f", {mean}, but for less than 0.00005"
            out.passed(rule, f"the claim is {kind} of the pass {bound.name}{off}.", at, claimed.text)
            return
        message = f"the claim has too few decimals to be compared: {kind} of the pass {bound.name} rounds to it."
        remedy = f"Claim the score with at least {ENOUGH} decimals."
    elif bound.how == "seed" and source is not None:
        of = next(run.file for run in record.runs if any(item is source for item in run.passes))
        best = "the best" if source.bpb.value <= min(finals) + 1e-9 else "not the mean"
        message = f"the claim is one seed's score ({best} of {len(finals)} runs)."
        called = any("mean" in line and claimed.text in line for line in record.told)
        if called and abs(claimed.value - fmean(finals)) < claimed.step:
            message = "the claim is the mean over seeds, wrongly rounded."
        computed = f"{of}; the mean of the last passes is {fmean(finals):.8f}"
    elif bound.how == "training" and source is not None:
        message = f"the claim equals only {source.name}, taken before the artifact was scored."
        worse = scores and min(scores) > claimed.value + 5e-4
        alone = len(bound.runs) == 1 and not record.incomplete  # the run of that step has a final score itself
        certain = bool(worse) and (bound.certain or alone)
        computed, remedy = f"{mean} by the last pass", "Claim what the final artifact scored."
    elif claimed.decimals >= ENOUGH and record.mentions(claimed):
        message = "the claim stands on lines of a form that isn't known; which pass made it can't be told."
        computed, remedy = f"mean of the last passes {mean}", ""
    else:
        near = min(finals, key=lambda x: abs(x - claimed.value))
        computed, remedy = f"nearest {near:.8f}, mean {mean}", "Claim the mean over the logs that are shipped."
        unread = [n for n in record.folder.listing if WORDS["table_file"].search(n) and n not in record.folder.sizes]
        more = f"; {', '.join(unread[:3])} may, which is not here" if unread else ""
        message = f"no score of a log, mean or rounding gives the claim{more}."
        read = not record.incomplete and all(r.final for r in record.runs)
        if read and not unread and claimed.high < min(finals) - 5e-4:
            certain, message = True, "the claimed score is in no log, and every final score there is worse."
        elif record.incomplete and abs(near - claimed.value) < 0.005:
            message = "the claim rests on seeds whose logs are not here."
    out.add(certain, rule, message, at, claimed.text, computed, remedy)


def last_pass(record: Record) -> None:
    """The pass that made the claim is the last, or worse than it, or README or JSON say that it counts."""
    rule, out, name, claimed = "A9-SCORER", record.out, record.bound.name, record.claimed
    if claimed is None:
        return
    own, *told = (re.sub(r"[\W_]", "", t.lower()) for t in (name, *filter(WORDS["which_counts"].search, record.told)))
    later = [(run, last) for run, item, last in record.bound.later if last.bpb.value > item.bpb.value]
    for run, score in later[:1] if not any(own in text for text in told) else ():
        message = f"the claimed number is of the pass {name}; a later pass of {len(later)} log(s) gave another."
        values = f"{name}: {claimed.text}", f"{score.name}: {score.bpb.text}"
        out.warn(rule, message, run.place(score), *values, "Say why the last pass doesn't count, and leave it out.")
    if name and not record.bound.later:
        out.passed(rule, f"the last pass of every log, {name}, made the claimed number.", "", name)


@dataclass(frozen=True)
class Figure:
    """A figure that JSON or README states: by its name, what it is (a name of the table of figures), and of which runs.

    seed: the one that it is said to be of; value: seconds where it is a time
    """

    rule: str
    at: tuple[str, int]
    name: str
    kind: str
    value: Number
    runs: list[Run]
    seed: int | None = None
    loose: bool = False

    @property
    def unit(self) -> float:
        """Seconds in its unit where that is a time, whose name may say ms; else 1."""
        bare = self.kind in _TIMES and not self.value.kind
        return 1e-3 if bare and re.search(r"(?:_|\b)ms\b", self.name) else 1.0

    @property
    def shown(self) -> float:
        """Its value, in seconds where it is a time."""
        return self.value.value * self.unit

    def given_by(self, known: Iterable[float]) -> bool:
        """Whether one of these prints like it."""
        if self.value.about:
            return any(abs(self.shown - x) <= 0.01 * x for x in known)
        text, fine = self.value.text, self.kind in ("bpb", "nats")
        rounded = 10.0 ** (len(text) - len(text.rstrip("0,"))) / 2 if self.value.whole and text.endswith("000") else 0.5
        rounded = 1.02 * self.value.step if self.value.unit.lower() == "mb" or self.kind == "params" else rounded
        least = {"steps": 1.0, **_TIMES}.get(self.kind)
        room = rounded if least is None else max(least, 1.02 * self.value.step * self.unit)
        close = (abs(self.shown - x) <= (5e-5 if fine else room) for x in known)
        return any(close) or (fine and any(is_score(self.value, x) or self.value.gives(x) for x in known))


def _kind(name: str) -> str:
    """What a figure is, by its key, column or label; empty where that can't be told."""
    words = re.sub(r"[\W_]+", " ", name.lower()).strip()
    return first_of(PATTERNS.figures, words).replace("none", "")


def _known(runs: list[Run], kind: str, stage: str = "") -> list[float]:
    """What runs say of a kind, times in seconds; of scores those of a stage, where one is given."""
    if kind in ("bpb", "nats"):
        early = stage == "early"  # a diagnosis of what is not packed yet is of that stage under any name
        passes = [item for run in runs for item in run.passes + run.curve[-1 if early else 0 :]]
        named = ((item, first_of(PATTERNS.stages, item.name)) for item in passes if stage)
        chosen = [i for i, of in named if of in ("", stage) or (early and i.diagnostic and of != "quant")]
        numbers = (item.bpb if kind == "bpb" else item.loss for item in (chosen if stage else passes))
        return [number.value for number in numbers if number]
    if kind == "steps":
        return [float(run.last_step) for run in runs if run.last_step]
    if kind == "eval":
        spans = [item.value for run in runs for item in run["eval_times"]]
        timed = ([item.seconds or 0.0 for item in reversed(run.passes)] for run in runs)
        return [*spans, *(x for times in timed for x in (times if stage else accumulate(times)) if x)]
    if key := {"params": "model_params", "tokens": "train_batch_tokens"}.get(kind):
        told = ((run, run.settings.get(key, ("", 0))[0]) for run in runs)
        return [float(text) * ((run.last_step or 0) if kind == "tokens" else 1) for run, text in told if text.isdigit()]
    if kind == "pace":
        return [span.value / run.last_step for run in runs if run.last_step for span in [run.train_time] if span]
    names = {"bytes": ("totals", "models"), "model": ("models",), "code": ("codes",)}
    names["train"] = ("stops", "step_times", "train_times")
    return [item.value for run in runs for name in names.get(kind, (kind,)) for item in run[name]]


def unlike(record: Record, one: Figure) -> str:
    """What the runs say in place of a figure; empty when they give it, or say nothing of the kind."""
    value, kind, runs, fine = one.value, one.kind, one.runs, one.kind in ("bpb", "nats")
    stage = first_of(PATTERNS.stages, one.name)
    known, stage = _known(runs, kind, "" if fine else stage), stage if fine else ""
    same = _known(runs, kind, stage) if stage else known
    if not known or (fine and value.decimals < 3) or (stage == "early" and not same):
        return ""
    totals = [item.value for run in runs for item in run["totals"] if item.label and kind == "bytes"]
    near = min(totals or same or known, key=lambda x: abs(x - one.shown))
    nearest = f"nearest {near:.6g} s" if kind in _TIMES else f"nearest {near:,.10g}"
    if one.given_by(known):
        packed = stage == "quant" and one.seed is not None and re.search(r"(?i)post[-_ ]?quant|round-?trip", one.name)
        wrong_pass = (stage == "early" or packed) and same and len(runs) == 1 and not one.given_by(same)
        of_mean = record.bound.how == "mean" and one.name in PATTERNS.fields["val_loss"] and one.seed is None
        single = of_mean and not one.given_by([fmean(pool) for pool in pools(record)])
        readme, packed_alone = "".join(record.readme.raw), {*_known(runs, "model")} - {*totals}
        if totals and value.whole and value.value in packed_alone and not any(f"{x:,.0f}" in readme for x in totals):
            return f"the log has it as the model, without the code; {nearest}"
        text = f"the log has it of {'one seed, not the mean' if single else 'another pass'}; {nearest}"
        return text if wrong_pass or single else ""
    if kind == "model" and one.given_by(_known(runs, "bytes")):
        return f"the log has it as the total; {nearest}"
    lines = record.readme.every_line if fine and one.rule == "A9-JSON-MATCH" else ()
    told = any(n.text == value.text for line in lines for n in line.numbers)
    if one.seed is None and (told or one.given_by([fmean(pool) for pool in pools(record)])):
        return ""  # What README and JSON both say is judged as the README's.
    others = [run for run in record.runs if run.seed not in (None, one.seed)] if one.seed is not None else []
    exact = not value.about and kind not in _TIMES
    copied = next((run.seed for run in others if exact and one.given_by(_known([run], kind))), None)
    everywhere = runs is record.runs or kind in _TIMES or (kind in ("bytes", "model") and exact and copied is None)
    whole = everywhere and one.at[0] in (record.json_file, record.readme_file)  # no file stands for itself
    files = None if whole else [run.file for run in (record.runs if everywhere else runs)]
    if (kind not in _TIMES or value.decimals > 2) and record.mentions(value, files):
        return ""
    if copied is not None:
        return f"that is seed {copied}'s; {nearest}"
    return nearest if same else "no log here prints a score of that pass"


def of_json(record: Record, meta: Metadata) -> Iterator[Figure]:
    """Its figures of one seed, and those of the whole."""
    rule, bound = "A9-JSON-MATCH", {run.seed for run in record.bound.runs}
    for seed, items in meta.results.items():
        runs, at = [run for run in record.runs if run.seed == seed], (record.json_file, meta.lines.get(str(seed), 0))
        for key, value in items.items() if seed in bound else ():
            if key in PATTERNS.fields["bytes_total"]:
                yield Figure("A3-CLAIMED-BYTES", at, key, "bytes", value, runs, seed)
            elif (kind := _kind(key)) not in ("", "bytes", "code") and (kind != "bpb" or value.decimals >= ENOUGH):
                yield Figure(rule, at, key, kind, value, runs, seed)
    for key, value in meta.raw.items() if record.bound.runs and not record.incomplete else ():
        known_by, claimed = {*meta.spelt.values()} - {meta.spelt.get("val_loss")}, record.claimed
        if not is_number(value) or key in known_by or (claimed and value.text == claimed.text):
            continue
        kind, packed = _kind(key), [item.value for run in record.runs for item in run.packed]
        runs = record.bound.any if record.bound.certain and kind in ("steps", "train", "pace") else record.runs
        one = Figure(rule, (record.json_file, meta.lines.get(key, 0)), key, kind, value, runs)
        known = packed if kind == "model" else _known(runs, kind)
        idle = value.decimals < ENOUGH if kind == "bpb" else known and min(known) <= one.shown <= max(known)
        loss = key == meta.spelt.get("val_loss") and value.value > 0 and record.bound.how and not meta.loss_is_bpb
        if (kind in ("steps", "model", "params", "bpb", "train", "pace") and not idle) or loss:
            yield one


def of_readme(record: Record, readme: Document) -> Iterator[Figure]:
    """Cells of its tables over seeds, and key facts (a two-column row, a list entry)."""
    rule, file = "A9-README-MATCH", record.readme_file
    for table in (table for table in readme.tables if not WORDS["other_table"].search(readme.above(table.line))):
        for row, column in product(table.seed_rows, range(len(table.kinds))):
            value, kind = row.value(column), _kind(table.name(column))
            unit = "seconds" if kind in _TIMES else "bytes"
            if kind in ("bpb", "nats"):
                kind = table.kinds[column] if table.kinds[column] in ("bpb", "nats") else kind
            elif value is None or kind in ("", "code") or value.kind not in ("", unit):
                continue
            runs = [run for run in record.runs if run.seed == row.seed]
            if value is not None and runs:
                yield Figure(rule, (file, row.line), table.name(column)[:40], kind, value, runs, row.seed)
    told: dict[str, dict[str, int]] = {kind: {} for kind in PATTERNS.facts}
    for line in readme.every_line if not record.incomplete else ():
        other = WORDS["other_record"].search(line.text)
        for kind, pattern in PATTERNS.facts.items() if not other else ():
            told[kind] |= {next(filter(None, hit.groups())): line.number for hit in pattern.finditer(line.text)}
        top = line.number <= _TOP and not other and WORDS["headline"].search(line.text)
        for n in (n for n in line.numbers if n.unit.lower() == "mb" and n.decimals):
            binary = any(abs(1.048576 * n.value - x) < 0.54 * n.step for x in _known(record.runs, "bytes"))
            elsewhere = (m for x in readme.every_line for m in x.numbers if m.whole)  # to the byte, and judged there
            name = "MB (these are MiB)" if binary else "MB of the headline"
            if binary or (top and not any(abs(n.value - m.value) <= n.step for m in elsewhere)):
                yield Figure(rule, (file, line.number), name, "bytes", n, record.runs, loose=True)
        hit = WORDS["key_fact"].match(line.text)
        if not hit or other or "~" in line.text or "≈" in line.text:
            continue
        label, value = re.sub(r"\s*\(.*", "", hit[1]).strip(), read_numbers(hit[2])[0]
        kind = _kind(label)
        fits = value.decimals >= ENOUGH and "bpb" in label.lower() if kind == "bpb" else value.whole
        timed = re.match(r" ?s\b", line.text[hit.end(2) :]) is not None and "ttt" not in label.lower()
        if fits and kind in ("bytes", "model", "code", "steps", "bpb", "eval") and timed == (kind == "eval"):
            yield Figure(rule, (file, line.number), label, kind, value, record.runs, loose=True)
    for kind, found in told.items():
        for text, number in found.items() if len(found) == 1 else ():  # of several, one may be another run's
            value = read_numbers(text)[0]
            yield Figure(rule, (file, number), f"{kind} in the text", kind, value, record.bound.any, loose=True)


def figures(record: Record) -> None:
    """What JSON and README state against what the runs say. A key fact is compared with what is near it alone."""
    out = record.out
    for one in (*of_json(record, record.metadata), *of_readme(record, record.readme)):
        if record.folder.late() or not math.isfinite(one.shown) or not (near := unlike(record, one)):
            continue
        known = _known(one.runs, "bytes" if one.kind == "model" else one.kind)
        gap = min(abs(x - one.shown) / max(x, 1e-9) for x in known)
        timed = one.kind in _TIMES  # further off it is a time of something else, or in minutes
        if (one.loose or timed) and gap > (0.5 if timed else 0.05):
            continue
        file = f" in {one.runs[0].file}" if len(one.runs) == 1 and near.startswith("nearest") else ""
        who = f"seed {one.seed}: " if one.seed is not None else ""
        message = f"{who}{one.name[:50]!r} is not what the log says."
        rule, certain = one.rule, False
        if rule == "A9-JSON-MATCH" and one.name == "val_bpb":
            elsewhere = any(is_score(one.value, x) for x in _known(record.runs, "bpb"))
            certain = len(one.runs) == 1 and record.bound.certain and not elsewhere
            rule = "A9-SCORE-MATCH"
        confidence = "likely" if one.loose else "certain"
        out.add(certain, rule, message, one.at, shown(one.value), near + file, _BY_SCRIPT, confidence)


def model(record: Record) -> None:
    """Vocabulary, layers and width that a name, title, README or JSON states, against those that the logs print."""
    readme, meta = record.readme, record.metadata
    title = readme.text.get(min(readme.headings, default=0), "")
    names = (record.folder.name.replace("_", " "), title, meta.text("name"))
    told: list[tuple[tuple[str, ...], tuple[str, ...], int]]
    told = [(("vocab_size",), (size,), 0) for text in names for size in WORDS["vocabulary"].findall(text)]
    told += [((key,), ("on",), 0) for key, words in PATTERNS.switches.items() if any(map(words.search, names))]
    for number, line in enumerate(record.told, 1):
        told += [(shape, hit, number) for hit in WORDS["layers_and_width"].findall(line) for shape in _SHAPE]
        settings = WORDS["setting"].findall(line)  # One alone may be an experiment's.
        told += [((key.lower(),), (value,), number) for key, value in settings if len(settings) > 1]
        hits = ((key, x.search(line)) for key, x in PATTERNS.stated.items())
        told += [((key,), (hit[1],), number) for key, hit in hits if hit and not WORDS["other_value"].search(line)]
    stated = {key: (f"{value.value:g}", 0) for key, value in meta.raw.items() if is_number(value)}
    sources = [stated, *(run.settings for run in record.bound.any)]
    # What no setting says: the number of the last layer with XSA, and the baseline's count of parameters.
    known = [{"num_layers": (f"{i.value + 1:g}", i.line)} for run in record.bound.any for i in run["last_layers"]]
    known += [_BASELINE[1] for run in record.bound.any if run.settings.get("model_params", ("",))[0] == _BASELINE[0]]
    for keys, on in dict.fromkeys((keys, value == ("on",)) for keys, value, _ in told):
        of_keys = [[(*(of[key][0] for key in keys),) for of in some if {*keys} <= {*of}] for some in (sources, known)]
        ran = of_keys[0] or of_keys[1]
        values = [(value, number) for of, value, number in told if of == keys and on == (value == ("on",))]
        ran = [] if on and not all(WORDS["off_value"].fullmatch(one[0]) for one in ran) else ran
        if ran and not any(all(map(alike, one, of)) for one, _ in values for of in ran):
            value, number = values[0]
            at = (record.readme_file, number) if 0 < number <= len(readme.raw) else record.json_file
            found, logged = (", ".join(f"{k}: {v}" for k, v in zip(keys, of, strict=True)) for of in (value, ran[0]))
            logged += "" if of_keys[0] else ", by the number of the last layer or of the parameters"
            message = "the model of the README, a name or a title is none of the logs' or of the JSON."
            record.out.warn("A9-README-MATCH", message, at, found, logged, "Ship this model's logs.", "likely")


def selected(record: Record) -> None:
    """The claim is the lowest of several scores that README or JSON list side by side, and not their mean."""
    rule, claimed, meta, readme = "A9-SCORE-MATCH", record.claimed, record.metadata, record.readme
    if claimed is None or claimed.decimals < ENOUGH:
        return
    listed, at = [number.value for number in meta.scores], (record.json_file, meta.line("val_bpb"))
    if len(listed) > 1 and not min(listed) - 5e-4 < claimed.value < max(listed) + 5e-4:
        message = "the claim lies outside the scores that the JSON lists for its runs."
        record.out.warn("A9-JSON-MATCH", message, at, claimed.text, f"their mean is {fmean(listed):.6f}", _BY_SCRIPT)
    name, folder = WORDS["headline"].search(meta.text("name")), WORDS["folder_score"].search(record.folder.name)
    hit, whose, line = (name, "", meta.line("name")) if name else (folder, "folder's ", at[1])
    if hit and not is_score(claimed, float(hit[1])) and not is_score(Number.of(hit[1]), claimed.value):
        message = f"the {whose}name states another score than val_bpb."
        record.out.warn("A9-JSON-MATCH", message, (at[0], line), hit[0], claimed.text)
    if record.bound.how not in ("", "score"):
        return
    for table in readme.tables if not record.bound.how else ():
        for row in table.rows:
            numbers = [(first_of(PATTERNS.stages, table.name(i)), row.value(i)) for i in range(len(row.cells))]
            cells = {of: n for of, n in numbers if n and n.decimals > 1}
            early, packed = cells.get("early"), cells.get("quant")
            if early and packed and is_score(early, claimed.value) and packed.low > claimed.value + 5e-4:
                record.out.warn(rule, "the claim is the score before packing.", at, claimed.text, packed.text)
    own = (c for c in readme.columns if c.kind == "bpb" and not WORDS["other_table"].search(readme.above(c.table.line)))
    pools = {"submission.json": listed} if len(listed) > 1 else {}
    pools |= {f"{one.name}, README line {one.table.line}": [n.value for n in one.values] for one in own}
    if any(is_score(claimed, fmean(pool)) for pool in pools.values()):
        return
    for where, pool in pools.items():
        if is_score(claimed, min(pool)) and max(pool) - min(pool) > claimed.step:
            message = f"the claim is the best of {len(pool)} scores."
            record.out.warn(rule, message, at, claimed.text, f"{where}: mean {fmean(pool):.8f}", "Claim the mean.")
            return


def margin(record: Record) -> None:
    """A record's gain by its README's words, over the score that these want to beat, and over the best one merged."""
    rule, readme, meta, claimed = "A8-MARGIN", record.readme, record.metadata, record.claimed
    nats, logged = record.readings.margin_nats, final_scores(record)
    rivals: list[tuple[float, tuple[str, int], str, str, str]] = []  # score, place, found, computed, name
    stated = [claimed.value] if claimed else [float(hit[1]) for _, hit in _own_scores(readme) if not meta.source]
    value, merged = fmean(stated[:1] or logged or [math.nan]), "a merged record of an earlier day"
    losses = [item.loss.value for item in record.bound.scores() if item.loss and item.loss.value > 0]
    rates, own = {"nats": value / fmean(losses or [math.nan])}, [value, *losses, *_known(record.runs, "bpb")]
    least = nats * (rates["nats"] if losses else 1 / LARGEST_RATIO)
    filed = record.official and track_named(record.folder.parent) == record.track
    contests = filed and not any(map(WORDS["disclaimed"].search, [*record.told[:_TOP], *meta.source]))
    for line in readme.every_line:
        at, fine = (record.readme_file, line.number), [n for n in line.numbers if n.decimals >= ENOUGH and not n.signed]
        spans = [hit.span() for hit in WORDS["predecessor"].finditer(line.text)] if contests else []
        for n in (n for n in fine if any(n.start - z < _NEAR > a - n.end for a, z in spans)):
            rate, called = rates.get(n.kind, 1), "the README's SOTA, record or base"
            if n.value * rate > 0.6 * value and not any(is_score(n, x) for x in own):
                rivals.append((n.value * rate, at, f"{value / rate:.8g}", n.text, called))
        of = {kind: [n for n in line.numbers if n.kind == kind] for kind in ("nats", "bpb")}
        for gain, base in product(of["nats"], of["bpb"]) if claimed else ():
            if claimed and abs(abs(base.value - claimed.value) - abs(gain.value)) < gain.step < abs(gain.value):
                computed = f"{base.text} - {claimed.text}"
                record.out.warn(rule, "a gain in bpb is called nats.", at, gain.text, computed)
    days = re.findall(r"(?m)^\d{4}-\d\d-\d\d", f"{record.folder.name}\n{meta.text('date')}")
    known = [one for since, one in PATTERNS.records.items() if since <= min(days, default="")][-1:]
    for best, name in known if contests and (stated or not record.readme_file) and value < LARGEST_SCORE else ():
        at = (record.json_file, meta.line("val_bpb")) if meta.source else (record.readme_file, 0)
        rivals.append((best, at, f"{value:.8g}", f"{best:.8g} of {name}", merged))
    for best, at, found, text, called in sorted(rivals):
        message, remedy = "", "Improve it, add seeds, or file the folder under track_non_record_16mb."
        if value >= best:
            message = f"the score does not beat {called}."
        elif value + least > best:
            message = f"the score beats {called} by less than {nats:g} nats a token."
        elif called == merged and record.bound.how == "mean" and len(logged) > 1 and stdev(logged) > 0:
            p = student_tail((best - least - value) / stdev(logged) * math.sqrt(len(logged)), len(logged) - 1)
            message = f"a gain of {nats:g} nats a token over {called} is not shown."
            message, found = message if p >= record.readings.alpha else "", f"p = {p:.3f} by a one-sided t-test"
        if message and not record.out.has(rule):
            record.out.warn(rule, message, at, found, text, remedy)


def _own_scores(readme: Document) -> Iterator[tuple[int, re.Match[str]]]:
    """Where a README's first lines state its own score."""
    for line in (line for line in readme.lines if line.number <= _TOP):
        hit, own = WORDS["headline"].search(line.text), line.heading or WORDS["own_headline"].match(line.text)
        if hit and own and not WORDS["other_score"].search(line.text):
            yield line.number, hit


def headline(record: Record) -> None:
    """README and JSON claim one score."""
    readme, claimed = record.readme, record.claimed
    if claimed is None:
        return
    figures = [(line.number, n) for line in readme.every_line for n in line.numbers if n.decimals > 2]
    own = dict.fromkeys(number for number, n in figures if n.decimals >= ENOUGH and claimed.gives(n.value))
    for first in own if claimed.decimals >= ENOUGH else ():
        for number in range(first, first + 5):
            text = readme.with_rows.get(number, "")
            if (number > first and number in readme.headings) or WORDS["other_record"].search(text):
                break
            if WORDS["disowned"].search(text):
                message = "the README says of the claimed score that it does not count."
                at, remedy = (record.readme_file, number), "Claim the score that does."
                record.out.warn("A9-README-MATCH", message, at, claimed.text, text[:160], remedy)
    same = any(is_score(n, claimed.value) or is_score(claimed, n.value) for _, n in figures)
    for number, hit in [*_own_scores(readme)][:1]:
        logged = any(Number.of(hit[1]).gives(x) for x in _known(record.runs, "bpb"))
        message = "README and JSON state different scores" + "; the README's stands in a log" * logged + "."
        at, stated, rule = (record.readme_file, number), f"{claimed.text} in the JSON", "A9-README-MATCH"
        if same:
            record.out.passed(rule, "README and JSON claim the same score.", record.readme_file)
        else:
            record.out.warn(rule, message, at, hit[1], stated)
