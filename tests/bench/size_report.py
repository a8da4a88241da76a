"""Where the bytes of a model file go, by role; and whether Mamba-3's matrices compress worse because of their rows.

    python tests/bench/size_report.py model.bin --preset smoke [--json]
    python tests/bench/size_report.py model.bin --checkpoint FOLDER --shard val.bin --windows 64

Raw bits are those of a fixed width for the integers' range; H0 is the entropy of a role's integers without context;
coded is what the file's own coder takes (range: the conditional entropy under its contexts; LZMA: of the role alone).
A code.bundle beside the model file is a row of its own. With a checkpoint and a shard of tokens, each role alone is
quantised: "lost" is what that costs in millinats a token, "share" its part of the sum over all roles. The second table
repeats the packing of each matrix with its rows shuffled, coded role by role, and with all rows at one spread.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import sys
from pathlib import Path

import torch
from packed_loss import mean_loss, read_windows
from torch import Tensor

from harness.protocol.container import read_container
from submission.checkpoint import CheckpointError, load_checkpoint
from submission.config import Config, ConfigError, load_config
from submission.model.hybrid import Hybrid
from submission.package.contexts import ROLES, integer_bits, role_rows, row_groups, side_classes
from submission.package.packed import ArtifactError, PackedModel, load_packed

Row = dict[str, float | int | str]
_SIDE = ("scales/", "steps/", "side", "delta")
_MAX_BODY = 1 << 30
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0}]  # the container's


def by_role(packed: PackedModel, config: Config, coder: str) -> list[Row]:
    """One row a role: integers, raw bits, H0, LZMA and coded bits each, share of zeros, coded bytes."""
    codes = {name: matrix.codes for name, matrix in packed.matrices.items()}
    groups = {name: row_groups(name, len(c), config) for name, c in codes.items()}
    conditional = integer_bits(codes, groups, [side_classes(c) for c in codes.values()])
    parts: dict[str, list[Tensor]] = {}
    for name, matrix in codes.items():
        for role, rows in role_rows(name, len(matrix), config).items():
            parts.setdefault(role, []).append(matrix[rows].flatten())
    out: list[Row] = []
    for role, pieces in parts.items():
        values = torch.cat(pieces)
        plain = 8 * _lzma(values)
        bits = plain if coder == "lzma" else float(conditional[ROLES.index(role)])
        out.append(
            {
                "role": role,
                "integers": len(values),
                "raw bits": math.ceil(math.log2(2 * int(values.abs().max()) + 1)),
                "H0": round(_h0(values), 3),
                "LZMA": round(plain / len(values), 3),
                "coded": round(bits / len(values), 3),
                "zeros": round(float((values == 0).float().mean()), 3),
                "bytes": round(bits / 8),
            }
        )
    return out


def coder_of(data: bytes) -> str:
    """The coder that wrote a model file."""
    return "range" if "meta" in read_container(data, max_unpacked_bytes=_MAX_BODY) else "lzma"


def other_bytes(data: bytes, roles: list[Row], code: int | None) -> list[Row]:
    """Rows for what is no integer: scales or steps with the classes, frequency tables, small tensors, rest; code.

    Parts that are compressed together share those bytes in proportion to what each takes alone.
    """
    outer = read_container(data, max_unpacked_bytes=_MAX_BODY)
    meta = read_container(outer.pop("meta"), max_unpacked_bytes=_MAX_BODY) if "meta" in outer else outer
    groups = {"scales": _SIDE, "tables": ("tables",), "small tensors": ("small/",)}
    sizes: dict[str, int] = {}
    for row, prefixes in groups.items():
        together = b"".join(meta[n] for n in sorted(meta) if n.startswith(prefixes))
        apart = sum(len(part) for name, part in outer.items() if meta is not outer and name.startswith(prefixes))
        sizes[row] = apart + (len(lzma.compress(together, format=lzma.FORMAT_ALONE)) if together else 0)
    rest = len(data) - sum(int(row["bytes"]) for row in roles) - sum(sizes.values())
    rows: list[Row] = [{"role": row, "bytes": size} for row, size in sizes.items()]
    rows.append({"role": "heads and rounding", "bytes": rest})
    return rows + ([] if code is None else [{"role": "code", "bytes": code}])


def quality(
    model: Hybrid, packed: PackedModel, config: Config, windows: Tensor, roles: list[Row], others: list[Row]
) -> float:
    """Add columns "lost mnats" and "share": each role alone at its stored values. Returns mnats lost by all at once."""
    floats = {name: p.detach().clone() for name, p in model.named_parameters()}
    whole = mean_loss(model, windows)
    lost: dict[str, float] = {}
    for role in (str(row["role"]) for row in roles):
        changed = dict(floats)
        for name, matrix in packed.matrices.items():
            rows = role_rows(name, len(matrix.codes), config).get(role)
            if rows is not None:
                changed[name] = floats[name].clone()
                changed[name][rows] = matrix.weight()[rows]
        model.load_state_dict(changed)
        lost[role] = 1e3 * (mean_loss(model, windows) - whole)
    model.load_state_dict(floats | packed.small)
    lost["small tensors"] = 1e3 * (mean_loss(model, windows) - whole)
    model.load_state_dict(packed.weights())
    together = 1e3 * (mean_loss(model, windows) - whole)
    model.load_state_dict(floats)
    for row in roles + others:
        if str(row["role"]) in lost:
            row["lost mnats"] = round(lost[str(row["role"])], 3)
            row["share"] = round(lost[str(row["role"])] / sum(lost.values()), 3)
    return together


def rows_experiment(packed: PackedModel, config: Config, seed: int = 0) -> list[Row]:
    """For each matrix: bits an integer by LZMA as it is, rows shuffled, role by role, and at one spread of all rows.

    Shuffling shows what the order of rows is worth, coding by role what the mixing of roles costs, and equal spreads
    (integers rescaled to the matrix's own mean spread and rounded again) what unequal scales cost.
    """
    generator = torch.Generator().manual_seed(seed)
    out: list[Row] = []
    for name, matrix in packed.matrices.items():
        codes = matrix.codes
        shuffled = codes[torch.randperm(len(codes), generator=generator)]
        roles = role_rows(name, len(codes), config).values()
        wide = codes.float()
        spread = wide.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
        common = float(torch.exp(spread.log().mean()))
        equal = (wide / spread * common).round().clamp(-2047, 2047).short()
        size = codes.numel() / 8
        out.append(
            {
                "matrix": name,
                "LZMA": round(_lzma(codes) / size, 3),
                "shuffled rows": round(_lzma(shuffled) / size, 3),
                "role by role": round(sum(_lzma(codes[rows]) for rows in roles) / size, 3),
                "equal spreads": round(_lzma(equal) / size, 3),
                "H0": round(_h0(codes.flatten()), 3),
                "H0, role by role": round(
                    sum(_h0(codes[r].flatten()) * codes[r].numel() for r in roles) / codes.numel(), 3
                ),
                "H0, equal spreads": round(_h0(equal.flatten()), 3),
                "octaves of row spread": round(float(spread.log2().std()), 3),
            }
        )
    return out


def table(rows: list[Row]) -> str:
    """Plain aligned columns; a row may lack some of the first row's."""
    heads = list(rows[0])
    cells = [heads] + [[_cell(row.get(h, "")) for h in heads] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    lines = []
    for line in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join((first.strip().ljust(widths[0]), *others)))
    return "\n".join(lines)


def _cell(value: float | int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _h0(values: Tensor) -> float:
    counts = torch.unique(values, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(-(share * share.log2()).sum())


def _lzma(codes: Tensor) -> int:
    """Bytes of LZMA, without a file's head, on int8 where they suffice, else int16."""
    wide = int(codes.abs().max()) > 127
    return len(
        lzma.compress(codes.numpy().astype("<i2" if wide else "i1").tobytes(), lzma.FORMAT_RAW, filters=_FILTERS)
    )


def main(arguments: list[str] | None = None) -> int:
    """Print both tables. Returns 0, or 2 when an input is not usable."""
    parser = argparse.ArgumentParser(prog="python tests/bench/size_report.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="model.bin of a run")
    parser.add_argument("--preset", default="smoke", help="RECIPE that the run used")
    parser.add_argument("--set", nargs="+", default=[], metavar="VARIABLE=VALUE", help="settings that the run changed")
    parser.add_argument("--checkpoint", type=Path, help="the float weights, for the share of quality")
    parser.add_argument("--shard", type=Path, help="tokens to measure the loss on; goes with --checkpoint")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    if (chosen.checkpoint is None) != (chosen.shard is None):
        parser.error("--checkpoint and --shard go together.")
    try:
        settings = dict(pair.split("=", 1) for pair in chosen.set)
        config = load_config({"RECIPE": chosen.preset} | settings, chosen.preset)
        data = chosen.model.read_bytes()
        packed = load_packed(data, config)
        code = chosen.model.with_name("code.bundle")
        roles = by_role(packed, config, coder_of(data))
        others = other_bytes(data, roles, code.stat().st_size if code.is_file() else None)
        together = None
        if chosen.checkpoint is not None:
            windows = read_windows(chosen.shard, chosen.windows, config.eval_seq_len)
            together = quality(load_checkpoint(chosen.checkpoint, config), packed, config, windows, roles, others)
    except (OSError, ConfigError, CheckpointError, ArtifactError, ValueError) as error:
        print(f"{chosen.model}: {error}", file=sys.stderr)
        return 2
    rows = rows_experiment(packed, config)
    if chosen.json:
        shown = {"bytes": len(data), "roles": roles + others, "rows": rows, "lost mnats together": together}
        print(json.dumps(shown, indent=1))
        return 0
    print(f"{chosen.model}: {len(data):,} bytes\n")
    print(table(roles + others), "\n")
    if together is not None:
        print(f"All at once lose {together:.3f} mnats a token.\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
