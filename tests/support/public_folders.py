"""Public record folders made up for tests: clean ones in three log families, to be broken one fact at a time."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

BYTES = 151_078_222
TOKENS = {"modern": 40_540_160, "classic": 62_021_632, "ternary": 62_021_632}
SCORES = {1: 1.0801, 2: 1.0809, 3: 1.0805}
SCRIPT = '''"""A model."""
import time

import torch

train_files = "data/fineweb_train_*.bin"


def eval_val(model, val_tokens):
    loss_sum = 0.0
    with torch.inference_mode():
        loss_sum += model(val_tokens)
    return loss_sum


def main():
    start = time.perf_counter()
    val_tokens = load_validation_tokens()
    while time.perf_counter() - start < 600:
        x, y = loader.next_batch()
        loss = model(x, y)
        loss.backward()
    print(eval_val(model, val_tokens))
'''


def loss_of(bpb: float, tokens: int, n_bytes: int = BYTES) -> float:
    """Nats per token that give ``bpb`` on this many tokens and bytes."""
    return bpb * math.log(2) * n_bytes / tokens


@dataclass
class Seed:
    """One run: what its log says."""

    seed: int
    bpb: float
    tokens: int
    n_bytes: int = BYTES
    train_ms: int = 588_010
    hessian_s: float = 8.2
    reserve_s: float = 12.0
    eval_ms: int = 300_000
    model_bytes: int = 15_900_000
    code_bytes: int | None = None
    settings: dict[str, object] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    curve_bpb: float | None = None
    unscored: int = 0
    shards: int = 80
    parameters: int = 35_943_512
    gpu: str = "NVIDIA H100 80GB HBM3"

    def log(self, family: str) -> str:
        """The log in one family's format."""
        lines = {"modern": self._modern, "classic": self._classic, "ternary": self._ternary}[family]()
        return "\n".join(lines) + "\n"

    def _head(self) -> list[str]:
        return [f"|   {i}  {self.gpu}          On  |   00000000:0A:00.0 Off |" for i in range(8)]

    def _modern(self) -> list[str]:
        settings = {"matrix_lr": 0.02, "num_layers": 11, "run_id": f"r{self.seed}", "seed": self.seed} | self.settings
        loss = loss_of(self.bpb, self.tokens - self.unscored, self.n_bytes)
        total, curve = self.model_bytes + (self.code_bytes or 0), self.curve_bpb or self.bpb + 0.004
        return [
            *self._head(),
            "Hyperparameters:",
            *(f"  {key}: {value}" for key, value in settings.items()),
            f"train_shards: {self.shards}",
            f"val_tokens: {self.tokens}",
            f"model_params:{self.parameters}",
            *(
                [f"gptq:reserving {self.reserve_s:g}s, effective={600 - self.reserve_s:g}000ms"]
                if self.reserve_s
                else []
            ),
            "500/20000 train_loss: 3.2568 train_time: 0.8m tok/s: 8234914",
            f"5000/20000 val_loss: {loss * curve / self.bpb:.4f} val_bpb: {curve:.4f}",
            f"stopping_early: wallclock_cap train_time: {self.train_ms}ms step: 5000/20000",
            f"pre-quantization post-ema val_loss:{loss + 0.01:.8f} val_bpb:{self.bpb + 0.004:.8f} eval_time:5580ms",
            *self.early,
            "Serialized model: 135409136 bytes",
            f"Code size: {self.code_bytes} bytes",
            "GPTQ:collecting Hessians from calibration data...",
            f"GPTQ:collected 67 Hessians in {self.hessian_s}s",
            f"Serialized model quantized+brotli: {self.model_bytes} bytes",
            f"Total submission size quantized+brotli: {total} bytes",
            *self.extra,
            f"quantized_sliding_window val_loss:{loss:.8f} val_bpb:{self.bpb:.8f} eval_time:{self.eval_ms}ms",
            *self.after,
        ]

    def _classic(self) -> list[str]:
        loss, total = loss_of(self.bpb, self.tokens, self.n_bytes), self.model_bytes + (self.code_bytes or 0)
        return [
            *self._head(),
            f"train_loader:dataset:fineweb10B_sp1024 train_shards:{self.shards}",
            f"val_loader:shards pattern=./data/fineweb_val_*.bin tokens:{self.tokens}",
            f"model_params:{self.parameters}",
            "world_size:8 grad_accum_steps:1",
            "train_batch_tokens:524288 train_seq_len:1024 iterations:20000 max_wallclock_seconds:600.000",
            f"seed:{self.seed}",
            "step:0/20000 val_loss:6.9307 val_bpb:4.1048 train_time:0ms step_avg:0.01ms",
            f"step:5000/20000 val_loss:{loss + 0.01:.4f} val_bpb:{self.bpb + 0.006:.4f} train_time:{self.train_ms}ms",
            f"stopping_early: wallclock_cap train_time:{self.train_ms}ms step:5000/20000",
            "Serialized model: 67224983 bytes",
            f"Code size: {self.code_bytes} bytes",
            "Total submission size: 67275902 bytes",
            f"Serialized model int8+zlib: {self.model_bytes} bytes (payload:17178912 raw_torch:17224025)",
            f"Total submission size int8+zlib: {total} bytes",
            *self.extra,
            f"final_int8_zlib_roundtrip val_loss:{loss:.4f} val_bpb:{self.bpb:.4f} eval_time:{self.eval_ms}ms",
            f"final_int8_zlib_roundtrip_exact val_loss:{loss:.8f} val_bpb:{self.bpb:.8f}",
            *self.after,
        ]

    def _ternary(self) -> list[str]:
        loss, total = loss_of(self.bpb, self.tokens, self.n_bytes), self.model_bytes + (self.code_bytes or 0)
        return [
            *self._head(),
            f"val_tokens: {self.tokens}",
            f"seed: {self.seed}",
            f"1774412345.123 5000/20000 val_loss: {loss:.4f} val_bpb: {self.bpb:.4f}",
            f"1774412345.123 stopping_early: wallclock_cap train_time: {self.train_ms}ms step: 5000/20000",
            f"1774412346.001 budget:{total}/16000000 ({16_000_000 - total} left)",
            *self.extra,
            f"1774412399.5 final_ternary_roundtrip val_loss:{loss:.6f} val_bpb:{self.bpb:.6f} time:{self.eval_ms}ms",
            *self.after,
        ]


@dataclass
class PublicFolder:
    """A folder to write: ``metadata`` and ``files`` override what is derived; ``None`` leaves a file out."""

    family: str = "modern"
    script: str = SCRIPT
    name: str = "2026-04-05_Made_Up"
    track: str = "track_10min_16mb"
    metadata: dict[str, object] = field(default_factory=dict)
    files: dict[str, str | bytes | None] = field(default_factory=dict)
    seeds: list[Seed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seeds = [Seed(seed, bpb, TOKENS[self.family]) for seed, bpb in SCORES.items()]

    def write(self, root: Path) -> Path:
        """Write everything under ``root`` and return the folder."""
        folder = root / self.track / self.name
        folder.mkdir(parents=True)
        content: dict[str, str | bytes | None] = {"train_gpt.py": self.script}
        for run in self.seeds:
            run.code_bytes = len(self.script.encode()) if run.code_bytes is None else run.code_bytes
            content[f"train_seed{run.seed}.log"] = run.log(self.family)
        content["submission.json"] = json.dumps(self.derived() | self.metadata, indent=1)
        content["README.md"] = self.readme()
        for name, text in (content | self.files).items():
            if text is not None:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return folder

    def derived(self) -> dict[str, object]:
        """Metadata that agrees with the logs."""
        scores = [run.bpb for run in self.seeds]
        return {
            "name": "Made up",
            "author": "A. Person",
            "github_id": "aperson",
            "date": "2026-04-05",
            "track": "10min_16mb",
            "val_bpb": round(fmean(scores), 8),
            "val_bpb_std": round(stdev(scores), 8) if len(scores) > 1 else 0.0,
            "val_loss": round(fmean(loss_of(run.bpb, run.tokens, run.n_bytes) for run in self.seeds), 8),
            "seeds": [run.seed for run in self.seeds],
            "seed_results": {str(run.seed): {"val_bpb": run.bpb, "steps": 5000} for run in self.seeds},
            "bytes_total": max(run.model_bytes + (run.code_bytes or 0) for run in self.seeds),
        }

    def readme(self) -> str:
        """A README that agrees with the logs."""
        scores = [run.bpb for run in self.seeds]
        rows = "\n".join(
            f"| {run.seed} | 5,000 | **{run.bpb:.4f}** | {run.model_bytes + (run.code_bytes or 0):,} |"
            for run in self.seeds
        )
        return (
            f"# Made up\n\n**val_bpb: {fmean(scores):.5f}** ({len(scores)}-seed mean)\n\n"
            f"Merged SOTA (PR #1): **1.0900 BPB**.\n\n"
            f"| Seed | Steps | Sliding BPB | Artifact |\n|---|---|---|---|\n{rows}\n"
            f"| **Mean** | | **{fmean(scores):.4f}** | |\n"
        )
