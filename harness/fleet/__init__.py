"""Many runs on many machines: a queue on a shared file system, and engines that start its workers.

Exactly one result a job, whatever dies. That rests on two calls of the file system and on no clock:

- a worker holds ``flock`` on its job for as long as it lives, so a job that was started twice runs once;
- a result is published by ``link``, which fails when there is one already.

Engines (local pool, Slurm, Ray) only start workers. Their own result channels are never read: results are files.
"""
