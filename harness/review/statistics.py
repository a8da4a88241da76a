"""Mean, deviation, test and margin as claimed, against what the logs give; and the test against a predecessor (A8)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean, pstdev, stdev

from harness.errors import UsageError
from harness.review.jsonfile import is_number
from harness.review.number import Number
from harness.review.record import Record, load_record, shared_passes
from harness.rules import Verdict

_BASELINE_KEYS = re.compile(
    r"(?:^|_)(?:base|baseline|prev|previous|sota|reference)\w*(?:bpb)|(?:bpb)\w*(?:base|baseline|sota)", re.IGNORECASE
)
_BASELINE_TEXT = re.compile(r"\b(?:SOTA|baseline|beats?|previous|merged|threshold|PR #\d+|against)\b", re.IGNORECASE)
_OTHER_POOL = re.compile(r"\ball \d+\b|\b\d+ runs\b|PR #|SOTA|previous|base|ablat", re.IGNORECASE)
_MEAN = re.compile(r"\bmean\b[^\n|]{0,40}?[ :=`(](\d\.\d{4,10})", re.IGNORECASE)
_T = re.compile(r"\bt(?:-statistic)?[^\w\-−]{1,5}([-−]?\d+\.\d+)")
_P = re.compile(r"\bp(?:-value)?\s*(=|<<|<|≈|of)\s*(0\.\d+|\d(?:\.\d+)?e-\d{1,3})")
_SCORE = re.compile(r"(?<![\d.])([01]\.\d{4,8})(?!\d)")
Test = tuple[str, float, float]
"""What it tests, t and p."""


def check(record: Record) -> None:
    """All of the above, for the claimed scores of the logs."""
    pools = _pools(record)
    for claim in record.claims:
        if claim.verdict not in (Verdict.FAIL, Verdict.WARN) or not re.match(
            r"(?:sample |population )?std", claim.what
        ):
            continue
        stated = Number.of(re.sub(r"[^\d.e-]", "", claim.claimed.split(" ")[0]) or "nan")
        if any(stated.gives(stdev(pool)) for pool in pools):
            continue
        words = "the deviation is the population's (divided by n); a test over seeds needs the sample's (n - 1)."
        message = words if claim.verdict is Verdict.WARN else f"{claim.what}: {claim.message}."
        at = (record.readme_file, claim.line)
        record.out.warn("A8-STD", message, at, claim.claimed, claim.right, "Quote the sample deviation.")
    scores = final_scores(record)
    if len(scores) < 2:
        if record.official:
            record.out.unknown("A8-TEST", "one score: no deviation, no test.")
        return
    _deviations(record, scores, pools)
    _means(record, scores, pools)
    found = baselines(record, scores)
    _tests(record, scores, found)
    _margin(record, scores, found)


def final_scores(record: Record) -> list[float]:
    """bpb of each claimed run, by the claimed pass."""
    return [item.bpb.value for item in record.bound.scores() if math.isfinite(item.bpb.value)]


def _pools(record: Record) -> list[list[float]]:
    """Figures of the claimed runs, and of all scored ones, that a deviation or mean may be of."""
    pools: list[list[float]] = []
    for runs in (record.bound.runs, [run for run in record.runs if run.final]):
        for items in shared_passes(runs).values():
            pools.append([item.bpb.value for item in items])
            pools.append([item.loss.value for item in items if item.loss is not None])
        pools.append([run.curve[-1].bpb.value for run in runs if run.curve])
        pools.append([run.total.value for run in runs if run.total])
    return [pool for pool in pools if len(pool) > 1 and all(map(math.isfinite, pool))]


def _deviations(record: Record, scores: list[float], pools: list[list[float]]) -> None:
    rule, out, meta = "A8-STD", record.out, record.metadata
    for name in ("val_bpb_std", "val_loss_std"):
        stated = meta.number(name) if meta else None
        if meta is None or stated is None or stated.value == 0:
            continue
        at, both = (record.json_file, meta.line(name)), f"sample {stdev(scores):.8f}, population {pstdev(scores):.8f}"
        if any(stated.gives(stdev(pool), 0.51e-8) for pool in pools):
            out.passed(rule, "the deviation is the sample deviation.", at, stated.text)
        elif any(stated.gives(pstdev(pool), 0.51e-8) for pool in pools):
            message = "the deviation is the population's (divided by n); a test over seeds needs the sample's (n - 1)."
            out.warn(rule, message, at, stated.text, both, "Quote the sample deviation.")
        elif not record.incomplete:
            message = "the deviation is neither the sample's nor the population's of the logs."
            out.warn(rule, message, at, stated.text, both, "Compute it from the logs.")


def _means(record: Record, scores: list[float], pools: list[list[float]]) -> None:
    """Means in prose that neither logs, nor any three of them, nor a table of the README give."""
    readme, mean = record.readme, fmean(scores)
    if readme is None or record.incomplete:
        return
    known = [fmean(pool) for pool in pools] + [column.mean.value for column in readme.columns]
    for line in readme.lines:
        hit = _MEAN.search(line.text)
        stated = Number.of(hit[1]) if hit else None
        if stated is None or _OTHER_POOL.search(line.text) or abs(stated.value - mean) >= 0.003:
            continue
        threes = (fmean(three) for pool in pools for three in islice(combinations(pool, 3), 300))
        claimed = record.claimed is not None and stated.gives(record.claimed.value)
        if not claimed and not any(stated.gives(x) for x in (*known, *threes, *scores)):
            message, at = "the stated mean is not that of the logs.", (record.readme_file, line.number)
            record.out.warn("A8-MEAN", message, at, stated.text, f"{mean:.8f}")
    for claim in record.claims:
        if claim.verdict is Verdict.FAIL and claim.what.startswith("mean of") and not record.out.has("A8-MEAN"):
            at = (record.readme_file, claim.line)
            record.out.warn("A8-MEAN", f"{claim.what}: {claim.message}.", at, claim.claimed, claim.right)


def baselines(record: Record, scores: list[float]) -> list[tuple[str, list[float]]]:
    """What the folder compares itself with: a name and its scores (one, or one a seed), worse than its own mean."""
    mean, found = fmean(scores), list[tuple[str, list[float]]]()
    every = [s.bpb.value for run in record.runs for s in run.passes + run.curve]
    for key, value in record.metadata.raw.items() if record.metadata else ():
        named = _BASELINE_KEYS.search(key) and "delta" not in key and is_number(value)
        if named and mean < value.value < mean + 0.2:
            found.append((f"{key} of {record.json_file}", [value.value]))
    for line in record.readme.every_line if record.readme else ():
        group = [Number.of(text) for text in _SCORE.findall(line.text)[:20]] if _BASELINE_TEXT.search(line.text) else []
        others = [s for s in group if not any(s.gives(x) for x in [mean, *scores, *(every if s.decimals > 4 else [])])]
        worse = [s.value for s in others if mean < s.value < mean + 0.2]
        fine = [s.value for s in others if s.decimals >= 6]
        where = f"{record.readme_file}:{line.number}"
        if worse and len(fine) > 1 and min(fine) > mean - 0.05:
            found.append((where, fine[:10]))
        found += [(where, [value]) for value in dict.fromkeys(worse)]
    return found[:40]


def _claimed_tests(record: Record) -> Iterator[tuple[Number, str, tuple[str, int]]]:
    meta, seen = record.metadata, {"t": 0, "p": 0}
    for name, kind in (("t_statistic", "t"), ("p_value", "p")):
        value = meta.number(name) if meta else None
        if meta is not None and value is not None:
            yield value, kind, (record.json_file, meta.line(name))
    for line in record.readme.every_line if record.readme else ():
        t, p = _T.search(line.text), _P.search(line.text)
        for kind, text in (("t", t[1] if t else ""), ("p", p[2] if p and p[1] in "=≈of" else "")):
            seen[kind] += bool(text)
            if text and seen[kind] <= 4:
                yield Number.of(text.replace("−", "-")), kind, (record.readme_file, line.number)


def _tests(record: Record, scores: list[float], found: list[tuple[str, list[float]]]) -> None:
    rule, out, claims = "A8-TEST", record.out, list(_claimed_tests(record))
    tests = list(_possible_tests(scores, found)) if claims else []
    for stated, kind, at in claims:
        of = 1 if kind == "t" else 2
        match = next((test for test in tests if stated.gives(float(test[of]), finest=300)), None)
        words = f"{kind} = {stated.text}"
        mirrored = kind == "t" and any(stated.gives(-test[1]) for test in tests)
        digits = stated.text.lower().split("e")[0].replace(".", "").lstrip("-0")
        if match is not None and (kind == "t" or len(digits) > 1):
            out.passed(rule, f"{words} is the {match[0]}.", at, stated.text)
        elif match is not None:
            message = f"{words} has one digit: the {match[0]} rounds to it, and so may others."
            out.unknown(rule, message, at, "State p with two significant digits or more.")
        elif mirrored:
            message = f"{words} has the size of a test of the folder's numbers, with the other sign."
            out.unknown(rule, message, at, "Subtract the baseline from the record: a better record has a negative t.")
        elif tests:
            near = min(tests, key=lambda test: abs(float(test[of]) - stated.value))
            message = f"{words} follows from none of the tests that the folder's numbers allow."
            computed = f"{near[0]}: t = {near[1]:.3f}, p = {near[2]:.4g}"
            out.warn(rule, message, at, stated.text, computed, "Name test, baseline and seeds.")
        else:
            out.unknown(rule, f"{words} can't be computed: the baseline's scores are not in the folder.", at)


def _possible_tests(scores: list[float], found: list[tuple[str, list[float]]]) -> Iterator[Test]:
    from scipy import stats

    from harness.stats.compare import welch

    deviation = stdev(scores)
    for where, values in found if deviation > 0 else ():
        if len(values) > 1:
            result = welch(scores, values)
            two_sided = min(1.0, 2 * min(result.p, 1 - result.p))
            yield f"one-sided Welch test against the {len(values)} scores at {where}", result.statistic, result.p
            yield f"two-sided Welch test against {where}", result.statistic, two_sided
            t = float(stats.ttest_ind(scores, values).statistic)
            yield f"Student test against {where}", t, float(stats.t.cdf(t, len(scores) + len(values) - 2))
        else:
            t = (fmean(scores) - values[0]) / (deviation / math.sqrt(len(scores)))
            p = float(stats.t.cdf(t, len(scores) - 1))
            yield f"one-sample test against {values[0]:g} ({where})", t, p
            yield f"two-sided one-sample test against {values[0]:g} ({where})", t, 2 * min(p, 1 - p)


def _margin(record: Record, scores: list[float], found: list[tuple[str, list[float]]]) -> None:
    rule, out, readings = "A8-MARGIN", record.out, record.readings
    single = [(where, values[0]) for where, values in found if len(values) == 1]
    final = next((item for item in record.bound.scores() if item.loss is not None), None)
    if not record.official:
        return
    if not single or final is None or final.loss is None:
        remedy = "Name it, or give --against FOLDER."
        out.unknown(rule, "the folder states no score of the record that it beats.", "", remedy)
        return
    stated = [item for item in single if item[0].endswith(record.json_file)] or single
    where, base = min(stated, key=lambda item: item[1])
    gain = base - fmean(scores)
    sizes = {"nats/token": gain * final.loss.value / final.bpb.value, "nats/byte": gain * math.log(2), "bpb": gain}
    text = ", ".join(f"{value:.5f} {unit}" for unit, value in sizes.items())
    if sizes[readings.margin_unit] >= readings.margin_nats:
        out.passed(rule, f"beats {base:g} ({where}) by {text}.", "", text)
    else:
        message = f"beats {base:g} ({where}) by less than {readings.margin_nats:g} {readings.margin_unit}."
        wanted = f"wanted {readings.margin_nats:g} {readings.margin_unit}"
        out.warn(rule, message, "", text, wanted, "Claim it as a systems change, or improve further.")


def check_against(record: Record, path: Path) -> None:
    """Test H0 "no better" and H0 "better by at most the margin", each on the logs' claimed scores.

    Raises ``UsageError`` when either side has fewer than two scores, or no log gives tokens and bytes.
    """
    from harness.stats.compare import welch
    from harness.units import Text, to_bpb

    new, old = final_scores(record), final_scores(load_record(path, record.readings))
    if len(new) < 2 or len(old) < 2:
        remedy = "Give folders with logs of two seeds or more."
        raise UsageError(f"--against needs two scores a side; found {len(new)} and {len(old)}.", remedy=remedy)
    runs = [run for run in record.bound.runs if run.val_tokens and run.final and run.final.loss]
    final = runs[0].final if runs else None
    if final is None or final.loss is None or runs[0].val_tokens is None:
        remedy = "Ship the logs as the script printed them."
        raise UsageError(
            "--against needs a log with val_tokens, loss and bpb, to turn the margin into bpb.", remedy=remedy
        )
    tokens, readings = int(runs[0].val_tokens.value), record.readings
    n_bytes = round(final.loss.value / math.log(2) * tokens / final.bpb.value)
    margin = to_bpb(readings.margin_nats, readings.margin_unit, Text(tokens, n_bytes))
    plain, strict = welch(new, old), welch(new, old, margin=margin)
    figures = (
        f"difference {plain.difference:+.6f} bpb, t = {plain.statistic:.3f}, df = {plain.df:.3f}, p = {plain.p:.4g}; "
        f"with the margin of {readings.margin_nats:g} {readings.margin_unit} = {margin:.5f} bpb: "
        f"t = {strict.statistic:.3f}, p = {strict.p:.4g}"
    )
    if strict.beats(readings.alpha):
        record.out.passed("A8-TEST", f"beats {path.name} by more than the margin.", "", figures)
        return
    how = (
        f"beats {path.name}, but not by the margin."
        if plain.beats(readings.alpha)
        else f"not shown to beat {path.name}."
    )
    record.out.warn("A8-TEST", how, "", figures, "", "Add seeds or improve.")
