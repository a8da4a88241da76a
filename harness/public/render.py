"""Reports as text, JSON and GitHub annotations. Every text from a folder is made harmless before it is shown."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.public.findings import ORDER, FolderReport, Found
from harness.public.jsonin import JsonProblem, parse_json
from harness.public.readings import Readings
from harness.rules import Verdict

VERSION = 1
SHOWN = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN)


def plain(text: str, limit: int = 300) -> str:
    """``text`` on one line: control and format characters (colours, direction marks) become ``?``."""
    clean = "".join(c if c.isprintable() else " " if c in "\n\t" else "?" for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def place(item: Found) -> str:
    """Where a finding is: file and line."""
    return plain(f"{item.file}:{item.line}" if item.line else item.file)


def as_text(reports: list[FolderReport], *, show_all: bool = False) -> str:
    """One block a folder, and for several a table sorted by gravity."""
    blocks = [_block(report, show_all=show_all) for report in reports]
    if len(reports) > 1:
        blocks.append(summary(reports))
    return "\n\n".join(blocks)


def _block(report: FolderReport, *, show_all: bool) -> str:
    counts = ", ".join(f"{report.count(v)} {v.value}" for v in ORDER if report.count(v))
    lines = [f"{plain(report.folder)}: {report.verdict.value} ({counts or 'nothing new'}; track {report.track})"]
    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 140))
    for item in report.findings:
        if show_all or item.verdict in SHOWN:
            lines += _entry(item, width)
    return "\n".join(lines)


def _entry(item: Found, width: int) -> list[str]:
    head = f"  {item.verdict.value:<7} {item.rule}  {place(item)}".rstrip()
    values = [f"found {plain(item.found)}"] if item.found else []
    values += [f"computed {plain(item.computed)}"] if item.computed else []
    if item.confidence != "certain":
        values.append(f"confidence: {item.confidence}")
    body = [plain(item.message), *(["; ".join(values)] if values else [])]
    if item.remedy:
        body.append(f"Way out: {plain(item.remedy)}")
    if item.verdict in SHOWN:
        body.append(f"Why: {why(item.rule)}")
    return [
        head,
        *(
            wrapped
            for text in body
            for wrapped in textwrap.wrap(text, width - 10, initial_indent=" " * 10, subsequent_indent=" " * 10)
        ),
    ]


def why(rule_id: str) -> str:
    """Why a rule matters, from its lesson."""
    from harness.rules.teach import lessons

    lesson = lessons().get(rule_id)
    return lesson.why if lesson else ""


def summary(reports: list[FolderReport]) -> str:
    """A table over folders: gravest first, then most findings, then by name."""
    ranked = sorted(
        reports, key=lambda r: (ORDER.index(r.verdict), -r.count(Verdict.FAIL), -r.count(Verdict.WARN), r.folder)
    )
    header = ("verdict", "FAIL", "WARN", "UNKN", "claimed", "logged", "seeds", "bytes", "train s", "eval s", "folder")
    rows = [header]
    for report in ranked:
        facts = report.facts
        rows.append(
            (
                report.verdict.value,
                str(report.count(Verdict.FAIL)),
                str(report.count(Verdict.WARN)),
                str(report.count(Verdict.UNKNOWN)),
                _figure(facts["claimed_bpb"], ".5f"),
                _figure(facts["logged_mean_bpb"], ".5f"),
                _figure(facts["seeds"], "d"),
                _figure(facts["largest_bytes"], ",d"),
                _figure(facts["longest_train_s"], ".1f"),
                _figure(facts["longest_eval_s"], ".1f"),
                plain(Path(report.folder).name, 60),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i in (0, 10) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _figure(value: float | int | str | None, form: str) -> str:
    if value is None or isinstance(value, str):
        return "-"
    return format(int(value) if form.endswith("d") else float(value), form)


def to_plain(reports: list[FolderReport], readings: Readings) -> dict[str, Any]:
    """The JSON form; ``report.schema.json`` describes it."""
    import msgspec

    return {
        "version": VERSION,
        "verdict": min((r.verdict for r in reports), key=ORDER.index, default=Verdict.PASS).value,
        "readings": msgspec.to_builtins(readings),
        "folders": [
            {
                "folder": report.folder,
                "verdict": report.verdict.value,
                "track": report.track,
                "counts": {v.value: report.count(v) for v in ORDER},
                "facts": report.facts,
                "findings": [_entry_json(item) for item in report.findings],
            }
            for report in reports
        ],
    }


def _entry_json(item: Found) -> dict[str, Any]:
    return {
        "rule": item.rule,
        "verdict": item.verdict.value,
        "message": item.message,
        "file": item.file,
        "line": item.line,
        "found": item.found,
        "computed": item.computed,
        "why": why(item.rule),
        "remedy": item.remedy,
        "confidence": item.confidence,
        "key": item.key,
    }


def as_json(reports: list[FolderReport], readings: Readings) -> str:
    """JSON in ASCII, so that no control character of a folder reaches a terminal."""
    return json.dumps(to_plain(reports, readings), indent=1, ensure_ascii=True)


def as_annotations(reports: list[FolderReport]) -> str:
    """GitHub workflow commands: errors for FAIL, warnings for WARN, notices for UNKNOWN."""
    level = {Verdict.FAIL: "error", Verdict.ERROR: "error", Verdict.WARN: "warning", Verdict.UNKNOWN: "notice"}
    lines = []
    for report in reports:
        for item in report.findings:
            if item.verdict in level:
                path = _escaped(plain(f"{report.folder.rstrip('/')}/{item.file}".rstrip("/")), properties=True)
                line = f",line={item.line}" if item.line else ""
                values = "; ".join(
                    f"{n} {plain(v)}" for n, v in (("found", item.found), ("computed", item.computed)) if v
                )
                text = " ".join(
                    part for part in (plain(item.message), f"({values})" if values else "", plain(item.remedy)) if part
                )
                lines.append(f"::{level[item.verdict]} file={path}{line},title={item.rule}::{_escaped(text)}")
    return "\n".join(lines)


def _escaped(text: str, *, properties: bool = False) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if properties else text


def read_baseline(path: Path) -> set[tuple[str, str]]:
    """Folder name and key of every finding in an earlier ``--json`` output. Raises ``UsageError`` for another file."""
    try:
        data = parse_json(path.read_bytes()) if path.stat().st_size < 1 << 20 else json.loads(path.read_bytes())
        return {(Path(f["folder"]).name, item["key"]) for f in data["folders"] for item in f["findings"]}
    except (JsonProblem, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no output of `harness check folder --json`.", remedy="Make one with --json > FILE."
        ) from error


def only_new(report: FolderReport, known: set[tuple[str, str]]) -> FolderReport:
    """The report without the findings that the baseline has."""
    name = Path(report.folder).name
    new = [item for item in report.findings if (name, item.key) not in known]
    return FolderReport(report.folder, report.track, new, report.facts)
