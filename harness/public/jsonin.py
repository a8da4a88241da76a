"""JSON from strangers: bounded in size and depth; equal keys, NaN and bad UTF-8 are reported, never guessed away."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from harness.public.figures import Figure

MAX_BYTES = 1 << 20
MAX_DEPTH = 32


class JsonProblem(ValueError):
    """The text is not acceptable JSON; the message says why in one sentence."""


def parse_json(data: bytes, *, longest_key: int = 4_096) -> Any:
    """The value that ``data`` spells, its fractions as :class:`Figure`. Raises :class:`JsonProblem`.

    longest_key: characters that a key may have; patterns are searched in keys
    """
    if len(data) > MAX_BYTES:
        raise JsonProblem(f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonProblem(f"not UTF-8 (byte {error.start}).") from error
    if _depth(text) > MAX_DEPTH:
        raise JsonProblem(f"nested deeper than {MAX_DEPTH} levels.")
    try:
        return json.loads(
            text,
            object_pairs_hook=partial(_unique, longest_key),
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=Figure,
        )
    except JsonProblem:
        raise
    except (ValueError, RecursionError) as error:
        raise JsonProblem(f"not JSON: {error}.") from error


def _depth(text: str) -> int:
    level = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def _unique(longest_key: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if len(key) > longest_key:
            raise JsonProblem(f"a key of {len(key):,} characters; at most {longest_key:,} are read.")
        if key in found:
            raise JsonProblem(f"the key {key[:60]!r} stands twice; readers keep different ones.")
        found[key] = value
    return found


def _no_constant(word: str) -> Any:
    raise JsonProblem(f"{word} is not a JSON number.")


def _integer(digits: str) -> int:
    if len(digits) > 30:
        raise JsonProblem(f"an integer of {len(digits)} digits.")
    return int(digits)
