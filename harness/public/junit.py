"""Reports on public folders as JUnit XML."""

from __future__ import annotations

from pathlib import Path

from harness.public.findings import FolderReport, Found
from harness.public.output import write_whole
from harness.public.render import place, plain
from harness.rules.junit import Case, junit_xml


def write_junit(reports: list[FolderReport], path: Path) -> None:
    """Write the reports to ``path``, whole or not at all."""
    suites = {plain(report.folder): [_case(item) for item in report.findings] for report in reports}
    write_whole(path, junit_xml("harness check folder", suites))


def _case(item: Found) -> Case:
    values = "; ".join(f"{n} {plain(v)}" for n, v in (("found", item.found), ("computed", item.computed)) if v)
    text = "\n".join(part for part in (plain(item.message), values, plain(item.remedy)) if part)
    return Case(f"{item.rule} {place(item)}".strip(), item.verdict, item.rule, text)
