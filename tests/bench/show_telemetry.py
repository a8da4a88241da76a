"""A run's telemetry where you look at runs: ``python tests/bench/show_telemetry.py TELEMETRY.jsonl FOLDER [TOOL]``.

TELEMETRY.jsonl is a run's .golf/runs/RUN/checkpoint/telemetry-0.jsonl, after training or during it: nothing of this
stands on the clock or counts as code. TOOL is tensorboard (the default; extra ``tensorboard``), trackio or wandb (``pip
install`` it). The project is called as FOLDER, where tensorboard and wandb write; trackio writes to its own folder.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Line = dict[str, Any]
TOOLS = {"tensorboard": "parameter-golf-referee[tensorboard]", "trackio": "trackio", "wandb": "wandb"}


class NotConvertible(ValueError):
    """The file is no telemetry, or the tool is missing; the text says what to do."""


class TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def about(self, line: Line) -> None:
        self._writer.add_text("run", f"```json\n{json.dumps(line, indent=1)}\n```")

    def numbers(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Tracker:
    """trackio and wandb, which share their calls. Nothing is sent: wandb works offline, and ``wandb sync`` sends."""

    def __init__(self, tool: str, folder: Path) -> None:
        self._module, self._folder, self._started = importlib.import_module(tool), folder, False
        self._options = {"dir": str(folder), "mode": "offline"} if tool == "wandb" else {}

    def about(self, line: Line) -> None:
        if self._options:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._module.init(project=self._folder.name, config=line, **self._options)
        self._started = True

    def numbers(self, step: int, values: dict[str, float]) -> None:
        if not self._started:
            self.about({})
        self._module.log(values, step=step)

    def close(self) -> None:
        if self._started:
            self._module.finish()


def convert(source: Path, folder: Path, tool: str = "tensorboard") -> int:
    """Give every number of ``source`` with its step to ``tool``. Returns how many. Raises ``NotConvertible``."""
    if find_spec(tool) is None:
        raise NotConvertible(f"{tool} is not installed: pip install '{TOOLS[tool]}'.")
    lines = read_lines(source)
    sink = TensorBoard(folder) if tool == "tensorboard" else Tracker(tool, folder)
    count = 0
    try:
        for line in lines:
            if "step" in line:
                values = {k: v for k, v in line.items() if k != "step" and isinstance(v, int | float)}
                sink.numbers(line["step"], values)
                count += len(values)
            elif "config" in line:
                sink.about(line)
    finally:
        sink.close()
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
    if len(arguments) not in (2, 3) or (tool := [*arguments, "tensorboard"][2]) not in TOOLS:
        asked = arguments in (["-h"], ["--help"])
        print(__doc__, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        count = convert(Path(arguments[0]), Path(arguments[1]), tool)
    except NotConvertible as error:
        print(error, file=sys.stderr)
        return 3
    shown = {
        "tensorboard": f"tensorboard --logdir {arguments[1]}",
        "trackio": f"trackio show --project {Path(arguments[1]).name}",
        "wandb": f"wandb sync {arguments[1]}/wandb/latest-run",
    }
    print(f"{count} values written; {shown[tool]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
