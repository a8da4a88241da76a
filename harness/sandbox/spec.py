"""What a cell is to be, and how it ended, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.sandbox.policy import (
    SandboxPolicy,
    cell_environment,
    covered,
    landlock_rules,
    mounts,
    resource_limits,
)


@dataclass(frozen=True)
class CellSpec:
    """One cell to be started.

    argv, env:  command and environment of every rank; rank_env: what each rank has beyond that, one mapping a rank
    log_file:   takes standard output and error of all ranks; one that is there is set aside
    namespaces: ``False`` for a cell as on a kernel that refuses them; a strict one has them where they can be had
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    rank_env: tuple[Mapping[str, str], ...]
    policy: SandboxPolicy
    log_file: Path
    namespaces: bool = True


@dataclass(frozen=True)
class KillReport:
    """How a cell ended.

    Times count from the deadline, without one from the call. The stop is what fairness asks for; the driver of a GPU
    takes a while longer to give its memory back.

    overshoot_ns: until the last process was dead and reaped
    survivors:    processes that could still run when the referee gave up waiting; 0 is the only good number
    method:       "PID namespace", or "subreaper and /proc walk"
    stopped_ns:   until no thread could run an instruction of its program any more
    """

    reason: str
    overshoot_ns: int
    survivors: int
    method: str
    stopped_ns: int

    @property
    def stop_ms(self) -> float:
        """The stop in milliseconds."""
        return self.stopped_ns / 1e6


def launcher_order(spec: CellSpec, home: Path, descriptors: tuple[int, ...]) -> bytes:
    """All that the launcher needs to know, as JSON.

    home: the cell's private folder; descriptors: for control, life and log, and a channel for each rank
    """
    control, lifeline, log, *channels = descriptors
    order = {
        "control_fd": control,
        "lifeline_fd": lifeline,
        "log_fd": log,
        "channel_fds": channels,
        "namespaces": spec.namespaces,
        "argv": spec.argv,
        "env": cell_environment(home, bool(spec.policy.devices)) | dict(spec.env),
        "rank_env": [dict(env) for env in spec.rank_env],
        "home": str(home),
        "network": spec.policy.network,
        "cores": spec.policy.cores,
        "gpus": bool(spec.policy.devices),
        "rules": landlock_rules(spec.policy, home),
        "mounts": mounts(spec.policy),
        "covered": covered(spec.policy),
        "guarded": [(name, str(path)) for name, paths in spec.policy.guarded.items() for path in paths],
        "limits": resource_limits(spec.policy),
    }
    return json.dumps(order).encode()
