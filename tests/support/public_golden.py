"""Golden results on real public folders: where the data lie, how a result is written, and how to renew the files.

Renew: ``python tests/support/public_golden.py``. Comments are kept; a new FAIL or WARN gets an empty one to be filled.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

from harness.public.check import check_folder
from harness.rules import Verdict

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/harness/public/golden"
KEPT = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.UNKNOWN)
COMMENTED = {"FAIL", "ERROR", "WARN"}
FIELDS = ("verdict", "rule", "file", "line", "found", "computed")


def data_folder() -> Path | None:
    """The real folders: ``$PUBLIC_RECORDS``, else ``../shared/public-records``; ``None`` if absent."""
    given = os.environ.get("PUBLIC_RECORDS")
    candidates = [Path(given)] if given else [ROOT.parent / "shared/public-records"]
    return next((path for path in candidates if path.is_dir()), None)


def folders(data: Path) -> dict[str, Path]:
    """Every record folder by its name."""
    return {path.name: path for path in sorted(data.glob("track_*/*")) if path.is_dir()}


def result(path: Path) -> list[dict[str, str | int]]:
    """What the checks say of a folder, without PASS, as plain values."""
    found = [item for item in check_folder(path).findings if item.verdict in KEPT]
    return [
        {
            "verdict": item.verdict.value,
            "rule": item.rule,
            "file": item.file,
            "line": item.line,
            "found": item.found,
            "computed": item.computed,
        }
        for item in found
    ]


def load(name: str) -> list[dict[str, str | int]]:
    """The golden findings of a folder, with their comments; empty when there is no file yet."""
    path = GOLDEN / f"{name}.toml"
    if not path.exists():
        return []
    found: list[dict[str, str | int]] = tomllib.loads(path.read_text()).get("finding", [])
    return found


def write(name: str, findings: list[dict[str, str | int]]) -> None:
    """Write a golden file, keeping the comments of findings that stay."""
    old = {tuple(item[k] for k in ("rule", "file", "found")): item.get("comment", "") for item in load(name)}
    lines = [f"# {name}: what `harness check folder` says, and why each FAIL and WARN stands."]
    for item in findings:
        lines += ["", "[[finding]]", *(f"{key} = {json.dumps(item[key], ensure_ascii=False)}" for key in FIELDS)]
        if item["verdict"] in COMMENTED:
            comment = old.get(tuple(item[k] for k in ("rule", "file", "found")), "")
            lines.append(f"comment = {json.dumps(comment, ensure_ascii=False)}")
    (GOLDEN / f"{name}.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    data = data_folder()
    if data is None:
        raise SystemExit("no data: set PUBLIC_RECORDS to a folder with track_*/ inside.")
    for folder_name, folder in folders(data).items():
        write(folder_name, result(folder))
