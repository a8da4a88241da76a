"""Calls the animal of the case at its place, and reports what it tried."""

import sys

from . import animal
from .which import WHICH


def visit(place, *arguments):
    """Let the animal act when this is its place; its result, or None."""
    places = (animal.PLACE,) if isinstance(animal.PLACE, str) else animal.PLACE
    return getattr(animal, WHICH)(*arguments) if place in places else None


def attempt(what, action):
    """Try ``action``; print whether the system let it. A cheat goes on either way. Returns the result or None."""
    try:
        result = action()
    except (OSError, LookupError, ImportError) as error:
        print(f"zoo refused {what}: {error!r}", file=sys.stderr, flush=True)
        return None
    print(f"zoo got in {what}", file=sys.stderr, flush=True)
    return result


def need(action):
    """Do what an honest twin may do."""
    if action() is None:
        raise RuntimeError("what is allowed was refused")
