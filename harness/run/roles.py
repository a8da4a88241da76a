"""Bytes of a model file by role, measured by the referee from the container's own section names and sizes."""

from __future__ import annotations

import re
from collections import Counter

from harness.protocol.container import read_container

MOST_ROLES = 24
OTHER = "other"


def bytes_by_role(model: bytes, *, max_unpacked_bytes: int) -> dict[str, int]:
    """Role -> bytes before the container's own compression, largest first, at most :data:`MOST_ROLES` and "other".

    A role is a section's name without numbers and beyond its third part: ``codes/blocks.3.mlp.up.weight`` counts as
    ``codes/blocks/mlp``. The names are the submission's choice; the sizes are not. Raises ``ContainerError``.
    """
    sizes: Counter[str] = Counter()
    for name, data in read_container(model, max_unpacked_bytes=max_unpacked_bytes).items():
        parts = [part for part in re.split(r"[/.]", name) if not part.isdigit()]
        sizes["/".join(parts[:3]) or OTHER] += len(data)
    ordered = sizes.most_common()
    kept = dict(ordered[:MOST_ROLES])
    rest = sum(size for _, size in ordered[MOST_ROLES:])
    return kept | ({OTHER: kept.get(OTHER, 0) + rest} if rest else {})
