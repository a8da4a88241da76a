"""The range coder against LZMA and against the entropy of its own contexts, on integers of mixed spreads."""

import lzma

import torch
from ratios import Ratio, seconds

from submission.package.contexts import entropy_bits, side_classes
from submission.package.stream import pack_codes, read_codes

ROWS, COLUMNS, PAIRS = 4096, 512, 3


def measure() -> list[Ratio]:
    random = torch.Generator().manual_seed(1)
    spread = torch.exp(0.5 * torch.randn(ROWS, 1, generator=random)) * torch.exp(
        0.2 * torch.randn(1, COLUMNS, generator=random)
    )
    codes = (5 * spread * torch.randn(ROWS, COLUMNS, generator=random)).round().clamp(-127, 127).short()
    side, groups = side_classes(codes), torch.zeros(ROWS, dtype=torch.int64)
    sections = pack_codes([codes], [side], [groups])
    coded = sum(map(len, sections.values())) + sum(part.numel() for part in side)
    packed = len(lzma.compress(codes.to(torch.int8).numpy().tobytes(), preset=9))
    entropy = entropy_bits({"w": codes}, {"w": groups}) / 8
    times = [seconds(lambda: read_codes(sections, [codes.shape], [side], [groups])) for _ in range(PAIRS)]
    full = [t * 25e6 / codes.numel() for t in times]
    note = f"{codes.numel():,} synthetic integers"
    return [
        Ratio("range coder over LZMA, bytes", coded / packed, coded / packed, coded / packed, 0.98, True, note),
        Ratio("range coder over its entropy", coded / entropy, coded / entropy, coded / entropy, 1.005, True, note),
        Ratio("decoding 25 M integers over 10 s", min(full) / 10, min(full) / 10, max(full) / 10, 1.0, True, note),
    ]
