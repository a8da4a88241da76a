"""User, PID, network, IPC and mount namespaces for one cell, and its root folder, made without root where that goes.

Covered: processes of a cell see and signal only each other and die with their first process; their only network
interface is a loopback of their own; their root holds the paths of the policy and nothing else. Not covered: what may
be opened (Landlock).

Landlock refuses to open what is not named, but neither hides that it is there nor keeps a process from connecting to a
socket that lies in a folder (a container engine's, a desktop's, an agent's). What is not mounted has no sockets. Nor
does it keep an owner from setting times, modes and attributes of files that may only be read, or reading from setting
the time of the last access: what a later cell would find there. So all but the writable folders is mounted read-only.
"""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_BUT_MOUNTS = _NEWIPC | _NEWUSER | _NEWPID | _NEWNET
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9
_STAGE = Path("/dev/shm")
_PROC, SHARED_MEMORY = Path("/proc"), Path("/dev/shm")
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 0x1000
_OWN = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
_MNT_DETACH = 2
Paths = Iterable[Path]
Pairs = Iterable[tuple[Path, Path]]
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1

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


def layout(paths: Paths, writable: Paths = ()) -> tuple[set[Path], set[Path], dict[Path, str]]:
    """What makes all ``paths`` and ``writable`` resolve as now; what leads nowhere is left out.

    Real paths to be bound: read-only ones, with what lies below them, and writable ones, on top of these; and the
    symbolic links on the way to them.
    """
    links: dict[Path, str] = {}
    read, write = ({_follow(path, links) for path in some if path.exists()} for some in (paths, writable))
    top = {path for path in write if write.isdisjoint(path.parents)}
    real = {path for path in read - top if (read | top).isdisjoint(path.parents)}
    return real, top, {link: text for link, text in links.items() if (real | top).isdisjoint(link.parents)}


def enter_root(paths: Paths, writable: set[Path], covered: Paths = (), fresh: Paths = (), copies: Pairs = ()) -> bool:
    """Make a root of ``paths`` with a /dev/shm of its own, change to it, and say whether /proc is its own as well.

    paths: read-only, ``writable`` those that are not; a /proc of the cell's own stays writable if one lies in it;
    covered: what of them is empty instead; fresh: writable ones that lie in memory and go with this root
    copies: what hides a part of ``paths``, in this order: (what, where)
    In the first process of the namespaces, with its capabilities. A kernel that refuses a fresh /proc (where a
    container hides parts of it) leaves the machine's. Raises ``OSError`` where anything else is refused; then the old
    root is still there.
    """
    own, own_proc = (_PROC, SHARED_MEMORY, *fresh), True
    read_only, on_top, links = layout(
        *([path for path in some if not any(p in (path, *path.parents) for p in own)] for some in (paths, writable))
    )
    _mount(b"tmpfs", _STAGE, b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=755")
    try:
        for path in sorted(read_only):
            _bind(path, read_only=True)
        for what, where in copies:  # nobody in the cell may unmount, and so see what is below
            _bind(what, where, read_only=True)
        for path in sorted(on_top):  # they may lie below the read-only ones
            _bind(path, read_only=False)
        for link, text in links.items():
            _inside(link).parent.mkdir(parents=True, exist_ok=True)
            _inside(link).symlink_to(text)
        for place in own:
            _inside(place).mkdir(parents=True, exist_ok=True)
        for place in own[1:]:  # a compiler's libraries are run from where it writes them
            flags = _OWN if place == SHARED_MEMORY else _MS_NOSUID | _MS_NODEV
            _mount(b"tmpfs", _inside(place), b"tmpfs", flags, b"mode=700")
        try:
            _mount(b"proc", _inside(_PROC), b"proc", _OWN)
        except OSError:
            _bind(_PROC, read_only=True)
            own_proc = False
        else:
            if not any(_PROC in path.parents for path in writable):
                _set_read_only(_inside(_PROC))
        for target in map(_inside, covered):
            if target.is_dir():
                _mount(b"tmpfs", target, b"tmpfs", _OWN | _MS_RDONLY)
            elif target.exists():
                _mount(b"/dev/null", target, None, _MS_BIND)
        _mount(None, _STAGE, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        os.chdir(_STAGE)
        check(libc.pivot_root(b".", b"."), "pivot_root")
        check(libc.umount2(b".", _MNT_DETACH), "leaving the old root")
        os.chdir("/")
    except OSError:
        libc.umount2(os.fsencode(_STAGE), _MNT_DETACH)
        raise
    return own_proc


def _bind(path: Path, where: Path | None = None, *, read_only: bool) -> None:
    target = _inside(where or path)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            target.mkdir()
        else:
            target.touch()
    _mount(os.fsencode(path), target, None, _MS_BIND | _MS_REC)
    if read_only:
        _set_read_only(target)


def _set_read_only(target: Path) -> None:
    """Also what is mounted below; other flags stay, of which some are locked. Devices can still be written to."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    answer = libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    check(answer, f"read-only {target}")


def _follow(path: Path, links: dict[Path, str]) -> Path:
    """The real path of ``path``, which exists; every symbolic link on the way goes to ``links``."""
    for step in (*reversed(path.parents), path):  # whatever lies above it is real
        rest = path.relative_to(step)
        if step.name == "..":
            return _follow(step.parent.parent / rest, links)
        if step.is_symlink():
            links[step] = str(step.readlink())
            return _follow(step.parent / links[step] / rest, links)
    return path


def _inside(path: Path) -> Path:
    return _STAGE / path.relative_to("/")


def _mount(source: bytes | None, target: Path, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    check(libc.mount(source, os.fsencode(target), kind, flags, data), f"mounting {target}")


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
