"""Seccomp: the system calls that no phase needs and a cheat could use, refused by a small filter of our own.

Own code, because the kept binding needs libseccomp on the machine and a stock machine may lack it. The filter is a deny
list for classic BPF; the tests compare its numbers with those of libseccomp.

Covered: other processes' memory, kernel interfaces, mounts and namespaces, clock setting, io_uring, System V and POSIX
queues, sockets by family, foreign call tables (x32, 32-bit); and what Landlock leaves to everybody who may open a file:
its attributes and times, and what of it the machine keeps in memory. A note left there would outlive a cell. Not
covered: the contents of files (Landlock) and signals (PID namespace).

Some answers are no refusals. Copying a file copies its mode and times too (``shutil.copytree``, a compiler's cache), so
those calls answer as if done. So do locks: a lock on a file that others may read is a note to them. Compilers' caches
take locks, and rename whole files into place all the same. Advice may always be ignored. Where callers try another way
on a certain error, they get that one. Calls that are newer than this list answer as on a kernel without them.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from dataclasses import dataclass

from harness.sandbox.namespaces import check, libc

# name: (x86_64, aarch64); None where the architecture has no such call
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "process_madvise": (440, 440),
    # kernel interfaces
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "syslog": (103, 116),
    "quotactl": (179, 60), "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "iopl": (172, None), "ioperm": (173, None),
    "quotactl_fd": (443, 443),
    # what others do with a file: a process of another cell could be told so
    "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    # namespaces, mounts, other roots
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "move_mount": (429, 429), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    # clocks
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    # asynchronous input and output goes round the filter
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # memory and queues that outlive a process
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "mq_open": (240, 180), "mq_unlink": (241, 181),
    # owners of files
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
}  # fmt: skip
# answered with another error number than EPERM; 0: as if done
ANSWERED: dict[int, dict[str, tuple[int | None, int | None]]] = {
    # attributes that anybody who owns a file may leave at it
    errno.EOPNOTSUPP: {
        "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
        "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
        "file_setattr": (469, 469),
    },
    # modes and times; advice on what to keep in memory; locks, which a process of another cell could meet; cores and
    # priorities, which without a PID namespace are set for other processes of the user too
    0: {
        "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
        "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
        "fadvise64": (221, 223), "readahead": (187, 213), "flock": (73, 32),
        "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
        "sched_setattr": (314, 274), "setpriority": (141, 140), "ioprio_set": (251, 30),
    },
    # what of a file is in memory
    errno.ENOSYS: {"mincore": (27, 232), "cachestat": (451, 451)},
}  # fmt: skip
# what an argument (its place, from 0) may not be: values of it, a mask before them, and the answer to those
_SET_LOCK = (6, 7, 37, 38)  # F_SETLK, F_SETLKW and those of open files
# descriptors, flags, pipes, seals, reading of hints; not leases, locks that are asked about, notices, owners of signals
_F_USUAL = (0, 1, 2, 3, 4, 1027, 1030, 1031, 1032, 1033, 1034, 1035, 1037)
_MADV_COLD, _MADV_PAGEOUT = 20, 21
_IOCTL_KIND, _IOCTL_OF_FILES = 0xFF00, (ord("f") << 8, ord("v") << 8, ord("X") << 8, 0x9400)


@dataclass(frozen=True)
class ByArgument:
    """A call that is answered by one of its arguments.

    numbers: as above; place: of the argument, from 0; mask: is laid over it before it is compared
    values:  are answered with ``number``, an error; with ``others`` every other value is
    done:    are answered as if done; quiet: so is every value that is not named
    """

    numbers: tuple[int, int]
    place: int
    values: tuple[int, ...]
    number: int
    mask: int = 0
    others: bool = False
    done: tuple[int, ...] = ()
    quiet: bool = False

    def steps(self) -> list[bytes]:
        """Return as it says."""
        answer, otherwise = _step(_RETURN, _ERRNO | self.number), _step(_RETURN, _ERRNO if self.quiet else _ALLOW)
        if self.others:
            answer, otherwise = otherwise, answer
        steps = [_step(_LOAD, _AT_FIRST + 8 * self.place)]
        steps += [_step(_AND, self.mask)] if self.mask else []
        for value in self.done:
            steps += _when(value, [_step(_RETURN, _ERRNO)])
        for value in self.values:
            steps += _when(value, [answer])
        return [*steps, otherwise]


FILTERED = {
    "madvise": ByArgument((28, 233), 2, (_MADV_COLD, _MADV_PAGEOUT), errno.EINVAL),  # turns pages of files out
    # locks and leases meet those of other processes, hints stay with the file
    "fcntl": ByArgument((72, 25), 1, _F_USUAL, errno.EINVAL, others=True, done=_SET_LOCK),
    "ioctl": ByArgument((16, 29), 1, _IOCTL_OF_FILES, errno.ENOTTY, mask=_IOCTL_KIND),  # flags, versions, verity
    # a time that is given is taken as done; none is how pathlib's touch() asks whether the file is there
    "utimensat": ByArgument((280, 88), 2, (0,), errno.ENOSYS, quiet=True),
    # limits and pages of another process, such as the referee's own, stay as they are set and can be read; 0: its own
    "prlimit64": ByArgument((302, 261), 0, (0,), errno.EPERM, others=True),
    "move_pages": ByArgument((279, 239), 0, (0,), errno.EPERM, others=True),
    "migrate_pages": ByArgument((256, 238), 0, (0,), errno.EPERM, others=True),
    # RWF_NOWAIT tells what is in memory; no flag is all that anybody needs
    "preadv2": ByArgument((327, 286), 5, (0,), errno.EOPNOTSUPP, others=True),
    "pwritev2": ByArgument((328, 287), 5, (0,), errno.EOPNOTSUPP, others=True),
}
SPECIAL: dict[str, tuple[int, int]] = {
    "socket": (41, 198), "socketpair": (53, 199), "clone": (56, 220), "clone3": (435, 435),
}  # fmt: skip
# how one process reaches another's socket; without a network refused also to sockets that were made before the filter
CONNECTING: dict[str, tuple[int, int]] = {"connect": (42, 203), "accept": (43, 202), "accept4": (288, 242)}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000
_FIRST_UNKNOWN = 470  # on both architectures; x86_64 has a second set of x32's calls at 512
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST, _AT_SECOND = 0, 4, 16, 24
_DATAGRAM_BIT = 2  # in SOCK_DGRAM and SOCK_RAW, not in SOCK_STREAM and SOCK_SEQPACKET
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


FAMILIES: dict[str, tuple[int, ...]] = {
    "none": (),
    "local": (socket.AF_UNIX,),
    # netlink is how the C library lists the interfaces of the cell's own network
    "loopback": (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK),
}


def build_filter(machine: str, *, network: str, gpus: bool = False) -> bytes:
    """The filter as BPF instructions. Raises ``OSError`` for an architecture that it has no numbers for.

    network: "none"; "local": sockets of the cell's own processes, in a root folder that holds no others; "loopback":
             those of a rendezvous of ranks, in a network namespace that has nothing but loopback
    gpus:     local sockets that are bound but never connected: CUDA gives up where it cannot offer one
    """
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}")
    column, architecture = _ARCHITECTURES[machine]
    refuse, absent = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    code = [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _AT_NUMBER),
        _step(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
        _step(_RETURN, refuse),
        _step(_JUMP_AT_LEAST, _FIRST_UNKNOWN, 0, 1),
        _step(_RETURN, absent),
    ]
    alone = network == "none"
    # allows a socket whose type needs a connection; falls through for datagrams
    connected = [_step(_LOAD, _AT_SECOND), _step(_JUMP_ANY_BIT, _DATAGRAM_BIT, 1, 0), _step(_RETURN, _ALLOW)]
    for answer, calls in {errno.EPERM: REFUSED | CONNECTING if alone else REFUSED, **ANSWERED}.items():
        for numbers in calls.values():
            if (number := numbers[column]) is not None:
                code += _when(number, [_step(_RETURN, _ERRNO | answer)])
    for rule in FILTERED.values():
        code += _when(rule.numbers[column], rule.steps())
    # its flags lie in memory, out of the filter's sight; libraries fall back to clone
    code += _when(SPECIAL["clone3"][column], [_step(_RETURN, absent)])
    clone = [_step(_LOAD, _AT_FIRST), _step(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1), _step(_RETURN, refuse)]
    code += _when(SPECIAL["clone"][column], [*clone, _step(_RETURN, _ALLOW)])
    if alone:  # one end of a datagram pair can send to any address
        code += _when(SPECIAL["socketpair"][column], [*connected, _step(_RETURN, refuse)])
    sockets = [_step(_LOAD, _AT_FIRST)]
    for family in FAMILIES[network]:
        sockets += [_step(_JUMP_EQUAL, int(family), 0, 1), _step(_RETURN, _ALLOW)]
    if gpus and alone:
        sockets += _when(int(socket.AF_UNIX), connected)
    code += _when(SPECIAL["socket"][column], [*sockets, _step(_RETURN, refuse)])
    code.append(_step(_RETURN, _ALLOW))
    return b"".join(code)


def restrict_self(*, network: str, gpus: bool) -> str:
    """Load the filter for this thread and all it starts; returns what is in force. Raises ``OSError`` when refused.

    Wants no_new_privs.
    """
    code = build_filter(platform.machine(), network=network, gpus=gpus)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    check(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0), "the filter")
    offered = "no connections" if gpus else "no sockets"
    sockets = {"local": "local sockets only", "loopback": "sockets for a rendezvous only"}.get(network, offered)
    return f"{len(REFUSED) + sum(map(len, ANSWERED.values()))} calls refused, {sockets}"


def _when(value: int, then: list[bytes]) -> list[bytes]:
    """``then`` where the loaded word equals ``value``, else what follows."""
    return [_step(_JUMP_EQUAL, value, 0, len(then)), *then]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
