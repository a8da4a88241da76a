"""Phase 0: the submission checks its configuration and declares it, before anything costs time."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

from harness.errors import UsageError
from harness.protocol.messages import Kind
from harness.protocol.session import DESCRIPTION_FILE, Scalar
from harness.run.cells import phase_cell
from harness.run.context import RunContext
from harness.run.conversation import PhaseFailed, PhaseTimeout, await_all, failure

MAX_DESCRIPTION_BYTES = 100_000
MAX_ENTRIES = 1000
MAX_NOTES = 20
_SAFE_INTEGER = 2**53


def describe(context: RunContext) -> tuple[dict[str, Scalar], int]:
    """The submission's own (configuration, number of parameters).

    Raises ``UsageError`` with the submission's words when it refuses its configuration.
    """
    limit_s = context.track.limits.describe_s
    output = context.run_dir / "description"
    output.mkdir()
    module = context.sealed.manifest.entry.describe
    with (
        context.clock.span("describe", limit_s=limit_s) as span,
        phase_cell(
            context,
            "describe",
            module=module,
            limit_s=limit_s,
            write=(output,),
            extra={"GOLF_OUTPUT_DIR": str(output)},
        ) as cell,
    ):
        try:
            await_all(cell, Kind.DONE, span.deadline_ns)
        except PhaseTimeout:
            raise failure(
                context,
                "describe",
                f"no answer within {limit_s:g} s",
                remedy="Only read the configuration here; build the model in training.",
                late=True,
            ) from None
        except PhaseFailed as error:
            if " says: " in str(error):
                reason = str(error).split(" says: ", 1)[1]
                raise UsageError(
                    f"{context.sealed.manifest.name} refuses its configuration: {reason}",
                    remedy="Correct the variable; `make submit` hands on what the environment holds.",
                ) from None
            raise failure(context, "describe", str(error)) from None
    try:
        config, parameters, notes = read_description(output / DESCRIPTION_FILE)
    except ValueError as error:
        raise failure(context, "describe", str(error)) from None
    for note in notes:
        context.progress.note(f"{context.sealed.manifest.name} says: {note}")
    return config, parameters


def read_description(path: Path) -> tuple[dict[str, Scalar], int, list[str]]:
    """What a submission published: configuration, number of parameters, notes.

    Raises ``ValueError`` for anything but plain scalars within bounds.
    """
    data = _read(path)
    try:
        content = json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is no plain JSON ({error})") from None
    if not isinstance(content, dict) or set(content) - {"notes"} != {"config", "parameters"}:
        raise ValueError(f"{path.name} must hold config, parameters and perhaps notes, nothing else")
    config, parameters = content["config"], content["parameters"]
    if not isinstance(config, dict) or len(config) > MAX_ENTRIES:
        raise ValueError(f"config in {path.name} must be an object of at most {MAX_ENTRIES:,} entries")
    for name, value in config.items():
        if not _is_plain(value) or len(name) > 200 or not name.isprintable():
            raise ValueError(f"config entry {name[:80]!r} in {path.name} is no plain scalar")
    if not isinstance(parameters, int) or isinstance(parameters, bool) or not 0 <= parameters < _SAFE_INTEGER:
        raise ValueError(f"parameters in {path.name} must be a whole number, 0 or more")
    notes = content.get("notes", [])
    if not isinstance(notes, list) or len(notes) > MAX_NOTES or not all(isinstance(note, str) for note in notes):
        raise ValueError(f"notes in {path.name} must be at most {MAX_NOTES} lines of text")
    return config, parameters, notes


def _is_plain(value: object) -> bool:
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return abs(value) < _SAFE_INTEGER
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and len(value) <= 4000 and value.isprintable()


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"there is no readable {path.name} ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{path.name} is no regular file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_DESCRIPTION_BYTES + 1)
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise ValueError(f"{path.name} is over {MAX_DESCRIPTION_BYTES:,} bytes")
    return data
