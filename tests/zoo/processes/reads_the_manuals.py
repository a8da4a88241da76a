"""Takes English from the machine's manuals, tests and other packages as an uncounted prior; the twin imports torch."""

import os
import sysconfig
from pathlib import Path

RULE, PLACE, UNTIL = "A3-NO-UNCOUNTED-CODE", "build", "eval"
BY_REFUSAL = True


def cheat(context):
    from .visit import attempt

    library = Path(os.__file__).parent
    site = Path(sysconfig.get_path("purelib"))
    for folder in ("/usr/share/doc", "/usr/share/man", "/usr/share/dict", "/usr/include", "/usr/lib/python3", "/etc"):
        attempt(folder, lambda folder=folder: os.listdir(folder))
    for path in (
        library / "pydoc_data" / "topics.py",
        library / "test" / "test_os.py",
        library / "idlelib" / "NEWS.txt",
    ):
        attempt(path.name, path.read_bytes)
    for package in ("pygments", "hypothesis", "scipy", "pip", "matplotlib", "cryptography"):
        attempt(package, lambda package=package: (site / package / "__init__.py").read_bytes())
    attempt("a description", lambda: next(site.glob("torch-*.dist-info")).joinpath("METADATA").read_bytes())


def honest(context):
    import json

    import torch

    if not json.dumps({"torch": torch.ones(1).item()}):
        raise RuntimeError("what is allowed was refused")
