"""The hybrid model: Mamba-3 and attention mixers in one residual stream."""
