"""Calls the animal of the case at its place."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # of ``tries``

from . import animal
from .which import WHICH


def visit(place, *arguments):
    """Let the animal act when this is its place; its result, or None."""
    places = (animal.PLACE,) if isinstance(animal.PLACE, str) else animal.PLACE
    return getattr(animal, WHICH)(*arguments) if place in places else None
