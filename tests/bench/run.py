"""``make bench``: runs every ``bench_*.py`` beside it and prints one table.

A benchmark is a file with ``measure() -> list[Ratio]``. It compares two things in one process on one machine, so that a
slow machine slows both; a few targets are figures with a unit instead, which need a quiet machine. ``limit`` is the
target of the project. A missed target is printed as missed, and fails only with ``--strict``. ``--json`` prints the
rows as JSON; names on the command line choose benchmarks.
"""

import argparse
import json
import os
import platform
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("names", nargs="*", help="only these, like overhead for bench_overhead.py")
    options = parser.parse_args()
    folder = Path(__file__).parent
    sys.path.insert(0, str(folder))
    rows = []
    for path in benchmarks(folder):
        if options.names and path.stem.removeprefix("bench_") not in options.names:
            continue
        print(f"{path.stem} …", file=sys.stderr, flush=True)
        rows += runpy.run_path(str(path))["measure"]()
    if options.json:
        print(json.dumps({"machine": machine(), "ratios": [asdict(row) | {"met": row.met} for row in rows]}, indent=1))
    else:
        print(machine())
        table = [(r.name, r.value_text, r.spread_text, r.limit_text, r.verdict, r.note) for r in rows]
        print(
            tabulate(
                table, ("what", "value", "spread", "target", "", "conditions"), maxcolwidths=[40, 14, 16, 10, 8, 50]
            )
        )
    return int(options.strict and not all(row.met in (True, None) for row in rows))


def benchmarks(folder: Path) -> list[Path]:
    """The files that are run; those for a GPU have a command of their own."""
    return [path for path in sorted(folder.glob("bench_*.py")) if not path.stem.endswith("_gpu")]


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, load {load}"


if __name__ == "__main__":
    sys.exit(main())
