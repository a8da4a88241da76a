"""Phase 0: check the configuration, one number from the environment, and declare it."""

import os
from math import nan

from harness.protocol.session import DescribeSession


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


def main() -> None:
    """Publish the configuration and the number of parameters."""
    session = DescribeSession.connect()
    try:
        weight = bigram_weight()
    except ValueError as error:
        session.fail(str(error))
    session.publish({"bigram_weight": weight}, parameters=session.vocab_size * (session.vocab_size + 1))
    session.done()


if __name__ == "__main__":
    main()
