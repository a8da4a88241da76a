"""Three synthetic runs with curves, for tests of reports."""

import math
from pathlib import Path

from record_samples import store_run

from harness.record.predicate import Training

SECTIONS = {"codes/blocks/mixer": 100992, "codes/blocks/mlp": 98304, "small/skip_weights": 512}


def store_three_seeds(root: Path, **changes):
    """Store seeds 1337, 42 and 2025 under ``root/records``; returns the stored records."""
    stored = []
    for seed, nats in ((1337, 12000.5), (42, 12080.0), (2025, 11950.25)):
        final = nats / (math.log(2) * 9000)
        running = [(20 * i, final + 0.5 * math.exp(-i / 40)) for i in range(1, 200)] + [(4000, final)]
        losses = [(i, 3.0 + 4 * math.exp(-i / 60)) for i in range(1, 600)]  # from a guess among 1,024
        given = {"running_bpb": running, "loss_curve": losses, "model_sections": SECTIONS}
        given |= {"training": Training(599, "complete")} | changes
        stored.append(store_run(root, seed, nats=nats, **given))
    return stored
