"""What a cell reads of this machine to run Python: parts of the interpreter, packages, and their libraries.

Covered: an allow-list. Of the interpreter its standard library without tests, manuals and installed packages; the
packages that are asked for and what they require; the system's libraries that these load. Not covered: the words in
these files, of which a root of the cell's own shows copies with fewer (``copies.py``). :func:`inventory` says how much.
"""

import contextlib
import ctypes
import hashlib
import mmap
import os
import platform
import re
import stat
import struct
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from harness.files import told
from harness.sandbox.namespaces import libc

PACKAGES = ("torch", "numpy", "triton")  # what the protocol promises to every submission
PATHS: dict[str, list[str]] = tomllib.loads(Path(__file__).with_name("paths.toml").read_text("utf-8"))
_NOT_USED, _TESTS, _FOR_COMPILERS = (frozenset(PATHS[name]) for name in ("not_used", "tests", "for_compilers"))
# in folders of libraries: languages with packages and texts of their own
_TEXTS, _OTHERS = tuple(PATHS["text_files"]), re.compile(r"(python|perl|ruby|node|R$|jvm|go$|rustlib|ghc)")
_BLOCK = 1 << 20
_CACHESTAT, _WHOLE_FILE = 451, (ctypes.c_uint64 * 2)(0, 0)
TOOLS, SETTINGS = "compilers, programs, drivers", "settings in /etc"
# of a library: the names in its ELF header; 64-bit little-endian files are all that the sandbox's platforms have
_MAGIC = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_HEADER, _PROGRAM = struct.Struct("<16s2HI3QI6H"), struct.Struct("<2I6Q")
_DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
_CONFIGURED = Path("/etc/ld.so.conf")
_MAX_TEXT = 1 << 16


@dataclass(frozen=True)
class Part:
    """One part of what may be read.

    paths:  files, and folders with all that lies below them
    listed: folders whose names may be listed as well, for imports; what lies in them is not meant
    mounts: few folders and files that hold all ``paths``, for a root folder of the cell's own
    copies: what lies over ``mounts`` there, in this order: (what, where)
    seen:   where the bytes are of what a cell then reads; empty: ``paths``
    """

    name: str
    paths: tuple[Path, ...]
    listed: tuple[Path, ...] = ()
    mounts: tuple[Path, ...] = ()
    copies: tuple[tuple[Path, Path], ...] = ()
    seen: tuple[Path, ...] = ()


@cache
def runtime(packages: tuple[str, ...] | None, *, tools: bool, gpus: bool) -> tuple[Part, ...]:
    """Everything that a cell may read beyond its own files.

    packages: distributions, with what they require, as far as they are installed; ``None``: all that is installed
    tools:    compilers and other programs of the system, with all its libraries
    gpus:     the libraries of LD_LIBRARY_PATH: where drivers are often found
    """
    folders = tuple(filter(os.path.isabs, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))
    parts = [_interpreter(tools)]
    if packages is None:
        places = [Path(place) for place in (*map(sysconfig.get_path, ("purelib", "platlib")), *sys.path)]
        installed = existing(place for place in places if place.name in ("site-packages", "dist-packages"))
        parts.append(Part("all packages", installed, mounts=installed))
    else:
        parts += _packages(packages, tools)
    own = {mount for part in parts for mount in part.mounts}
    files = (file for part in parts for path in part.paths for file in _files(path))
    modules = (file for file in files if ".so" in file.name or file.name.startswith("python"))
    system = {*libraries_of(modules, folders, PATHS["opened_by_name"]), *existing(PATHS["locales"])}
    for folder in folders if gpus or tools else ():
        with contextlib.suppress(OSError):
            system |= {path for path in Path(folder).iterdir() if ".so" in path.suffixes and path.is_file()}
    needed = tuple(sorted(path for path in system if own.isdisjoint(path.parents)))
    parts.append(Part("system libraries", needed, mounts=needed))
    settings, links = existing((*PATHS["settings"], *(PATHS["of_gpus"] if gpus else ()))), existing(PATHS["links"])
    parts.append(Part(SETTINGS, settings, links, (*settings, *links)))
    if tools:
        # a home folder or a prefix may hold CUDA, too: then its own parts alone
        home = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")
        of_cuda = ("bin", "include", "lib", "lib64", "nvvm", "targets") if (home / "bin" / "nvcc").exists() else ()
        inside: list[Path] = []
        for place in existing((*PATHS["tools"], *Path("/usr/local").glob("cuda*"), *(home / name for name in of_cuda))):
            library = place.resolve().name == "lib"
            inside += [at for at in sorted(place.iterdir()) if not _OTHERS.match(at.name)] if library else [place]
        parts.append(Part(TOOLS, tuple(inside), mounts=tuple(inside)))
    return tuple(parts)


def _interpreter(tools: bool) -> Part:
    """Program, standard library and, for compilers, C headers. A virtual environment's program is a link to another."""
    base, program = Path(sys.base_prefix), Path(sys.executable)
    major, minor = sys.version_info[:2]
    names = ("python", "python3", f"python{major}.{minor}", program.name)
    files = [folder / name for folder in (program.parent, base / "bin") for name in names]
    files += [program.with_name("pyvenv.cfg"), program.parent.with_name("pyvenv.cfg")]
    files += [base / "lib" / f"python{major}{minor}.zip"]
    folders = [Path(sysconfig.get_path("stdlib")), Path(str(sysconfig.get_config_var("DESTSHARED")))]
    static = Path(str(sysconfig.get_config_var("LIBPL"))).name
    headers = {Path(sysconfig.get_path(name)) for name in ("include", "platinclude")} if tools else set()
    whole = existing((*files, *headers))
    return _code_of(f"Python {platform.python_version()}", [*existing(folders), *whole], tools, _NOT_USED | {static})


def _packages(wanted: Iterable[str], tools: bool) -> Iterator[Part]:
    """The distributions and what they require, each with the folders that it put beside the others."""
    names = list(dict.fromkeys(map(canonicalize_name, wanted)))
    for name in names:  # and for those that are found to be required meanwhile
        try:
            found = metadata.distribution(name)
        except (metadata.PackageNotFoundError, ValueError):  # the latter for no name at all
            continue
        for text in found.requires or ():
            with contextlib.suppress(InvalidRequirement):  # written for an older installer
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    names += {canonicalize_name(requirement.name)}.difference(names)
        root = Path(str(found.locate_file("")))
        tops = {file.parts[0] for file in found.files or ()} or {name, name.replace("-", "_")}
        tops = {top for top in tops - {"/", "..", "__pycache__"} if not top.endswith(".pth")}
        # of what a package says about itself only the list of plug-ins is needed, by torch and triton
        about = "" if tools else "entry_points.txt"
        code = (root / top / (about if top.endswith(".dist-info") else "") for top in sorted(tops))
        part = _code_of(f"{name} {found.version}", existing(code), tools)
        yield Part(part.name, part.paths, (root, *part.listed), part.mounts)


def _code_of(name: str, places: Iterable[Path], tools: bool, unwanted: frozenset[str] = frozenset()) -> Part:
    unwanted |= frozenset() if tools else _FOR_COMPILERS
    found = [_without_texts(place, tools, unwanted) if place.is_dir() else ([place], []) for place in places]
    kept, listed = (tuple(path for part in found for path in part[at]) for at in (0, 1))
    return Part(name, kept, listed, tuple(places))


def _without_texts(
    folder: Path, tools: bool, unwanted: frozenset[str], in_tests: bool = False
) -> tuple[list[Path], list[Path]]:
    """Of a folder of code what has to be readable, in as few paths as possible, and the folders to be listed."""
    in_tests |= folder.name in _TESTS
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    kept, listed = list[Path](), [folder]
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in unwanted:
                below, names = _without_texts(Path(entry.path), tools, unwanted, in_tests)
                kept += below
                listed += names
        elif not (
            (in_tests and not entry.name.endswith((".py", ".pyc")))
            or entry.name.startswith("_tkinter")
            or (entry.name.endswith(_TEXTS) and not tools)
        ):
            kept.append(Path(entry.path))
    return ([folder], []) if kept == [Path(entry.path) for entry in entries] else (kept, listed)


def _files(path: Path) -> Iterator[Path]:
    """The files below a path, or itself, in order of their names."""
    if not path.is_dir():
        yield path
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def existing(places: Iterable[str | Path]) -> tuple[Path, ...]:
    """Those that are there, as far as this user may see, each once."""
    return tuple(path for path in dict.fromkeys(map(Path, places)) if os.access(path, os.F_OK))


@cache
def inventory(parts: tuple[Part, ...]) -> list[tuple[str, int, int, str]]:
    """Name, files, bytes and SHA-256 of each part, read from beginning to end, so that it is in memory afterwards.

    A file of several parts, as packages that share a folder have, is read and counted in the first of them.
    The digest is of names and contents without compiled copies (``*.pyc``), whose bytes differ from one installation to
    the next; of the system's tools it is of names and sizes, which takes no minutes, and of its settings, which are
    its owner's.
    """
    buffer, counted, seen = bytearray(_BLOCK), [], set[tuple[int, int, bool]]()
    for part in parts:
        digest, sizes = hashlib.sha256(), list[int]()
        for place, path in ((above, path) for above in part.seen or part.paths for path in _files(above)):
            with contextlib.suppress(OSError):  # a link that leads nowhere, a file that only root may read
                found = path.stat()
                if not stat.S_ISREG(found.st_mode):
                    continue
                compiled = path.suffix == ".pyc"  # a source that has such a name too is read all the same
                known = (found.st_dev, found.st_ino, compiled) in seen
                seen.add((found.st_dev, found.st_ino, compiled))
                sizes += [] if known else [found.st_size]
                name, length = os.fspath(path)[len(os.fspath(place.parent)) :], "" if compiled else found.st_size
                digest.update(f"{name}\0{length}\0".encode("utf-8", "surrogateescape"))
                if not known and part.name not in (TOOLS, SETTINGS):
                    with path.open("rb", buffering=0) as file:
                        while count := file.readinto(buffer):
                            digest.update(b"" if compiled else memoryview(buffer)[:count])
        counted.append((part.name, len(sizes), sum(sizes), digest.hexdigest()))
    return counted


def make_resident(parts: tuple[Part, ...], paths: Iterable[Path]) -> None:
    """Read what is not in memory yet of ``parts`` and of further ``paths``, so that the next reader finds all there."""
    buffer = bytearray(_BLOCK)
    places = (*(path for part in parts for path in part.seen or part.paths), *paths)
    for path in (path for place in places for path in _files(place)):
        with contextlib.suppress(OSError):
            if not path.is_file():  # a pipe would hold it up
                continue
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                while not is_resident(file.fileno(), size) and file.readinto(buffer):
                    pass


def is_resident(descriptor: int, size: int) -> bool:
    """Whether all pages of a file are in memory; ``False`` where the kernel (before 6.5) does not say."""
    answer = (ctypes.c_uint64 * 5)()  # pages in memory, and how many of them are dirty, written back, evicted
    if libc.syscall(_CACHESTAT, descriptor, _WHOLE_FILE, answer, 0):
        return False
    return int(answer[0]) * mmap.PAGESIZE >= size


def turn_out(parts: tuple[Part, ...]) -> None:
    """Leave nothing of ``parts``, which are too large to be read, in memory but what a living process has mapped."""
    for path in (path for part in parts for place in part.paths for path in _files(place)):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            for _ in range(3):  # pages that a processor has just put on its own list are kept the first time
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                if not is_resident(descriptor, 1):
                    break
            os.close(descriptor)


def read_needs(path: Path) -> tuple[str, list[str], list[str]]:
    """What a file asks of the loader: its loader ("" in a library), library names, and folders to look in first.

    Nothing where it is not an ELF file, or a damaged one.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(_MAGIC)] != _MAGIC:
                return "", [], []
            fields = _HEADER.unpack_from(data)
            parts = [_PROGRAM.unpack_from(data, fields[5] + at * fields[9]) for at in range(fields[10])]
            loader = next((data[p[2] : p[2] + p[5]].rstrip(b"\0") for p in parts if p[0] == _PT_INTERP), b"")
            dynamic = next((data[p[2] : p[2] + p[5]] for p in parts if p[0] == _PT_DYNAMIC), b"")
            entries = [entry for entry in struct.iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16]) if entry[0]]
            place = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
            offset = next((p[2] + place - p[3] for p in parts if p[0] == _PT_LOAD and p[3] <= place < p[3] + p[5]), 0)

            def text(at: int) -> str:
                return os.fsdecode(data[offset + at : offset + at + _MAX_TEXT].split(b"\0", 1)[0])

            libraries = [text(value) for tag, value in entries if tag == _DT_NEEDED]
            wanted = ":".join(text(value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH))
    except (OSError, struct.error, OverflowError, ValueError):
        return "", [], []
    origin = str(path.resolve().parent)
    folders = (part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for part in wanted.split(":"))
    return os.fsdecode(loader), libraries, [folder for folder in folders if folder.startswith("/")]


def libraries_of(files: Iterable[Path], first: Iterable[str] = (), extra: Iterable[str] = ()) -> set[Path]:
    """Every library that ``files`` load when they start, with their loaders, by the path at which it is found.

    Looked up as the loader does; it could say so itself, at the price of starting every file. What a program opens by
    name while it runs (``dlopen``) is not found here.

    first: folders that are looked in before the system's, those of LD_LIBRARY_PATH; extra: names to look up as well
    """
    configured = (_CONFIGURED, *sorted(_CONFIGURED.with_suffix(".conf.d").glob("*.conf")))
    lines = (line.strip() for file in configured for line in told(file).split("\n"))
    usual = (*first, *(line for line in lines if line.startswith("/")), *_DEFAULT)
    found: set[Path] = set()
    looked_up: set[tuple[str, tuple[str, ...]]] = set()
    wanted: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in extra]

    def ask(path: Path, above: tuple[str, ...]) -> None:
        loader, libraries, own = read_needs(path)
        if loader and Path(loader).is_file():
            found.add(Path(loader))
        folders = tuple(dict.fromkeys((*own, *above)))  # RPATH holds for what a library loads as well
        wanted.extend((name, folders) for name in libraries)

    for path in files:
        ask(path, ())
    while wanted:
        name, above = wanted.pop()
        if (name, above) in looked_up:
            continue
        looked_up.add((name, above))
        places = (Path(folder, name) for folder in (*above, *usual))  # of a name from the root on: that file itself
        if (place := next(filter(os.path.isfile, places), None)) is not None:
            library = Path(os.path.normpath(place))
            if library not in found:
                found.add(library)
                ask(library, above)
    return found
