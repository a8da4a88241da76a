"""The configuration surface: one frozen dataclass, filled from a preset and overridden by environment variables.

``python -m submission.config --help`` lists every variable with its meaning, unit and default.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from harness.protocol.environment import misspelt

PRESETS = Path(__file__).parent / "presets"
MANIFEST = Path(__file__).parent / "submission.toml"
PRESET_OF_TRACK = {"smoke": "smoke"}
DEFAULT_PRESET = "pr1890"
BOS = int(os.environ.get("GOLF_BOS_ID", "1"))  # the token that opens each document, as the referee tells it
WEIGHT_ROLES = ("embedding", "mamba", "dynamics", "attention", "mlp", "small")


class ConfigError(ValueError):
    """The configuration is not usable; the text lists every fault found."""


def _var(
    meaning: str, *, unit: str = "", low: float | None = None, high: float | None = None, choices: Any = None
) -> Any:
    return field(metadata={"meaning": meaning, "unit": unit, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class Config:
    """Every number of a run. Field ``x_y`` is the variable ``X_Y``; defaults come from a preset file."""

    recipe: str = _var("name of the preset", choices=("smoke", "pr1890", "best"))
    # model
    vocab_size: int = _var("rows of the embedding", unit="tokens", low=2, high=65536)
    num_layers: int = _var("blocks", low=2, high=64)
    num_attn_layers: int = _var("attention blocks, spread evenly; the others are Mamba-3", low=0, high=63)
    model_dim: int = _var("residual width", low=16)
    num_heads: int = _var("query heads", low=1)
    num_kv_heads: int = _var("key and value heads; divides NUM_HEADS", low=1)
    mlp_mult: float = _var("MLP width over MODEL_DIM", low=0.25)
    mamba3_d_state: int = _var("state width of a Mamba-3 head", low=2)
    mamba3_expand: int = _var("inner width of Mamba-3 over MODEL_DIM", low=1)
    mamba3_headdim: int = _var("width of a Mamba-3 head", low=1)
    mamba3_chunk_size: int = _var(
        "chunk of the scan with MAMBA3_BACKEND=chunked; fused and release always take 64. Does not change results",
        unit="tokens",
        low=1,
    )
    mamba3_rope_fraction: float = _var("part of the state that rotates", choices=(0.5, 1.0))
    mamba3_backend: str = _var("scan: auto, or one by name", choices=("auto", "chunked", "fused", "release"))
    document_reset: bool = _var("state and attention begin anew at each document start, in training and evaluation")
    rope_base: float = _var("base of the rotary embedding in attention", low=1)
    qk_gain_init: float = _var("initial gain of each query head", low=0)
    logit_softcap: float = _var("logits are bounded by this", low=1)
    tied_embed_init_std: float = _var("standard deviation of the initial embedding", low=0)
    # training
    iterations: int = _var("optimiser steps; 0 means until the clock ends", unit="steps", low=0)
    train_seq_len: int = _var("window length", unit="tokens", low=2)
    train_batch_tokens: int = _var("tokens of one step over all ranks", unit="tokens", low=2)
    train_micro_batch: int = _var("windows of one forward pass on a rank", unit="windows", low=1)
    train_clock_margin_s: float = _var("seconds kept free at the end of the train clock", unit="s", low=0)
    warmdown_iters: int = _var("steps of the final fall of the learning rate", unit="steps", low=0)
    warmdown_shape: str = _var("shape of that fall", choices=("linear", "cosine"))
    matrix_lr: float = _var("learning rate of Muon on matrices", low=0)
    muon_momentum: float = _var("momentum of Muon", low=0, high=0.9999)
    muon_momentum_warmup_start: float = _var("momentum of Muon at step 0", low=0, high=0.9999)
    muon_momentum_warmup_steps: int = _var("steps until full momentum", unit="steps", low=0)
    muon_backend_steps: int = _var("Newton-Schulz steps", low=1, high=20)
    muon_eq_r: bool = _var("normalise rows before Newton-Schulz (MuonEq-R)")
    weight_decay: float = _var("decoupled decay of matrices", low=0)
    embed_lr: float = _var("Adam's learning rate for the embedding", low=0)
    scalar_lr: float = _var("Adam's learning rate for small tensors", low=0)
    ema_decay: float = _var("decay of the averaged weights that are kept", low=0, high=0.99999)
    late_qat_threshold: float = _var("fake quantisation starts when the multiplier falls under this; 0 = never", low=0)
    # packaging
    quant_bits: int = _var("bits of matrices in late QAT and, with QUANT_RD=0, in the file", unit="bits", low=2, high=8)
    quant_bits_embed: int = _var(
        "the same of the embedding; QUANT_RD=1 chooses by rate, so only QAT uses it", unit="bits", low=2, high=8
    )
    quant_bits_ssm_dynamics: int = _var(
        "the same of the dd_dt and dd_A rows; QUANT_RD=1 chooses by rate, so only QAT uses it",
        unit="bits",
        low=2,
        high=8,
    )
    use_gptq: bool = _var("with QUANT_RD=0: GPTQ on calibration text; off: percentile search. QUANT_RD=1 ignores it")
    gptq_num_seqs: int = _var("calibration sequences; fewer where CALIBRATION_SOURCE=train holds out less", low=1)
    gptq_seq_len: int = _var("length of a calibration sequence", unit="tokens", low=2)
    quant_rd: bool = _var("steps from measured sensitivity and rate; QUANT_BITS then bounds the mean of all weights")
    calibration_source: str = _var("tokens for calibration", choices=("self", "random", "train"))
    coder: str = _var("coder of the model file's integers", choices=("lzma", "range"))
    use_lzma: bool = _var("with CODER=lzma: compress the model file; CODER=range ignores it")
    # evaluation
    eval_seq_len: int = _var("window length in evaluation", unit="tokens", low=2)
    eval_mode: str = _var(
        "context of a token: plain windows; EVAL_OVERLAP tokens before each; a new window every EVAL_STRIDE tokens; "
        "or the state and EVAL_OVERLAP keys carried through the whole stream",
        choices=("windows", "overlap", "sliding", "carry"),
    )
    eval_overlap: int = _var("context re-read before a window (overlap), or keys kept (carry)", unit="tokens", low=0)
    eval_stride: int = _var("new tokens of a window (sliding)", unit="tokens", low=1)
    eval_pass_windows: int = _var("windows of one forward pass on a rank; 0 = all", unit="windows", low=0)
    eval_carry: str = _var(
        "the carried state after weights changed: keep it, recompute it from the last window, or decay it",
        choices=("keep", "recompute", "decay"),
    )
    eval_carry_decay: float = _var("factor of EVAL_CARRY=decay", low=0, high=1)
    eval_temp: float = _var("final logits are divided by this, fixed before the first token", low=0.1, high=10)
    eval_temp_lr: float = _var("rate at which log EVAL_TEMP learns from scored chunks; 0 = fixed", low=0, high=10)
    eval_bias_lr: float = _var("rate at which a bias of each token learns from scored chunks; 0 = none", low=0)
    eval_cache_orders: str = _var(
        "numbers of tokens that look up their successors in what was scored, ascending, by commas; empty = no cache"
    )
    eval_cache_slots: int = _var("contexts that the cache remembers, of each number", low=1, high=1 << 26)
    ttt_epochs: int = _var("passes of test-time training over a scored chunk; 0 = none", unit="epochs", low=0, high=64)
    ttt_chunk_windows: int = _var("windows of EVAL_SEQ_LEN new tokens in a chunk", unit="windows", low=1)
    ttt_batch_windows: int = _var("windows of one step; 0 = the whole chunk", unit="windows", low=0)
    ttt_optimiser: str = _var("momentum as it is, or orthogonalised for matrices", choices=("sgd", "muon"))
    ttt_lr: float = _var("learning rate of test-time training", low=0)
    ttt_lr_schedule: str = _var("its course over the stream", choices=("constant", "linear", "cosine"))
    ttt_lr_end: float = _var("its last value over TTT_LR, unless constant", low=0)
    ttt_embed_lr: float = _var("rate of the embedding over TTT_LR", low=0)
    ttt_dynamics_lr: float = _var("rate of the dd_dt and dd_A rows and dt_bias over TTT_LR", low=0)
    ttt_small_lr: float = _var("rate of scales, gains and biases over TTT_LR", low=0)
    ttt_freeze: str = _var("roles that never move: embedding, mamba, dynamics, attention, mlp, small; by commas")
    ttt_from_block: int = _var(
        "first block that adapts: no gradient goes further back, nor into the input side of the embedding", low=0
    )
    ttt_momentum: float = _var("its momentum", low=0, high=0.9999)
    ttt_momentum_reset: bool = _var("forget the momentum at each chunk")
    ttt_grad_clip: float = _var("clip of the gradient's norm; 0 = none", low=0)
    ttt_ema: float = _var("score with weights averaged over steps with this decay; 0 = the newest", low=0, high=0.9999)
    ttt_lora_rank: int = _var("adapt matrices by factors of this rank; 0 = in full", low=0)

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
    """The configuration of a track's preset with the environment's overrides, checked as a whole.

    Raises ``ConfigError`` that lists every malformed, unknown or contradictory value at once.
    """
    faults: list[str] = []
    values = _preset(environ.get("RECIPE", PRESET_OF_TRACK.get(track, DEFAULT_PRESET)))
    hints = get_type_hints(Config)
    for name, item in variables().items():
        if name in environ:
            try:
                values[item.name] = _parse(environ[name], hints[item.name])
            except ValueError:
                faults.append(f"{name} is {environ[name]!r}; wanted {_wanted(hints[item.name])}.")
    faults += _unknown(environ)
    if not faults:
        config = Config(**values)
        faults = _out_of_range(config) + _contradictions(config)
    if faults:
        raise ConfigError(" ".join(faults))
    return config


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


def _preset(name: str) -> dict[str, Any]:
    path = PRESETS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise ConfigError(f"RECIPE is {name!r}; known: {known}.")
    values: dict[str, Any] = tomllib.loads(path.read_text())
    base = values.pop("base", None)  # a preset may state only what it changes in another
    return ({} if base is None else _preset(base)) | values | {"recipe": name}


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
    """As the referee does before a run: by the manifest's namespace, and by likeness to a known name."""
    namespace = tuple(tomllib.loads(MANIFEST.read_text())["env"]["namespace"])
    found = misspelt(environ, variables(), namespace)
    return [f"unknown variable {n}" + (f"; did you mean {meant}?" if meant else ".") for n, meant in found.items()]


def _out_of_range(config: Config) -> list[str]:
    faults = []
    for name, item in variables().items():
        value, rule = getattr(config, item.name), item.metadata
        if rule["choices"] is not None and value not in rule["choices"]:
            faults.append(f"{name} is {value!r}; wanted one of {', '.join(map(str, rule['choices']))}.")
        if rule["low"] is not None and value < rule["low"]:
            faults.append(f"{name} is {value}; wanted at least {rule['low']}.")
        if rule["high"] is not None and value > rule["high"]:
            faults.append(f"{name} is {value}; wanted at most {rule['high']}.")
    return faults


def _contradictions(c: Config) -> list[str]:
    checks = (
        (c.num_attn_layers < c.num_layers, "NUM_ATTN_LAYERS must be under NUM_LAYERS."),
        (len(set(c.attention_layers)) == c.num_attn_layers, "NUM_ATTN_LAYERS do not fit evenly into NUM_LAYERS."),
        (c.num_heads % c.num_kv_heads == 0, "NUM_KV_HEADS must divide NUM_HEADS."),
        (c.model_dim % (2 * c.num_heads) == 0, "MODEL_DIM must be an even multiple of NUM_HEADS."),
        (c.inner_dim % c.mamba3_headdim == 0, "MAMBA3_HEADDIM must divide MAMBA3_EXPAND · MODEL_DIM."),
        (
            c.rotation_angles > 0,
            "MAMBA3_D_STATE times MAMBA3_ROPE_FRACTION must be at least 2: one angle rotates a pair.",
        ),
        (c.train_batch_tokens % c.train_seq_len == 0, "TRAIN_SEQ_LEN must divide TRAIN_BATCH_TOKENS."),
        (c.eval_overlap < c.eval_seq_len, "EVAL_OVERLAP must be under EVAL_SEQ_LEN."),
        (_orders(c.eval_cache_orders) is not None, "EVAL_CACHE_ORDERS must be ascending numbers from 1 to 32."),
        (c.eval_stride <= c.eval_seq_len, "EVAL_STRIDE must not exceed EVAL_SEQ_LEN."),
        (set(c.ttt_freeze.split(",")) <= {"", *WEIGHT_ROLES}, f"TTT_FREEZE knows {', '.join(WEIGHT_ROLES)}."),
        (c.ttt_from_block < c.num_layers, "TTT_FROM_BLOCK must be under NUM_LAYERS; TTT_EPOCHS=0 adapts nothing."),
        (not (c.ttt_optimiser == "muon" and c.ttt_lora_rank), "TTT_OPTIMISER=muon does not go with TTT_LORA_RANK."),
        (not (c.document_reset and c.mamba3_backend == "release"), "MAMBA3_BACKEND=release knows no DOCUMENT_RESET."),
        (c.iterations == 0 or c.warmdown_iters <= c.iterations, "WARMDOWN_ITERS must not exceed ITERATIONS."),
    )
    return [text for holds, text in checks if not holds]


def help_text(preset: str) -> str:
    """Every variable with meaning, unit and its default in ``preset``."""
    values = _preset(preset)
    lines = [f"Environment variables of the submission, with the defaults of the preset {preset!r}:", ""]
    for name, item in variables().items():
        value = int(values[item.name]) if isinstance(values[item.name], bool) else values[item.name]
        unit = f" [{item.metadata['unit']}]" if item.metadata["unit"] else ""
        lines.append(f"  {name + '=' + str(value):<34} {item.metadata['meaning']}{unit}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        print(help_text(os.environ.get("RECIPE", "smoke")))
    except ConfigError as error:
        sys.exit(str(error))
