"""Near-duplicates: as many are found as the finding says, and it says how many that is."""

import random

import numpy as np
import pytest

from harness.data.overlap import BANDS, LOWEST_ESTIMATE, PERMUTATIONS, RECALL, ROWS, OverlapAudit

WORDS = 300


def audit_overlap(validation: list[bytes], train: list[bytes]) -> OverlapAudit:
    audit = OverlapAudit()
    for document in validation:
        audit.add_validation(document)
    for document in train:
        audit.add_train(document)
    return audit


def pair(generator: random.Random, changed: int) -> tuple[bytes, bytes, float]:
    """Two documents that differ in ``changed`` words, and their Jaccard similarity over five-word shingles."""
    one = [f"w{generator.randrange(5000)}" for _ in range(WORDS)]
    other = list(one)
    for place in generator.sample(range(WORDS), changed):
        other[place] = f"z{generator.randrange(10**6)}"
    a, b = ({tuple(words[i : i + 5]) for i in range(WORDS - 4)} for words in (one, other))
    return " ".join(one).encode(), " ".join(other).encode(), len(a & b) / len(a | b)


@pytest.fixture(scope="module")
def pairs():
    generator = random.Random(3)
    return [pair(generator, 2 + k % 28) for k in range(400)]


def found_of(pairs, low, high):
    """Share of the pairs with a Jaccard of [low, high) that are reported, and how many there are."""
    result = audit_overlap([one for one, _, _ in pairs], [other for _, other, _ in pairs])
    assert all(val == train for val, train in result.near)
    reported = {val for val, _ in result.near}
    asked = [number for number, (_, _, jaccard) in enumerate(pairs) if low <= jaccard < high]
    assert len(asked) > 20
    return len(reported & set(asked)) / len(asked)


@pytest.mark.rule("A4-DISJOINT")
def test_nearly_all_near_duplicates_are_found(pairs):
    assert found_of(pairs, 0.85, 1.0) == 1.0
    assert found_of(pairs, 0.80, 0.85) > RECALL[0.8] - 0.05


def test_documents_that_share_half_are_no_near_duplicates(pairs):
    assert found_of(pairs, 0.0, 0.6) == 0.0


@pytest.mark.parametrize(("jaccard", "stated"), RECALL.items())
def test_the_stated_recall_is_that_of_the_method(jaccard, stated):
    agree = np.random.default_rng(5).random((20_000, PERMUTATIONS)) < jaccard
    banded = agree[:, : BANDS * ROWS].reshape(len(agree), BANDS, ROWS).all(axis=2).any(axis=1)
    reported = banded & (agree.mean(axis=1) >= LOWEST_ESTIMATE)
    assert stated == pytest.approx(reported.mean(), abs=0.006)


def test_the_finding_says_what_share_is_found():
    message = audit_overlap([b"a b c d e f"], [b"g h i j k l"]).finding().message
    assert "estimated Jaccard ≥ 0.75: finds 93.3 % of pairs at 0.8, 99.9 % at 0.85" in message
