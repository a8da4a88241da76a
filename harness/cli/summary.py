"""The table that ``harness submit`` prints: one run on one screen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tabulate import tabulate

from harness.cli.program import from_here, program
from harness.cli.progress import printable
from harness.record.predicate import RunRecord, Score, SpanEntry
from harness.rules import Verdict, rule

STAGES = {
    "float": "trained model, before quantisation",
    "packed": "after quantisation and packing",
    "final": "after test-time training (the score)",
}
SELF_REPORTED_LABEL = "as the script printed it (the score)"
BASELINES = {
    "uniform_bytes": "uniform bytes",
    "uniform_tokens": "uniform tokens",
    "train_frequencies": "train-set token frequencies",
    "zlib_9": "zlib -9",
    "xz_9": "xz -9",
}


def render_summary(record: RunRecord, *, path: Path | None, artifact: Path | None) -> str:
    """The whole summary as plain text. ``path`` is the signed record, ``artifact`` the folder of the packed files."""
    title = f"{record.submission.name} on track {record.track.name}, seed {record.submission.seed}"
    if _self_reported(record):
        title += ": the score is the script's own word"
    parts = [
        printable(title),
        _scores(record),
        _sizes(record),
        _spans(record),
        _verdicts(record),
        _where(record, path, artifact),
    ]
    return "\n\n".join(parts)


def _self_reported(record: RunRecord) -> bool:
    return record.kind == "self-reported"


def _scores(record: RunRecord) -> str:
    rows: list[tuple[str, str, str, str]] = []
    for score in record.scores:
        scope = "whole set" if score.whole_set else f"first {score.targets:,} targets"
        label = SELF_REPORTED_LABEL if _self_reported(record) else STAGES[score.stage]
        rows.append((label, f"{score.bpb:.4f}", _tokens_per_nat(score), f"{scope}, {score.seconds:.1f} s"))
    for key, bpb in sorted(record.baselines_bpb.items(), key=lambda item: item[1]):
        rows.append((f"  for scale: {BASELINES.get(key, printable(key, 40))}", f"{bpb:.4f}", "", ""))
    return _table(rows, ("bits per byte of raw validation text", "bpb", "nats/token", "scope"))


def _tokens_per_nat(score: Score) -> str:
    return f"{score.nats / score.targets:.4f}" if score.targets else ""


def _sizes(record: RunRecord) -> str:
    sizes = record.sizes
    share = 100 * sizes.total_bytes / sizes.cap_bytes
    if _self_reported(record):
        rows = [("code (script)", f"{sizes.code_bytes:,}", ""), ("model", f"{sizes.model_bytes:,}", "")]
    else:
        rows = [
            ("code (bundle)", f"{sizes.code_bytes:,}", f"{sizes.code_raw_bytes:,} bytes before bundling"),
            ("model", f"{sizes.model_bytes:,}", f"{record.submission.parameters:,} parameters (declared)"),
        ]
    rows += [
        ("total", f"{sizes.total_bytes:,}", f"{share:.2f} % of the cap of {sizes.cap_bytes:,}"),
    ]
    return _table(rows, ("artifact", "bytes", ""))


def _spans(record: RunRecord) -> str:
    def limit(span: SpanEntry) -> str:
        return "" if span.limit_s is None else f"{span.limit_s:.1f}"

    rows: list[tuple[str, str, str, str]] = [
        (span.name, f"{span.seconds:.2f}", limit(span), span.budget) for span in record.spans
    ]
    if not _self_reported(record):  # a script's time is one span, which counts in neither budget
        rows += [(f"budget: {b.name}", f"{b.used_s:.2f}", f"{b.limit_s:.1f}", "") for b in record.budgets]
    return _table(rows, ("clock span", "seconds", "limit", "counts in"))


def _verdicts(record: RunRecord) -> str:
    rows: list[tuple[str, str, str]] = []
    for finding in record.findings:
        text = finding.message
        if finding.verdict in (Verdict.FAIL, Verdict.ERROR) and finding.remedy:
            text = f"{text} {finding.remedy}"
        rows.append((finding.rule, finding.verdict.value, printable(f"{rule(finding.rule).title}: {text}", 110)))
    return _table(rows, ("rule", "verdict", "what was seen"))


def _where(record: RunRecord, path: Path | None, artifact: Path | None) -> str:
    lines = []
    missing = sorted(name for name, state in record.isolation.items() if not state.startswith("in force"))
    if missing:
        lines.append(f"WARNING: isolation layers missing on this machine: {', '.join(missing)} (`harness doctor`).")
    if artifact is not None:
        lines.append(f"artifact: {from_here(artifact)}")
    if path is not None:
        lines.append(f"record:   {from_here(path)}")
        lines.append(f"verify:   {program()} verify {from_here(path)}   (all records: leave out the name)")
    return "\n".join(lines)


def _table(rows: Iterable[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    right = tuple("right" if h in {"bpb", "nats/token", "bytes", "seconds", "limit"} else "left" for h in headers)
    return tabulate(list(rows), headers=headers, tablefmt="simple", colalign=right, disable_numparse=True)
