"""What JSON and README claim against what the logs say: which pass made the number, seed by seed (A9)."""

from __future__ import annotations

import re
from statistics import fmean

from harness.public.logs import RunLog, Score
from harness.public.metadata import EVAL_OF_SEED, STEPS_OF_SEED, TRAIN_OF_SEED
from harness.public.readme import Cell, SeedTable
from harness.public.record import Record, agrees


def check(record: Record) -> None:
    """The claimed score, its pass, each seed's figures, the README's tables."""
    _score(record)
    _seeds_of_json(record)
    if record.readme is not None:
        for table in record.readme.tables:
            _table(record, table)
        _headline(record)
        _sizes(record)
    _parameters(record)


def common_passes(record: Record) -> dict[str, list[Score]]:
    """Passes that every scored log has, by label, last first."""
    logs = record.scored_logs
    if not logs:
        return {}
    shared = [label for label in logs[0].by_label if all(label in log.by_label for log in logs)]
    return {label: [log.by_label[label] for log in logs] for label in reversed(shared)}


def claimed_pass(record: Record) -> str:
    """Label of the pass whose mean over the logs is claimed; empty when there is none."""
    claimed = record.metadata.number("val_bpb") if record.metadata else None
    if claimed is None:
        return ""
    decimals = record.decimals(claimed)
    means = {label: fmean(s.bpb for s in scores) for label, scores in common_passes(record).items()}
    return next((label for label, mean in means.items() if agrees(claimed, decimals, mean)), "")


def _score(record: Record) -> None:
    rule, out, meta = "A9-SCORE-MATCH", record.out, record.metadata
    claimed = meta.number("val_bpb") if meta else None
    if meta is None or claimed is None:
        return
    if not record.scored_logs:
        out.unknown(rule, "no log has a final score to compare the claim with.", file=record.json_file)
        return
    decimals, where, line = record.decimals(claimed), record.json_file, meta.line("val_bpb")
    passes = common_passes(record)
    chosen = claimed_pass(record)
    finals = [log.final for log in record.scored_logs if log.final]
    mean = fmean(score.bpb for score in finals)
    if chosen:
        scores = passes[chosen]
        kind = f"the mean over {len(scores)} seeds" if len(scores) > 1 else "the score"
        out.passed(rule, f"the claim is {kind} of the pass {chosen}.", file=where, line=line, found=claimed)
        _scorer(record, chosen, claimed)
        return
    single = [(log, s) for log in record.logs for s in log.by_label.values() if agrees(claimed, decimals, s.bpb)]
    ended = [(log, s) for log, s in single if log.final is s]
    if ended and len(record.scored_logs) > 1:
        log, _ = ended[0]
        best = min(finals, key=lambda s: s.bpb) is log.final
        out.warn(
            rule,
            f"the claim is one seed's score ({'the best' if best else 'not the mean'} of {len(finals)}).",
            file=where,
            line=line,
            found=claimed,
            computed=f"{log.file}; the mean is {mean:.8f}",
            remedy="Claim the mean over all seeds.",
        )
        _scorer(record, ended[0][1].label, claimed)
    elif single:
        log, score = single[0]
        out.fail(
            rule,
            f"the claim comes from the pass {score.label}, which is not the last one.",
            file=where,
            line=line,
            found=claimed,
            computed=f"{mean:.8f} by the last pass",
            remedy="Claim what the final artifact scored.",
        )
    else:
        _unsupported(record, claimed, decimals, mean)


def _unsupported(record: Record, claimed: float, decimals: int, mean: float) -> None:
    diagnostics = [
        (log, s) for log in record.logs for s in log.passes + log.curve[-1:] if agrees(claimed, decimals, s.bpb)
    ]
    incomplete = bool(record.absent_logs) or _seeds_without_log(record)
    assert record.metadata is not None
    evidence = {
        "file": record.json_file,
        "line": record.metadata.line("val_bpb"),
        "found": str(claimed),
        "computed": f"mean of the final scores {mean:.8f}",
        "remedy": "Claim the mean over the logs that are shipped.",
    }
    if _on_other_lines(record, claimed, decimals):
        message = "the claim stands on lines of a form that isn't known; which pass made it can't be told."
        record.out.warn("A9-SCORE-MATCH", message, **evidence)  # type: ignore[arg-type]
    elif diagnostics:
        log, score = diagnostics[0]
        message = f"the claim is a diagnostic figure ({score.label} in {log.file}), not a final score."
        record.out.fail("A9-SCORE-MATCH", message, **evidence)  # type: ignore[arg-type]
    elif incomplete and abs(claimed - mean) < 0.005:
        record.out.warn("A9-SCORE-MATCH", "the claim rests on seeds whose logs are not here.", **evidence)  # type: ignore[arg-type]
    else:
        record.out.fail("A9-SCORE-MATCH", "the claimed score stands in no log.", **evidence)  # type: ignore[arg-type]


def _on_other_lines(record: Record, claimed: float, decimals: int) -> bool:
    """Whether lines that are no known scoring pass give the claim: itself, or each seed's part of the mean."""
    assert record.metadata is not None
    if decimals >= 5 and any(agrees(claimed, decimals, f.value) for log in record.logs for f in log.figures):
        return True
    results = record.metadata.results
    scores = {log.seed: results[log.seed].numbers.get("val_bpb") for log in record.logs if log.seed in results}
    if not scores or any(score is None for score in scores.values()):
        return False
    mean = fmean(score for score in scores.values() if score is not None)
    return agrees(claimed, decimals, mean) and all(
        any(agrees(scores[log.seed] or 0, 5, f.value) for f in log.figures) for log in record.logs if log.seed in scores
    )


def _seeds_without_log(record: Record) -> bool:
    seeds = record.metadata.seeds if record.metadata else ()
    return bool(set(seeds) - {log.seed for log in record.logs})


def _scorer(record: Record, label: str, claimed: float) -> None:
    rule, out = "A9-SCORER", record.out
    later = [
        (log, log.final)
        for log in record.scored_logs
        if log.final and label in log.by_label and log.final.bpb != log.by_label[label].bpb
    ]
    if later:
        log, score = later[0]
        out.warn(
            rule,
            f"the claimed number is of the pass {label}; a later pass of {len(later)} log(s) gave another.",
            file=log.file,
            line=score.line,
            found=f"{label}: {claimed:g}",
            computed=f"{score.label}: {score.bpb:g}",
            remedy="Say why the last pass doesn't count, and leave it out of the run.",
        )
        return
    words = f"{record.metadata.text('name') if record.metadata else ''}".lower()
    plain = re.fullmatch(r"final_(?:int\d_)?(?:\w+_)?roundtrip|quantized", label)
    sliding = any(re.search(r"sliding|stride", f"{s.label}") for log in record.logs for s in log.passes)
    switched = any("stride" in key or "eval_mode" in key for log in record.logs for key in log.settings)
    if plain and "sliding" in words and not sliding and not switched and not _says_sliding(record):
        out.warn(
            rule,
            "the name claims sliding-window scoring; no line of the logs shows that it ran (#769).",
            file=record.scored_logs[0].file,
            line=record.scored_logs[0].by_label[label].line,
            found=label,
        )
    else:
        out.passed(rule, f"the last pass of every log, {label}, made the claimed number.", found=label)


def _says_sliding(record: Record) -> bool:
    return any((log.final.eval_s or 0) > 30 for log in record.scored_logs if log.final)


def _seeds_of_json(record: Record) -> None:
    meta, out = record.metadata, record.out
    if meta is None or not meta.results:
        return
    clean = True
    for log in record.scored_logs:
        result = meta.results.get(log.seed) if log.seed is not None else None
        if result is None:
            continue
        line = meta.lines.get(str(log.seed), 0)
        for key, value in result.numbers.items():
            problem = _disagrees(record, log, key, value)
            if problem is not None:
                clean = False
                report = out.fail if key == "val_bpb" else out.warn
                report(
                    "A9-SCORE-MATCH" if key == "val_bpb" else "A9-JSON-MATCH",
                    f"seed {log.seed}: {key} is not what the log says.",
                    file=record.json_file,
                    line=line,
                    found=f"{value:g}" if abs(value) < 1e5 else f"{value:,.0f}",
                    computed=f"{problem} in {log.file}",
                    remedy="Copy the figures from the log by script.",
                )
    if clean and record.scored_logs:
        out.passed("A9-JSON-MATCH", "each seed's figures agree with its log.", file=record.json_file)


def _disagrees(record: Record, log: RunLog, key: str, value: float) -> str | None:
    decimals = record.decimals(value)
    if key in ("val_bpb", "val_loss"):
        known = [s.bpb if key == "val_bpb" else s.loss for s in log.by_label.values()]
        figures = [x for x in known if x is not None]
        figures += [f.value for f in log.figures] if key == "val_bpb" and decimals >= 5 else []
        if figures and not any(agrees(value, decimals, x) for x in figures):
            return f"{figures[-1]:g}"
    elif key in STEPS_OF_SEED and log.last_step is not None and int(value) != log.last_step:
        return f"{log.last_step:,} steps"
    elif key in TRAIN_OF_SEED and (log.stop or log.longest_train):
        spent = (log.stop or log.longest_train).value  # type: ignore[union-attr]
        seconds = value / 1000 if key.endswith("_ms") else value
        if abs(seconds - spent) > max(0.011, 1.02 * 10.0**-decimals):
            return f"{spent:.3f} s"
    elif key in EVAL_OF_SEED:
        seconds = value / 1000 if key.endswith("_ms") else value
        times = [c.value for c in log.eval_times] + [s.eval_s for s in log.passes if s.eval_s]
        if times and min(abs(seconds - t) for t in times) > 1.0 and abs(seconds - sum(times)) > 5:
            return f"{times[-1]:.1f} s"
    return None


def _table(record: Record, table: SeedTable) -> None:
    by_seed = {log.seed: log for log in record.logs if log.seed is not None}
    for seed, cells in table.rows.items():
        log = by_seed.get(seed)
        for column, cell in cells.items():
            header = table.columns[column] if column < len(table.columns) else ""
            problem = _cell_problem(log, header, cell) if log and not cell.rough else None
            if problem is not None and log is not None:
                record.out.warn(
                    "A9-README-MATCH",
                    f"seed {seed}, column {header[:40]!r}: the figure is not in the log.",
                    file=record.readme_file,
                    line=table.row_lines[seed],
                    found=cell.text,
                    computed=f"{problem} in {log.file}",
                    remedy="Write the table from the logs by script.",
                )
    _summary(record, table)


def _cell_problem(log: RunLog, header: str, cell: Cell) -> str | None:
    plain = re.sub(r"\W+", " ", header)
    if re.search(r"\b(?:gain|delta|diff|gap|vs)\b", plain):
        return None
    if (
        re.search(r"\b(?:bpb|sliding|loss|nats)\b", plain.replace("val_bpb", "bpb").replace("val_loss", "loss"))
        and cell.decimals >= 3
    ):
        known = [s.bpb for s in log.passes + log.curve] + [s.loss for s in log.passes + log.curve if s.loss]
        near = min(known, key=lambda x: abs(x - cell.value), default=None)
        if near is not None and not any(agrees(cell.value, cell.decimals, x) for x in known):
            return f"nearest {near:g}"
    elif re.fullmatch(r"steps?(?: completed)?", plain.strip()) and cell.decimals == 0 and log.last_step:
        if int(cell.value) != log.last_step:
            return f"{log.last_step:,}"
    elif re.search(r"artifact|total|submission", plain) and cell.value > 1e6 and log.total:
        if int(cell.value) not in {int(item.value) for item in log.totals}:
            return f"{int(log.total.value):,}"
    elif (
        re.fullmatch(r"train (?:ms|time ms)", plain.strip())
        and log.stop
        and abs(cell.value - log.stop.value * 1000) > 10
    ):
        return f"{log.stop.value * 1000:,.0f} ms"
    return None


def _summary(record: Record, table: SeedTable) -> None:
    mean = table.summary.get("mean", {})
    for column, cell in mean.items():
        values = [row[column] for row in table.rows.values() if column in row]
        header = table.columns[column] if column < len(table.columns) else ""
        if len(values) != len(table.rows) or len(values) < 2 or any(v.rough for v in values) or cell.rough:
            continue
        computed = fmean(v.value for v in values)
        coarse = max(10.0 ** -min(v.decimals for v in [*values, cell]), 10.0**-cell.decimals)
        if abs(computed - cell.value) > 1.02 * coarse:
            record.out.warn(
                "A8-MEAN",
                f"column {header[:40]!r}: the mean is not the mean of its rows.",
                file=record.readme_file,
                line=table.summary_lines["mean"],
                found=cell.text,
                computed=f"{computed:.{max(cell.decimals, 1)}f}",
            )


def _headline(record: Record) -> None:
    readme, meta = record.readme, record.metadata
    claimed = meta.number("val_bpb") if meta else None
    if readme is None or not readme.headlines or meta is None or claimed is None:
        return
    decimals = record.decimals(claimed)
    for stated in readme.headlines:
        if agrees(stated.value, min(stated.decimals, decimals), claimed):
            message = "README and JSON claim the same score."
            record.out.passed("A9-README-MATCH", message, file=record.readme_file, line=stated.line)
            return
    stated = readme.headlines[0]
    logged = [s.bpb for log in record.logs for s in log.passes]
    known = any(agrees(stated.value, stated.decimals, value) for value in logged)
    record.out.warn(
        "A9-README-MATCH",
        "README and JSON state different scores" + ("; the README's stands in a log." if known else "."),
        file=record.readme_file,
        line=stated.line,
        found=f"{stated.value:g}",
        computed=f"{claimed:g} in {record.json_file}",
    )


def _sizes(record: Record) -> None:
    assert record.readme is not None
    totals = [log.total.value for log in record.logs if log.total]
    if not totals:
        return
    figures = {"smallest": min(totals), "mean": fmean(totals), "largest": max(totals)}
    models = [item.value for log in record.logs for item in log.models if item.label]
    for stated in record.readme.sizes[:4]:
        unit, half = 1e6, 1.02 * 10.0**-stated.decimals
        if any(abs(value / unit - stated.value) <= half for value in [*totals, *figures.values(), *models]):
            continue
        binary = any(abs(value / 2**20 - stated.value) <= half for value in [*totals, *models])
        record.out.warn(
            "A9-README-MATCH",
            "a size in binary megabytes (MiB) is called MB; the cap is decimal."
            if binary
            else "a size that no log gives.",
            file=record.readme_file,
            line=stated.line,
            found=f"{stated.value:g} MB",
            computed=", ".join(f"{name} {value / unit:.3f} MB" for name, value in figures.items()),
        )


def _parameters(record: Record) -> None:
    counts = {int(log.parameters.value): log for log in record.logs if log.parameters}
    rule, out = "A9-MODEL-MATCH", record.out
    stated = record.metadata.raw.get("model_params") if record.metadata else None
    if len(counts) > 1:
        (first, log), (second, other) = list(counts.items())[:2]
        out.fail(
            rule,
            "the logs are of different models.",
            file=other.file,
            line=other.parameters.line if other.parameters else 0,
            found=f"{second:,} parameters",
            computed=f"{first:,} in {log.file}",
            remedy="Run every seed with the shipped script.",
        )
    elif counts and type(stated) is int and stated not in counts:
        out.warn(
            rule,
            "the JSON's parameter count is not the logs'.",
            file=record.json_file,
            found=f"{stated:,}",
            computed=f"{next(iter(counts)):,}",
        )
    elif counts:
        out.passed(rule, f"{next(iter(counts)):,} parameters in every log that states them.")
    else:
        out.unknown(rule, "no log states a parameter count.")
