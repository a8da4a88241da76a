"""A section whose name leaves the folder; the twin's lies in a folder of the container."""

import hashlib

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def cheat(session, counts):
    data = write_container(None, {"aa/weights": counts}, codec="none").replace(b"aa/weights", b"../weights")
    head, body = data[:21], data[53:]
    (session.output_dir / "model.bin").write_bytes(head + hashlib.sha256(head + body).digest() + body)
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"aa/weights": counts}, codec="none")
    return "written"
