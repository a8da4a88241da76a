"""Table of ablations of packaging for checkpoints: what each choice costs in nats a token and in bytes.

    python tests/bench/ablate.py SHARD CHECKPOINT --preset best --budget 15950000 --seeds 1337 42 2025
    python tests/bench/ablate.py SHARD A B C --budget 150000 --only rd "rd, random tokens"
    python tests/bench/ablate.py SHARD A B C --without-qat D E F --int6-qat G H I --budget 150000

SHARD is a token shard (1,024 bytes of header, then uint16). The loss is that of the model without adaptation, over the
first --windows windows, and in bpb where the shard's byte ledger lies beside it; "lost" is its difference to the same
checkpoint's float weights. --without-qat: checkpoints of the same seeds that were trained with LATE_QAT_THRESHOLD=0;
rows that name QAT use them. --int6-qat: checkpoints of the same seeds whose late QAT had QUANT_BITS=6; the other INT6
rows use them, for a model of QUANT_BITS=8 (`best`) was trained for another grid. Runs on the GPU where one is. "s" is
quantising and fitting: rows share their calibration.
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
from collections.abc import Callable
from pathlib import Path

import torch
from packed_loss import bytes_per_token, mean_loss, read_windows
from tabulate import tabulate
from torch import Tensor

from harness.protocol.session import write_whole
from submission.checkpoint import CheckpointError, load_checkpoint
from submission.config import Config, ConfigError, load_config
from submission.model.hybrid import Hybrid
from submission.package.calibrate import Statistics
from submission.package.fit import DoesNotFit
from submission.package.gptq import NotQuantisable
from submission.package.pack import calibrate, package_model
from submission.package.packed import load_packed

Row = dict[str, float | int | str]
RATE = {"quant_rd": True, "quant_bits": 8}
SEED_STYLE = {"quant_rd": False, "quant_bits": 6, "quant_bits_embed": 8, "quant_bits_ssm_dynamics": 8}
ABLATIONS: dict[str, dict[str, object]] = {
    "rd": RATE,
    "rd, random tokens": RATE | {"calibration_source": "random"},
    "rd, trained without QAT": RATE,
    "INT6, LZMA": SEED_STYLE,
    "INT6, no pruning": SEED_STYLE,
    "INT6, trained without QAT": SEED_STYLE,
    "INT6, dynamics INT6": SEED_STYLE | {"quant_bits_ssm_dynamics": 6},
    "INT6, percentile search": SEED_STYLE | {"use_gptq": False},
    "INT6, random tokens": SEED_STYLE | {"calibration_source": "random"},
    "INT6, embedding INT6": SEED_STYLE | {"quant_bits_embed": 6},
    "INT5, LZMA": SEED_STYLE | {"quant_bits": 5},
    "INT7, LZMA": SEED_STYLE | {"quant_bits": 7},
    "INT8, LZMA": SEED_STYLE | {"quant_bits": 8},
}
WITHOUT_QAT = {"rd, trained without QAT", "INT6, trained without QAT"}
UNBOUND = {"INT6, no pruning"}  # as large as it comes out
NO_BUDGET = 1 << 40


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint ready to be packed: its folder, model, windows to measure on and their loss before packing."""

    folder: Path
    model: Hybrid
    windows: Tensor
    loss: float
    bytes_per_token: float
    statistics: dict[tuple[str, int], Statistics] = dataclasses.field(default_factory=dict)

    def calibrated(self, config: Config, seed: int) -> Statistics:
        """What the calibration tokens of a source and seed say: measured once for all rows."""
        key = (config.calibration_source, seed)
        if key not in self.statistics:
            self.statistics[key] = calibrate(copy.deepcopy(self.model), config, seed, _unseen)
        return self.statistics[key]


def open_case(folder: Path, config: Config, windows: Tensor, bytes_per_token: float) -> Case:
    """Load and measure a checkpoint. Raises ``CheckpointError``."""
    model = load_checkpoint(folder, config).to("cuda" if torch.cuda.is_available() else "cpu")
    return Case(folder, model, windows, mean_loss(model, windows), bytes_per_token)


def ablate(case: Case, config: Config, name: str, budget: int, seed: int, keep: Path | None = None) -> Row:
    """One row: bytes, loss, loss over the float weights, seconds; NaN where the model cannot be packed.

    keep: folder for the model file, named after the row.
    """
    chosen = dataclasses.replace(config, **ABLATIONS[name])  # type: ignore[arg-type]
    row: Row = {"ablation": name, "model": case.folder.name, "seed": seed}
    try:
        statistics = case.calibrated(chosen, seed)
        started = time.monotonic()
        made = package_model(
            copy.deepcopy(case.model),
            chosen,
            NO_BUDGET if name in UNBOUND else budget,
            seed,
            lambda _part, _text: None,
            statistics,
        )
    except (CheckpointError, DoesNotFit, NotQuantisable) as error:
        unknown: Row = dict.fromkeys(("nats", "bpb", "lost mnats"), math.nan)
        return row | unknown | {"bytes": 0, "pruned": 0, "s": 0.0, "note": str(error)}
    seconds = time.monotonic() - started
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        write_whole(keep / f"{name} {case.folder.name} {seed}.bin".replace(", ", "-").replace(" ", "-"), made.data)
    packed = copy.deepcopy(case.model)
    packed.load_state_dict(load_packed(made.data, chosen).weights())
    loss = mean_loss(packed, case.windows)
    row |= {"bytes": len(made.data), "nats": round(loss, 6), "lost mnats": round(1e3 * (loss - case.loss), 3)}
    row["bpb"] = round(loss / math.log(2) / case.bytes_per_token, 6)
    return row | {"pruned": int(str(made.report.get("pruned", 0))), "s": round(seconds, 1), "note": ""}


def _unseen(_low: float, _high: float, _text: str) -> Callable[[float], None]:
    return lambda _part: None


def main(arguments: list[str] | None = None) -> int:
    """Print the table. Returns 0, or 2 when an input is not usable."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = dict(pair.split("=", 1) for pair in chosen.set)
        config = load_config({"RECIPE": chosen.preset} | settings, chosen.preset)
        windows = read_windows(chosen.shard, chosen.windows, config.eval_seq_len)
        size = bytes_per_token(chosen.shard, windows)
        cases = [open_case(folder, config, windows, size) for folder in chosen.checkpoints]
        without = [open_case(folder, config, windows, size) for folder in chosen.without_qat]
        int6 = [open_case(folder, config, windows, size) for folder in chosen.int6_qat]
    except (ConfigError, CheckpointError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in chosen.only:
        for case in without if name in WITHOUT_QAT else int6 or cases if ABLATIONS[name]["quant_bits"] == 6 else cases:
            for seed in chosen.seeds:
                row = ablate(case, config, name, chosen.budget, seed, chosen.keep)
                rows.append(row)
                said = f"  {name}, {case.folder.name}, seed {seed}: {row['lost mnats']} mnats, {row['bytes']:,} bytes"
                print(json.dumps(row) if chosen.json else said, flush=True)
    if not chosen.json:
        print("\n" + tabulate(summary(rows), headers="keys", disable_numparse=True))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tests/bench/ablate.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shard", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--without-qat", type=Path, nargs="+", default=[])
    parser.add_argument("--int6-qat", type=Path, nargs="+", default=[], help="checkpoints for the INT6 rows")
    parser.add_argument("--preset", default="smoke", help="RECIPE of the checkpoints")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="VARIABLE=VALUE", help="settings they were trained with"
    )
    parser.add_argument("--budget", type=int, required=True, help="bytes of model.bin")
    parser.add_argument("--windows", type=int, default=256)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337], help="seeds of the calibration text")
    parser.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS))
    parser.add_argument("--keep", type=Path, help="folder to keep the model files in")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


def summary(rows: list[Row]) -> list[Row]:
    """One line an ablation: mean and sample deviation over checkpoints and seeds; the note of one that failed.

    "to the first" is the mean difference in mnats of the packed losses to the first ablation's, pair by pair.
    """
    out: list[Row] = []
    names = list(dict.fromkeys(str(row["ablation"]) for row in rows))
    first = [float(row["nats"]) for row in rows if row["ablation"] == names[0]]
    for name in names:
        own = [row for row in rows if row["ablation"] == name]
        lost, nats = ([float(row[key]) for row in own] for key in ("lost mnats", "nats"))
        paired = [1e3 * (a - b) for a, b in zip(nats, first, strict=False)]
        line: Row = {"ablation": name, "nats": round(statistics.fmean(nats), 4)}
        line["bpb"] = round(statistics.fmean(float(row["bpb"]) for row in own), 4)
        line |= {"lost mnats": round(statistics.fmean(lost), 2), "sd": _deviation(lost)}
        line |= {"to the first": round(statistics.fmean(paired), 2), "its sd": _deviation(paired)}
        line |= {"largest bytes": max(int(row["bytes"]) for row in own), "pruned": max(int(r["pruned"]) for r in own)}
        out.append(line | {"s": max(float(row["s"]) for row in own), "note": max(str(row["note"]) for row in own)})
    return out


def _deviation(values: list[float]) -> float | str:
    known = [value for value in values if math.isfinite(value)]
    return round(statistics.stdev(known), 2) if len(known) > 1 else "-"


if __name__ == "__main__":
    sys.exit(main())
