"""An import hook fetches a module from outside the bundle; the twin's module is inside."""

import importlib
import os
import sys

RULE, PLACE, UNTIL = "A3-NO-UNCOUNTED-CODE", "build", "eval"
BY_REFUSAL = True


def cheat(context):
    from .visit import attempt

    sys.path.insert(0, os.environ["ZOO_SHARED"])
    sys.path_importer_cache.clear()
    attempt("a module outside", lambda: importlib.import_module("uncounted"))


def honest(context):
    from .visit import attempt

    if attempt("a module inside", lambda: importlib.import_module("submission.which")) is None:
        raise RuntimeError("what is allowed was refused")
