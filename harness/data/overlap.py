"""Whether train and validation share documents: exactly, and nearly (MinHash of five-word shingles) [A4-DISJOINT].

Not covered: passages shorter than a document that both sides quote.
"""

import hashlib
import re

import numpy as np
from datasketch import MinHash, MinHashLSH

from harness.rules import Finding, Verdict

A4_DISJOINT = "A4-DISJOINT"
SHINGLE_WORDS = 5
PERMUTATIONS = 128
BANDS, ROWS = 21, 6  # sketches meet when all rows of one band agree: at Jaccard 0.8 in 99.8 % of pairs, at 0.5 in 28 %
NEAR = 0.8  # Jaccard from which documents are meant to be found
LOWEST_ESTIMATE = 0.75  # from which a pair is reported: below NEAR, since estimates scatter by 0.035 around it
RECALL = {0.8: 0.933, 0.85: 0.999}  # share of the pairs of a Jaccard that are reported; the tests find it by simulation
MOST_SHINGLES = 4096
SEED = 1337
_WORD = re.compile(rb"[^\s]+")
_FACTORS = np.array([pow(6364136223846793005, k, 2**64) for k in range(SHINGLE_WORDS)], np.uint64)


class OverlapAudit:
    """Takes all validation documents first, then train documents one by one; keeps no text.

    exact, near: pairs found, (validation index, train index) of documents
    """

    def __init__(self, *, near: bool = True) -> None:
        self.val_documents = self.train_documents = 0
        self.exact: list[tuple[int, int]] = []
        self.near: list[tuple[int, int]] = []
        self._near_too = near
        self._digests: dict[bytes, int] = {}
        self._sketches: dict[int, MinHash] = {}
        self._index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))

    def add_validation(self, document: bytes) -> None:
        """Index one validation document."""
        number = self.val_documents
        self.val_documents += 1
        self._digests.setdefault(hashlib.sha256(document).digest(), number)
        if self._near_too and (sketch := min_hash(document)) is not None:
            self._sketches[number] = sketch
            self._index.insert(number, sketch)

    def add_train(self, document: bytes) -> None:
        """Compare one train document with all of validation."""
        number = self.train_documents
        self.train_documents += 1
        if (equal := self._digests.get(hashlib.sha256(document).digest())) is not None and document:
            self.exact.append((equal, number))
        elif self._near_too and (sketch := min_hash(document)) is not None:
            for candidate in self._index.query(sketch):
                if sketch.jaccard(self._sketches[candidate]) >= LOWEST_ESTIMATE:
                    self.near.append((candidate, number))

    def finding(self) -> Finding:
        """FAIL for a shared document [A4-DISJOINT]; WARN for near ones: what is too near is a matter of reading."""
        scope = f"{self.val_documents:,} validation and {self.train_documents:,} train documents"
        finds = ", ".join(f"{100 * share:.1f} %{' of pairs' * (at == NEAR)} at {at:g}" for at, share in RECALL.items())
        method = f"MinHash of {SHINGLE_WORDS}-word shingles, estimated Jaccard ≥ {LOWEST_ESTIMATE:g}: finds {finds}"
        if not self._near_too:
            method = "near-duplicates were not looked for"
        if not (pairs := [*self.exact, *self.near]):
            text = f"{scope}: none shared{', none nearly' * self._near_too} ({method})."
            return Finding(A4_DISJOINT, Verdict.PASS, text)
        share = 100 * len({validation for validation, _ in pairs}) / max(1, self.val_documents)
        return Finding(
            A4_DISJOINT,
            Verdict.FAIL if self.exact else Verdict.WARN,
            f"{scope}: {len(self.exact):,} pairs are equal, {len(self.near):,} nearly ({method}); {share:.1f} % of "
            f"validation. First: validation document {pairs[0][0]:,} and train document {pairs[0][1]:,}.",
            remedy="Cut validation documents and their near-duplicates off before train data are written.",
        )


def min_hash(document: bytes) -> MinHash | None:
    """The sketch of a document; ``None`` for fewer than five words, which only the exact comparison sees.

    Of a document's shingles the 4,096 smallest by hash are used: a fair sample of the set, so that long documents cost
    no more memory than short ones.
    """
    words = _WORD.findall(document.lower())  # case and layout folded
    if len(words) < SHINGLE_WORDS:
        return None
    hashed = {word: int.from_bytes(hashlib.blake2b(word, digest_size=8).digest(), "little") for word in set(words)}
    codes = np.array([hashed[word] for word in words], np.uint64)
    mixed = np.zeros(len(codes) - SHINGLE_WORDS + 1, np.uint64)
    for k, factor in enumerate(_FACTORS):
        mixed += codes[k : k + len(mixed)] * factor
    mixed ^= mixed >> np.uint64(29)
    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int)
    sketch.update_batch(np.unique(mixed >> np.uint64(32))[:MOST_SHINGLES].tolist())
    return sketch
