"""The claimed score against the logs, and every further figure of JSON and README against logs and each other (A9)."""

from __future__ import annotations

import math
import re
from statistics import fmean

from harness.review.jsonfile import is_number, shown
from harness.review.limits import EVAL_OF_SEED, TRAIN_OF_SEED, seconds_of
from harness.review.logs import Run
from harness.review.number import Number, read_numbers
from harness.review.readme import Table
from harness.review.record import ENOUGH, Record, is_score, matches
from harness.rules import Verdict

STEPS_OF_SEED = ("steps", "step_stop", "stop_step", "train_steps", "step")
OTHER_RECORD = re.compile(r"PR\W{0,2}#?\d|#\d{2,}|/pull/|\bSOTA\b|baseline|previous", re.IGNORECASE)
"""A line that compares with another record: its figures need not be this folder's."""
_NOT_A_SCORE = re.compile(
    r"std|delta|gain|gap|diff|recover|improve|drop|penalty|base|sota|prev|vs|leader|best|merged|public|threshold|target"
    r"|margin|per_|nats|loss",
    re.I,
)
_AGGREGATE = re.compile(r"(?P<head>\w+)_(?P<kind>mean|avg|max|min)$|(?P<kind2>mean|max|min)_(?P<head2>\w+)$")
_HEADLINE = re.compile(r"val[\\_ ]{1,3}bpb\W{1,6}(\d\.\d{3,10})", re.IGNORECASE)
_OTHER_SCORE = re.compile(r"pre[-_ ]?(?:quant|ttt)|standard|baseline|\bPR\b|\|", re.IGNORECASE)
_SIZE = re.compile(r"[~≈]?\s*(1[0-9]\.\d{1,3})\s?MB\b")
_FILE_SIZE = re.compile(r"`?([\w./-]{3,80})`?[^`\n]{0,60}?\(([\d,]{3,11}) bytes\)")
_MILLIONS = re.compile(r"\b(\d{1,3}(?:\.\d{1,3})?)\s?M\b(?= (?:total |trainable |model )?param)", re.IGNORECASE)
_FACT = re.compile(
    r"^\s*[-*]?\s*([^:|]{2,60}?)\s*(?:\||:)\s*[~≈]?\s*([\d,]{3,15}(?:\.\d+)?|\d\.\d{4,10})(?:\s*(?:bytes|B))?\W*(?:\(|$)"
)
_BOXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"train\w*_(?:under|within|le)_?600|train_under_10", ("A1-TRAIN-CLOCK",)),
    (r"eval_(?:under|within)", ("A2-EVAL-CLOCK",)),
    (r"artifact_(?:under|within)|under_16_?mb", ("A3-ARTIFACT-BYTES",)),
    (r"no_pre_?quant_ttt", ("A6-PREQUANT-TTT",)),
    (r"score_first", ("C3-SCORE-BEFORE-UPDATE", "A6-PREQUANT-TTT")),
    (r"no_network|no_external", ("A4-NO-NETWORK",)),
    (r"full_val|full_validation", ("C4-COVERAGE",)),
    (r"single_pass|no_rescor|no_two_pass", ("C4-SINGLE-PASS",)),
)
_COUNTED = {"two": 2, "three": 3, "five": 5, "3": 3, "5": 5}
_BY_SCRIPT = "Copy the figures from the logs by script."


def check(record: Record) -> None:
    """All of the above, but for the boxes, which the other checks have to go before."""
    _claim(record)
    if record.metadata is not None:
        for run in record.bound.runs:
            _seed(record, run)
        _whole(record)
        _own_figures(record)
    if record.readme is not None:
        for table in record.readme.tables:
            _table(record, table)
        _headline(record)
        _facts(record)
        _sizes(record)
        _arithmetic(record)


def _claim(record: Record) -> None:
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
    if bound.how in ("mean", "score"):
        kind = f"the mean over {len(scores)} seeds" if len(scores) > 1 else "the score"
        if claimed.decimals < ENOUGH and not matches(claimed, fmean(scores)):
            message = f"the claim has too few decimals to be compared: {kind} of the pass {bound.name} rounds to it."
            out.warn(rule, message, at, claimed.text, mean, f"Claim the score with at least {ENOUGH} decimals.")
        else:
            out.passed(rule, f"the claim is {kind} of the pass {bound.name}.", at, claimed.text)
    elif bound.how == "seed":
        assert bound.source is not None
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
        report = out.fail if worse and bound.certain else out.warn
        report(rule, what, at, claimed.text, f"{mean} by the last pass", "Claim what the final artifact scored.")
    elif bound.how == "lines" or (claimed.decimals >= ENOUGH and record.mentions(claimed)):
        message = "the claim stands on lines of a form that isn't known; which pass made it can't be told."
        out.warn(rule, message, at, claimed.text, f"mean of the last passes {mean}")
    else:
        near = min(finals, key=lambda x: abs(x - claimed.value))
        values = (
            at,
            claimed.text,
            f"nearest {near:.8f}, mean {mean}",
            "Claim the mean over the logs that are shipped.",
        )
        whole = (
            not record.incomplete and all(run.final for run in record.runs) and not any(r.figures for r in record.runs)
        )
        if whole and claimed.high < min(finals) - 5e-4:
            out.fail(rule, "the claimed score stands in no log, and every logged one is worse.", *values)
        elif record.incomplete and abs(near - claimed.value) < 0.005:
            out.warn(rule, "the claim rests on seeds whose logs are not here.", *values)
        else:
            out.warn(rule, "no score of a log, mean or rounding gives the claim.", *values)
    _last_pass(record, claimed)


def _last_pass(record: Record, claimed: Number) -> None:
    rule, out, name = "A9-SCORER", record.out, record.bound.name
    later = [
        (run, run.final)
        for run in record.bound.runs
        if run.final and name in run.by_name and abs(run.final.bpb.value - run.by_name[name].bpb.value) > 1e-4
    ]
    if later:
        run, score = later[0]
        message = f"the claimed number is of the pass {name}; a later pass of {len(later)} log(s) gave another."
        found = f"{name}: {claimed.text}"
        remedy = "Say why the last pass doesn't count, and leave it out of the run."
        out.warn(rule, message, run.place(score), found, f"{score.name}: {score.bpb.text}", remedy)
        return
    if not name:
        return
    words = (record.metadata.text("name") if record.metadata else "").lower()
    plain = re.fullmatch(r"final_(?:int\d_)?(?:\w+_)?roundtrip|quantized", name)
    runs = record.bound.runs
    sliding = any(re.search(r"sliding|stride", item.name) for run in record.runs for item in run.passes)
    switched = any("stride" in key or "eval_mode" in key for run in record.runs for key in run.settings)
    slow = any((run.final.seconds or 0) > 30 for run in runs if run.final)
    if plain and "sliding" in words and not sliding and not switched and not slow:
        message = "the name claims sliding-window scoring; no line of the logs shows that it ran (#769)."
        out.warn(rule, message, runs[0].place(runs[0].final), name)
    else:
        out.passed(rule, f"the last pass of every log, {name}, made the claimed number.", "", name)


def _scores(run: Run) -> list[float]:
    return [item.bpb.value for item in run.passes + run.curve] + [item.value for item in run.figures]


def _is_score(key: str, value: Number) -> bool:
    return "bpb" in key and value.decimals >= ENOUGH and not _NOT_A_SCORE.search(key)


def _seed(record: Record, run: Run) -> None:
    """One seed's figures in the JSON against every run of that seed."""
    meta, out = record.metadata, record.out
    assert meta is not None
    same = [other for other in record.runs if other.seed == run.seed]
    for key, value in meta.results.get(-1 if run.seed is None else run.seed, {}).items():
        if record.folder.late():
            return
        problems = [_disagrees(other, key, value) for other in same]
        if not all(problems) or (value.decimals >= 3 and record.mentions(value, [other.file for other in same])):
            continue
        at, computed = (record.json_file, meta.lines.get(str(run.seed), 0)), f"{problems[0]} in {run.file}"
        score = key == "val_bpb" and value.decimals >= ENOUGH
        elsewhere = any(is_score(value, x) for other in record.runs for x in _scores(other))
        certain = score and len(same) == 1 and record.bound.certain and not run.figures and not elsewhere
        report = out.fail if certain else out.warn
        rule = "A9-SCORE-MATCH" if score else "A9-JSON-MATCH"
        report(rule, f"seed {run.seed}: {key} is not what the log says.", at, shown(value), computed, _BY_SCRIPT)


def _disagrees(run: Run, key: str, value: Number) -> str:
    """What the run says instead; empty when it says the same, or nothing of the kind."""
    if key in ("val_bpb", "val_loss") or _is_score(key, value):
        known = _scores(run)
        if key == "val_loss":
            known = [item.loss.value for item in run.passes + run.curve if item.loss]
        if known and not any(is_score(value, x) or abs(value.value - x) < 5e-5 for x in known):
            return f"nearest {min(known, key=lambda x: abs(x - value.value)):g}"
    elif key in STEPS_OF_SEED and run.last_step is not None and abs(value.value - run.last_step) > 1:
        return f"{run.last_step:,} steps"
    elif key in TRAIN_OF_SEED and run.train_time:
        spent, slack = run.train_time.value, max(0.011, 1.02 * value.step)
        ends = [span.value for span in (run.stop, run.longest_train) if span]
        if all(abs(seconds_of(key, value) - end) > slack for end in ends):
            return f"{spent:.3f} s"
    elif key in EVAL_OF_SEED:
        times = [c.value for c in run.eval_times] + [s.seconds for s in run.passes if s.seconds]
        seconds = seconds_of(key, value)
        if times and min(abs(seconds - t) for t in times) > 1.0 and abs(seconds - sum(times)) > 5:
            return f"{times[-1]:.1f} s"
    return ""


def _whole(record: Record) -> None:
    """Figures beside the claim: other scores, steps, the model's bytes. Any run, or their mean, may give them."""
    meta = record.metadata
    assert meta is not None
    if not record.bound.runs or record.incomplete:
        return
    means = [fmean(group) for group in zip(*([s.bpb.value for s in r.passes] for r in record.bound.runs), strict=False)]
    curves = [run.curve[-1].bpb.value for run in record.bound.runs if run.curve]
    scores = [x for run in record.runs for x in _scores(run)] + means + ([fmean(curves)] if curves else [])
    steps = {run.last_step for run in record.runs if run.last_step is not None}
    models = {int(item.value) for run in record.runs for item in run.models}
    for key, value in meta.raw.items():
        if not is_number(value) or key in meta.spelt.values():
            continue
        near = ""
        if _is_score(key, value):
            if scores and not any(is_score(value, x) for x in scores) and not record.mentions(value):
                near = f"nearest {min(scores, key=lambda x: abs(x - value.value)):g}"
        elif key in STEPS_OF_SEED and steps and not min(steps) - 1 <= value.value <= max(steps) + 1:
            near = f"steps {', '.join(f'{step:,}' for step in sorted(steps)[:5])}"
        elif re.match(r"(?:bytes_model|model_bytes)", key) and models and not min(models) <= value.value <= max(models):
            near = f"models {', '.join(f'{model:,}' for model in sorted(models)[:5])} bytes"
        if near:
            at = (record.json_file, meta.lines.get(key, 0))
            record.out.warn("A9-JSON-MATCH", f"{key} is not what the logs say.", at, shown(value), near, _BY_SCRIPT)


def _own_figures(record: Record) -> None:
    """The JSON against itself: means and extremes of its own seed results."""
    meta, out = record.metadata, record.out
    assert meta is not None
    of_seeds: dict[str, list[Number]] = {}
    for of_one in meta.results.values():
        for key, number in of_one.items():
            of_seeds.setdefault(key, []).append(number)
    claims = [(name, "mean", name, meta.number(name)) for name in ("val_bpb", "val_loss")]
    for key, value in meta.raw.items():
        hit = _AGGREGATE.fullmatch(key)
        if hit and is_number(value):
            claims.append((key, hit["kind"] or hit["kind2"], hit["head"] or hit["head2"], value))
    for key, kind, head, claimed in claims:
        numbers = of_seeds.get(head, [])
        if claimed is None or len(numbers) < 2 or len(numbers) != len(meta.results) or key in ("val_bpb_mean",):
            continue
        values = [number.value for number in numbers]
        computed = {"max": max, "min": min}.get(kind, fmean)(values)
        slack = 0.51 * max(number.step for number in numbers) if numbers[0].step < 1 else 0.0
        if claimed.gives(computed, slack, finest=10):
            continue
        if key == "val_bpb" and (out.has("A9-SCORE-MATCH") or record.bound.how == "mean"):
            continue
        one = "; it is one seed's" if any(claimed.gives(value) for value in values) else ""
        message = f"{key} is not the {kind} of the seeds' {head}{one}."
        at = (record.json_file, meta.line(key))
        out.warn("A9-JSON-MATCH", message, at, shown(claimed), f"{computed:,.8g}", "Compute it from the seed results.")


def check_boxes(record: Record) -> None:
    """Boxes ticked in the JSON against what was found."""
    meta, out = record.metadata, record.out
    boxes = meta.raw.get("compliance") if meta else None
    if meta is None or not isinstance(boxes, dict):
        return
    for key, value in list(boxes.items())[:60]:
        rules = next((rules for pattern, rules in _BOXES if re.search(pattern, str(key))), ())
        against = [rule for rule in rules if out.has(rule, Verdict.FAIL)]
        seeds = re.fullmatch(r"(two|three|five|\d)_seeds?", str(key))
        few = bool(seeds and record.runs and len(record.runs) < _COUNTED.get(seeds[1], 0)) and not record.absent_logs
        if value is True and (against or few):
            message = f"the box {str(key)[:60]!r} is ticked, and the folder says otherwise."
            at = (record.json_file, meta.lines.get(str(key), 0))
            out.warn(
                "A9-JSON-MATCH", message, at, "true", f"{against[0]} FAIL" if against else f"{len(record.runs)} run(s)"
            )


def _table(record: Record, table: Table) -> None:
    """Cells of a table over seeds against every run of the seed."""
    for row in table.seed_rows:
        runs = [run for run in record.runs if run.seed == row.seed]
        for column in range(len(row.cells)) if runs else ():
            value, name = row.value(column), re.sub(r"\W+", " ", table.name(column).lower())
            if value is None or value.about or re.search(r"\b(?:gain|delta|diff|gap|vs)\b", name):
                continue
            near = _cell(runs, table.kind(column), name, value)
            if near and not (value.decimals >= 3 and record.mentions(value, [run.file for run in runs])):
                message = f"seed {row.seed}, column {table.name(column)[:40]!r}: the figure is not in the log."
                at, remedy = (record.readme_file, row.line), "Write the table from the logs by script."
                record.out.warn("A9-README-MATCH", message, at, value.text, f"{near} in {runs[0].file}", remedy)


def _cell(runs: list[Run], kind: str, name: str, value: Number) -> str:
    if kind in ("bpb", "nats") and value.decimals >= 3 and re.search(r"bpb|sliding|ttt|loss|nats|score", name):
        passes = [item for run in runs for item in run.passes + run.curve]
        known = [item.bpb.value for item in passes] + [f.value for run in runs for f in run.figures]
        known = known if kind == "bpb" else [item.loss.value for item in passes if item.loss]
        if known and not any(value.gives(x) or abs(value.value - x) < 2e-5 for x in known):
            return f"nearest {min(known, key=lambda x: abs(x - value.value)):g}"
    elif re.fullmatch(r"steps?(?: completed)?", name.strip()) and value.whole:
        steps = [run.last_step for run in runs if run.last_step]
        if steps and all(abs(value.value - step) > 1 for step in steps):
            return f"{steps[0]:,}"
    elif re.search(r"artifact|total|submission", name) and value.whole and value.value > 1e6:
        totals = {int(item.value) for run in runs for item in run.totals + run.models if item.label}
        if totals and int(value.value) not in totals:
            return f"{max(totals):,}"
    return ""


def _headline(record: Record) -> None:
    readme, claimed = record.readme, record.claimed
    assert readme is not None
    stated = [
        (Number.of(hit[1]), line.number)
        for line in readme.lines
        if (hit := _HEADLINE.search(line.text)) and not _OTHER_SCORE.search(line.text)
    ]
    if not stated or claimed is None:
        return
    if any(is_score(number, claimed.value) or is_score(claimed, number.value) for number, _ in stated):
        record.out.passed("A9-README-MATCH", "README and JSON claim the same score.", record.readme_file)
        return
    number, line = stated[0]
    logged = [item.bpb.value for run in record.runs for item in run.passes]
    more = "; the README's stands in a log." if any(number.gives(value) for value in logged) else "."
    values = (number.text, f"{claimed.text} in {record.json_file}")
    record.out.warn(
        "A9-README-MATCH", f"README and JSON state different scores{more}", (record.readme_file, line), *values
    )


def _facts(record: Record) -> None:
    """Key facts (a two-column row, a list entry) and file sizes against logs and files."""
    readme, out, rule, runs = record.readme, record.out, "A9-README-MATCH", record.runs
    assert readme is not None
    known: tuple[tuple[str, list[float]], ...] = (
        (r"(?:total )?submission(?: size| bytes)?|total (?:artifact|submission|size|bytes)|artifact(?: size| bytes)?",
         [i.value for r in runs for i in r.totals]),
        (r"compressed (?:artifact|model)(?: size)?|model bytes|(?:serialized|quanti[sz]ed) model",
         [i.value for r in runs for i in r.models + r.totals]),
        (r"code (?:size|bytes)", [i.value for r in runs for i in r.codes]),
        (r"(?:model )?param(?:eter)?s|model params|parameter count",
         [r.parameters.value for r in runs if r.parameters]),
        (r"(?:training )?steps", [float(r.last_step) for r in runs if r.last_step]),
    )  # fmt: skip
    scores = [x for run in runs for x in _scores(run)]
    means = [fmean(pool) for pool in zip(*([s.bpb.value for s in r.passes] for r in record.bound.runs), strict=False)]
    for line in readme.every_line:
        hit = _FACT.match(line.text)
        if hit and not record.incomplete and not OTHER_RECORD.search(line.text):
            label, value = re.sub(r"\s*\(.*", "", hit[1]).lower().strip(), read_numbers(hit[2])[0]
            near = min(scores, key=lambda x: abs(x - value.value), default=0.0) if "bpb" in label else 0.0
            if (
                value.decimals >= ENOUGH
                and 5e-5 < abs(near - value.value) <= 0.05 * near
                and not any(map(value.gives, means))
            ):
                if not record.mentions(value):
                    at = (record.readme_file, line.number)
                    out.warn(rule, f"{label[:50]!r}: the figure is in no log.", at, value.text, f"nearest {near:g}")
                continue
            figures = next((values for names, values in known if re.fullmatch(names, label)), [])
            near = min(figures, key=lambda x: abs(x - value.value), default=0.0)
            if 1 < abs(near - value.value) <= 0.05 * near and value.whole:
                message = f"{label[:50]!r}: the figure is in no log."
                at = (record.readme_file, line.number)
                out.warn(rule, message, at, value.text, f"nearest {near:,.0f}", _BY_SCRIPT, "likely")
        for name, digits in _FILE_SIZE.findall(line.text)[:4]:
            size = record.folder.original_size(name)
            if size and size != int(digits.replace(",", "")):
                message, at = f"{name} has another size than the README says.", (record.readme_file, line.number)
                out.warn(rule, message, at, f"{digits} bytes", f"{size:,} bytes", "Ship the file that is described.")
    models = [run.parameters.value / 1e6 for run in record.bound.training if run.parameters]
    for number, text in readme.text.items():
        stated = [value for value in map(float, _MILLIONS.findall(text)) if models and 0.5 < value / models[0] < 2]
        if stated and not OTHER_RECORD.search(text) and all(abs(v - x) > 0.05 * x for v in stated for x in models):
            message = "the README tells of a model of another size than the logs."
            found = f"{', '.join(f'{value:g}M' for value in stated)} parameters"
            computed = f"{', '.join(sorted({f'{x:.1f}M' for x in models}))} in the logs"
            remedy = "Ship the logs of the model that is claimed."
            out.warn("A9-MODEL-MATCH", message, (record.readme_file, number), found, computed, remedy, "likely")
            return


def _sizes(record: Record) -> None:
    """Sizes in MB that no log gives: mebibytes, or another run's."""
    readme = record.readme
    totals = [run.total.value for run in record.runs if run.total]
    if readme is None or not totals or record.incomplete:
        return
    known = [*totals, fmean(totals), *(i.value for run in record.runs for i in run.models + run.totals)]
    for number, text in [*readme.text.items()]:
        sizes = [Number.of(hit) for hit in _SIZE.findall(text)[:8]]
        if (
            not sizes
            or OTHER_RECORD.search(text)
            or not (number <= 12 or re.search(r"artifact|submission", text, re.I))
        ):
            continue
        if any(abs(x / 1e6 - size.value) <= 1.02 * size.step for size in sizes for x in known):
            continue
        if any(abs(x / 2**20 - size.value) <= 1.02 * size.step for size in sizes for x in known):
            message = "a size in binary megabytes (MiB) is called MB; the cap is decimal."
            computed = f"{min(totals) / 1e6:.3f} to {max(totals) / 1e6:.3f} MB"
            record.out.warn("A9-README-MATCH", message, (record.readme_file, number), f"{sizes[0].text} MB", computed)


def _arithmetic(record: Record) -> None:
    """What the README gets wrong about its own numbers, unless another check has named the line already."""
    assert record.readme is not None
    named = {i.line for i in record.out.items if i.file == record.readme_file and i.verdict is not Verdict.PASS}
    for claim in record.claims:
        if claim.verdict is Verdict.FAIL and claim.line not in named and not claim.what.startswith(("std", "mean of")):
            remedy = "Compute it again; `harness check claims README.md` shows all claims."
            message = f"the README contradicts itself: {claim.what}: {claim.message}."
            at = (record.readme_file, claim.line)
            record.out.warn("A9-README-MATCH", message, at, claim.claimed, claim.right, remedy)
