"""Mean and deviation as claimed, against what the logs give; and the test against a predecessor (A8)."""

import math
import re
from pathlib import Path
from statistics import fmean, pstdev, stdev

from harness.errors import UsageError
from harness.review.claims import check_document
from harness.review.number import Number, read_numbers, student_tail
from harness.review.patterns import WORDS
from harness.review.record import Record, load_record, shared_passes
from harness.rules import Verdict

_POPULATION = "the deviation is the population's (divided by n); a test over seeds needs the sample's (n - 1)."


def stated(record: Record) -> None:
    """Means and deviations in the README that its own tables do not give, and no set of runs either."""
    known = pools(record)
    for claim in check_document(record.readme):
        rule, figure = ("A8-STD", stdev) if "std of" in claim.what else ("A8-MEAN", fmean)
        small = re.search(r"0\.\d{3}|e-", claim.claimed)  # a deviation of scores, and not of bytes or steps
        wrong = claim.verdict is Verdict.FAIL or (claim.verdict is Verdict.WARN and rule == "A8-STD" and small)
        timed = re.search(r"time|\bms\b|step|second", claim.what, re.IGNORECASE)
        if wrong and not timed and claim.what.startswith(("std", "mean of", "sample std", "population std")):
            figure_of = Number.of(re.sub(r"[^\d.e-]", "", claim.claimed.split(" ")[0]) or "nan")
            message = _POPULATION if claim.verdict is Verdict.WARN else f"{claim.what}: {claim.message}."
            own, fails = final_scores(record), claim.verdict is Verdict.FAIL
            divided = not fails and len(own) > 1 and figure_of.gives(pstdev(own))
            given = [] if divided else [figure(pool) for pool in known]
            slips = [*given, *(n.value for n in read_numbers(claim.right))] if fails and rule == "A8-STD" else []
            stale = record.claimed and figure_of.gives(record.claimed.value) and record.out.has("A9-SCORE-MATCH")
            if not (stale or any(map(figure_of.gives, given)) or is_slip(figure_of, slips)):
                at = (record.readme_file, claim.line)
                record.out.warn(rule, message, at, claim.claimed, claim.right, "Compute it from the logs.")


def tests(record: Record) -> None:
    """A stated p against the t and the degrees of freedom beside it, one-sided or two-sided."""
    for line in record.readme.every_line:
        at, remedy = (record.readme_file, line.number), "Name the test, and compute p from its statistic."
        if hit := WORDS["t_test"].search(line.text):
            t, df, p = (Number.of(hit[name].replace("\u2212", "-")) for name in ("t", "df", "p"))
            spans = [(k * student_tail(t.high, df.high), k * student_tail(t.low, df.low)) for k in (1, 2)]
            stated = any(low <= 1.02 * p.high and 0.98 * p.low <= high for low, high in spans)
            if not (spans[0][0] <= p.high if "<" in hit["op"] else stated):
                computed = " or ".join(f"{k * student_tail(t.value, df.value):.3g}" for k in (1, 2))
                message = "the stated p does not follow from t and df."
                record.out.warn("A8-TEST", message, at, hit[0], f"{computed} (one-sided, two-sided)", remedy)


def is_slip(given: Number, found: list[float]) -> bool:
    """Whether a deviation is off by so little that it was computed from more digits, or fewer."""
    return any(abs(given.value - x) <= 0.05 * x for x in found)


def final_scores(record: Record) -> list[float]:
    """bpb of each claimed run, by the claimed pass."""
    return [item.bpb.value for item in record.bound.scores() if math.isfinite(item.bpb.value)]


def pools(record: Record) -> list[list[float]]:
    """Figures of the claimed runs, and of all scored ones, that a deviation or mean may be of."""
    found: list[list[float]] = []
    for runs in (record.bound.runs, [run for run in record.runs if run.final]):
        for items in shared_passes(runs).values():
            found.append([item.bpb.value for item in items])
            found.append([item.loss.value for item in items if item.loss is not None])
        before = [run.before_packing for run in runs]
        for name in {name for scores in before for name in scores}:
            found.append([scores[name].bpb.value for scores in before if name in scores])
        found.append([run.total.value for run in runs if run.total])
    return [pool for pool in found if len(pool) > 1 and all(map(math.isfinite, pool))]


def deviations(record: Record) -> None:
    """Deviations in the JSON against those of the logs."""
    rule, out, meta = "A8-STD", record.out, record.metadata
    told = [score.value for score in meta.scores if math.isfinite(score.value)]  # also of seeds without a log
    scores = final_scores(record) or told
    for name in ("val_bpb_std", "val_loss_std") if len(scores) > 1 else ():
        if (given := meta.number(name)) is None or given.value == 0:
            continue
        losses = [item.loss.value for item in record.bound.scores() if item.loss]
        own = losses if "loss" in name and len(losses) > 1 else scores
        at, both = (record.json_file, meta.line(name)), f"sample {stdev(own):.8f}, population {pstdev(own):.8f}"
        divided = given.gives(pstdev(own), 0.51e-8) and not given.gives(stdev(own), 0.51e-8)
        given_by = any(len(pool) > 1 and given.gives(stdev(pool), 0.51e-8) for pool in (*pools(record), told))
        if (given_by and not divided) or is_slip(given, [stdev(own)]):
            out.passed(rule, "the deviation is the sample deviation.", at, given.text)
        elif divided or is_slip(given, [pstdev(own)]):
            out.warn(rule, _POPULATION, at, given.text, both, "Quote the sample deviation.")
        elif not record.incomplete:
            message = "the deviation is neither the sample's nor the population's of the logs."
            out.warn(rule, message, at, given.text, both, "Compute it from the logs.")


def check_against(record: Record, path: Path) -> None:
    """Test H0 "no better" and H0 "better by at most the margin", each on the logs' claimed scores.

    Raises ``UsageError`` when either side has fewer than two scores, or no log gives tokens and bytes.
    """
    from harness.stats.compare import welch
    from harness.units import LN2, Text, to_bpb

    before = load_record(path, record.readings)
    known, texts = set(before.texts.values()), record.texts.items()
    copied = [name for name, text in texts if text in known and WORDS["loss_line"].search(text)]
    if copied:
        message = f"logs that are byte for byte those of {path.name}."
        record.out.warn("A9-LOG", message, copied[0], ", ".join(copied), "", "Ship the logs of your own runs.")
    new, old = final_scores(record), final_scores(before)
    counted = ((run.one("val_tokens"), run.final) for run in record.bound.runs)
    texts_of = [(int(n.value), item.loss.value / item.bpb.value) for n, item in counted if n and item and item.loss]
    if len(new) < 2 or len(old) < 2 or not texts_of:
        found = f"found {len(new)}, {len(old)} and {len(texts_of)} such log(s)"
        text = f"--against needs two scores a side, and a log with val_tokens, loss and bpb; {found}."
        raise UsageError(text, remedy="Give folders with logs of two seeds or more, as the script printed them.")
    (tokens, rate), readings = texts_of[0], record.readings
    whole = Text(tokens, round(rate / LN2 * tokens))
    margin = to_bpb(readings.margin_nats, readings.margin_unit, whole)
    plain, strict = welch(new, old), welch(new, old, margin=margin)
    results = [f"t = {test.statistic:.3f}, df = {test.df:.3f}, p = {test.p:.4g}" for test in (plain, strict)]
    figures = f"difference {plain.difference:+.6f} bpb, {results[0]}; with the margin of "
    figures += f"{readings.margin_nats:g} {readings.margin_unit} = {margin:.5f} bpb: {results[1]}"
    if not plain.beats(readings.alpha):
        record.out.warn("A8-TEST", f"not shown to beat {path.name}.", "", figures, "", "Add seeds or improve.")
        return
    record.out.passed("A8-TEST", f"beats {path.name}.", "", figures)
    verdict, by = (Verdict.PASS, "by more than") if strict.beats(readings.alpha) else (Verdict.WARN, "but not by")
    record.out.add(verdict, "A8-MARGIN", f"beats {path.name}, {by} the margin.", "", figures, "", "Improve further.")
