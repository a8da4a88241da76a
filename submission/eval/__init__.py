"""Evaluation: the packed model as a predictor that adapts to what is already scored."""
