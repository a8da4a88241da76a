"""An artifact over the cap; the twin fits."""

import os

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-ARTIFACT-BYTES", "package", "package"


def cheat(session, counts):
    write_container(session.output_dir / "model.bin", {"noise": os.urandom(120_000)}, codec="none")
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"noise": os.urandom(20_000)}, codec="none")
    return "written"
