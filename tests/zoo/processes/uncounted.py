"""Takes in evaluation what no byte of the artifact paid for; the twin its model, its modules and torch."""

import importlib
import os
import sys
import sysconfig
from pathlib import Path

from tries import attempt, need

RULE, PLACE, UNTIL = "A3-NO-UNCOUNTED-CODE", "build", "eval"
BY_REFUSAL = True


def cheat_checkpoint(context):
    """Loads the checkpoint."""
    attempt("the checkpoint", (context.model_file.parent.parent / "checkpoint" / "counts").read_bytes)


def cheat_module(context):
    """Imports a module from outside the bundle."""
    sys.path.insert(0, os.environ["ZOO_SHARED"])
    sys.path_importer_cache.clear()
    attempt("a module outside", lambda: importlib.import_module("uncounted"))


def cheat_manuals(context):
    """Takes English from the machine's manuals, tests and other packages as a prior."""
    library = Path(os.__file__).parent
    site = Path(sysconfig.get_path("purelib"))
    for folder in ("/usr/share/doc", "/usr/share/man", "/usr/share/dict", "/usr/include", "/usr/lib/python3", "/etc"):
        attempt(folder, lambda folder=folder: os.listdir(folder))
    for path in (
        library / "pydoc_data" / "topics.py",
        library / "test" / "test_os.py",
        library / "idlelib" / "NEWS.txt",
        site / "numpy" / "_core" / "tests" / "data" / "umath-validation-set-log10.csv",
    ):
        attempt(path.name, path.read_bytes)
    for package in ("pygments", "hypothesis", "scipy", "pip", "matplotlib", "cryptography"):
        attempt(package, lambda package=package: (site / package / "__init__.py").read_bytes())
    attempt("a description", lambda: next(site.glob("torch-*.dist-info")).joinpath("METADATA").read_bytes())


def honest(context):
    import torch

    need(context.model_file.read_bytes)
    need(lambda: importlib.import_module("submission.which"))
    need(lambda: torch.ones(1).item())
