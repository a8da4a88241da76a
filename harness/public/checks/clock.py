"""Training and evaluation clocks, calibration and its reserve (A1, A2)."""

from __future__ import annotations

import re

from harness.public.checks.claims import claimed_pass
from harness.public.record import Record
from harness.public.runlog import Count, RunLog
from harness.rules import Verdict

OWN_TEXT = re.compile(r"(?i:\bself[-_ ]?gen|\bautoregressive|\brandom[-_ ]tokens?\b)|\bAR\b")
"""Text that the model writes itself, or none at all. "Random batches" are batches of the training data."""
TRAIN_TEXT = re.compile(r"train", re.IGNORECASE)
NOT_TRAIN_TEXT = re.compile(r"\b(?:post|after|no|not|without)[-_ ]?(?:any |the )?train\w*", re.IGNORECASE)


def check(record: Record) -> None:
    """Clocks of every log against the caps of the record track; other tracks have none."""
    if not record.official:
        record.out.passed("A1-TRAIN-CLOCK", "this track has no training cap.")
        record.out.passed("A2-EVAL-CLOCK", "this track has no evaluation cap.")
        return
    for log in record.logs:
        _train(record, log)
        _calibration(record, log)
        _eval(record, log)


def _train(record: Record, log: RunLog) -> None:
    rule, out, readings = "A1-TRAIN-CLOCK", record.out, record.readings
    spent = log.stop or log.longest_train
    if spent is None:
        out.unknown(rule, "the log states no training time.", file=log.file)
        return
    if log.longest_train and log.longest_train.value > spent.value:
        spent = log.longest_train
    cap, at = readings.train_cap_s, f"{spent.value:.3f} s"
    over = spent.value - cap
    if over <= 0:
        out.passed(rule, f"training took {at}.", file=log.file, line=spent.line, found=at)
    elif over <= readings.train_overshoot_s + 1e-9:
        out.warn(
            rule,
            f"training overran the cap by {over:.3f} s; the loop looks at its clock after a step.",
            file=log.file,
            line=spent.line,
            found=at,
            computed=f"cap {cap:.3f} s",
            remedy="Stop one step earlier.",
        )
    else:
        out.fail(
            rule,
            f"training overran the cap by {over:.3f} s.",
            file=log.file,
            line=spent.line,
            found=at,
            computed=f"cap {cap:.3f} s",
            remedy="Stop earlier, or repeat the run within the cap.",
        )


def _calibration(record: Record, log: RunLog) -> None:
    rule, out = "A1-CALIBRATION", record.out
    if not log.calibrations and not log.hessians:
        return
    text = " ".join(item.label for item in log.calibrations + log.hessians)
    first = (log.calibrations + log.hessians)[0]
    trained_on = TRAIN_TEXT.search(NOT_TRAIN_TEXT.sub("", text))
    if OWN_TEXT.search(text) and not trained_on:
        out.passed(
            rule, "calibrated on text that the model wrote itself.", file=log.file, line=first.line, found=first.label
        )
        return
    loop = log.stop or log.longest_train
    seconds = sum(item.value for item in log.hessians)
    if loop is None:
        out.unknown(rule, "calibration is logged, the training time is not.", file=log.file)
        return
    total = loop.value + seconds
    reserve = log.reserve.value if log.reserve else 0.0
    figures = f"loop {loop.value:.1f} s + Hessians {seconds:.1f} s = {total:.1f} s, reserve {reserve:g} s"
    where = {"file": log.file, "line": (log.hessians or log.calibrations)[0].line}
    if not log.hessians and reserve >= 1 and loop.value + reserve <= record.readings.train_cap_s + 1:
        out.passed(
            rule, f"a reserve of {reserve:g} s was kept; the calibration's own time is not logged.", file=log.file
        )
    elif total <= record.readings.train_cap_s and (log.hessians or reserve):
        out.passed(rule, f"training and calibration fit: {figures}.", **where)  # type: ignore[arg-type]
    elif reserve == 0 and loop.value > record.readings.train_cap_s - 1 and trained_on:
        out.fail(
            rule,
            f"calibration on training data after the whole budget was trained away: {figures}.",
            found=figures,
            computed=f"cap {record.readings.train_cap_s:g} s",
            remedy="Reserve the time before the stop, or calibrate on self-generated text.",
            **where,  # type: ignore[arg-type]
        )
    else:
        what = "training plus calibration exceed the cap"
        if not log.hessians:
            what = (
                "calibration begins when the budget is used up, without a reserve; the log tells neither time nor data"
            )
        out.add(
            Verdict(record.readings.calibration),
            rule,
            f"{what}: {figures}.",
            found=figures,
            computed=f"cap {record.readings.train_cap_s:g} s",
            remedy="Reserve more seconds before the stop, or calibrate on self-generated text.",
            **where,  # type: ignore[arg-type]
        )


def _eval(record: Record, log: RunLog) -> None:
    rule, out, cap = "A2-EVAL-CLOCK", record.out, record.readings.eval_cap_s
    readings = eval_readings(log, claimed_pass(record))
    if readings is None:
        out.unknown(rule, "the log states no evaluation time.", file=log.file)
        return
    scorer, total, warm, line = readings
    figures = f"scorer {scorer:.1f} s, all passes {total:.1f} s, with compile warm-up {warm:.1f} s"
    chosen = {"scorer": scorer, "sum": total, "sum+warmup": warm}[record.readings.eval_clock]
    if chosen > cap:
        out.fail(
            rule,
            f"evaluation takes longer than {cap:g} s in the reading {record.readings.eval_clock!r}.",
            file=log.file,
            line=line,
            found=figures,
            computed=f"cap {cap:g} s",
            remedy="Score with fewer or shorter passes.",
        )
    elif max(total, warm) > cap:
        out.warn(
            rule,
            f"within {cap:g} s in the reading {record.readings.eval_clock!r} only: staff have summed operations.",
            file=log.file,
            line=line,
            found=figures,
            computed=f"cap {cap:g} s",
            remedy="Leave diagnostic passes out of the run, or keep the sum under the cap.",
        )
    else:
        out.passed(rule, "evaluation fits in all three readings.", file=log.file, line=line, found=figures)


def eval_readings(log: RunLog, label: str) -> tuple[float, float, float, int] | None:
    """Seconds of the pass that the claim rests on, of all passes, of all with warm-up; and a line.

    label: the claimed pass; where the log has none of that name, the last pass stands in
    Returns ``None`` when nothing is timed.
    """
    final = log.by_label.get(label, log.final)
    spans: list[Count] = []
    for item in log.eval_times:
        if not any(abs(item.value - other.value) < 0.06 for other in spans):
            spans.append(item)
    if final is not None and final.eval_s and not any(abs(final.eval_s - item.value) < 0.06 for item in spans):
        spans.append(Count(final.label, final.eval_s, final.line))
    if not any(item.value > 0 for item in spans):
        return None
    total = sum(item.value for item in spans)
    if final is not None and final.eval_s:
        scorer, line = final.eval_s, final.line
        scorer += sum(item.value for item in spans if item.label.endswith(":precompute"))
    else:
        scorer, line = max(item.value for item in spans), spans[-1].line
    return scorer, total, total + sum(item.value for item in log.warmups), line
