"""``submission.json`` as found in the wild: every spelling that public folders use, read into one form."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from harness.public.figures import Figure, figure

SPELLINGS: dict[str, tuple[str, ...]] = {
    "name": ("name", "run_name", "title", "submission_name", "record_name"),
    "author": ("author", "authors", "submitter"),
    "github_id": ("github_id", "github", "github_username"),
    "date": ("date", "created", "timestamp"),
    "track": ("track",),
    "val_bpb": ("val_bpb", "mean_val_bpb", "val_bpb_mean", "mean_bpb", "final_val_bpb", "bpb"),
    "val_loss": ("val_loss", "mean_val_loss", "val_loss_mean", "val_loss_nats", "mean_val_loss_nats"),
    "bytes_total": (
        "bytes_total",
        "artifact_bytes",
        "artifact_size_bytes",
        "artifact_bytes_max",
        "total_bytes",
        "submission_bytes",
        "artifact_bytes_mean",
    ),
    "bytes_code": ("bytes_code", "code_bytes"),
    "val_bpb_std": ("val_bpb_std", "std_bpb", "bpb_std", "std_val_bpb"),
    "val_loss_std": ("val_loss_std", "std_val_loss_nats", "val_loss_nats_std", "std_val_loss"),
    "p_value": ("p_value", "p", "welch_p", "p_val"),
    "t_statistic": ("t_statistic", "t_stat", "welch_t"),
}
SEED_FIELDS = ("seed_results", "seeds", "per_seed", "results", "runs")
HOLDERS = ("results", "result", "metrics", "summary", "scores")
"""Objects in which some folders keep the fields that others write at the top."""
OTHER_RUNS = re.compile(r"supersed|old|prev|prior|base|ablat|other|extra|reject|fail|diagnos|vs_|delta", re.IGNORECASE)
BYTES_OF_SEED = ("artifact_bytes", "bytes_total", "total_bytes", "artifact_size_bytes", "bytes")
STEPS_OF_SEED = ("steps", "step_stop", "stop_step", "train_steps", "step")
TRAIN_OF_SEED = ("train_time_s", "train_time_ms", "train_wallclock_ms", "wallclock_seconds", "train_seconds")
EVAL_OF_SEED = ("eval_time_s", "eval_time_ms", "eval_time", "ttt_time_ms", "ttt_time_s", "ttt_eval_ms")
SEED_KEY = re.compile(r"(?:seed[_ -]?)?(\d{1,10})")
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")


@dataclass(frozen=True)
class SeedResult:
    """What the JSON says of one seed; ``numbers`` maps its keys to finite numbers."""

    seed: int
    numbers: dict[str, Figure]

    def first(self, keys: tuple[str, ...]) -> tuple[str, Figure] | None:
        """The first of ``keys`` that stands here, with its value."""
        return next(((key, self.numbers[key]) for key in keys if key in self.numbers), None)


@dataclass
class Metadata:
    """``submission.json`` in one form. ``spelt`` maps our name of a field to the key that was used."""

    raw: dict[str, Any]
    lines: dict[str, int]
    values: dict[str, Any] = field(default_factory=dict)
    spelt: dict[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    results: dict[int, SeedResult] = field(default_factory=dict)

    def number(self, name: str) -> Figure | None:
        """A field as a finite number with its spelling, or ``None``."""
        value = self.values.get(name)
        return figure(value) if is_number(value) else None

    def text(self, name: str) -> str:
        """A field as text, empty when it is missing or no text."""
        value = self.values.get(name)
        return value.strip() if isinstance(value, str) else ""

    def line(self, name: str) -> int:
        """Line of the key that holds a field; 0 when unknown."""
        return self.lines.get(self.spelt.get(name, name), 0)

    @property
    def prose(self) -> str:
        """All text values: blurbs, notes, summaries."""
        return "\n".join(str(value) for value in self.raw.values() if isinstance(value, str))


def is_number(value: object) -> TypeGuard[int | float]:
    """A finite JSON number (booleans are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_metadata(raw: dict[str, Any], text: str) -> Metadata:
    """Put the parsed JSON into one form; ``text`` is the file, for line numbers."""
    found = Metadata(raw, _key_lines(text))
    holders = [raw, *(raw[name] for name in HOLDERS if isinstance(raw.get(name), dict))]
    for name, keys in SPELLINGS.items():
        hit = next(((place, key) for place in holders for key in keys if place.get(key) is not None), None)
        if hit is not None:
            found.values[name], found.spelt[name] = hit[0][hit[1]], hit[1]
    _read_seeds(found)
    return found


def _key_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines()[:5_000], 1):
        for key in re.findall(r'"([^"\\]{1,80})"\s*:', line[:2_000]):
            lines.setdefault(key, number)
    return lines


def _read_seeds(found: Metadata) -> None:
    raw = found.raw
    nested = [raw[name] for name in HOLDERS if isinstance(raw.get(name), dict)]
    for name, value in [*((name, raw.get(name)) for name in SEED_FIELDS), *_further_tables([raw, *nested])]:
        if isinstance(value, dict):
            for key, item in value.items():
                digits = SEED_KEY.fullmatch(str(key))
                if digits and isinstance(item, dict | float | int):
                    numbers = item if isinstance(item, dict) else {"val_bpb": item}
                    kept = {str(k): figure(v) for k, v in numbers.items() if is_number(v)}
                    found.results.setdefault(int(digits[1]), SeedResult(int(digits[1]), kept))
        elif isinstance(value, list) and name != "seeds":
            for item in value:
                if isinstance(item, dict) and type(item.get("seed")) is int:
                    kept = {str(k): figure(v) for k, v in item.items() if is_number(v) and k != "seed"}
                    found.results.setdefault(item["seed"], SeedResult(item["seed"], kept))
    listed = raw.get("seeds")
    if isinstance(listed, list):
        found.seeds = tuple(item for item in listed if type(item) is int)
    elif found.results:
        found.seeds = tuple(found.results)
    elif type(raw.get("seed")) is int:
        found.seeds = (raw["seed"],)


def _further_tables(places: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Objects under any other name whose keys are all seeds, such as ``val_bpb_seeds``."""
    return [
        (name, value)
        for place in places
        for name, value in place.items()
        if isinstance(value, dict)
        and len(value) > 1
        and not OTHER_RUNS.search(name)
        and all(SEED_KEY.fullmatch(str(key)) for key in value)
    ]


def disclosed_scores(raw: dict[str, Any]) -> dict[int, float]:
    """The largest table of seed -> bpb anywhere in the JSON, also under notes on further runs."""
    best: dict[int, float] = {}
    waiting: list[Any] = [raw]
    visited = 0
    while waiting and visited < 5_000:
        visited += 1
        item = waiting.pop()
        if not isinstance(item, dict):
            continue
        table = {}
        for key, value in item.items():
            score = value.get("val_bpb") if isinstance(value, dict) else value
            if re.fullmatch(r"\d{1,10}", str(key)) and is_number(score) and 0.3 < float(score) < 5:
                table[int(key)] = float(score)
        if len(table) > len(best):
            best = table
        waiting.extend(item.values())
    return best


def shown(value: object) -> str:
    """A JSON value on one short line."""
    return json.dumps(value, ensure_ascii=False)[:120]
