"""A section of the model is a shared library; the twin's starts like a number."""

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def cheat(session, counts):
    write_container(session.output_dir / "model.bin", {"table": b"\x7fELF" + bytes(64)}, codec="none")
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"table": b"\x7fELV" + bytes(64)}, codec="none")
    return "written"
