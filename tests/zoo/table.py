"""``make zoo``: every cheat and its honest twin, with the rule expected, the rule that fired and the twin's verdict.

A rule that holds by construction fires by refusing: the table then shows what the system refused. Exit code 1 when a
cheat got through or fell to another rule, or when a twin was flagged. ``--json`` prints the rows as JSON.
"""

import argparse
import functools
import json
import runpy
import sys
import tempfile
from pathlib import Path

from process_lab import Case, Met, meet
from tabulate import tabulate
from test_process_zoo import CASES as PROCESSES
from test_scoring_zoo import CASES as SCORING
from test_scoring_zoo import caught, meet_scoring

from harness.errors import ExitCode

HEAD = ("cheat", "what it tries", "rule expected", "rule that fired", "twin", "")


@functools.cache
def flagged_in(path: Path) -> str:
    return ", ".join(sorted(meet_scoring(path, "honest").fired)) or "passes"


def scoring_row(name: str) -> tuple[str, ...]:
    path, cheat = SCORING[name]
    expected, fired, good = caught(path, cheat)
    flagged = flagged_in(path)
    names = runpy.run_path(str(path))
    text = (names[cheat].__doc__ or names["__doc__"]).splitlines()[0]
    return name, text, expected, fired, flagged, "ok" if good and flagged == "passes" else "WRONG"


TWINS: dict[Path, Met] = {}


def process_row(case: Case) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="zoo-") as one, tempfile.TemporaryDirectory(prefix="zoo-") as two:
        cheat = meet(case, case.cheat, Path(one))
        twin = TWINS.get(case.path) or TWINS.setdefault(case.path, meet(case, "honest", Path(two)))
    if case.by_refusal:
        good = bool(cheat.refused) and not cheat.got_in and not cheat.fired
        fired = f"{case.rule}: refused" if good else "; ".join(cheat.got_in) or ", ".join(cheat.fired) or "nothing"
    else:
        good = case.rule in cheat.fired and not cheat.got_in
        fired = ", ".join(sorted(cheat.fired)) or "nothing"
    flagged = ", ".join(sorted(twin.fired)) or "passes"
    return case.name, case.text, case.rule, fired, flagged, "ok" if good and flagged == "passes" else "WRONG"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    parser.add_argument("names", nargs="*", help="only these cheats")
    options = parser.parse_args()
    jobs = [(name, scoring_row, name) for name in SCORING]
    jobs += [(case.name, process_row, case) for case in PROCESSES]
    if unknown := set(options.names) - {name for name, _, _ in jobs}:
        parser.error(
            f"unknown cheat: {', '.join(sorted(unknown))}. Choose from {', '.join(name for name, _, _ in jobs)}."
        )
    jobs = [job for job in jobs if not options.names or job[0] in options.names]
    rows = []
    for at, (name, make, subject) in enumerate(jobs, 1):
        print(f"{at}/{len(jobs)} {name}", file=sys.stderr, flush=True)
        rows.append(make(subject))
    wrong = [row for row in rows if row[-1] != "ok"]
    if options.json:
        print(json.dumps([dict(zip((*HEAD[:-1], "result"), row, strict=True)) for row in rows], indent=1))
    else:
        print(tabulate(rows, HEAD, maxcolwidths=[26, 46, 24, 24, 12, 6]))
        print(f"\n{len(rows) - len(wrong)} of {len(rows)} stopped by their rule, with a twin that passes.")
    return ExitCode.RULE_BROKEN if wrong else ExitCode.GOOD


if __name__ == "__main__":
    sys.exit(main())
