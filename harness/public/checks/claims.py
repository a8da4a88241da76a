"""The claimed score against the logs: which pass made it, and whether it was the last one (A9)."""

from __future__ import annotations

import re
from statistics import fmean

from harness.public.figures import Figure, agrees
from harness.public.record import Record
from harness.public.runlog import Score

ENOUGH = 4
"""Decimals that a score needs: with fewer, a rounded claim may be better than its logs by more than a record's gain."""


def check(record: Record) -> None:
    """The claimed score and its pass."""
    _score(record)


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
    passes = common_passes(record)
    return next((label for label, scores in passes.items() if _is_mean(claimed, scores)), "")


def _is_mean(claimed: Figure, scores: list[Score]) -> bool:
    return any(is_score(claimed, mean) for mean in _means(claimed, scores))


def _means(claimed: Figure, scores: list[Score]) -> tuple[float, float]:
    """The mean over seeds, and what it is when each seed's score is rounded to the claim's decimals first."""
    decimals = max(claimed.decimals, ENOUGH)
    return fmean(score.bpb for score in scores), fmean(round(score.bpb, decimals) for score in scores)


def is_score(claimed: Figure, logged: float) -> bool:
    """Whether the claim is what a log says. A claim of few decimals must be its rounding; none is cut."""
    return _matches(claimed, logged) or too_few_decimals(claimed, logged)


def _matches(claimed: Figure, logged: float) -> bool:
    return agrees(claimed, max(claimed.decimals, ENOUGH), logged)


def too_few_decimals(claimed: Figure, logged: float) -> bool:
    """Whether the claim is ``logged``, but only because it is rounded to fewer than :data:`ENOUGH` decimals."""
    rounds = claimed.decimals < ENOUGH and abs(claimed - logged) <= 0.5 * 10.0**-claimed.decimals
    return rounds and not _matches(claimed, logged)


def _score(record: Record) -> None:
    rule, out, meta = "A9-SCORE-MATCH", record.out, record.metadata
    claimed = meta.number("val_bpb") if meta else None
    if meta is None or claimed is None:
        return
    if not record.scored_logs:
        out.unknown(rule, "no log has a final score to compare the claim with.", file=record.json_file)
        return
    where, line = record.json_file, meta.line("val_bpb")
    passes = common_passes(record)
    chosen = claimed_pass(record)
    finals = [log.final for log in record.scored_logs if log.final]
    mean = fmean(score.bpb for score in finals)
    if chosen:
        scores = passes[chosen]
        kind = f"the mean over {len(scores)} seeds" if len(scores) > 1 else "the score"
        if not any(_matches(claimed, mean) for mean in _means(claimed, scores)):
            out.warn(
                rule,
                f"the claim has too few decimals to be compared: {kind} of the pass {chosen} rounds to it.",
                file=where,
                line=line,
                found=claimed.text,
                computed=f"{fmean(score.bpb for score in scores):.8f}",
                remedy=f"Claim the score with at least {ENOUGH} decimals.",
            )
        else:
            out.passed(rule, f"the claim is {kind} of the pass {chosen}.", file=where, line=line, found=claimed)
        _scorer(record, chosen, claimed)
        return
    single = [(log, s) for log in record.logs for s in log.by_label.values() if is_score(claimed, s.bpb)]
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
        _unsupported(record, claimed, mean)


def _unsupported(record: Record, claimed: Figure, mean: float) -> None:
    diagnostics = [(log, s) for log in record.logs for s in log.passes + log.curve[-1:] if is_score(claimed, s.bpb)]
    incomplete = bool(record.absent_logs) or _seeds_without_log(record)
    assert record.metadata is not None
    evidence = {
        "file": record.json_file,
        "line": record.metadata.line("val_bpb"),
        "found": str(claimed),
        "computed": f"mean of the final scores {mean:.8f}",
        "remedy": "Claim the mean over the logs that are shipped.",
    }
    if _on_other_lines(record, claimed):
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


def _on_other_lines(record: Record, claimed: Figure) -> bool:
    """Whether lines that are no known scoring pass give the claim: itself, or each seed's part of the mean."""
    assert record.metadata is not None
    if claimed.decimals >= 5 and any(
        agrees(claimed, claimed.decimals, f.value) for log in record.logs for f in log.figures
    ):
        return True
    results = record.metadata.results
    scores = {log.seed: results[log.seed].numbers.get("val_bpb") for log in record.logs if log.seed in results}
    if not scores or any(score is None for score in scores.values()):
        return False
    mean = fmean(score for score in scores.values() if score is not None)
    return is_score(claimed, mean) and all(
        any(agrees(scores[log.seed] or 0, 5, f.value) for f in log.figures) for log in record.logs if log.seed in scores
    )


def _seeds_without_log(record: Record) -> bool:
    seeds = set(record.metadata.seeds) if record.metadata else set()
    if record.readme is not None:
        seeds |= {seed for table in record.readme.tables for seed in table.rows}
    return bool(seeds - {log.seed for log in record.logs})


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
