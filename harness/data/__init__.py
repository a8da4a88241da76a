"""Data sets: shards of tokens, and beside the validation shards how many raw bytes each token accounts for."""

from harness.data.catalogue import open_dataset, stated_fingerprint
from harness.data.dataset import Dataset, Validation, load_validation

__all__ = ["Dataset", "Validation", "load_validation", "open_dataset", "stated_fingerprint"]
