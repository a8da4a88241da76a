"""The configuration: one number, read from the environment and checked before anything starts."""

import os
from math import nan


def bigram_weight() -> float:
    """How much the bigram counts for against the unigram, between 0 and 1. Raises ``ValueError`` outside of it."""
    text = os.environ.get("BIGRAM_WEIGHT", "0.9")
    try:
        weight = float(text)
    except ValueError:
        weight = nan
    if not 0 < weight < 1:
        raise ValueError(f"BIGRAM_WEIGHT is {text}; wanted a number between 0 and 1.")
    return weight
