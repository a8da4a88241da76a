"""Statistics over seeds: every estimator by its name, every margin with its unit, by scipy."""
