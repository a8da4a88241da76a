"""JSON from strangers, bounded and with its numbers as written; and ``submission.json`` in one form."""

import json
import math
import re
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeGuard

from harness.review.number import Number
from harness.review.patterns import PATTERNS, WORDS

MAX_BYTES, MAX_DEPTH, LONGEST_KEY = 1 << 20, 32, 1_000


class JsonProblem(Exception):
    """The text is not acceptable JSON; the message says why in one sentence."""


def parse_json(data: bytes) -> Any:
    """The value that ``data`` spells; its numbers are :class:`Number`. Raises :class:`JsonProblem`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if len(key) > LONGEST_KEY:
                raise JsonProblem(f"a key of {len(key):,} characters; at most {LONGEST_KEY:,} are read.")
            if key in found:
                raise JsonProblem(f"the key {key[:60]!r} appears twice; readers keep different ones.")
            found[key] = value
        return found

    def constant(word: str) -> Any:
        raise JsonProblem(f"{word} is not a JSON number.")

    def number(digits: str) -> Number:
        if len(digits) > 60:
            raise JsonProblem(f"a number of {len(digits)} characters.")
        return Number.of(digits)

    if len(data) > MAX_BYTES:
        raise JsonProblem(f"the file has {len(data):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        text = data.decode(json.detect_encoding(data))
        brackets = re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*+"', "", text, flags=re.DOTALL))
        if max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0) > MAX_DEPTH:
            raise JsonProblem(f"nested deeper than {MAX_DEPTH} levels.")
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_int=number, parse_float=number)
    except (ValueError, RecursionError) as error:
        raise JsonProblem(f"not JSON: {error}.") from error


def shown(value: object) -> str:
    """A JSON value on one short line."""
    if isinstance(value, Number):
        return value.text
    return json.dumps(value, ensure_ascii=False, default=lambda number: json.loads(number.text))[:120]


def is_number(value: object) -> TypeGuard[Number]:
    """A finite JSON number."""
    return isinstance(value, Number) and math.isfinite(value.value)


@dataclass
class Metadata:
    """``submission.json`` in one form, and its lines. ``spelt`` maps our name of a field to the key that was used.

    results: seed -> its figures by key, as the JSON states them; scores: those of all its runs, several of one seed too
    loss_is_bpb: whether ``val_loss`` is a bpb of the logs, and none of their losses
    """

    raw: dict[str, Any]
    source: list[str]
    lines: dict[str, int]
    values: dict[str, Any] = field(default_factory=dict)
    spelt: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    results: dict[int, dict[str, Number]] = field(default_factory=dict)
    scores: list[Number] = field(default_factory=list)
    loss_is_bpb: bool = False

    def number(self, name: str) -> Number | None:
        """A field as a finite number, or ``None``."""
        value = self.values.get(name)
        return value if is_number(value) else None

    def text(self, name: str) -> str:
        """A field as text, empty when it is missing or no text."""
        value = self.values.get(name)
        return value.strip() if isinstance(value, str) else ""

    def line(self, name: str) -> int:
        """Line of the key that holds a field, or of a key or seed; 0 when unknown."""
        return self.lines.get(self.spelt.get(name, name), 0)

    def size_of(self, seed: int | None) -> Number | None:
        """The artifact's size that stands under a seed."""
        numbers = self.results.get(-1 if seed is None else seed, {})
        return next((numbers[key] for key in PATTERNS.fields["bytes_total"] if key in numbers), None)


def read_metadata(raw: dict[str, Any], text: str) -> Metadata:
    """Put the parsed JSON into one form; ``text`` is the file, for line numbers."""
    numbered = enumerate(text.splitlines()[:5_000], 1)
    places_of = [(key, n) for n, line in numbered for key in re.findall(r'"([^"\\]{1,80})"\s*:', line[:2_000])]
    found = Metadata(raw, text.splitlines(), dict(reversed(places_of)))
    holders = [raw, *(raw[name] for name in PATTERNS.places["fields"] if isinstance(raw.get(name), dict))]
    authors = [raw.get("author"), *(raw["authors"] if isinstance(raw.get("authors"), list) else ())]
    people = [item for item in authors if isinstance(item, dict)]
    for name, keys in PATTERNS.fields.items():
        places = [*holders, *people] if name == "github_id" else holders
        hit = next(((place, key) for place in places for key in keys if place.get(key) is not None), None)
        if hit is not None:
            found.values[name], found.spelt[name] = hit[0][hit[1]], hit[1]
    score, sizes = found.values.get("val_bpb"), found.values.get("bytes_total")
    if isinstance(score, dict) and is_number(score.get("mean")):
        found.values["val_bpb"] = score["mean"]
    if isinstance(sizes, dict) and all(WORDS["seed_key"].fullmatch(key) and is_number(sizes[key]) for key in sizes):
        found.values["bytes_total"] = max(sizes.values(), key=lambda size: size.value, default=None)
    for name, value in found.values.items():  # a number as text is told, and compared all the same
        if isinstance(value, str) and re.fullmatch(r"\d\.\d{1,12}|\d{6,12}", value):
            found.values[name] = Number.of(value)
    _read_seeds(found, holders)
    return found


def _read_seeds(found: Metadata, places: list[dict[str, Any]]) -> None:
    raw, seed_in = found.raw, WORDS["seed_key"].fullmatch
    tables = [(name, raw.get(name)) for name in PATTERNS.places["seeds"]]
    tables.append(("", {k: v for k, v in raw.items() if seed_in(k) and isinstance(v, dict)}))  # ``seed_42``
    # Objects under any other name whose keys are all seeds, such as ``val_bpb_seeds``.
    objects = [one for place in places for one in place.items() if isinstance(one[1], dict) and len(one[1]) > 1]
    tables += [one for one in objects if all(map(seed_in, one[1])) and not WORDS["other_fields"].search(one[0])]
    for name, value in tables:
        runs = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        keys = value if isinstance(value, dict) else [shown(i.get("seed")) if isinstance(i, dict) else "" for i in runs]
        hits = [(seed_in(key), run) for key, run in zip(keys, runs, strict=True)]
        of_seed = [(int(hit[1]), run) for hit, run in hits if hit and isinstance(run, dict | Number)]
        for seed, run in of_seed:
            numbers = run if isinstance(run, dict) else {"val_bpb": run}
            found.results.setdefault(seed, {k: v for k, v in numbers.items() if is_number(v) and k != "seed"})
        if of_seed or name == "seed_results":
            scores = [run.get("val_bpb") if isinstance(run, dict) else run for run in runs]
            found.scores = found.scores or [score for score in scores if is_number(score)]
    lists = (one if isinstance(one, list) else [] for one in (raw.get("seeds"), [raw.get("seed")]))
    stated, alone = ([int(item.value) for item in one if is_number(item)] for one in lists)
    found.seeds = tuple(stated or found.results or alone)
