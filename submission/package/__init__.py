"""Checkpoint → artifact: calibration, quantisation, fitting under the cap, writing."""
