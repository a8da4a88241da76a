"""``harness check bytes``: are the bytes of a score those of the raw documents?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from harness.data.byte_table import TableComparison
    from harness.rules import Finding

EPILOG = """\b
Two forms. A claim alone, against the fingerprints of the published variants:
  harness check bytes --val-loss 2.6543 --val-bpb 1.0275 --val-tokens 40540160
Shards and a tokenizer, against the documents themselves:
  harness check bytes shards/ --tokenizer my.model --docs docs_selected.jsonl
  harness check bytes shards/ --docs docs.jsonl --claimed-bytes 176332748     names the bug behind a wrong total
  harness check bytes shards/ --manifest manifest.json --near                 completeness, near-duplicates

Exit codes: 0 good (warnings included), 1 a rule is broken, 2 wrong usage, 3 could not check."""


@click.command(epilog=EPILOG)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--tokenizer", metavar="FILE", help="Tokenizer of the shards (a built data set knows its own).")
@click.option("--docs", multiple=True, type=click.Path(path_type=Path), help="Raw documents, in shard order.")
@click.option("--val-docs", type=int, help="How many of them are validation (default: as many as the shards hold).")
@click.option("--field", default="text", show_default=True, help="Key of the text in a JSON line.")
@click.option("--val-loss", metavar="NATS", help="Claimed loss, nats a token, with all its printed digits.")
@click.option("--val-bpb", metavar="BPB", help="Claimed bits per byte.")
@click.option("--val-tokens", type=int, help="Claimed number of scored tokens.")
@click.option("--claimed-bytes", type=int, help="Claimed number of bytes, instead of loss and bpb.")
@click.option("--window", default=0, show_default=True, help="Sequence length whose last incomplete window is dropped.")
@click.option("--manifest", type=click.Path(path_type=Path), help="Published manifest.json to compare counts with.")
@click.option("--near", is_flag=True, help="Look for near-duplicates between train and validation too (slow).")
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON; no progress.")
def command(
    folder: Path | None,
    tokenizer: str | None,
    docs: tuple[Path, ...],
    val_docs: int | None,
    field: str,
    val_loss: str | None,
    val_bpb: str | None,
    val_tokens: int | None,
    claimed_bytes: int | None,
    window: int,
    manifest: Path | None,
    near: bool,
    as_json: bool,
) -> None:
    """Audit the byte count of the shard FOLDER, of a claim, or of both together."""
    from harness.data.byte_check import ByteReport, check_bytes
    from harness.progress import make_reporter
    from harness.review.number import Number
    from harness.review.published import implied_bytes, judge_claim

    three = (val_loss, val_bpb, val_tokens)
    claimed, tolerance = float(claimed_bytes) if claimed_bytes is not None else None, 0.0
    if val_loss is not None and val_bpb is not None and val_tokens is not None:
        try:
            total = implied_bytes(Number.of(val_loss), Number.of(val_bpb), val_tokens)
            claimed, tolerance = total.value, total.slack
        except ValueError as error:
            raise UsageError(
                f"these three numbers can't belong together: {error}.",
                remedy="Give nats a token, bits a byte and the number of tokens, as the log prints them.",
            ) from None
    elif val_loss is not None or val_bpb is not None:
        raise UsageError("a claim needs --val-loss, --val-bpb and --val-tokens.", remedy="Give all three.")
    if folder is None:
        if None in three:
            raise UsageError("nothing to check.", remedy="Give a folder of shards, or a claim of three numbers.")
        report = ByteReport(judge_claim(str(val_loss), str(val_bpb), int(val_tokens or 0)))
    else:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder.", remedy="Give the folder that holds the .bin shards.")
        report = check_bytes(
            folder,
            make_reporter(silent=as_json),
            tokenizer_file=tokenizer,
            documents=docs,
            field=field,
            val_documents=val_docs,
            claimed_bytes=claimed,
            tolerance=tolerance,
            claimed_targets=val_tokens,
            window=window,
            at_bpb=float(val_bpb) if val_bpb else 1.0,
            manifest=manifest,
            near=near,
        )
    _show(report.findings, report.comparison, as_json)
    if any(finding.verdict == "FAIL" for finding in report.findings):
        raise SystemExit(ExitCode.RULE_BROKEN)


def _show(findings: list[Finding], comparison: TableComparison | None, as_json: bool) -> None:
    import msgspec
    from tabulate import tabulate

    from harness.text import printable

    if as_json:
        result = {"findings": msgspec.to_builtins(findings), "comparison": msgspec.to_builtins(comparison)}
        click.echo(json.dumps(result, indent=1))
        return
    for finding in findings:
        click.echo(f"{finding.rule} {finding.verdict}: {printable(finding.message, 500)}")
    if comparison is None:
        return
    rows = [
        (d.cause, f"{d.targets:,}", f"{d.bytes:+,}", f"{d.bpb:+.6f}" if math.isfinite(d.bpb) else "")
        for d in comparison.differences
    ]
    rows.append(("all causes", "", f"{comparison.table_bytes - comparison.exact_bytes:+,}", ""))
    click.echo(f"\nLook-up table {comparison.table_bytes:,} bytes, exact ledger {comparison.exact_bytes:,} bytes:")
    headers = ("cause", "targets", "bytes", f"change of a score of {comparison.at_bpb:g} bpb")
    click.echo(tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "right", "right", "right")))
