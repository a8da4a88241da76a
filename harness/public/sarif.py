"""Reports as SARIF 2.1.0, the form that code review tools open."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import harness
from harness.public.findings import FolderReport, Found
from harness.public.output import write_whole
from harness.public.render import plain, why
from harness.rules import Verdict, rule

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Verdict.FAIL: "error", Verdict.ERROR: "error", Verdict.WARN: "warning", Verdict.UNKNOWN: "note"}
KINDS = {Verdict.FAIL: "fail", Verdict.ERROR: "fail", Verdict.WARN: "fail", Verdict.UNKNOWN: "informational"}


def write_sarif(reports: list[FolderReport], path: Path) -> None:
    """Write everything but PASS to ``path``, whole or not at all."""
    write_whole(path, json.dumps(to_sarif(reports), indent=1, ensure_ascii=True).encode())


def to_sarif(reports: list[FolderReport]) -> dict[str, Any]:
    """One run of one tool with a rule for each id that occurs."""
    results = [(report, item) for report in reports for item in report.findings if item.verdict in LEVELS]
    ids = sorted({item.rule for _, item in results})
    driver = {
        "name": "harness check folder",
        "semanticVersion": harness.__version__,
        "rules": [_rule(rule_id) for rule_id in ids],
    }
    found = [_result(report, item, ids.index(item.rule)) for report, item in results]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": found, "columnKind": "unicodeCodePoints"}],
    }


def _rule(rule_id: str) -> dict[str, Any]:
    item = rule(rule_id)
    return {
        "id": item.id,
        "name": "".join(word.title() for word in item.id.split("-")),
        "shortDescription": {"text": item.title},
        "fullDescription": {"text": item.text},
        "help": {"text": " ".join(part for part in (why(item.id), item.remedy, f"Source: {item.source}") if part)},
    }


def _result(report: FolderReport, item: Found, index: int) -> dict[str, Any]:
    values = "; ".join(f"{n} {plain(v)}" for n, v in (("found", item.found), ("computed", item.computed)) if v)
    text = " ".join(part for part in (plain(item.message), f"({values})" if values else "", plain(item.remedy)) if part)
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(report.folder, item.file)}}
    if item.line:
        location["region"] = {"startLine": item.line}
    return {
        "ruleId": item.rule,
        "ruleIndex": index,
        "level": LEVELS[item.verdict] if KINDS[item.verdict] == "fail" else "none",
        "kind": KINDS[item.verdict],
        "message": {"text": _no_markdown(text)},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"finding/v1": item.key},
        "properties": {"verdict": item.verdict.value, "confidence": item.confidence},
    }


def _uri(folder: str, file: str) -> str:
    path = f"{folder.rstrip('/')}/{file or 'submission.json'}"
    uri = quote(os.fsencode(path.removeprefix("./")), safe="/")
    return f"file://{uri}" if path.startswith("/") else uri


def _no_markdown(text: str) -> str:
    """SARIF viewers turn ``[text](target)`` into links: take the brackets' meaning away."""
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
