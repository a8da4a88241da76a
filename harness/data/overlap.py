"""Whether train and validation share documents: exactly, and nearly (MinHash of five-word shingles) [A4-DISJOINT].

Not covered: passages shorter than a document that both sides quote.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

from harness.rules import Finding, Verdict

A4_DISJOINT = "A4-DISJOINT"
SHINGLE_WORDS = 5
PERMUTATIONS = 128
BANDS, ROWS = 21, 6
"""Two sketches meet in the index when all rows of one band agree: at Jaccard 0.8 in 99.8 % of pairs, at 0.5 in 28 %."""
NEAR = 0.8
"""Jaccard from which documents are meant to be found."""
LOWEST_ESTIMATE = 0.75
"""Estimate from which a pair is reported: below NEAR, since estimates scatter by 0.035 around it."""
RECALL = {0.8: 0.933, 0.85: 0.999}
"""Share of the pairs of a Jaccard similarity that are reported; the tests find it by simulation."""
MOST_SHINGLES = 4096
SEED = 1337
_WORD = re.compile(rb"[^\s]+")
_FACTORS = np.array([pow(6364136223846793005, k, 2**64) for k in range(SHINGLE_WORDS)], np.uint64)


@dataclass
class Overlap:
    """What was found: pairs (validation index, train index) of documents, ``near`` with their Jaccard."""

    val_documents: int = 0
    train_documents: int = 0
    exact: list[tuple[int, int]] = field(default_factory=list)
    near: list[tuple[int, int, float]] = field(default_factory=list)
    near_looked_for: bool = True

    def finding(self) -> Finding:
        """FAIL for a shared document [A4-DISJOINT]; WARN for near ones: what is too near is a matter of reading."""
        scope = f"{self.val_documents:,} validation and {self.train_documents:,} train documents"
        finds = ", ".join(f"{100 * share:.1f} %{' of pairs' * (at == NEAR)} at {at:g}" for at, share in RECALL.items())
        method = f"MinHash of {SHINGLE_WORDS}-word shingles, estimated Jaccard ≥ {LOWEST_ESTIMATE:g}: finds {finds}"
        nothing = "none shared, none nearly"
        if not self.near_looked_for:
            method, nothing = "near-duplicates were not looked for", "none shared"
        if not self.exact and not self.near:
            return Finding(A4_DISJOINT, Verdict.PASS, f"{scope}: {nothing} ({method}).")
        share = 100 * len({v for v, *_ in (*self.exact, *self.near)}) / max(1, self.val_documents)
        pair = self.exact[0] if self.exact else self.near[0][:2]
        return Finding(
            A4_DISJOINT,
            Verdict.FAIL if self.exact else Verdict.WARN,
            f"{scope}: {len(self.exact):,} pairs are equal, {len(self.near):,} nearly ({method}); "
            f"{share:.1f} % of validation. First: validation document {pair[0]:,} and train document {pair[1]:,}.",
            remedy="Cut validation documents and their near-duplicates off before train data are written.",
        )


class OverlapAudit:
    """Takes all validation documents first, then train documents one by one; keeps no text."""

    def __init__(self, *, near: bool = True) -> None:
        self.result = Overlap(near_looked_for=near)
        self._digests: dict[bytes, int] = {}
        self._sketches: dict[int, MinHash] = {}
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))

    def add_validation(self, document: bytes) -> None:
        """Index one validation document."""
        number = self.result.val_documents
        self.result.val_documents += 1
        self._digests.setdefault(hashlib.sha256(document).digest(), number)
        sketch = min_hash(document) if self.result.near_looked_for else None
        if sketch is not None:
            self._sketches[number] = sketch
            self._index.insert(number, sketch)

    def add_train(self, document: bytes) -> None:
        """Compare one train document with all of validation."""
        number = self.result.train_documents
        self.result.train_documents += 1
        equal = self._digests.get(hashlib.sha256(document).digest())
        if equal is not None and document:
            self.result.exact.append((equal, number))
            return
        sketch = min_hash(document) if self.result.near_looked_for else None
        if sketch is None:
            return
        for candidate in self._index.query(sketch):
            similarity = float(sketch.jaccard(self._sketches[candidate]))
            if similarity >= LOWEST_ESTIMATE:
                self.result.near.append((candidate, number, similarity))


def min_hash(document: bytes) -> MinHash | None:
    """The sketch of a document; ``None`` for fewer than five words, which only the exact comparison sees.

    Of a document's shingles the 4,096 smallest by hash are used: a fair sample of the set, so that long documents cost
    no more memory than short ones.
    """
    shingles = _shingles(document)
    if len(shingles) == 0:
        return None
    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int)
    sketch.update_batch(shingles.tolist())
    return sketch


def _shingles(document: bytes) -> npt.NDArray[np.uint64]:
    """Hashes of the five-word shingles, case and layout folded, 32 bits each."""
    words = _WORD.findall(document.lower())
    if len(words) < SHINGLE_WORDS:
        return np.zeros(0, np.uint64)
    hashed = {word: int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little") for word in set(words)}
    codes = np.array([hashed[word] for word in words], np.uint64)
    count = len(codes) - SHINGLE_WORDS + 1
    mixed = np.zeros(count, np.uint64)
    for k, factor in enumerate(_FACTORS):
        mixed += codes[k : k + count] * factor
    mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed >> np.uint64(32))[:MOST_SHINGLES]
