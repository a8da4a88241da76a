"""A section of the model is a program; the twin's is a list of numbers."""

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def cheat(session, counts):
    write_container(session.output_dir / "model.bin", {"table": b"import os\nprint(os.environ)\n"}, codec="none")
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"table": b"1, 2, 3\n"}, codec="none")
    return "written"
