"""``harness check folder`` on 60 made-up folders of real size, and its start-up, against the seconds that it may take.

Real size: a script of about 110 kB of code, and three logs that hold its listing, as public ones do.
"""

import inspect
import json.decoder
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from ratios import Ratio, paired, seconds

from harness.review.findings import Readings
from harness.review.folder import check_folders

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from public_folders import SCRIPT, PublicFolder

FOLDERS, LIMIT_S, START_LIMIT_S = 60, 10.0, 0.3


def measure() -> list[Ratio]:
    with tempfile.TemporaryDirectory() as place:
        paths = [_folder(Path(place), number) for number in range(FOLDERS)]
        size = sum(f.stat().st_size for path in paths for f in path.iterdir()) / 1e6
        cores = len(os.sched_getaffinity(0))
        checked = paired(
            f"seconds for {FOLDERS} folders over {LIMIT_S:g} s",
            lambda: seconds(lambda: list(check_folders(paths, Readings()))),
            lambda: LIMIT_S,
            pairs=3,
            limit=1.0,
            note=f"{size:.0f} MB, {cores} cores",
        )
        command = [sys.executable, "-m", "harness", "check", "folder", "--help"]
        started = paired(
            f"seconds for --help over {START_LIMIT_S:g} s",
            lambda: seconds(lambda: subprocess.run(command, capture_output=True, check=True)),
            lambda: START_LIMIT_S,
            pairs=5,
            limit=1.0,
            note="a fresh process",
        )
    return [checked, started]


def _folder(place: Path, number: int) -> Path:
    part = textwrap.indent(inspect.getsource(json.decoder), "    ")
    copies = (f"def part_{i}():\n{part}\n    return JSONDecoder\n" for i in range(8))
    folder = PublicFolder(name=f"2026-04-05_{number:02d}", script=SCRIPT + "\n".join(copies))
    listing = folder.script.splitlines()
    path = folder.write(place)
    for log in path.glob("*.log"):
        log.write_text("\n".join([*listing, "=" * 100, log.read_text()]))
    return path
