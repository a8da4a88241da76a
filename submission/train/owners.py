"""Work dealt out to ranks."""

from __future__ import annotations


def balanced(costs: list[int], ranks: int) -> list[int]:
    """The rank of each piece of work: the dearest first, each to the rank with the least so far.

    Source: Graham's rule of the longest processing time.
    """
    load, owner = [0] * ranks, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        owner[index] = min(range(ranks), key=load.__getitem__)
        load[owner[index]] += costs[index]
    return owner
