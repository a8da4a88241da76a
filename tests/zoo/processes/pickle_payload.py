"""A pickle that calls something when it is loaded; the twin has the same numbers as bytes."""

import pickle
from pathlib import PurePath

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def cheat(session, counts):
    write_container(session.output_dir / "model.bin", {"counts": pickle.dumps(PurePath("x"))}, codec="none")
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"counts": counts}, codec="none")
    return "written"
