"""Reports as JUnit XML: a suite a folder, a case a finding; WARN passes with its text, UNKNOWN is skipped."""

from __future__ import annotations

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.public.findings import FolderReport, Found
from harness.public.output import write_whole
from harness.public.render import place, plain
from harness.rules import Verdict


def write_junit(reports: list[FolderReport], path: Path) -> None:
    """Write the reports to ``path``, whole or not at all."""
    xml = JUnitXml("harness check folder")
    for report in reports:
        suite = TestSuite(plain(report.folder))
        for item in report.findings:
            suite.add_testcase(_case(report, item))
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    write_whole(path, xml.tostring())  # type: ignore[no-untyped-call]


def _case(report: FolderReport, item: Found) -> TestCase:
    case = TestCase(f"{item.rule} {place(item)}".strip(), classname=plain(report.folder))
    values = "; ".join(f"{n} {plain(v)}" for n, v in (("found", item.found), ("computed", item.computed)) if v)
    text = "\n".join(part for part in (plain(item.message), values, plain(item.remedy)) if part)
    if item.verdict is Verdict.FAIL:
        case.result = [Failure(text, item.rule)]
    elif item.verdict is Verdict.ERROR:
        case.result = [Error(text, item.rule)]
    elif item.verdict is Verdict.UNKNOWN:
        case.result = [Skipped(text, item.rule)]
    elif item.verdict is Verdict.WARN:
        case.system_out = f"WARN {text}"
    return case
