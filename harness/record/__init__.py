"""Run records that people can trust: signed, chained, announced before training, verified from their own figures.

``records/README.md`` shows the layout of a records folder. Each public function opens it under a lock, so concurrent
writers never fork the chain.
A record's *digest* is the SHA-256 of its signed payload (the in-toto Statement), so it names content and not a file.
"""
