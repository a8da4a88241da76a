"""The folder against the record that it claims to beat: one-sided Welch test with and without the margin (A8)."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.public.checks.statistics import final_scores
from harness.public.record import Record, load_record


def check_against(record: Record, path: Path) -> None:
    """Test H0 "no better" and H0 "better by at most the margin", each on the logs' final scores.

    Raises ``UsageError`` when either side has fewer than two scores, or no log gives tokens and bytes.
    """
    from harness.stats.compare import welch
    from harness.stats.units import Text, to_bpb

    new, old = final_scores(record), final_scores(load_record(path, record.readings))
    if len(new) < 2 or len(old) < 2:
        raise UsageError(
            f"--against needs two scores a side; found {len(new)} and {len(old)}.",
            remedy="Give folders with logs of two seeds or more.",
        )
    log = next((log for log in record.scored_logs if log.val_tokens and log.final and log.final.loss), None)
    if log is None or log.final is None or log.val_tokens is None or not log.final.loss:
        raise UsageError(
            "--against needs a log with val_tokens, loss and bpb, to turn the margin into bpb.",
            remedy="Ship the logs as the script printed them.",
        )
    tokens = int(log.val_tokens.value)
    n_bytes = round(log.final.loss / 0.6931471805599453 * tokens / log.final.bpb)
    readings = record.readings
    margin = to_bpb(readings.margin_nats, readings.margin_unit, Text(tokens, n_bytes))
    plain, strict = welch(new, old), welch(new, old, margin=margin)
    figures = (
        f"difference {plain.difference:+.6f} bpb, t = {plain.statistic:.3f}, df = {plain.df:.3f}, p = {plain.p:.4g}; "
        f"with the margin of {readings.margin_nats:g} {readings.margin_unit} = {margin:.5f} bpb: "
        f"t = {strict.statistic:.3f}, p = {strict.p:.4g}"
    )
    if strict.beats(readings.alpha):
        record.out.passed("A8-TEST", f"beats {path.name} by more than the margin.", found=figures)
    elif plain.beats(readings.alpha):
        record.out.warn(
            "A8-TEST", f"beats {path.name}, but not by the margin.", found=figures, remedy="Add seeds or improve."
        )
    else:
        record.out.warn("A8-TEST", f"not shown to beat {path.name}.", found=figures, remedy="Add seeds or improve.")
