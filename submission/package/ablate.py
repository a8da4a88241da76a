"""Table of ablations of packaging for a checkpoint: what each choice costs in nats a token and in bytes.

    python -m submission.package.ablate CHECKPOINT SHARD --preset best --budget 15950000 --seeds 1337 42 2025
    python -m submission.package.ablate CHECKPOINT SHARD --preset smoke --budget 150000 --only rd "rd, random tokens"

SHARD is a token shard (1,024 bytes of header, then uint16). The loss is that of the model without adaptation, over the
first --windows windows; its difference to the float weights is what quantisation lost. Runs on the GPU where one is.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..checkpoint import CheckpointError, load_calibration, load_checkpoint
from ..config import Config, ConfigError, load_config
from ..model.hybrid import Hybrid
from .fit import DoesNotFit
from .gptq import NotQuantisable
from .pack import package_model
from .packed import load_packed
from .report import Row, table

SEED_STYLE = {"quant_rd": False, "quant_bits": 6, "quant_bits_embed": 8, "quant_bits_ssm_dynamics": 8, "coder": "lzma"}
ABLATIONS: dict[str, dict[str, object]] = {
    "rd": {"quant_rd": True, "coder": "range", "quant_bits": 8},
    "rd, random tokens": {"quant_rd": True, "coder": "range", "quant_bits": 8, "calibration_source": "random"},
    "rd, train tokens": {"quant_rd": True, "coder": "range", "quant_bits": 8, "calibration_source": "train"},
    "rd, LZMA": {"quant_rd": True, "coder": "lzma", "quant_bits": 8},
    "INT6, LZMA": SEED_STYLE,
    "INT6, range coder": SEED_STYLE | {"coder": "range"},
    "INT6, dynamics INT6": SEED_STYLE | {"quant_bits_ssm_dynamics": 6},
    "INT6, percentile search": SEED_STYLE | {"use_gptq": False},
    "INT6, random tokens": SEED_STYLE | {"calibration_source": "random"},
    "INT5, LZMA": SEED_STYLE | {"quant_bits": 5},
    "INT6, embedding INT6": SEED_STYLE | {"quant_bits_embed": 6},
}


@torch.no_grad()
def mean_loss(model: Hybrid, windows: Tensor) -> float:
    """Nats a token of windows (n, length + 1), each from the zero state."""
    device = model.embedding.weight.device
    parts = torch.split(windows, max(1, 16384 // windows.shape[1]))
    total = 0.0
    for part in parts:
        tokens = part.to(device)
        logits = model(tokens[:, :-1]).flatten(0, 1).float()
        total += float(F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum"))
    return total / (windows.numel() - len(windows))


def ablate(model: Hybrid, config: Config, windows: Tensor, checkpoint: Path, name: str, budget: int, seed: int) -> Row:
    """One row: bytes, loss over the float weights, seconds; ``lost`` is NaN where the model cannot be packed."""
    chosen = dataclasses.replace(config, **ABLATIONS[name])  # type: ignore[arg-type]
    started = time.monotonic()
    try:
        made = package_model(
            copy.deepcopy(model),
            chosen,
            budget,
            seed,
            lambda: load_calibration(checkpoint, config.vocab_size),
            lambda _part, _text: None,
        )
    except (CheckpointError, DoesNotFit, NotQuantisable) as error:
        return {"seed": seed, "bytes": 0, "lost mnats": math.nan, "pruned": 0, "s": 0.0, "note": str(error)}
    seconds = time.monotonic() - started
    packed = copy.deepcopy(model)
    packed.load_state_dict(load_packed(made.data, chosen).weights())
    lost = mean_loss(packed, windows) - mean_loss(model, windows)
    pruned = int(str(made.report.get("pruned", 0)))
    row: Row = {"seed": seed, "bytes": len(made.data), "lost mnats": round(1e3 * lost, 3)}
    return row | {"pruned": pruned, "s": round(seconds, 1), "note": ""}


def read_windows(shard: Path, count: int, length: int) -> Tensor:
    """The first windows of a shard, int64 (n, length + 1). Raises ``ValueError`` when it has not one."""
    tokens = np.fromfile(shard, "<u2", count=count * length + 1, offset=1024)
    count = min(count, (len(tokens) - 1) // length)
    if count < 1:
        raise ValueError(f"{shard} holds not one window of {length:,} tokens.")
    starts = np.arange(count) * length
    return torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts]).astype(np.int64))


def main(arguments: list[str] | None = None) -> int:
    """Print the table. Returns 0, or 2 when an input is not usable."""
    parser = argparse.ArgumentParser(prog="python -m submission.package.ablate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("shard", type=Path)
    parser.add_argument("--preset", default="smoke", help="RECIPE of the checkpoint")
    parser.add_argument("--budget", type=int, required=True, help="bytes of model.bin")
    parser.add_argument("--windows", type=int, default=256)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337])
    parser.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS))
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    chosen = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        config = load_config({"RECIPE": chosen.preset}, chosen.preset)
        model = load_checkpoint(chosen.checkpoint, config).to(device)
        windows = read_windows(chosen.shard, chosen.windows, config.eval_seq_len)
    except (ConfigError, CheckpointError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in chosen.only:
        for seed in chosen.seeds:
            row: Row = {"ablation": name}
            row |= ablate(model, config, windows, chosen.checkpoint, name, chosen.budget, seed)
            rows.append(row)
            print(json.dumps(row) if chosen.json else f"  {name}, seed {seed}: {row['lost mnats']} mnats", flush=True)
    if not chosen.json:
        print("\n" + table(_summary(rows)))
    return 0


def _summary(rows: list[Row]) -> list[Row]:
    """One line an ablation: mean and sample deviation over seeds."""
    out: list[Row] = []
    for name in dict.fromkeys(str(row["ablation"]) for row in rows):
        own = [row for row in rows if row["ablation"] == name]
        lost = [float(row["lost mnats"]) for row in own]
        deviation = round(statistics.stdev(lost), 3) if len(lost) > 1 else "-"
        mean = round(statistics.fmean(lost), 3)
        largest = max(int(row["bytes"]) for row in own)
        line: Row = {"ablation": name, "lost mnats": mean, "sd": deviation, "largest bytes": largest}
        out.append(line | {key: own[0][key] for key in ("pruned", "s", "note")})
    return out


if __name__ == "__main__":
    sys.exit(main())
