"""The referee of Parameter Golf: it measures, the submission only predicts."""

import os
import sys

__version__ = "0.1.0"

# Python looks into PYTHONPATH first: a msgspec.py there would stand in for the referee's. So it comes last.
if _GIVEN := os.environ.get("PYTHONPATH"):
    sys.path.sort(key={os.path.abspath(folder) for folder in _GIVEN.split(os.pathsep)}.__contains__)  # noqa: PTH100
