"""Figures in the JSON against the logs, seed by seed and for the whole record, and against the caps (A9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import fmean

from harness.public.checks.claims import ENOUGH, too_few_decimals
from harness.public.figures import Figure, agrees, figure
from harness.public.metadata import (
    BYTES_OF_SEED,
    EVAL_OF_SEED,
    STEPS_OF_SEED,
    TRAIN_OF_SEED,
    SeedResult,
    is_number,
)
from harness.public.record import Record
from harness.public.runlog import RunLog

SHORT = 4
"""Decimals of a score on a log's progress lines."""
NOT_A_SCORE = re.compile(
    r"std|delta|gain|gap|diff|recover|improve|drop|penalty|base|sota|prev|vs|leader|best|merged|public|threshold|target|margin|per_|nats",
    re.I,
)


def check(record: Record) -> None:
    """Scores, steps and times of every seed that has a log; the record's own figures; caps."""
    if record.metadata is None:
        return
    if record.metadata.results:
        _seeds(record)
        _caps(record)
    _whole(record)


def _seeds(record: Record) -> None:
    meta, out, clean = record.metadata, record.out, True
    assert meta is not None
    for log in record.scored_logs:
        result = meta.results.get(log.seed) if log.seed is not None else None
        scores = _scores(log)
        for key, value in result.numbers.items() if result else ():
            if record.folder.late():
                return
            problem = _disagrees(log, scores, key, value)
            if problem is None:
                continue
            clean = False
            rough = any(too_few_decimals(value, score.bpb) for score in log.by_label.values())
            report = out.fail if key == "val_bpb" and not rough else out.warn
            report(
                "A9-SCORE-MATCH" if key == "val_bpb" else "A9-JSON-MATCH",
                f"seed {log.seed}: {key} is not what the log says.",
                file=record.json_file,
                line=meta.lines.get(str(log.seed), 0),
                found=_shown(value),
                computed=f"{problem} in {log.file}",
                remedy="Copy the figures from the log by script.",
            )
    if clean and record.scored_logs:
        out.passed("A9-JSON-MATCH", "each seed's figures agree with its log.", file=record.json_file)


def _shown(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e5 else f"{value:,.0f}"


def _is_score(key: str, decimals: int) -> bool:
    return "bpb" in key and decimals >= 4 and not NOT_A_SCORE.search(key)


def _scores(log: RunLog) -> list[float]:
    return [score.bpb for score in log.passes + log.curve] + [figure.value for figure in log.figures]


def _disagrees(log: RunLog, scores: list[float], key: str, value: Figure) -> str | None:
    decimals = value.decimals
    if key in ("val_bpb", "val_loss"):
        known = [s.bpb if key == "val_bpb" else s.loss for s in log.by_label.values()]
        figures = [x for x in known if x is not None]
        figures += [f.value for f in log.figures] if key == "val_bpb" and decimals >= 5 else []
        if figures and not any(agrees(value, max(decimals, ENOUGH), x) for x in figures):
            return f"{figures[-1]:g}"
    elif _is_score(key, decimals):
        if scores and not any(agrees(value, decimals, x, SHORT) for x in scores):
            return f"nearest {min(scores, key=lambda x: abs(x - value)):g}"
    elif key in STEPS_OF_SEED and log.last_step is not None and int(value) != log.last_step:
        return f"{log.last_step:,} steps"
    elif key in TRAIN_OF_SEED and (log.stop or log.longest_train):
        spent = (log.stop or log.longest_train).value  # type: ignore[union-attr]
        if abs(_seconds(key, value) - spent) > max(0.011, 1.02 * 10.0**-decimals):
            return f"{spent:.3f} s"
    elif key in EVAL_OF_SEED:
        times = [c.value for c in log.eval_times] + [s.eval_s for s in log.passes if s.eval_s]
        seconds = _seconds(key, value)
        if times and min(abs(seconds - t) for t in times) > 1.0 and abs(seconds - sum(times)) > 5:
            return f"{times[-1]:.1f} s"
    return None


def _seconds(key: str, value: float) -> float:
    return value / 1000 if key.endswith("_ms") else value


def _caps(record: Record) -> None:
    """Caps by the JSON's own figures, for seeds whose log isn't here to say it."""
    meta = record.metadata
    assert meta is not None
    logged = {log.seed for log in record.logs}
    for result in meta.results.values():
        if result.seed in logged:
            continue
        for rule, found, cap, unit in _over(record, result):
            record.out.fail(
                rule,
                f"seed {result.seed} is over the cap by the JSON's own figure.",
                file=record.json_file,
                line=meta.lines.get(str(result.seed), 0),
                found=f"{found:,.{0 if unit == 'bytes' else 3}f} {unit}",
                computed=f"cap {cap:,.0f} {unit}",
                remedy="Every seed must fit." if unit == "bytes" else "Repeat the run within the cap.",
            )


def _over(record: Record, result: SeedResult) -> Iterator[tuple[str, float, float, str]]:
    readings = record.readings
    size, train, spent = (result.first(keys) for keys in (BYTES_OF_SEED, TRAIN_OF_SEED, EVAL_OF_SEED))
    if size and size[1] > readings.artifact_cap_bytes:
        yield "A3-ARTIFACT-BYTES", size[1], readings.artifact_cap_bytes, "bytes"
    if not record.official:
        return
    if train and _seconds(*train) > readings.train_cap_s + readings.train_overshoot_s + 1e-9:
        yield "A1-TRAIN-CLOCK", _seconds(*train), readings.train_cap_s, "s"
    if spent and _seconds(*spent) > readings.eval_cap_s:
        yield "A2-EVAL-CLOCK", _seconds(*spent), readings.eval_cap_s, "s"


def _whole(record: Record) -> None:
    """Figures beside the claim: other scores, steps, the model's bytes. Any log, or their mean, may give them."""
    meta = record.metadata
    assert meta is not None
    if not record.scored_logs or record.absent_logs or set(meta.seeds) - {log.seed for log in record.logs}:
        return
    scores = _all_scores(record)
    for key, value in meta.raw.items():
        if record.folder.late():
            return
        if (
            is_number(value)
            and key not in meta.spelt.values()
            and (near := _unknown(record, scores, key, figure(value)))
        ):
            record.out.warn(
                "A9-JSON-MATCH",
                f"{key} is not what the logs say.",
                file=record.json_file,
                line=meta.lines.get(key, 0),
                found=_shown(value),
                computed=near,
                remedy="Copy the figures from the log by script.",
            )


def _all_scores(record: Record) -> list[float]:
    """Every score of every log, and the means over the logs of passes and of the last validation."""
    means = [fmean(group) for group in zip(*([s.bpb for s in log.passes] for log in record.logs), strict=False)]
    means += [fmean(log.curve[-1].bpb for log in record.logs)] if all(log.curve for log in record.logs) else []
    return [score for log in record.logs for score in _scores(log)] + means


def _unknown(record: Record, scores: list[float], key: str, value: Figure) -> str:
    """What the logs say instead; empty when they say the same, or nothing of the kind."""
    if _is_score(key, value.decimals):
        if scores and not any(agrees(value, value.decimals, x, SHORT) for x in scores):
            return f"nearest {min(scores, key=lambda x: abs(x - value)):g}"
    elif key in STEPS_OF_SEED and value.is_integer():
        steps = {log.last_step for log in record.logs if log.last_step is not None}
        if steps and int(value) not in steps and not min(steps) <= value <= max(steps):
            return f"steps {', '.join(f'{step:,}' for step in sorted(steps)[:5])}"
    elif re.match(r"(?:bytes_model|model_bytes)", key):
        models = {int(item.value) for log in record.logs for item in log.models}
        if models and int(value) not in models and not min(models) <= value <= max(models):
            return f"models {', '.join(f'{model:,}' for model in sorted(models)[:5])} bytes"
    return ""
