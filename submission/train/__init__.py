"""Training under the referee's clock: batches, optimisers, schedule, averaging, late quantisation-aware training."""
