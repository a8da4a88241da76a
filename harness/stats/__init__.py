"""Statistics over seeds: every estimator by its name, every margin with its unit, by scipy.

:mod:`harness.stats.seeds` pools records and compares pools, :mod:`harness.stats.compare` has the tests and their power,
:mod:`harness.stats.wording` says all of it in sentences.
"""
