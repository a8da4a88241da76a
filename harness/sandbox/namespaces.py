"""User, PID, network, IPC and mount namespaces for one cell, made without root where the kernel allows it.

Covered: processes of a cell see and signal only each other and die with their first process; their only network
interface is a loopback of their own. Not covered: files (Landlock, and a private root).
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_BUT_MOUNTS = _NEWIPC | _NEWUSER | _NEWPID | _NEWNET
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9

libc = ctypes.CDLL(None, use_errno=True)


def why_refused() -> str:
    """Try all namespaces in a child: empty when they can be had, else the reason."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter()
            os.write(writer, b"ok")
        except OSError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(child, 0)
    return "" if text == "ok" else text or "the attempt died"


def enter() -> None:
    """Put this process in new namespaces; its children are in the new PID namespace. Raises ``OSError``.

    User and group stay the ones they were; nobody else exists in the user namespace.
    """
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(_BUT_MOUNTS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    own_mount_tree()


def own_mount_tree() -> None:
    """A mount tree apart from the parent's: the supervisor goes on to see, and to wipe, the cell's folder."""
    check(libc.unshare(_NEWNS), "unshare")
    check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "a private mount tree")


def loopback_up() -> None:
    """Switch the namespace's loopback interface on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("16xH", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def drop_capabilities() -> None:
    """Give up every capability for ever, also over an exec as root or of a set-user-id program."""
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    check(libc.capset(header, bytes(24)), "capset")
    check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that made it ends."""
    check(libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "PDEATHSIG")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    check(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")


def hide_memory() -> None:
    """Keep other processes of this user from looking into this one, where that can be had."""
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def check(result: int, what: str) -> int:
    """The result of a call; raises ``OSError`` with the C library's error number where it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
