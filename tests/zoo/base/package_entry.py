from harness.protocol.container import write_container
from harness.protocol.session import PackageSession

from .visit import visit

if __name__ == "__main__":
    session = PackageSession.connect()
    counts = (session.checkpoint_dir / "counts").read_bytes()
    if visit("package", session, counts) != "written":
        write_container(session.output_dir / "model.bin", {"counts": counts}, codec="lzma")
    session.done()
