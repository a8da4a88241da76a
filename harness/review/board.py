"""The results of ``harness check pulls``: CSV, and one page that sorts and filters, with a page a folder."""

import csv
import io
import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from harness.files import write_atomic
from harness.review.findings import BLOCKING
from harness.review.output import plain
from harness.review.pulls import Judged

FIELDS = ["pull", "track", "date", "folder", "claimed", "supported", "bytes", "train_s", "eval_s", "verdict", "reasons"]


def row(item: Judged) -> dict[str, Any]:
    """One line of the board. supported: the logs' mean, where no blocking rule fails and the logs give the claim."""
    report, added = item.report, item.added
    facts, found = report["facts"], report["findings"]
    failed = [f for f in found if f["verdict"] == "FAIL"]
    given = not any(f["rule"] in ("A9-SCORE-MATCH", "A9-SCORER") and f["verdict"] != "PASS" for f in found)
    blocked = any(f["rule"] in BLOCKING for f in failed)
    reasons = failed or [f for f in found if f["verdict"] in ("ERROR", "WARN")]
    return {
        "pull": added.pull.number,
        "track": report["track"],
        "date": added.pull.date[:10],
        "folder": plain(added.path.rsplit("/", 1)[-1], 120),
        "claimed": facts.get("claimed_bpb") or None,
        "supported": None if blocked or not given else facts.get("logged_mean_bpb"),
        "bytes": facts.get("largest_bytes"),
        "train_s": facts.get("longest_train_s"),
        "eval_s": facts.get("longest_eval_s"),
        "verdict": report["verdict"],
        "reasons": " ".join(f"{f['rule']}: {plain(f['message'], 160)}" for f in reasons[:4]),
    }


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """The board as CSV. A cell that a spreadsheet would run as a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for line in rows:
        writer.writerow({k: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@\t\r" else v for k, v in line.items()})
    write_atomic(path.absolute(), text.getvalue().encode("utf-8", "replace"), replace=True, mode=None)


def best_over_time(rows: list[dict[str, Any]], name: str) -> list[tuple[str, float]]:
    """(date, score) at each new best of the record track. name: "claimed" or "supported"."""
    found: list[tuple[str, float]] = []
    for line in sorted(rows, key=lambda r: (r["date"], r["pull"])):
        score = line[name]
        if line["track"] == "10min_16mb" and score and 0 < score < (found[-1][1] if found else 5):
            found.append((line["date"], score))
    return found


def _steps(points: list[tuple[str, float]], days: list[str], low: float, high: float) -> str:
    """An SVG path of steps over 900 x 220."""
    place = {day: 60 + 820 * i / max(1, len(days) - 1) for i, day in enumerate(days)}
    at = [(place[day], min(206, 200 - 180 * (score - low) / max(1e-9, high - low))) for day, score in points]
    parts = [f"M{at[0][0]:.1f} {at[0][1]:.1f}", *(f"H{x:.1f}V{y:.1f}" for x, y in at[1:]), "H880"] if at else []
    return "".join(parts)


def render_board(judged: list[Judged], title: str) -> str:
    """The page as text: data as JSON inside, style and script inline, nothing fetched."""
    rows = [row(item) for item in judged]
    lines = {name: best_over_time(rows, name) for name in ("claimed", "supported")}
    days = sorted({line["date"] for line in rows})
    scores = [score for points in lines.values() for _, score in points] or [0.0, 1.0]
    shown = [score for _, score in lines["supported"]] or scores  # one claim of nearly nothing would flatten all others
    low, high = min(shown) - 0.1 * (max(shown) - min(shown)), max(scores)
    paths = {name: _steps(points, days, low, high) for name, points in lines.items()}
    counts: dict[str, Counter[str]] = {}
    for rule, verdict in ((found["rule"], found["verdict"]) for item in judged for found in item.report["findings"]):
        if verdict in ("FAIL", "WARN", "ERROR"):
            counts.setdefault(rule, Counter())[verdict] += 1
    folders = []
    for line, item in zip(rows, judged, strict=True):
        found = [_short(f) for f in item.report["findings"] if f["verdict"] != "PASS"]
        folders.append({"row": line, "path": plain(item.added.path), "findings": found})
    # "<" is escaped in the JSON, so that no text of a folder can end the script element.
    data = json.dumps(folders, ensure_ascii=True).replace("<", "\\u003c")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((resources.files(__package__) / "board.html.jinja").read_text("utf-8"))
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1]["FAIL"], -entry[1]["WARN"], entry[0]))
    verdicts = Counter(line["verdict"] for line in rows)
    spans = {"paths": paths, "days": days, "low": low, "high": high, "lowest": min(scores)}
    return template.render(title=title, data=Markup(data), counts=ranked, verdicts=verdicts, **spans)


def _short(finding: dict[str, Any]) -> dict[str, Any]:
    """What a folder's page shows of a finding, made harmless."""
    texts = {name: plain(str(finding[name])) for name in ("rule", "verdict", "message", "found", "computed", "remedy")}
    place = f"{finding['file']}:{finding['line']}" if finding["line"] else finding["file"]
    return texts | {"place": plain(place), "more": [plain(text, 200) for text in finding["more"][:12]]}


def write_board(judged: list[Judged], title: str, folder: Path) -> None:
    """Write ``board.html`` and ``board.csv``, each whole or not at all."""
    write_csv([row(item) for item in judged], folder / "board.csv")
    page = render_board(judged, title).encode("utf-8", "replace")
    write_atomic((folder / "board.html").absolute(), page, replace=True, mode=None)
