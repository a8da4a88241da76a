"""The Mamba-3 SISO recurrence: the definition (``sequential``) and the fast chunked form (``chunked``)."""
