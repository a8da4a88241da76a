"""The scoring loop: reveal inputs → receive logits → commit the nats → only then hand over the targets."""

from collections.abc import Callable

import numpy as np

from harness.scoring.client import EvalClient
from harness.scoring.ledger import ScoreLedger
from harness.scoring.sample import Keeper


def score_stream(
    client: EvalClient,
    ledger: ScoreLedger,
    *,
    adapt: bool,
    witness: Keeper | None = None,
    committed: Callable[[int], None] = lambda _: None,
) -> None:
    """Score the ledger's stream once, left to right; the worker adapts to what is committed, never before.

    This is C3-SCORE-BEFORE-UPDATE. The last chunk is not adapted to.

    witness:   keeps what the audits need; it does the same work for every chunk, so no worker can tell what is kept
    committed: is told the number of targets committed so far, after each chunk
    Raises ``NotFinite`` by the target, or what the client raises.
    """
    stream = ledger.stream
    chunks = stream.chunks(client.hello.chunk_tokens)
    inputs, targets = client.upload(stream.inputs(*chunks[0])), ledger.seal(*chunks[0], client.upload)
    place = witness.state_place(0) if witness else None
    for index, (start, count) in enumerate(chunks):
        last = index + 1 == len(chunks)
        # 1. Reveal: the inputs alone. The state before them is copied first, so nothing in it can know them.
        if place is not None:
            client.copy_state(place)
        slabs, nats = client.score(index, inputs), np.empty(count)
        # 2. Receive: the logits of every row, turned into nats against targets that the worker has not seen.
        for row, slab in slabs:
            nats[row : row + len(slab)] = targets.nats(row, slab).numpy()
            if witness:
                witness.slab(index, row, slab)
        # 3. Commit: from here on the chunk's score cannot change.
        ledger.commit(index, start, nats)
        # 4. Hand over: ``open`` refuses targets that are not committed.
        learns = adapt and not last
        if learns:
            client.hand_over(index, targets.open())
        # Books and the next chunk, while the worker learns.
        if witness:
            witness.scored(index)
        committed(ledger.committed)
        if not last:
            following = chunks[index + 1]
            inputs, targets = client.upload(stream.inputs(*following)), ledger.seal(*following, client.upload)
            place = witness.state_place(index + 1) if witness else None
        if learns:
            client.await_adapted()
