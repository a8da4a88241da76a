"""A hybrid of Mamba-3 and attention layers for Parameter Golf: training, packaging, evaluation."""
