"""The figures of a report as plain data."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from harness.report.figures import Pool, Report, ReportedRun
from harness.report.tables import overview_table


def report_document(report: Report) -> dict[str, object]:
    """JSON data: the overview, pools with statistics and runs, findings about the folder, the comparison."""
    overview = overview_table(report)
    return {
        "overview": [dict(zip([name for name, _ in overview.headers], row, strict=True)) for row in overview.rows],
        "pools": [_pool(pool) for pool in report.pools],
        "public_folders": msgspec.to_builtins([asdict(claim) for claim in report.claims]),
        "folder_findings": msgspec.to_builtins(list(report.folder_findings)),
        "comparison": list(report.comparison),
    }


def _pool(pool: Pool) -> dict[str, object]:
    found = pool.statistics
    return {
        "title": pool.title,
        "statistics": msgspec.to_builtins(asdict(found)) if found else None,
        "runs": [_run(run) for run in pool.runs],
    }


def _run(run: ReportedRun) -> dict[str, object]:
    record = run.record
    return {
        "file": run.stored.path.name,
        "digest": run.stored.digest,
        "seed": run.seed,
        "verdict": run.verdict.value,
        "bpb": {score.stage: score.bpb for score in record.scores},
        "total_bytes": record.sizes.total_bytes,
        "budgets": msgspec.to_builtins(record.budgets),
        "findings": msgspec.to_builtins(list(run.findings)),
    }
