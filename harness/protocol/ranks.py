"""Several ranks of one phase: the one that failed must be heard before those that only lose touch with it."""

LOST_RANK_WAIT_S = 10.0  # the referee ends all ranks as soon as it hears of the one that failed


class LostRank(RuntimeError):
    """Another rank is gone: raise it where a collective breaks. It is told only when nobody else gives a reason."""

    def __init__(self, noticed: str) -> None:
        """noticed: what the broken connection looked like from here."""
        super().__init__(f"lost touch with another rank, which gave no reason of its own ({noticed}).")
