"""A minimal legal submission: an adaptive bigram model."""
