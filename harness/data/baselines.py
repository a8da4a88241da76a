"""What the validation text costs without a model: the scale beside a score, in bits per raw byte."""

from __future__ import annotations

import lzma
import math
import zlib

import numpy as np
import numpy.typing as npt

from harness.units import bits_per_byte

Counts = npt.NDArray[np.int64]


class TextSizes:
    """Compressed sizes of a text that comes document after document, joined without a separator."""

    def __init__(self) -> None:
        self._zlib, self._xz = zlib.compressobj(9), lzma.LZMACompressor(preset=9)
        self.raw = self.zlib = self.xz = 0

    def add(self, document: bytes) -> None:
        """Take one document."""
        self.raw += len(document)
        self.zlib += len(self._zlib.compress(document))
        self.xz += len(self._xz.compress(document))

    def finish(self) -> None:
        """No more documents."""
        self.zlib += len(self._zlib.flush())
        self.xz += len(self._xz.flush())


def baselines_bpb(sizes: TextSizes, train_counts: Counts, target_counts: Counts) -> dict[str, float]:
    """Bits per raw byte of each baseline, when all documents are in ``sizes``.

    train_counts, target_counts: int64 (vocab,), how often each id stands in the train set and among the targets.
    Train frequencies get one added to each count, so that an id that training lacks costs a finite price.
    """
    sizes.finish()
    bits = 8.0 / sizes.raw
    smoothed = train_counts + 1
    nats = -math.fsum(target_counts * np.log(smoothed / smoothed.sum()))
    return {
        "uniform_bytes": 8.0,
        "uniform_tokens": int(target_counts.sum()) * math.log2(len(target_counts)) / sizes.raw,
        "train_frequencies": bits_per_byte(nats, sizes.raw),
        "zlib_9": sizes.zlib * bits,
        "xz_9": sizes.xz * bits,
    }
