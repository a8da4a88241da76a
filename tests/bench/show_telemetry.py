"""A run's telemetry in TensorBoard: ``python tests/bench/show_telemetry.py TELEMETRY.jsonl FOLDER``.

It needs the extra ``tensorboard``. It reads the JSON lines after a run or during it: nothing of it stands on the clock
or counts as code.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class NotConvertible(ValueError):
    """The file is no telemetry, or the tool is missing; the text says what to do."""


def convert(source: Path, folder: Path) -> int:
    """Give every number of ``source`` with its step to TensorBoard. Returns how many. Raises ``NotConvertible``."""
    if find_spec("tensorboard") is None:
        raise NotConvertible("tensorboard is not installed: pip install 'parameter-golf-referee[tensorboard]'.")
    lines = read_lines(source)
    from torch.utils.tensorboard import SummaryWriter

    count = 0
    with SummaryWriter(str(folder)) as writer:
        for line in lines:
            if "step" in line:
                values = {k: v for k, v in line.items() if k != "step" and isinstance(v, int | float)}
                for name, value in values.items():
                    writer.add_scalar(name, value, line["step"])
                count += len(values)
            elif "config" in line:
                writer.add_text("run", f"```json\n{json.dumps(line, indent=1)}\n```")
    return count


def read_lines(source: Path) -> list[Line]:
    """The lines of a telemetry file; a last one that a killed run left unfinished is dropped."""
    try:
        texts = source.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NotConvertible(f"{source} is not readable: {error}.") from error
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts):
                break
            raise NotConvertible(f"line {number} of {source} is no JSON; wanted a telemetry-RANK.jsonl.") from error
        if not isinstance(line, dict):
            raise NotConvertible(f"line {number} of {source} is no JSON object; wanted a telemetry-RANK.jsonl.")
        lines.append(line)
    if not any("step" in line for line in lines):
        raise NotConvertible(f"{source} holds no step; wanted a telemetry-RANK.jsonl of a run that has started.")
    return lines


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        count = convert(Path(arguments[0]), Path(arguments[1]))
    except NotConvertible as error:
        print(error, file=sys.stderr)
        return 3
    print(f"{count} values written; tensorboard --logdir {arguments[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
