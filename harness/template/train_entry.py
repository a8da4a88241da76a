"""Phase 1: count pairs of neighbouring tokens in the train shards, under the referee's clock."""

import os

import numpy as np

from harness.protocol.session import SHARD_HEADER_BYTES, TrainSession


def main() -> None:
    """Count, then write the checkpoint."""
    session = TrainSession.connect()
    size = session.vocab_size
    counts = np.zeros(size * size, np.int64)
    shards = session.ready()
    for index, shard in enumerate(shards):
        tokens = np.frombuffer(os.pread(shard.fd, 2 * shard.tokens, SHARD_HEADER_BYTES), np.dtype("<u2"))
        pairs = tokens[:-1].astype(np.int64) * size + tokens[1:]
        counts += np.bincount(pairs, minlength=size * size)
        session.progress(step=index + 1, fraction=(index + 1) / len(shards), text="counting")
    np.save(session.output_dir / "counts.npy", counts)
    session.done()


if __name__ == "__main__":
    main()
