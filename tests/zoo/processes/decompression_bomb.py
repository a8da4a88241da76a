"""Unpacks to a thousand times the limit; the twin compresses well."""

from harness.protocol.container import write_container

RULE, PLACE, UNTIL = "A3-CONTAINER", "package", "package"


def cheat(session, counts):
    write_container(session.output_dir / "model.bin", {"zeros": bytes(50_000_000)}, codec="lzma")
    return "written"


def honest(session, counts):
    write_container(session.output_dir / "model.bin", {"zeros": bytes(500_000)}, codec="lzma")
    return "written"
