"""Each seed's figures in the JSON against the seed's log (A9)."""

from __future__ import annotations

from harness.public.metadata import EVAL_OF_SEED, STEPS_OF_SEED, TRAIN_OF_SEED
from harness.public.record import Record, agrees
from harness.public.runlog import RunLog


def check(record: Record) -> None:
    """Scores, steps and times of every seed that has a log."""
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
