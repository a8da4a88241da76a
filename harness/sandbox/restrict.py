"""The layers of a cell, applied by its own processes to themselves before the first line of the submission runs.

What all ranks share is applied once, by the first process; each rank then restricts its files itself, because a
Landlock rule for ``/proc/self`` means the process that makes it. Only the standard library is imported here.
"""

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness.sandbox import landlock, namespaces, seccomp
from harness.sandbox.layers import OWN_ROOT, Layer, LayerState

STACK_BYTES = 8 << 20  # what Linux gives; compilers and parsers count on it
RAISED = {"NOFILE": 65_536, "STACK": STACK_BYTES, "AS": -1, "CPU": -1}  # soft limits; -1 is none
FOREIGN_PROC = "with the machine's /proc, as the kernel refuses another where parts of it are covered"
Rules = list[tuple[str, int]]


def restrict_cell(order: dict[str, Any], refused: str) -> tuple[dict[Layer, LayerState], Rules | None]:
    """Apply every layer that the ranks share to this process.

    refused: why there are no namespaces; empty where there are
    Returns what became of each layer, and the Landlock rules for the files of each rank, ``None`` without Landlock.
    """
    rules: Rules = [(path, rights) for path, rights in order["rules"]]
    # 1. A root of its own, as far as there are namespaces: what is not mounted cannot be found.
    own_proc, shared_root = False, "no mount namespace"
    if not refused:
        namespaces.own_mount_tree()
        writable = {Path(path) for path, rights in rules if rights & landlock.WRITE_FILE and rights != landlock.DEVICE}
        held, covered, fresh = (map(Path, order[name]) for name in ("mounts", "covered", "fresh"))
        copies = [(Path(what), Path(where)) for what, where in order["copies"]]
        try:
            own_proc, shared_root = namespaces.enter_root(held, writable, covered, fresh, copies), ""
            rules += [(str(namespaces.SHARED_MEMORY), landlock.WRITE), *[("/proc", landlock.READ)] * own_proc]
        except OSError as error:
            shared_root = str(error)
        namespaces.loopback_up()
    # 2. No capability is left, and no program that is run brings one back.
    namespaces.drop_capabilities()
    # 3. Limits, then what the kernel refuses: both are inherited by all that is started from here.
    limits = _set_limits(order["limits"])
    network = order["network"]
    if network == "local" and (refused or shared_root):
        network = "none"  # a socket that is connected could be one of the machine's
    scoped = _tried(landlock.scope_self)
    filtered = _tried(partial(seccomp.restrict_self, network=network, gpus=bool(order["gpus"])))
    # 4. What became of each layer, as the record will say it.
    pids = "PID namespace" if own_proc else f"PID namespace, {FOREIGN_PROC}"
    root = f"in the machine's root ({shared_root})" if shared_root else OWN_ROOT
    layers = {
        Layer.HARD_KILL: LayerState(True, f"subreaper and /proc walk ({refused})" if refused else pids),
        Layer.RLIMITS: LayerState(True, limits),
        Layer.LANDLOCK: scoped,
        Layer.SECCOMP: filtered,
        Layer.NETWORK: _network(filtered, refused, shared_root, network),
        Layer.PRIVATE_TMP: LayerState(True, f"wiped at the end, {root}"),
        Layer.NO_NEW_PRIVS: LayerState(True, ""),
        Layer.DESCRIPTORS: LayerState(True, "all but the channel are closed"),
        Layer.ENVIRONMENT: LayerState(True, "an allow-list"),
    }
    return layers, rules if scoped.in_force else None


def _tried(layer: Callable[[], str]) -> LayerState:
    try:
        return LayerState(True, layer())
    except OSError as error:
        return LayerState(False, error.strerror or str(error))


def _network(filtered: LayerState, refused: str, shared_root: str, network: str) -> LayerState:
    """Whether there is no network [A4-NO-NETWORK].

    An empty one ends at the socket files of the machine, which a private root hides and the filter refuses.
    """
    unconnected = filtered.in_force and network == "none"
    if not refused and (unconnected or not shared_root):
        own = "a network namespace with its own loopback" if network == "loopback" else "empty network namespace"
        return LayerState(True, own)
    if unconnected:
        return LayerState(True, "seccomp refuses every connection")
    return LayerState(False, f"no network namespace ({refused})" if refused else f"no private root ({shared_root})")


def _set_limits(limits: dict[str, int]) -> str:
    """Set the cell's limits and name them; soft ones of the referee's shell beside them go up as far as they may."""
    for name, most in RAISED.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(kind)
        allowed = [limit for limit in (hard, most) if limit != resource.RLIM_INFINITY]
        if soft != resource.RLIM_INFINITY:
            resource.setrlimit(kind, (max(soft, min(allowed)) if allowed else hard, hard))
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (wanted, wanted))
    return ", ".join(sorted(name.removeprefix("RLIMIT_").lower() for name in limits))
