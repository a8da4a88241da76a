"""Where the bytes of a model file go, by role; and whether Mamba-3's matrices compress worse because of their rows.

    python -m submission.package.report model.bin --preset smoke [--json]

Raw bits are those of a fixed width for the integers' range; H0 is the entropy of a role's integers without context;
coded is the conditional entropy under the coder's contexts. `rows` repeats the packing of each in_proj with its rows
shuffled, coded role by role, and with all rows brought to one spread before they are rounded.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..config import Config, ConfigError, load_config
from .contexts import entropy_bits, role_rows, row_groups
from .packed import ArtifactError, PackedModel, load_packed

Row = dict[str, float | int | str]


def by_role(packed: PackedModel, config: Config) -> list[Row]:
    """One row a role: integers, raw bits, H0, LZMA and coded bits each, share of zeros, coded bytes."""
    parts: dict[str, list[Tensor]] = {}
    coded: dict[str, float] = {}
    for name, matrix in packed.matrices.items():
        for role, rows in role_rows(name, len(matrix.codes), config).items():
            codes = matrix.codes[rows]
            parts.setdefault(role, []).append(codes.flatten())
            bits = entropy_bits({name: codes}, {name: row_groups(name, len(matrix.codes), config)[rows]})
            coded[role] = coded.get(role, 0.0) + bits
    out: list[Row] = []
    for role, pieces in parts.items():
        values = torch.cat(pieces)
        out.append(
            {
                "role": role,
                "integers": len(values),
                "raw bits": math.ceil(math.log2(2 * int(values.abs().max()) + 1)),
                "H0": round(_h0(values), 3),
                "LZMA": round(8 * _lzma(values) / len(values), 3),
                "coded": round(coded[role] / len(values), 3),
                "zeros": round(float((values == 0).float().mean()), 3),
                "bytes": round(coded[role] / 8),
            }
        )
    return out


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
                "H0, equal spreads": round(_h0(equal.flatten()), 3),
                "octaves of row spread": round(float(spread.log2().std()), 3),
            }
        )
    return out


def table(rows: list[Row]) -> str:
    """Plain aligned columns."""
    heads = list(rows[0])
    cells = [heads] + [[f"{row[h]:,}" if isinstance(row[h], int) else str(row[h]) for h in heads] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    lines = []
    for line in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join((first.strip().ljust(widths[0]), *others)))
    return "\n".join(lines)


def _h0(values: Tensor) -> float:
    counts = torch.unique(values, return_counts=True)[1].double()
    share = counts / counts.sum()
    return float(-(share * share.log2()).sum())


def _lzma(codes: Tensor) -> int:
    """Bytes of LZMA on int8 where they suffice, else int16."""
    wide = int(codes.abs().max()) > 127
    return len(lzma.compress(codes.numpy().astype("<i2" if wide else "i1").tobytes(), preset=9))


def main(arguments: list[str] | None = None) -> int:
    """Print both tables. Returns 0, or 2 when the file or the preset is not usable."""
    parser = argparse.ArgumentParser(prog="python -m submission.package.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="model.bin of a run")
    parser.add_argument("--preset", default="smoke", help="RECIPE that the run used")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    try:
        config = load_config({"RECIPE": chosen.preset}, chosen.preset)
        data = chosen.model.read_bytes()
        packed = load_packed(data, config)
    except (OSError, ConfigError, ArtifactError) as error:
        print(f"{chosen.model}: {error}", file=sys.stderr)
        return 2
    roles, rows = by_role(packed, config), rows_experiment(packed, config)
    if chosen.json:
        print(json.dumps({"bytes": len(data), "roles": roles, "rows": rows}, indent=1))
        return 0
    rest = len(data) - sum(int(row["bytes"]) for row in roles)
    print(f"{chosen.model}: {len(data):,} bytes; {rest:,} of them tables, small tensors, scales and head\n")
    print(table(roles), "\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
