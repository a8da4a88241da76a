"""What is published of the challenge's validation text: the cap, its documents, and its counts by tokenizer.

A count of bytes between :data:`FLOOR` and :data:`CEILING` is of this text, whatever its tokens and windows.
"""

import tomllib
from pathlib import Path
from typing import NamedTuple

CAP_BYTES = 16_000_000
DOCUMENTS = 50_000
EXPORTS = ("sp1024", "sp4096", "sp8192", "byte260")  # what the hub has of it
FLOOR, CEILING = 151_060_000, 151_090_000


class Variant(NamedTuple):
    """A published tokenisation of the validation split and its fingerprint."""

    name: str
    val_tokens: int
    bytes: int


_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
VARIANTS = tuple(Variant(*row) for row in _TABLE["variants"])
KNOWN_BAD: tuple[tuple[int, str, str], ...] = tuple(map(tuple, _TABLE["known_bad"]))
LEGACY_BYTES, LEGACY_TOKENS = 155_769_746, 63_779_840
