"""The checks, one module a concern. Each takes a :class:`harness.public.record.Record` and adds findings to it."""
