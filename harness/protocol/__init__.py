"""What a submission may import: sessions of the phases, the ``Predictor`` protocol and the artifact container.

Everything here runs inside the untrusted process as well as in the referee, so it needs nothing from the rest of
``harness`` and the referee trusts nothing that this code says on the submission's side.
"""
