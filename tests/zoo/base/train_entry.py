import array
import itertools
import os

from harness.protocol.session import TrainSession

from .visit import visit

if __name__ == "__main__":
    session = TrainSession.connect()
    visit("setup", session)
    shards = session.ready()
    visit("train", session, shards)
    tokens = array.array("H", os.pread(shards[0].fd, 2 * shards[0].tokens, 1024))
    counts = array.array("I", bytes(4 * session.vocab_size**2))
    for one, other in itertools.pairwise(tokens):
        counts[one * session.vocab_size + other] += 1
    (session.output_dir / "counts").write_bytes(counts.tobytes())
    visit("checkpoint", session)
    session.done()
