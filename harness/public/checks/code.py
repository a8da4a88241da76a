"""Code, read and never run: what it would do at evaluation, as evidence for a reviewer (A1, A3 to A7, C1 to C4)."""

from __future__ import annotations

from harness.public.record import Record


def check(record: Record) -> None:
    """Scan the scripts, or say that they aren't here."""
    if not record.code:
        record.out.unknown("A3-NO-UNCOUNTED-CODE", "the code is not here: nothing can be said about what it does.")
