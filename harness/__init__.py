"""The referee of Parameter Golf: it measures, the submission only predicts."""

__version__ = "0.1.0"
