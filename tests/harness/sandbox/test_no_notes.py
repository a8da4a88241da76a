"""Nothing stays at a file that a cell may only read, nor in what the machine keeps of it for the next cell."""

import fcntl
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cells import attempts, done, spec, wait_for, ways

from harness.protocol import bootstrap
from harness.sandbox.cell import Cell

PAGE = 4096
F_GET_RW_HINT, RWF_NOWAIT = 1035, 8

BEFORE = """
import ctypes, fcntl, mmap, os, shutil, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(*a):
    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), "refused")
"""
LEAVING = {
    "attribute": "os.setxattr(note, b'user.note', b'1' * 1000)",
    "attribute of an open file": "os.setxattr(fd, b'user.note', b'1' * 1000)",
    "attribute, newer call": "call(463, -100, note.encode(), 0, b'user.note', bytes(16), 16)",
    "attribute taken away": "os.removexattr(note, b'user.old')",
    "times": "os.utime(note, ns=(1, 1))",
    "times, now": "os.utime(note)",
    "times of an open file": "os.utime(fd, ns=(1, 1))",
    "time of the last access": "os.read(fd, 1)",
    "mode": "os.chmod(note, 0o777)",
    "mode of an open file": "os.fchmod(fd, 0o777)",
    "mode, newer call": "call(452, -100, note.encode(), 0o777, 0)",
    "owner": "os.chown(note, os.getuid(), os.getgid())",
    "flags": "fcntl.ioctl(fd, 0x40086602, struct.pack('q', 0x40))",
    "extended flags": "fcntl.ioctl(fd, 0x401c5820, bytes(28))",
    "write hint": "fcntl.fcntl(fd, 1036, struct.pack('Q', 5))",
}


def state(path: Path, descriptor: int) -> dict[str, object]:
    """What anybody who may read a file finds out about it besides its bytes."""
    seen = path.stat()
    return {
        "attributes": {name: os.getxattr(path, name) for name in os.listxattr(path)},
        "mode": seen.st_mode,
        "owner": (seen.st_uid, seen.st_gid),
        "changed": (seen.st_mtime_ns, seen.st_ctime_ns),
        "hint": fcntl.fcntl(descriptor, F_GET_RW_HINT, bytes(8)),
    }


@ways
@pytest.mark.rule("S1-ISOLATION")
def test_a_file_that_may_be_read_keeps_no_note(namespaced: bool, tmp_path: Path):
    note = tmp_path / "note"
    note.write_text("x" * PAGE)
    os.setxattr(note, b"user.old", b"there")
    os.utime(note, ns=(10**18, 10**18))
    with note.open("rb") as file:
        before, read_ns = state(note, file.fileno()), note.stat().st_atime_ns
        head = f"{BEFORE}\nnote = {str(note)!r}\nfd = os.open(note, os.O_RDONLY)"
        found = attempts(LEAVING, tmp_path / "log", namespaced=namespaced, before=head, read=(note,))
        assert state(note, file.fileno()) == before, found
    if namespaced:  # without a root of its own a cell that reads a file marks that it was read
        assert note.stat().st_atime_ns == read_ns


@pytest.mark.rule("S1-ISOLATION")
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, who owns the kernel's files")
@pytest.mark.parametrize("devices", [(), (Path("/dev/zero"),)], ids=["without-gpus", "with-gpus"])
def test_root_leaves_no_mode_at_the_kernel_s_files(devices: tuple[Path, ...], tmp_path: Path):
    place = Path("/sys/devices/system/cpu/online")
    before = place.stat().st_mode
    try:
        attempts({"mode": f"os.chmod({str(place)!r}, 0o440)"}, tmp_path / "log", before="import os", devices=devices)
        assert place.stat().st_mode == before
    finally:
        place.chmod(before & 0o7777)


@ways
def test_copies_with_their_times_and_modes_still_work(namespaced: bool, tmp_path: Path):
    """``copytree`` sets times, modes and attributes of what it copied, and ends where it may not.

    ``touch`` makes a file when its time can't be set.
    """
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "kernel").write_text("compiled")
    os.setxattr(folder / "kernel", b"user.old", b"there")
    (folder / "link").symlink_to("kernel")
    actions = {
        "tree": f"open(shutil.copytree({str(folder)!r}, 'copy', symlinks=True) + '/kernel').read()",
        "file": f"open(shutil.copy2({str(folder / 'kernel')!r}, 'other')).read()",
        "moved": "open(shutil.move('other', 'third')).read()",
        "archive": "shutil.unpack_archive(shutil.make_archive('a', 'tar', 'copy'), 'out') or open('out/kernel').read()",
        "temporary": "tempfile.TemporaryDirectory().cleanup() or tempfile.TemporaryFile().write(b'x') and 'compiled'",
        "touched": "pathlib.Path('new').touch() or open('new').read() or 'compiled'",
        "removed": "shutil.rmtree('copy') or 'compiled'",
        "advice": "os.posix_fadvise(os.open('third', os.O_RDONLY), 0, 0, os.POSIX_FADV_SEQUENTIAL) or 'compiled'",
        "advice on memory": "mmap.mmap(-1, 1 << 16).madvise(mmap.MADV_DONTNEED) or 'compiled'",
        "vectors": "os.preadv(os.open('third', os.O_RDONLY), [bytearray(8)], 0) == 8 and 'compiled'",
    }
    before = f"{BEFORE}\nimport pathlib, tempfile"
    found = attempts(actions, tmp_path / "log", namespaced=namespaced, before=before, read=(folder,))
    assert set(found.values()) == {"done: 'compiled'"}, found


def in_memory(path: Path) -> list[bool]:
    """Which pages of a file the machine holds in memory; asked without fetching any."""
    held = []
    with path.open("rb", buffering=0) as file:
        for at in range(0, path.stat().st_size, PAGE):
            try:
                held.append(os.preadv(file.fileno(), [bytearray(1)], at, RWF_NOWAIT) == 1)
            except OSError:  # not there, or a file system that does not tell, such as tmpfs
                held.append(False)
    return held


@ways
@pytest.mark.rule("S1-ISOLATION")
def test_what_is_in_memory_of_a_file_is_neither_set_nor_asked(namespaced: bool, tmp_path: Path):
    note = tmp_path / "note"
    with note.open("wb") as file:
        file.write(bytes(64 * PAGE))
        file.flush()
        os.fsync(file.fileno())
    if not all(in_memory(note)):
        pytest.skip("needs a file system that caches files in memory and reports which pages are cached")
    map_it = "m = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)"
    actions = {
        "turned out": "os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)",
        "turned out by its memory": "m.madvise(21)",
        "made cold": "m.madvise(20)",
        "made large": "m.madvise(25)",
        "moved to a node": "call(279 if os.uname().machine == 'x86_64' else 239, 0, 0, None, None, None, 2)",
        "asked by a read": "os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)",
        "asked by a queue": "call(206 if os.uname().machine == 'x86_64' else 0, 8, bytearray(8))",
        "asked by a count": "call(451, fd, bytes(16), bytearray(40), 0)",
        "asked by memory": "call(27 if os.uname().machine == 'x86_64' else 232, 0, 4096, bytes(8))",
    }
    before = f"{BEFORE}\nfd = os.open({str(note)!r}, os.O_RDONLY)\n{map_it}"
    for _ in range(3):  # advice that is taken empties it each time, a machine short of memory perhaps once
        note.read_bytes()
        found = attempts(actions, tmp_path / "log", namespaced=namespaced, before=before, read=(note,))
        assert done(found) == {"turned out"}, found
        if all(in_memory(note)):
            return
    pytest.fail("advice was taken")


@ways
@pytest.mark.rule("S1-ISOLATION")
def test_a_cell_does_not_read_from_its_log_which_cell_it_is_or_what_an_earlier_try_saw(namespaced, tmp_path: Path):
    """A cell that ends its own run, and is resumed, could hand the whole text on: in the size and holes of its log."""
    log = tmp_path / "replica-1.log"
    actions = {"output": "os.readlink('/proc/self/fd/1')", "size": "os.fstat(1).st_size"}
    for tries in range(3):
        log.write_text(f"of try {tries}\n")
        found = attempts(actions, log, namespaced=namespaced, before="import os")
        assert "replica" not in found["output"], found
        assert found["size"] == "done: 0", found
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path != log} == {
        f"{log.name}.{tries + 1}": f"of try {tries}\n" for tries in range(3)
    }


BOOTSTRAP = Path(bootstrap.__file__)
COMPILES = """
import runpy, sys
runpy.run_path(sys.argv[1])["hide_unreadable"]()  # as every cell begins
import torch
def wave(x):
    return torch.sin(x) * x + 1
x = torch.randn(1000)
torch.testing.assert_close(torch.compile(wave)(x), wave(x))
print("compiled", flush=True)
"""


@ways
@pytest.mark.slow
def test_torch_compiles_in_a_cell(namespaced: bool, tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(COMPILES)
    limits = {"memory_bytes": 8 << 30, "file_bytes": 1 << 30}
    base = spec("", tmp_path / "log", namespaced=namespaced, read=(program, BOOTSTRAP), tools=True, **limits)
    whole = replace(base, argv=(sys.executable, "-I", "-B", str(program), str(BOOTSTRAP)), env={"OMP_NUM_THREADS": "1"})
    with Cell(whole, strict=False) as cell:
        cell.start()
        wait_for(lambda: None not in cell.exit_codes())
        assert cell.exit_codes() == [0], (tmp_path / "log").read_text()
