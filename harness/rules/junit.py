"""Findings as JUnit XML: FAIL is a failure, ERROR an error, UNKNOWN is skipped; WARN passes with its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.rules import Verdict

_RESULTS = {Verdict.FAIL: Failure, Verdict.ERROR: Error, Verdict.UNKNOWN: Skipped}


class Case(NamedTuple):
    """One finding, as text that is fit for XML."""

    name: str
    verdict: Verdict
    rule: str
    text: str


def junit_xml(title: str, suites: Mapping[str, Iterable[Case]]) -> bytes:
    """The whole file: a suite for each file or folder that was judged, a test case for each finding about it."""
    xml = JUnitXml(title)
    for name, cases in suites.items():
        suite = TestSuite(name)
        for item in cases:
            case = TestCase(item.name, classname=name)
            if item.verdict in _RESULTS:
                case.result = [_RESULTS[item.verdict](item.text, item.rule)]
            elif item.verdict is Verdict.WARN:
                case.system_out = f"WARN {item.text}"
            suite.add_testcase(case)
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    return bytes(xml.tostring())  # type: ignore[no-untyped-call]
