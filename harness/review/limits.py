"""Clocks and sizes of the claimed runs against the caps: training, calibration, evaluation, artifact (A1, A2, A3)."""

import re
from statistics import fmean

from harness.review.jsonfile import is_number, shown
from harness.review.logs import Run, Stat
from harness.review.number import read_numbers
from harness.review.patterns import WORDS
from harness.review.record import Record, each
from harness.rules import Verdict


@each("training")
def train_clock(record: Record, run: Run) -> None:
    """The training loop's own clock."""
    rule, out, readings = "A1-TRAIN-CLOCK", record.out, record.readings
    spent = run.train_time
    if not record.official:
        out.passed(rule, "this track has no training cap.")
        return
    for other, item in ((one, item) for one in record.runs for item in one["own_checks"]):
        if item.value >= float(item.label.rsplit("< ", 1)[1].rstrip(".)")):
            message = "the run's own line names a limit and is over it."
            out.warn(rule, message, other.place(item), item.label, "", "Say which clock counts it.")
    if spent is None:
        out.unknown(rule, "the log states no training time.", run.file)
        return
    cap, at = readings.train_cap_s, f"{spent.value:.3f} s"
    early = run.early_adaptation
    done = [item for item in run["adaptations"] if early and early.line < item.line < run.packed[0].line]
    if done and (both := spent.value + done[-1].value) > cap + readings.train_overshoot_s:
        message = "training and the test-time training before packing overrun the cap: the model is made only then."
        out.warn(rule, message, run.place(done[-1]), f"{at} + {done[-1].value:.1f} s = {both:.1f} s", f"cap {cap:g} s")
    over = spent.value - cap
    if over <= 0:
        out.passed(rule, f"training took {at}.", run.place(spent), at)
        return
    close, hardware = over <= readings.train_overshoot_s + 1e-9, run.other_hardware
    why = "; the loop looks at its clock after a step" * close + f", not on 8 H100 ({hardware})" * bool(hardware)
    remedy = "Stop one step earlier." if close else "Stop earlier, or repeat the run within the cap."
    certain, message = record.bound.certain and not (close or hardware), f"training overran the cap by {over:.3f} s"
    out.add(certain, rule, f"{message}{why}.", run.place(spent), at, f"cap {cap:.3f} s", remedy)


@each("training")
def calibration(record: Record, run: Run) -> None:
    """Training and calibration together."""
    rule, out, cap = "A1-CALIBRATION", record.out, record.readings.train_cap_s
    told = run["calibrations"] + run["hessians"]
    if not told or not record.official:
        return
    text = " ".join(item.label for item in told)
    trained_on = WORDS["train_text"].search(WORDS["not_train_text"].sub("", text))
    if WORDS["own_text"].search(text) and not trained_on:
        out.passed(rule, "calibrated on text that the model wrote itself.", run.place(told[0]), told[0].label)
        return
    loop, seconds = run.train_time, run.hessian_seconds
    reserve = sum(item.value for item in run["reserves"][-1:])
    if loop is None:
        out.unknown(rule, "calibration is logged, the training time is not.", run.file)
        return
    if loop.value > cap + record.readings.train_overshoot_s:
        return  # The loop alone is over the cap: that is said by its own rule.
    what = "tables" if "built in" in text else "Hessians"
    timed = f" + {what} {seconds:.1f} s = {loop.value + seconds:.1f} s" if run["hessians"] else f", {what} not timed"
    figures = f"loop {loop.value:.1f} s{timed}, reserve {reserve:g} s"
    at = run.place((run["hessians"] or run["calibrations"])[0])
    kept = not run["hessians"] and reserve >= 1 and loop.value + reserve <= cap + 1
    if kept or (loop.value + seconds <= cap and (run["hessians"] or reserve)):
        out.passed(rule, "training and calibration fit.", at, figures)
    elif loop.value + seconds > cap - 1:
        verdict = Verdict(record.readings.calibration)
        message = "training plus calibration exceed the cap; whether both count is disputed."
        if reserve == 0 and loop.value > cap - 1 and trained_on and record.bound.certain:
            verdict, message = Verdict.FAIL, "calibration on training data after the whole budget was trained away."
        elif not run["hessians"]:
            message = "calibration begins when the budget is used up, without a reserve; its time and data aren't told."
        out.add(verdict, rule, message, at, figures, f"cap {cap:g} s")


def eval_readings(run: Run, name: str) -> tuple[float, float, Stat] | None:
    """Seconds of the claimed pass and of all passes, and where. ``None`` when nothing is timed.

    name: the claimed pass; where the run has none of that name, the last pass stands in
    A timer around others is no further pass: the longest of them and the sum of the passes, whichever is more, is all.
    """
    final = run.by_name.get(name, run.final)
    lines, spans = {item.line for item in run.passes}, {item.seconds for item in run.passes}  # or on its other line
    loose = [i for i in run["eval_times"] if i.value > 0 and i.line not in lines and i.value not in spans]
    extra = sum(item.value for item in loose if item.label.endswith(":precompute"))
    scored = sum(item.value for item in loose if "bpb" in item.label)
    outer = [item for item in loose if not item.label.endswith(":precompute")]
    if final is not None and final.seconds:
        scorer = Stat(final.name, final.seconds + extra, final.line)
    elif outer:
        scorer = outer[-1]
    else:
        return None
    trained = sum(item.value for item in run["adaptations"]) if run.epochs_first else 0
    every = sum(item.seconds or 0 for item in run.passes) + extra + scored + trained
    return scorer.value, max(every, scorer.value, *(item.value for item in outer)), scorer


@each("runs")
def eval_clock(record: Record, run: Run) -> None:
    """Evaluation in two readings."""
    rule, out, cap, reading = "A2-EVAL-CLOCK", record.out, record.readings.eval_cap_s, record.readings.eval_clock
    spans = eval_readings(run, record.bound.name)
    if not record.official:
        out.passed(rule, "this track has no evaluation cap.")
        return
    if spans is None:
        out.unknown(rule, "the log states no evaluation time.", run.file)
        return
    scorer, total, at = spans
    warm = sum(item.value for item in run["warm_ups"])
    figures = f"scorer {scorer:.1f} s, all passes {total:.1f} s" + f", compiling {warm:.1f} s" * bool(warm)
    hardware = run.other_hardware or ("" if run.world or run["gpus"] else "the log does not name them")
    certain, message, remedy = False, f"evaluation takes longer than {cap:g} s", "Score with fewer or shorter passes."
    if {"scorer": scorer, "sum": total}[reading] <= cap:
        apart = f"in the reading {reading!r} only: staff have summed operations"
        apart = apart if total > cap else f"only without the {warm:.1f} s of compiling: whether they count is disputed"
        message, remedy = f"within {cap:g} s {apart}", "Leave diagnostic passes out, or keep the sum under the cap."
    elif hardware:
        message += f", not on 8 H100 for all that is known: {hardware}"
    else:
        certain = record.bound.certain and record.bound.name != ""
        message += f" in the reading {reading!r}"
    if total + warm <= cap:
        out.passed(rule, "evaluation fits in every reading.", run.place(at), figures)
    else:
        out.add(certain, rule, f"{message}.", run.place(at), figures, f"cap {cap:g} s", remedy)


def eval_table(record: Record) -> None:
    """The README's total of its evaluations: a row of its table that this leaves out takes time too."""
    cap, message = record.readings.eval_cap_s, "the README's total of its evaluations leaves out a row of its table."
    for table, i in ((one, i) for one in record.readme.tables for i in range(len(one.kinds)) if record.official):
        numbers = [(row, n) for row in table.rows for n in read_numbers(row.cell(i))[:1] if n.kind == "seconds"]
        parts = [n.value for row, n in numbers if WORDS["eval_row"].search(row.label)]
        for row, n in numbers:
            if WORDS["eval_total"].match(row.label) and n.value <= cap < sum(parts):
                text = f"{' + '.join(f'{part:g}' for part in parts)} = {sum(parts):g} s"
                record.out.warn("A2-EVAL-CLOCK", message, (record.readme_file, row.line), n.text, text)


@each("sized")
def artifact(record: Record, run: Run) -> None:
    """Every claimed run's artifact against the cap."""
    rule, out, cap, meta = "A3-ARTIFACT-BYTES", record.out, record.readings.artifact_cap_bytes, record.metadata
    total, (model, code) = run.total, run.model_and_code
    if total is None:
        out.unknown(rule, "the log states no artifact size.", run.file)
        return
    value, sizes = int(total.value), {int(item.value) for item in run["totals"] if item.label}
    sums = {int(packed.value + one.value) for packed in run.packed for one in run["codes"]}
    if sums and sizes and not sums & sizes:
        message = "the log's total is not its model plus its code."
        values = f"{value:,} bytes", f"{max(sums):,} bytes"
        out.warn("A3-CODE-BYTES", message, run.place(total), *values, "Ship the log as the run wrote it.")
    if value <= cap:
        out.passed(rule, f"{cap - value:,} bytes under the cap.", run.place(total), f"{value:,} bytes")
        return
    claimed = meta.size_of(run.seed) or meta.number("bytes_total")
    extra = int(code.value) if code else 0
    told = {int(i.value) + more for i in run["totals"] + run["models"] for more in (0, extra)}
    unread = any(WORDS["table_file"].search(n) and n not in record.folder.sizes for n in record.folder.listing)
    words = " ".join(record.told)
    other = claimed is not None and claimed.value <= cap and (unread or int(claimed.value) in told)
    other = other and not re.search(r'"\w*under_16\w*": ?false', words)
    other = bool(other or re.search(r"\bre-?(?:pack|export|quanti[sz]|compress)", words, re.IGNORECASE))
    message = f"the artifact is {value - cap:,} bytes over the cap by the run's own line"
    shipped = (record.folder.size_of(record.main_code) or 0) if record.main_code else 0
    if model and shipped and model.value + shipped <= cap:
        message += f"; with the shipped {record.main_code} it would be {int(model.value) + shipped:,}"
        other = True
    if claimed is not None and claimed.value <= cap:
        message += f"; the JSON claims {claimed.value:,.0f}"
    certain = record.bound.certain and bool(meta.source) and not other and min(sizes | {value}) > cap
    out.add(certain, rule, f"{message}.", run.place(total), f"{value:,} bytes", f"cap {cap:,} bytes")


def code_bytes(record: Record) -> None:
    """One script for all seeds, the one that is shipped, and as large as the JSON says."""
    rule, out, main, meta = "A3-CODE-BYTES", record.out, record.main_code, record.metadata
    shipped = record.folder.size_of(main) if main else None
    of_run = [(run, [code for code in run["codes"] if code.label != "compressed"]) for run in record.bound.training]
    ran = {int(codes[-1].value): run for run, codes in of_run if codes}
    if len({run.key for run in ran.values()}) > 1:
        other, text = (f"{size:,} bytes in {run.file}" for size, run in list(ran.items())[:2])
        out.warn("A8-SAME-CODE", "the seeds ran scripts of different sizes.", list(ran.values())[1].file, text, other)
    if main is None or not shipped:
        return
    sizes = {size for n in record.folder.names if n.endswith((".py", ".sh")) and (size := record.folder.size_of(n))}
    sizes |= {shipped + size for size in sizes} | {sum(sizes)}
    sizes |= {size + end for size in sizes for end in (-1, 1)}  # the end of the last line
    logged = [code for run in record.runs for code in run["codes"]]
    compressed = {int(code.value) for code in logged if code.label == "compressed"}
    unlike = {size: run for size, run in ran.items() if size not in sizes}
    values = (f"{main} has {shipped:,} bytes", "Ship the file that ran, and run all seeds with it (#2124).")
    for run in list(unlike.values())[:1] if len(unlike) == len(ran) else ():
        counted = min(run["codes"], key=lambda code: abs(code.value - shipped))
        message = "the log counts a script of another size than the shipped file."
        out.warn(rule, message, run.place(counted), f"{counted.value:,.0f} bytes", *values)
    if not ran:
        out.unknown(rule, "no log states a code size.")
    elif not unlike:
        out.passed(rule, "the logs counted a file that is shipped.", main, f"{shipped:,} bytes")
    claimed = meta.number("bytes_code")
    sizes |= {0} | ({int(code.value) for code in logged} & {*unlike, *compressed})
    if claimed is not None and int(claimed.value) not in sizes:
        at = (record.json_file, meta.line("bytes_code"))
        out.warn(rule, "the claimed code size is not the shipped file's.", at, f"{claimed.value:,.0f}", *values)
    models = [(int(model.value), run.file) for run in record.bound.sized if (model := run.model_and_code[0])]
    packed, largest = max(models, default=(0, ""))
    cap, total = record.readings.artifact_cap_bytes, packed + shipped
    if total > cap and packed and not out.has("A3-ARTIFACT-BYTES"):
        remark = "; the log counts a compressed copy that isn't shipped" if compressed else ""
        strict = record.readings.code_bytes == "shipped"
        message = f"model plus the shipped script is {total - cap:,} bytes over the cap{remark}."
        remedy = "Ship the compressed script that was counted, or make room for the readable one."
        text = f"{packed:,} + {shipped:,} = {total:,} bytes"
        out.add(strict, "A3-ARTIFACT-BYTES" if strict else rule, message, largest, text, f"cap {cap:,} bytes", remedy)


def claimed_bytes(record: Record) -> None:
    """The JSON's size of the whole against the logs'; those of its seeds are compared with all other figures."""
    rule, out, meta = "A3-CLAIMED-BYTES", record.out, record.metadata
    cap, claimed = record.readings.artifact_cap_bytes, meta.number("bytes_total")
    at, totals = (record.json_file, meta.line("bytes_total")), [(run, run.total) for run in record.bound.sized]
    told = [int(size.value) for seed in meta.results if (size := meta.size_of(seed))]
    values = [int(total.value) for _, total in totals if total]
    models = {number.value for key in meta.raw if "model" in key and (number := meta.raw[key]) and is_number(number)}
    shipped = record.folder.size_of(record.main_code or "") or 0
    beside = [claimed.value - model for model in models if 0 <= claimed.value - model < 1e6] if claimed else []
    if claimed is not None and claimed.value and beside and not values and beside[0] < 0.8 * max(shipped, 1):
        message = "by the JSON's own word the claimed size is the model's, without all of the code."
        found, text = f"{claimed.value:,.0f}, {beside[0]:,.0f} of it beside the model", f"{shipped:,} bytes of code"
        out.warn(rule, message, at, found, text if shipped else "", "State model and code together.")
    for run in record.bound.others if record.claimed is None else ():
        if (total := run.total) and total.label and total.value > cap:
            message = f"a run of a folder that claims no score is {total.value - cap:,.0f} bytes over the cap."
            out.warn("A3-ARTIFACT-BYTES", message, run.place(total), f"{total.value:,.0f} bytes")
    if claimed is not None and claimed.value > cap:
        near, message = not values or max(values) > cap, "the claimed size is over the cap."
        out.add(near, "A3-ARTIFACT-BYTES", message, at, shown(claimed), f"cap {cap:,} bytes")
    exact = int(claimed.value) if claimed else 0
    zeros, rounded = 10 ** (len(str(exact)) - len(str(exact).rstrip("0"))), "the claimed size is rounded"
    if claimed is not None and not values and zeros >= 10_000 and exact:
        out.warn(rule, f"{rounded}: the cap is judged to the byte.", at, shown(claimed))
    if claimed is not None and (values := values or told):
        own = [size.value for run, _ in totals if (size := meta.size_of(run.seed))]
        near = zeros >= 1_000 and any(abs(exact - value) < zeros for value in values)
        averaged = any(len(of) > 1 and abs(exact - fmean(of)) < 1 for of in (values, own))
        once = record.claimed if len({run.key for run, _ in totals}) == 1 else None  # reruns, of which one is claimed
        its = [t.value for run, t in totals if once and t and any(once.gives(i.bpb.value) for i in run.passes)]
        logged = {of: {int(item.value) for run in record.runs for item in run[of]} for of in ("totals", "models")}
        known = (
            (exact in its or exact == max(values), ""),
            (exact in values, "the claim is one seed's size, not the largest"),
            (averaged and told and "mean" in meta.spelt["bytes_total"], ""),
            (averaged, "the claim is the mean over seeds; the largest decides"),
            (exact in logged["totals"], "the claimed size is that of another run of the folder" * bool(record.claimed)),
            (exact in logged["models"], "the claimed size is a model's, without the code"),
            (record.mentions(claimed, [run.file for run in record.runs]), ""),
            (near, f"{rounded}: the cap is judged to the byte"),
        )
        remark = next((text for holds, text in known if holds), "the claimed size is in no log")
        if remark and (values is not told or "seed" in remark):
            sizes = f"sizes: {', '.join(f'{value:,}' for value in values[:5])}"
            out.warn(rule, f"{remark}.", at, f"{claimed.value:,.0f}", sizes)
        elif exact == max(values):
            out.passed(rule, "the claim is the largest seed's size.", at, shown(claimed))
