"""The readings: limits of the public challenge and named settings for every rule whose meaning is disputed."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.errors import UsageError


class Readings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the checks go by; every report names the values in force. Times in seconds, sizes in decimal bytes.

    artifact_cap_bytes:  code plus compressed model, for every seed
    train_cap_s:         the training loop's own clock
    train_overshoot_s:   above the cap and within this, WARN: the loop looks at its clock after each step
    eval_cap_s:          evaluation
    eval_clock:          what FAILs above the cap: "scorer" (the last pass), "sum" (all passes), "sum+warmup"
    calibration:         verdict when loop + Hessian collection on training data exceed the cap
    code_bytes:          "logged": the log's code size counts, and another size of the shipped file is WARN;
                         "shipped": model bytes plus the shipped files must fit
    byte_low, byte_high: bytes that the validation text may have (rules, A7)
    margin_nats, margin_unit: by how much a record must beat its predecessor, and in which unit
    alpha:               level of the test
    min_seeds:           seeds that a record shows
    floor_bpb:           a lower score is held for proof
    excerpt:             "accept": files that only FILES.json lists are UNKNOWN; "refuse": they are missing
    """

    artifact_cap_bytes: int = 16_000_000
    train_cap_s: float = 600.0
    train_overshoot_s: float = 0.2
    eval_cap_s: float = 600.0
    eval_clock: Literal["scorer", "sum", "sum+warmup"] = "scorer"
    calibration: Literal["WARN", "FAIL"] = "WARN"
    code_bytes: Literal["logged", "shipped"] = "logged"
    byte_low: int = 151_060_000
    byte_high: int = 151_090_000
    margin_nats: float = 0.005
    margin_unit: Literal["nats/token", "nats/byte", "bpb"] = "nats/token"
    alpha: float = 0.01
    min_seeds: int = 3
    floor_bpb: float = 0.9
    excerpt: Literal["accept", "refuse"] = "accept"


def with_settings(settings: tuple[str, ...]) -> Readings:
    """The default readings with ``NAME=VALUE`` settings applied. Raises ``UsageError`` for an unknown name or value."""
    values: dict[str, object] = {}
    for setting in settings:
        name, found, value = setting.partition("=")
        if not found or name not in Readings.__struct_fields__:
            raise UsageError(
                f"reading {setting!r} is not NAME=VALUE with a known name.",
                remedy=f"Names: {', '.join(Readings.__struct_fields__)}.",
            )
        values[name] = value
    try:
        return msgspec.convert(values, Readings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"--reading {' '.join(settings)}: {error}.",
            remedy="`harness check folder --reading help` lists names and values.",
        ) from error
