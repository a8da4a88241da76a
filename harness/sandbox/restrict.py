"""The layers of a cell, applied by its own processes to themselves before the first line of the submission runs.

What all ranks share is applied once, by the first process; each rank then restricts its files itself, because a
Landlock rule for ``/proc/self`` means the process that makes it. Only the standard library is imported here.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from harness.sandbox import landlock, namespaces, private_root, seccomp

LEFT_OFF = "missing: left off to find a fault"
FOREIGN_PROC = "with the machine's /proc, as the kernel refuses another where parts of it are covered"
Rules = list[tuple[Path, int]]
_RIGHTS = {
    "read": landlock.READ,
    "run": landlock.RUN,
    "write": landlock.WRITE,
    "device": landlock.DEVICE,
    "name threads": landlock.NAME_THREADS,
}


def restrict_cell(order: dict[str, Any], refused: str) -> tuple[dict[str, str], Rules | None]:
    """Apply every layer that the ranks share to this process.

    refused: why there are no namespaces; empty where there are
    Returns layer -> "in force: how" or "missing: why", and the Landlock rules for :func:`restrict_files`, ``None``
    without Landlock.
    """
    off = set(order["layers_off"])
    rules = [(Path(path), _RIGHTS[kind]) for path, kind in order["rules"]]
    relaxed = [(Path(path), rights) for path, rights in order["relaxed_paths"]]
    rules += [(path, rights) for path, rights in relaxed if _of_this_process(path) or path.exists()]
    mounts: list[Path] = []
    shared_root = "no mount namespace"
    if not refused:
        namespaces.own_mount_tree()
        mounts, shared_root = _private_root(rules, off)
        namespaces.loopback_up()
    if "capabilities" not in off:
        namespaces.drop_capabilities()
    if "no_new_privs" not in off:
        namespaces.forbid_new_privileges()
    layers = {"hard_kill": _hard_kill(refused, mounts)}
    layers["rlimits"] = LEFT_OFF if "rlimits" in off else _set_limits(order["limits"])
    rules += [(path, landlock.READ if path == Path("/proc") else landlock.WRITE) for path in mounts]
    loopback = bool(order["loopback"])
    layers["landlock"] = LEFT_OFF if "landlock" in off else _scope()
    layers["seccomp"] = LEFT_OFF if "seccomp" in off else _filter(order, loopback)
    layers["network"] = _network(layers["seccomp"], refused, shared_root, loopback)
    root = f"in the machine's root ({shared_root})" if shared_root else "in a root of its own"
    layers["private_tmp"] = f"in force: wiped at the end, {root}"
    layers["no_new_privs"] = "in force" if namespaces.has_no_new_privs() else "missing: the kernel did not set it"
    return layers, rules if layers["landlock"].startswith("in force") else None


def restrict_files(order: dict[str, Any], rules: Rules | None) -> None:
    """Restrict this process to the files of ``rules`` and its own folder of /proc; nothing without Landlock.

    Raises ``OSError`` when a path is missing or the kernel refuses: then the process must not go on.
    """
    if rules is not None:
        existing = [(path, rights) for path, rights in rules if not _of_this_process(path) or path.exists()]
        landlock.restrict_self(existing, tcp=bool(order["loopback"]))


def _of_this_process(path: Path) -> bool:
    return path.is_relative_to("/proc/self")


def _private_root(rules: Rules, off: set[str]) -> tuple[list[Path], str]:
    """The mounts that the cell has for itself, and why it still shares the machine's root (empty when it doesn't)."""
    if "private_root" in off:
        return namespaces.private_mounts(), LEFT_OFF
    try:
        writable = {path for path, rights in rules if rights & landlock.WRITE_FILE and rights != landlock.DEVICE}
        return private_root.enter((path for path, _ in rules), writable), ""
    except OSError as error:
        return namespaces.private_mounts(), str(error)


def _scope() -> str:
    try:
        return landlock.scope_self()
    except OSError as error:
        return f"missing: {error.strerror or error}"


def _filter(order: dict[str, Any], loopback: bool) -> str:
    try:
        return seccomp.restrict_self(loopback=loopback, gpus=bool(order["gpus"]), allow=set(order["relaxed_calls"]))
    except OSError as error:
        return f"missing: {error.strerror or error}"


def _hard_kill(refused: str, mounts: list[Path]) -> str:
    if refused:
        return f"in force: subreaper and /proc walk ({refused})"
    return "in force: PID namespace" if Path("/proc") in mounts else f"in force: PID namespace, {FOREIGN_PROC}"


def _network(filtered: str, refused: str, shared_root: str, loopback: bool) -> str:
    """An empty network ends at the socket files of the machine, which a private root hides and the filter refuses."""
    unconnected = filtered.startswith("in force") and not loopback
    if not refused and (unconnected or not shared_root):
        own = "a network namespace with its own loopback" if loopback else "empty network namespace"
        return f"in force: {own}"
    if unconnected:
        return "in force: seccomp refuses every connection"
    return f"missing: no network namespace ({refused})" if refused else f"missing: no private root ({shared_root})"


def _set_limits(limits: dict[str, int]) -> str:
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (wanted, wanted))
    return "in force: " + ", ".join(sorted(name.removeprefix("RLIMIT_").lower() for name in limits))
