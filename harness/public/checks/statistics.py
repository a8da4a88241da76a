"""Mean, deviation, test and margin as claimed, against what the logs give (A8)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from statistics import fmean, pstdev, stdev

from harness.public.checks.claims import claimed_pass, common_passes
from harness.public.figures import FINEST, agrees, fits, significant
from harness.public.readme import Cell, SeedTable, Stated
from harness.public.record import Record

BASELINE_KEYS = re.compile(
    r"(?:^|_)(?:base|baseline|prev|previous|sota|reference)\w*(?:bpb)|(?:bpb)\w*(?:base|baseline|sota)", re.IGNORECASE
)
BASELINE_TEXT = re.compile(r"\b(?:SOTA|baseline|beats?|previous|merged|threshold|PR #\d+|against)\b", re.IGNORECASE)
OF_SCORES = re.compile(r"bpb|loss|nats")
NO_SCORE = re.compile(r"gain|delta|diff|gap|\bvs\b|[δΔ]")
OTHER_POOL = re.compile(r"\ball \d+\b|\b\d+ runs\b", re.IGNORECASE)


def check(record: Record) -> None:
    """All of the above, for the final scores of the logs."""
    scores = final_scores(record)
    if len(scores) < 2:
        if record.official:
            record.out.unknown("A8-TEST", "one score: no deviation, no test.")
        return
    _deviations(record, scores)
    _means(record, scores)
    _tests(record, scores)
    _margin(record, scores)


def final_scores(record: Record) -> list[float]:
    """bpb of each log by the pass that the claim rests on, else by the last pass that all logs share."""
    passes = common_passes(record)
    scores = passes.get(claimed_pass(record)) or next(iter(passes.values()), [])
    return [score.bpb for score in scores]


def _is_deviation(stated: Stated, pool: list[float], printed: int) -> bool:
    deviations = (stdev(pool), pstdev(pool))
    return any(agrees(stated.value, stated.decimals, deviation, printed) for deviation in deviations)


def _claimed_stds(record: Record) -> Iterator[tuple[Stated, str, str, list[Cell]]]:
    """A stated deviation, its file, "val_loss_std" or "val_bpb_std" when it says of what, and the rows above it."""
    meta, readme = record.metadata, record.readme
    if meta is not None:
        for name in ("val_bpb_std", "val_loss_std"):
            value = meta.number(name)
            if value is not None:
                yield Stated(value, value.decimals, meta.line(name), name), record.json_file, name, []
    if readme is not None:
        for stated in readme.stds:
            if stated.value == 0 or OTHER_POOL.search(stated.text):
                continue
            yield stated, record.readme_file, "", []
        for table in readme.tables:
            yield from _table_stds(record, table)


def _table_stds(record: Record, table: SeedTable) -> Iterator[tuple[Stated, str, str, list[Cell]]]:
    line = table.summary_lines.get("std", 0)
    for column, cell in table.summary.get("std", {}).items():
        header = table.columns[column] if column < len(table.columns) else ""
        rows = [row[column] for row in table.rows.values() if column in row]
        if OF_SCORES.search(header) and not (cell.rough or NO_SCORE.search(header) or len(rows) < len(table.rows)):
            name = "val_bpb_std" if "bpb" in header else "val_loss_std"
            if len(rows) > 1:
                yield Stated(cell.value, cell.decimals, line, header), record.readme_file, name, rows


def _pools(record: Record) -> dict[str, list[float]]:
    pools: dict[str, list[float]] = {}
    for label, scores in common_passes(record).items():
        pools[f"bpb of {label}"] = [score.bpb for score in scores]
        losses = [score.loss for score in scores if score.loss is not None]
        if len(losses) == len(scores):
            pools[f"loss of {label}"] = losses
    totals = [log.total.value for log in record.logs if log.total]
    if len(totals) > 1:
        pools["bytes"] = totals
    return pools


def _deviations(record: Record, scores: list[float]) -> None:
    rule, out = "A8-STD", record.out
    pools = _pools(record)
    for stated, file, name, rows in _claimed_stds(record):
        wanted = [v for k, v in pools.items() if not name or ("loss" in name) == k.startswith("loss")]
        # The logs decide; a table's own rows, which are rounded, only where no pass of the logs fits.
        printed = min((cell.decimals for cell in rows), default=FINEST)
        own = [cell.value for cell in rows]
        of_logs = [pool for pool in wanted if _is_deviation(stated, pool, FINEST)]
        chosen, digits = (of_logs, FINEST) if of_logs or not own else ([own], printed)
        nearest = own or scores
        sample, population = stdev(nearest), pstdev(nearest)
        both = f"sample {sample:.8f}, population {population:.8f}"
        if any(agrees(stated.value, stated.decimals, stdev(pool), digits) for pool in chosen):
            out.passed(rule, "the deviation is the sample deviation.", file=file, line=stated.line, found=stated.value)
        elif any(agrees(stated.value, stated.decimals, pstdev(pool), digits) for pool in chosen):
            out.warn(
                rule,
                "the deviation is the population's (divided by n); a test over seeds needs the sample's (n - 1).",
                file=file,
                line=stated.line,
                found=stated.value,
                computed=both,
                remedy="Quote the sample deviation.",
            )
        elif name or abs(stated.value - sample) < 0.005:
            out.warn(
                rule,
                "the deviation is neither the sample's nor the population's of the logs.",
                file=file,
                line=stated.line,
                found=stated.value,
                computed=both,
                remedy="Compute it from the logs.",
            )


def _means(record: Record, scores: list[float]) -> None:
    rule, out = "A8-MEAN", record.out
    if record.readme is None:
        return
    known = [fmean(values) for values in _pools(record).values()]
    mean = fmean(scores)
    for stated in record.readme.means[:6]:
        if any(agrees(stated.value, stated.decimals, value) for value in known):
            out.passed(
                rule,
                "the stated mean is that of the logs.",
                file=record.readme_file,
                line=stated.line,
                found=stated.value,
            )
        elif (
            abs(stated.value - mean) < 0.003
            and not re.search(r"PR #|SOTA|previous|base", stated.text)
            and not OTHER_POOL.search(stated.text)
        ):
            out.warn(
                rule,
                "the stated mean is not that of the logs.",
                file=record.readme_file,
                line=stated.line,
                found=stated.value,
                computed=f"{mean:.8f}",
            )


def baselines(record: Record, scores: list[float]) -> list[tuple[str, list[float]]]:
    """What the folder compares itself with: a name and its scores (one, or one a seed), worse than its own mean."""
    mean = fmean(scores)
    every = [s.bpb for log in record.logs for s in log.passes + log.curve]
    found: list[tuple[str, list[float]]] = []
    if record.metadata is not None:
        for key, value in record.metadata.raw.items():
            if (
                BASELINE_KEYS.search(key)
                and "delta" not in key
                and isinstance(value, float)
                and mean < value < mean + 0.2
            ):
                found.append((f"{key} of {record.json_file}", [value]))
    if record.readme is not None:
        by_line: dict[int, list[Stated]] = {}
        for stated in record.readme.scores:
            by_line.setdefault(stated.line, []).append(stated)
        for line, group in by_line.items():
            others = [
                s
                for s in group
                if not any(agrees(s.value, s.decimals, v) for v in [mean, *scores, *(every if s.decimals > 4 else [])])
            ]
            worse = [s.value for s in others if mean < s.value < mean + 0.2 and not OTHER_POOL.search(s.text)]
            where = f"{record.readme_file}:{line}"
            if not worse or not BASELINE_TEXT.search(group[0].text):
                continue
            fine = [s.value for s in others if s.decimals >= 6]
            if len(fine) > 1 and min(fine) > mean - 0.05:
                found.append((where, fine[:10]))
            found += [(where, [value]) for value in dict.fromkeys(worse)]
    return found[:40]


def _tests(record: Record, scores: list[float]) -> None:
    rule, out = "A8-TEST", record.out
    claims = list(_claimed_tests(record))
    if not claims:
        return
    candidates = list(_possible_tests(scores, baselines(record, scores)))
    for stated, kind, file in claims:
        match = next((c for c in candidates if fits(stated.value, stated.decimals, _of(c, kind))), None)
        other_sign = next((c for c in candidates if fits(-stated.value, stated.decimals, _of(c, kind))), None)
        if match and kind == "p" and significant(stated.value, stated.decimals) < 2:
            out.unknown(
                rule,
                f"p = {stated.value:g} has one digit: the {match[0]} rounds to it, and so may others.",
                file=file,
                remedy="State p with two significant digits or more.",
            )
        elif match is None and kind == "t" and other_sign:
            out.unknown(
                rule,
                f"t = {stated.value:g} has the size of the {other_sign[0]}, whose t is {other_sign[1]:.3f}.",
                file=file,
                remedy="Subtract the baseline from the record: a better record has a negative t.",
            )
        elif match:
            out.passed(
                rule, f"{kind} = {stated.value:g} is the {match[0]}.", file=file, line=stated.line, found=stated.value
            )
        elif candidates:
            nearest = min(candidates, key=lambda c: abs(_of(c, kind) - stated.value))
            out.warn(
                rule,
                f"{kind} = {stated.value:g} follows from none of the tests that the folder's numbers allow.",
                file=file,
                line=stated.line,
                found=stated.value,
                computed=f"{nearest[0]}: t = {nearest[1]:.3f}, p = {nearest[2]:.4g}",
                remedy="Name test, baseline and seeds.",
            )
        else:
            out.unknown(
                rule,
                f"{kind} = {stated.value:g} can't be computed: the baseline's scores are not in the folder.",
                file=file,
            )


def _of(test: tuple[str, float, float], kind: str) -> float:
    return test[1] if kind == "t" else test[2]


def _claimed_tests(record: Record) -> Iterator[tuple[Stated, str, str]]:
    meta, readme = record.metadata, record.readme
    if meta is not None:
        for name, kind in (("t_statistic", "t"), ("p_value", "p")):
            value = meta.number(name)
            if value is not None:
                yield Stated(value, value.decimals, meta.line(name), name), kind, record.json_file
    if readme is not None:
        yield from ((stated, "t", record.readme_file) for stated in readme.t_values[:4])
        yield from ((stated, "p", record.readme_file) for stated in readme.p_values[:4])


def _possible_tests(scores: list[float], found: list[tuple[str, list[float]]]) -> Iterator[tuple[str, float, float]]:
    from scipy import stats

    from harness.stats.compare import welch

    deviation = stdev(scores)
    if deviation <= 0:
        return
    for where, values in found:
        if len(values) > 1:
            result = welch(scores, values)
            yield f"one-sided Welch test against the {len(values)} scores at {where}", result.statistic, result.p
            yield f"two-sided Welch test against {where}", result.statistic, min(1.0, 2 * min(result.p, 1 - result.p))
            t = float(stats.ttest_ind(scores, values).statistic)
            yield f"Student test against {where}", t, float(stats.t.cdf(t, len(scores) + len(values) - 2))
        else:
            t = (fmean(scores) - values[0]) / (deviation / math.sqrt(len(scores)))
            p = float(stats.t.cdf(t, len(scores) - 1))
            yield f"one-sample test against {values[0]:g} ({where})", t, p
            yield f"two-sided one-sample test against {values[0]:g} ({where})", t, 2 * min(p, 1 - p)


def _margin(record: Record, scores: list[float]) -> None:
    rule, out, readings = "A8-MARGIN", record.out, record.readings
    if not record.official:
        return
    single = [(where, values[0]) for where, values in baselines(record, scores) if len(values) == 1]
    log = next((log for log in record.scored_logs if log.val_tokens and log.final and log.final.loss), None)
    if not single or log is None or log.final is None or log.final.loss is None:
        out.unknown(
            rule, "the folder states no score of the record that it beats.", remedy="Name it, or give --against FOLDER."
        )
        return
    stated = [item for item in single if item[0].endswith(record.json_file)] or single
    where, base = min(stated, key=lambda item: item[1])
    gain = base - fmean(scores)
    per_token, per_byte = gain * log.final.loss / log.final.bpb, gain * math.log(2)
    readings_text = f"{per_token:.5f} nats/token, {per_byte:.5f} nats/byte, {gain:.5f} bpb"
    chosen = {"nats/token": per_token, "nats/byte": per_byte, "bpb": gain}[readings.margin_unit]
    if chosen >= readings.margin_nats:
        out.passed(rule, f"beats {base:g} ({where}) by {readings_text}.", found=readings_text)
    else:
        out.warn(
            rule,
            f"beats {base:g} ({where}) by less than {readings.margin_nats:g} {readings.margin_unit}.",
            found=readings_text,
            computed=f"wanted {readings.margin_nats:g} {readings.margin_unit}",
            remedy="Claim it as a systems change, or improve further.",
        )
