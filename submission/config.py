"""The configuration: a frozen dataclass, filled from a preset and overridden by the environment (VARIABLES.md)."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from harness.protocol.environment import misspelt

PRESETS = Path(__file__).parent / "presets"
SIZES = PRESETS / "sizes"
MANIFEST = Path(__file__).parent / "submission.toml"
PRESET_OF_TRACK = {"smoke": "smoke"}
DEFAULT_PRESET = "pr1890"
BOS = int(os.environ.get("GOLF_BOS_ID", "1"))  # the token that opens each document, as the referee tells it


class ConfigError(ValueError):
    """The configuration is not usable; the text lists every fault found."""


def _within(low: float, high: float = math.inf) -> Any:
    return field(metadata={"low": low, "high": high})


def _among(*choices: object) -> Any:
    return field(metadata={"choices": choices})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every number of a run. Field ``x_y`` is the variable ``X_Y``; defaults come from a preset file."""

    recipe: str
    # model
    vocab_size: int = _within(2, 65536)
    num_layers: int = _within(2, 64)
    num_attn_layers: int = _within(0, 63)
    model_dim: int = _within(16)
    num_heads: int = _within(1)
    num_kv_heads: int = _within(1)
    mlp_mult: float = _within(0.25)
    mamba3_d_state: int = _within(2)
    mamba3_expand: int = _within(1)
    mamba3_headdim: int = _within(1)
    mamba3_chunk_size: int = _within(1)
    mamba3_rope_fraction: float = _among(0.5, 1.0)
    mamba3_backend: str = _among("auto", "chunked", "fused")
    document_reset: bool
    rope_base: float = _within(1)
    qk_gain_init: float = _within(0)
    qk_offset: bool
    logit_softcap: float = _within(1)
    tied_embed_init_std: float = _within(0)
    # training
    iterations: int = _within(0)
    train_seq_len: int = _within(2)
    train_batch_tokens: int = _within(2)
    train_micro_batch: int = _within(1)
    train_clock_margin_s: float = _within(0)
    warmdown_iters: int = _within(0)
    warmdown_shape: str = _among("linear")
    matrix_lr: float = _within(0)
    muon_momentum: float = _within(0, 0.9999)
    muon_momentum_warmup_start: float = _within(0, 0.9999)
    muon_momentum_warmup_steps: int = _within(0)
    muon_backend_steps: int = _within(1, 20)
    muon_eq_r: bool
    weight_decay: float = _within(0)
    embed_lr: float = _within(0)
    scalar_lr: float = _within(0)
    ema_decay: float = _within(0, 0.99999)
    late_qat_threshold: float = _within(0)
    # packaging
    quant_bits: int = _within(2, 8)
    quant_bits_embed: int = _within(2, 8)
    quant_bits_ssm_dynamics: int = _within(2, 8)
    use_gptq: bool
    gptq_num_seqs: int = _within(1)
    gptq_seq_len: int = _within(2)
    quant_rd: bool
    calibration_source: str = _among("self", "random")
    use_lzma: bool
    # evaluation and test-time training
    eval_seq_len: int = _within(2)
    eval_mode: str = _among("windows", "overlap")
    eval_overlap: int = _within(0)
    eval_pass_windows: int = _within(0)
    eval_temp: float = _within(0.1, 10)
    eval_cache_orders: str
    eval_cache_slots: int = _within(1, 1 << 26)
    ttt_epochs: int = _within(0, 64)
    ttt_chunk_windows: int = _within(1)
    ttt_batch_windows: int = _within(0)
    ttt_optimiser: str = _among("sgd", "muon")
    ttt_lr: float = _within(0)
    ttt_momentum: float = _within(0, 0.9999)

    @property
    def inner_dim(self) -> int:
        """Width inside a Mamba-3 block."""
        return self.mamba3_expand * self.model_dim

    @property
    def mamba_heads(self) -> int:
        """Heads of a Mamba-3 block."""
        return self.inner_dim // self.mamba3_headdim

    @property
    def rotation_angles(self) -> int:
        """Angles of a Mamba-3 head."""
        return int(self.mamba3_d_state * self.mamba3_rope_fraction) // 2

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return int(self.mlp_mult * self.model_dim)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """Indices of the attention blocks: round(k · layers / (attention + 1))."""
        parts = self.num_attn_layers + 1
        return tuple(round(k * self.num_layers / parts) for k in range(1, parts))


def variables() -> dict[str, dataclasses.Field[Any]]:
    """Environment variable → field, in the order of the class."""
    return {f.name.upper(): f for f in dataclasses.fields(Config)}


def load_config(environ: Mapping[str, str], track: str) -> Config:
    """``resolve`` without its notes."""
    return resolve(environ, track)[0]


def resolve(environ: Mapping[str, str], track: str) -> tuple[Config, list[str]]:
    """The recipe's method at the track's size, with the environment's overrides; and notes on what could not act.

    The vocabulary is that of the data set, which the referee names in GOLF_VOCAB_SIZE. Raises ``ConfigError`` that
    lists every malformed, unknown or contradictory value at once.
    """
    faults: list[str] = []
    recipe = environ.get("RECIPE", PRESET_OF_TRACK.get(track, DEFAULT_PRESET))
    values = before = preset(recipe)
    replaced = {name: value for name, value in size_of(track).items() if values[name] != value}
    own, hints = values | replaced, get_type_hints(Config)
    values = dict(own)
    for name, item in variables().items():
        if name in environ:
            try:
                values[item.name] = _parse(environ[name], hints[item.name])
            except ValueError:
                faults.append(f"{name} is {environ[name]!r}; wanted {_wanted(hints[item.name])}.")
    faults += _unknown(environ)
    if faults:
        raise ConfigError(" ".join(faults))
    notes = _fit_to_track(values, own, environ)
    sizes = [f"{n.upper()}={own[n]} ({before[n]})" for n in replaced if n.upper() not in environ]
    for part in (sizes[:10], sizes[10:]):  # a note has room for so many
        notes += [f"the size of track {track} in place of {recipe}'s (in brackets): {', '.join(part)}"] if part else []
    config = Config(**values)
    faults = _out_of_range(config) + _contradictions(config)
    if faults:
        raise ConfigError(" ".join(faults))
    return config, notes + _idle(config, environ)


def size_of(track: str) -> dict[str, Any]:
    """Settings that a track decides instead of the recipe; empty for those of full size."""
    path = SIZES / f"{track}.toml"
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def _fit_to_track(values: dict[str, Any], own: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Put back what was asked for and cannot be on this track or data set, in place; what was put back, in words."""
    notes = []

    def put_back(name: str, value: Any, why: str) -> None:
        if name.upper() in environ:
            notes.append(f"{name.upper()}={values[name]} cannot act here ({why}): it is {value}")
        values[name] = value

    vocabulary = int(environ.get("GOLF_VOCAB_SIZE", 0))
    if vocabulary and values["vocab_size"] != vocabulary:
        put_back("vocab_size", vocabulary, f"the data set has {vocabulary:,} tokens")
    if values["train_batch_tokens"] < values["train_seq_len"] != own["train_seq_len"]:
        put_back("train_seq_len", own["train_seq_len"], f"a step has {values['train_batch_tokens']:,} tokens")
    if 0 < values["iterations"] < values["warmdown_iters"] != own["warmdown_iters"] <= values["iterations"]:
        put_back("warmdown_iters", own["warmdown_iters"], f"there are {values['iterations']:,} steps")
    if values["eval_mode"] == "overlap" and values["eval_overlap"] >= values["eval_seq_len"] > own["eval_overlap"]:
        put_back("eval_overlap", own["eval_overlap"], f"a window has {values['eval_seq_len']:,} tokens")
    return notes


def _idle(c: Config, environ: Mapping[str, str]) -> list[str]:
    """Variables of ``environ`` that do nothing in the modes chosen, and why."""
    frozen = c.ttt_epochs == 0
    cases = (
        ("USE_GPTQ USE_LZMA", c.quant_rd, "with QUANT_RD=1"),
        ("QUANT_BITS_EMBED QUANT_BITS_SSM_DYNAMICS", c.quant_rd, "with QUANT_RD=1, but in late QAT"),
        ("EVAL_OVERLAP", c.eval_mode == "windows", "with EVAL_MODE=windows"),
        ("EVAL_CACHE_SLOTS", not c.eval_cache_orders, "without EVAL_CACHE_ORDERS"),
        ("EVAL_TEMP", not frozen, "unless TTT_EPOCHS=0, as in the source"),
        ("TTT_BATCH_WINDOWS TTT_OPTIMISER TTT_LR TTT_MOMENTUM", frozen, "with TTT_EPOCHS=0"),
    )
    idle = (
        (", ".join(name for name in names.split() if name in environ), when) for names, holds, when in cases if holds
    )
    return [f"{names}: no effect {when}" for names, when in idle if names]


def cache_orders(config: Config) -> tuple[int, ...]:
    """EVAL_CACHE_ORDERS as numbers."""
    return _orders(config.eval_cache_orders) or ()


def _orders(text: str) -> tuple[int, ...] | None:
    """Ascending numbers from 1 to 32, by commas; ``None`` for anything else."""
    try:
        orders = tuple(int(part) for part in text.split(",") if text)
    except ValueError:
        return None
    return orders if sorted(set(orders)) == list(orders) and all(1 <= n <= 32 for n in orders) else None


def as_scalars(config: Config) -> dict[str, str | int | float | bool | None]:
    """The configuration by variable name, for the record."""
    return {item.name.upper(): getattr(config, item.name) for item in dataclasses.fields(config)}


def preset(name: str) -> dict[str, Any]:
    """The settings of a recipe: those of its ``base``, at its ``size``, with its own. Raises ``ConfigError``."""
    known = sorted(path.stem for path in PRESETS.glob("*.toml"))
    if name not in known:
        raise ConfigError(f"RECIPE is {name!r}; known: {', '.join(known)}.")
    values: dict[str, Any] = tomllib.loads((PRESETS / f"{name}.toml").read_text())
    base, size = values.pop("base", None), values.pop("size", "")
    return ({} if base is None else preset(base)) | size_of(size) | values | {"recipe": name}


def _parse(text: str, kind: type) -> Any:
    if kind is bool:
        if text not in ("0", "1"):
            raise ValueError(text)
        return text == "1"
    if kind is float and not (text.strip() and float(text) - float(text) == 0):
        raise ValueError(text)
    return kind(text)


def _wanted(kind: type) -> str:
    return {bool: "0 or 1", int: "a whole number", float: "a finite number"}.get(kind, "text")


def _unknown(environ: Mapping[str, str]) -> list[str]:
    """As the referee does before a run: by the manifest's namespace and hints, and by likeness to a known name."""
    manifest = tomllib.loads(MANIFEST.read_text())["env"]
    found = misspelt(environ, variables(), tuple(manifest["namespace"]), manifest["hints"])
    return [f"unknown variable {name}" + (f"; {help}" if help else ".") for name, help in found.items()]


def _out_of_range(config: Config) -> list[str]:
    faults = []
    for name, item in variables().items():
        value, rule = getattr(config, item.name), item.metadata
        if value not in rule.get("choices", (value,)):
            faults.append(f"{name} is {value!r}; wanted one of {', '.join(map(str, rule['choices']))}.")
        if "low" in rule and not rule["low"] <= value <= rule["high"]:
            bound = f"least {rule['low']}" if value < rule["low"] else f"most {rule['high']}"
            faults.append(f"{name} is {value}; wanted at {bound}.")
    return faults


def _contradictions(c: Config) -> list[str]:
    checks = (
        (c.num_attn_layers < c.num_layers, "NUM_ATTN_LAYERS must be under NUM_LAYERS."),
        (len(set(c.attention_layers)) == c.num_attn_layers, "NUM_ATTN_LAYERS do not fit evenly into NUM_LAYERS."),
        (c.num_heads % c.num_kv_heads == 0, "NUM_KV_HEADS must divide NUM_HEADS."),
        (c.model_dim % (2 * c.num_heads) == 0, "MODEL_DIM must be an even multiple of NUM_HEADS."),
        (
            not c.qk_offset or c.model_dim % (4 * c.num_heads) == 0,
            "QK_OFFSET=1 needs a MODEL_DIM that is a multiple of 4 · NUM_HEADS.",
        ),
        (c.inner_dim % c.mamba3_headdim == 0, "MAMBA3_HEADDIM must divide MAMBA3_EXPAND · MODEL_DIM."),
        (
            c.rotation_angles > 0,
            "MAMBA3_D_STATE times MAMBA3_ROPE_FRACTION must be at least 2: one angle rotates a pair.",
        ),
        (c.train_batch_tokens % c.train_seq_len == 0, "TRAIN_SEQ_LEN must divide TRAIN_BATCH_TOKENS."),
        (
            c.eval_mode == "windows" or c.eval_overlap < c.eval_seq_len,
            "EVAL_OVERLAP must be under EVAL_SEQ_LEN.",
        ),
        (_orders(c.eval_cache_orders) is not None, "EVAL_CACHE_ORDERS must be ascending numbers from 1 to 32."),
        (c.iterations == 0 or c.warmdown_iters <= c.iterations, "WARMDOWN_ITERS must not exceed ITERATIONS."),
    )
    return [text for holds, text in checks if not holds]


def help_text(recipe: str, track: str) -> str:
    """Every variable with its meaning and default; for a track whose size differs, what it replaces."""
    own, sizes = preset(recipe), size_of(track)
    cells = (
        line.strip("| ").split(" | ") for line in (Path(__file__).parent / "VARIABLES.md").read_text().splitlines()
    )
    meanings = {row[0].strip("`"): row[1] for row in cells if len(row) == 2}
    lines = [f"Environment variables of the submission, with the defaults of {recipe!r} on track {track!r}:", ""]
    for name, item in variables().items():
        before, value = own[item.name], (own | sizes)[item.name]
        shown = f"{name}={int(value) if isinstance(value, bool) else value}"
        lines.append(f"  {shown:<34} {meanings[name]}" + (f" ({before} at full size)" if value != before else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        chosen = os.environ.get("TRACK", "smoke")
        print(help_text(os.environ.get("RECIPE", PRESET_OF_TRACK.get(chosen, DEFAULT_PRESET)), chosen))
    except ConfigError as error:
        sys.exit(str(error))
