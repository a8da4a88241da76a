"""``harness check bytes``: are the bytes of a score those of the raw documents?"""

import math
from pathlib import Path
from typing import Any

import click

from harness.cli import FOLDER, JSON, PATH, epilog, say
from harness.cli.result import fitted_table
from harness.errors import UsageError
from harness.progress import make_reporter
from harness.rules import exit_code_of
from harness.text import printable


@click.command(epilog=epilog("bytes"))
@click.argument("folder", required=False, type=FOLDER)
@click.option("--tokenizer", "tokenizer_file", metavar="FILE",
              help="Tokenizer of the shards (a built data set knows its own).")  # fmt: skip
@click.option("--docs", "documents", multiple=True, type=PATH, help="Raw documents, in shard order.")
@click.option("--val-docs", "val_documents", type=int,
              help="How many of them are validation (default: as many as the shards hold).")  # fmt: skip
@click.option("--field", default="text", show_default=True, help="Key of the text in a JSON line.")
@click.option("--val-loss", metavar="NATS", help="Claimed loss, nats a token, with all its printed digits.")
@click.option("--val-bpb", metavar="BPB", help="Claimed bits per byte.")
@click.option("--val-tokens", "claimed_targets", type=int, help="Claimed number of scored tokens.")
@click.option("--claimed-bytes", type=int, help="Claimed number of bytes, instead of loss and bpb.")
@click.option("--window", default=0, show_default=True, help="Sequence length whose last incomplete window is dropped.")
@click.option("--manifest", type=PATH, help="Published manifest.json to compare counts with.")
@click.option("--near", is_flag=True, help="Look for near-duplicates between train and validation too (slow).")
@JSON
def command(folder: Path | None, val_loss: str | None, val_bpb: str | None, as_json: bool, **plan: Any) -> int:
    """Audit the byte count of the shard FOLDER, of a claim, or of both together."""
    from harness.data.byte_check import ByteReport, check_bytes
    from harness.review.number import Number
    from harness.review.published import implied_bytes, judge_claim

    val_tokens = plan["claimed_targets"]
    if val_loss is not None and val_bpb is not None and val_tokens is not None:
        try:
            total = implied_bytes(Number.of(val_loss), Number.of(val_bpb), val_tokens)
            plan |= {"claimed_bytes": total.value, "tolerance": total.slack}
        except ValueError as error:
            raise UsageError(
                f"these three numbers can't belong together: {error}.",
                remedy="Give nats a token, bits a byte and the number of tokens, as the log prints them.",
            ) from None
    elif val_loss is not None or val_bpb is not None:
        raise UsageError("a claim needs --val-loss, --val-bpb and --val-tokens.", remedy="Give all three.")
    if folder is None:
        if None in (val_loss, val_bpb, val_tokens):
            raise UsageError("nothing to check.", remedy="Give a folder of shards, or a claim of three numbers.")
        report = ByteReport(judge_claim(str(val_loss), str(val_bpb), int(val_tokens or 0)))
    else:
        reporter = make_reporter(silent=as_json)
        report = check_bytes(folder, reporter, **plan, at_bpb=float(val_bpb) if val_bpb else 1.0)
    lines = [f"{finding.rule} {finding.verdict}: {printable(finding.message, 500)}" for finding in report.findings]
    if (table := report.comparison) is not None:
        rows = [
            (d.cause, f"{d.targets:,}", f"{d.bytes:+,}", f"{d.bpb:+.6f}" if math.isfinite(d.bpb) else "")
            for d in table.differences
        ]
        rows.append(("all causes", "", f"{table.table_bytes - table.exact_bytes:+,}", ""))
        lines += ["", f"Look-up table {table.table_bytes:,} bytes, exact ledger {table.exact_bytes:,} bytes:"]
        headers = ("cause", "targets", "bytes", f"change of a score of {table.at_bpb:g} bpb")
        lines.append(fitted_table(headers, rows))
    say(report, "\n".join(lines), as_json=as_json)
    return exit_code_of(report.findings)
