"""What is published of the challenge's validation text: the cap, its documents, and its counts by tokenizer.

A count of bytes between :data:`FLOOR` and :data:`CEILING` is of this text, whatever its tokens and windows.
"""

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


VARIANTS = (
    Variant("sp1024", 62_021_632, 151_079_964),
    Variant("sp4096 (kevclark)", 45_508_608, 151_074_052),
    Variant("sp4096 (#1285)", 45_514_752, 151_074_925),
    Variant("sp8192", 40_540_160, 151_078_222),
    Variant("CaseOps sp8192", 47_851_520, 151_074_499),
    Variant("byte260", 151_130_112, 151_080_112),
    Variant("ByteJEPA", 151_076_864, 151_076_864),
)
KNOWN_BAD = (
    (164_594_398, "operators-counted", "case operators counted as text, or the plain table on CaseOps shards (#2071)"),
    (157_319_833, "fallback-as-3", "byte-fallback tokens counted as 3 bytes, as in Scylla (#1143, #1271)"),
    (176_332_748, "double-space", "the leading space counted twice (#1545, #1719)"),
    (181_300_000, "space-as-3", "U+2581 counted as its own 3 bytes (#755, #897)"),
)
LEGACY_BYTES, LEGACY_TOKENS = 155_769_746, 63_779_840
