"""What ``harness submit`` prints: tables that know the terminal's width, and six lines that hold the result."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from harness.program import from_here, program
from harness.record.predicate import RunRecord
from harness.rules import SEVERITY, Verdict, title_of, worst
from harness.text import printable

BEFORE_CLOCKS = {"setup": "set-up", "warmup compile": "compiling", "warmup": "warm-up"}
NUMBERS = ("bpb", "nats/token", "bytes", "seconds", "limit")
WIDEST, UNKNOWN_WIDTH, NARROW = 120, 100, 60
MESSAGE_CHARACTERS = 1200
RULED = box.Box("    \n    \n -- \n" + 5 * "    \n", ascii=True)


def render_summary(
    record: RunRecord,
    *,
    path: Path | None,
    artifact: Path | None,
    verbose: bool = False,
    width: int | None = None,
    options: str = "",
) -> str:
    """The summary as plain text of at most ``width`` columns (default: the terminal's), the result in its last lines.

    path:     the signed record; ``None`` for a try, which has none
    artifact: the folder of the packed files
    verbose:  clocks, sizes, scores for scale and the rules that hold, too
    options:  what a signed run of the same needs beside seed and track
    """
    title = f"{record.submission.name} on track {record.track.name}, seed {record.submission.seed}"
    if _self_reported(record):
        title += ": the score is the script's own word"
    headers: tuple[str, ...] = ("bits per byte of raw validation text", "bpb", "nats/token", "scope")
    shown = slice(len(headers) if (width or terminal_width()) >= NARROW else 2)
    scores = (row[shown] for row in _scores(record, scale=verbose))
    parts = [printable(title), fitted_table(headers[shown], scores, width)]
    if verbose:
        parts.append(fitted_table(("artifact", "bytes", ""), _sizes(record), width))
        parts.append(fitted_table(("clock span", "seconds", "limit", "counts in"), _spans(record), width))
    judged = [finding for finding in record.findings if verbose or finding.verdict is not Verdict.PASS]
    if judged:
        rows = []
        for finding in judged:
            way_on = f" {finding.remedy}" if finding.verdict in (Verdict.FAIL, Verdict.ERROR) else ""
            words = f"{title_of(finding.rule)}: {finding.message}{way_on}".rstrip()
            rows.append((finding.rule, finding.verdict.value, printable(words, MESSAGE_CHARACTERS)))
        parts.append(fitted_table(("rule", "verdict", "what was seen"), rows, width))
    parts.append("\n".join(f"{name:<9} {words}" for name, words in _result(record, path, artifact, options)))
    return "\n\n".join(parts)


def _self_reported(record: RunRecord) -> bool:
    return record.kind == "self-reported"


def _scores(record: RunRecord, *, scale: bool) -> Iterator[tuple[str, ...]]:
    for score in record.scores:
        scope = "whole set" if score.whole_set else f"first {score.targets:,} targets"
        label = record.stages[score.stage] + " (the score)" * (score.stage == "final")
        yield (
            label,
            f"{score.bpb:.4f}",
            f"{score.nats / score.targets:.4f}" if score.targets else "",
            f"{scope}, {score.seconds:.1f} s",
        )
    if before := [span for span in record.spans if span.name in BEFORE_CLOCKS]:
        times = ", ".join(f"{BEFORE_CLOCKS[span.name]} {span.seconds:.1f}" for span in before)
        yield "before the clocks, uncounted", "", "", f"{times} s"
    for key, bpb in sorted(record.baselines_bpb.items(), key=lambda item: item[1]) if scale else ():
        yield f"for scale: {printable(key, 40).replace('_', ' ')}", f"{bpb:.4f}", "", ""


def _sizes(record: RunRecord) -> Iterator[tuple[str, ...]]:
    sizes, script = record.sizes, _self_reported(record)
    packed, declared = f"{sizes.code_raw_bytes:,} bytes before bundling", f"{record.submission.parameters:,} parameters"
    yield f"code ({'script' if script else 'bundle'})", f"{sizes.code_bytes:,}", "" if script else packed
    yield "model", f"{sizes.model_bytes:,}", "" if script else f"{declared} (declared)"
    share = 100 * sizes.total_bytes / sizes.cap_bytes
    yield "total", f"{sizes.total_bytes:,}", f"{share:.2f} % of the cap of {sizes.cap_bytes:,}"


def _spans(record: RunRecord) -> Iterator[tuple[str, ...]]:
    for span in record.spans:
        yield span.name, f"{span.seconds:.2f}", "" if span.limit_s is None else f"{span.limit_s:.1f}", span.budget
    if not _self_reported(record):  # a script's time is one span, which counts in neither budget
        for budget in record.budgets:
            yield f"budget: {budget.name}", f"{budget.used_s:.2f}", f"{budget.limit_s:.1f}", ""


def _result(record: RunRecord, path: Path | None, artifact: Path | None, options: str) -> Iterator[tuple[str, str]]:
    """Score, bytes, clocks, verdict, record, next command: one line each."""
    if (final := record.final) is not None:
        whole = "" if final.whole_set else f" (first {final.targets:,} targets only: no score of the track)"
        yield "score", f"{final.bpb:.4f} bpb{whole}"
    yield "bytes", f"{record.sizes.total_bytes:,} of {record.sizes.cap_bytes:,}"
    if _self_reported(record):
        yield "clocks", f"{sum(span.seconds for span in record.spans):.1f} s for the whole script"
    else:
        yield "clocks", ", ".join(f"{b.name} {b.used_s:.1f} s of {b.limit_s:g} s" for b in record.budgets)
    counts = Counter(finding.verdict for finding in record.findings)
    listed = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in SEVERITY if counts[verdict])
    yield "verdict", f"{worst(record.findings).value} ({listed})"
    if path is not None:
        yield "record", str(from_here(path))
        yield "next", f"{program()} verify {from_here(path)}"
    else:
        yield "record", f"none: a try. Files: {from_here(artifact) if artifact else 'none'}"
        yield "next", f"{program()} submit --seed {record.submission.seed} --track {record.track.name}{options}"


def terminal_width() -> int:
    """Columns of the terminal, where there is one, up to what is still read with ease."""
    return min(WIDEST, shutil.get_terminal_size((UNKNOWN_WIDTH, 24)).columns)


def fitted_table(headers: tuple[str, ...], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """A table at most ``width`` (default: the terminal's) wide: the last column gives way, below NARROW all words."""
    width = width or terminal_width()
    table = Table(box=RULED, show_edge=False, pad_edge=False, width=None)
    for header in headers:
        side: Literal["left", "right"] = "right" if header in NUMBERS else "left"
        kept = header in NUMBERS or (width >= NARROW and header != headers[-1])
        table.add_column(Text(header), justify=side, no_wrap=kept, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return "\n".join(line for line in as_text(table, width).splitlines() if line)


def as_text(shown: RenderableType, width: int | None = None) -> str:
    """What rich draws, as plain text at most ``width`` (default: the terminal's) wide."""
    out = io.StringIO()
    Console(file=out, width=width or terminal_width(), color_system=None, force_terminal=False).print(shown)
    return "\n".join(map(str.rstrip, out.getvalue().splitlines()))
