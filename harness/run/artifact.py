"""The bytes that travel: code sealed into ``code.bundle``, the model file, and what both count [rules A3].

The code is every file of the submission's folder except ``*.md``, ``__pycache__`` and dot files; those three kinds are
not carried along either, so nothing uncounted can matter. The model file is judged without running anything in it:
size before reading, the container's own bounds, sections that are pickles, archives, binaries, byte code or source.
Not covered: numbers that a submission's own code interprets as instructions. They are counted like every other byte.
"""

import ast
import hashlib
import math
import os
import pickletools
import re
import stat
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.config.tracks import Track, load_track, track_names
from harness.errors import CouldNotCheck, RuleBroken, UsageError
from harness.files import file_digest, read_regular, write_atomic
from harness.protocol.container import ContainerError, read_container, write_container
from harness.protocol.session import MODEL_FILE
from harness.record.predicate import RunRecord, Sizes
from harness.review.unwrap import OpaqueError, parse
from harness.rules import Finding, Verdict
from harness.run.manifest import SubmissionManifest, read_manifest

A3_BYTES = "A3-ARTIFACT-BYTES"
A3_CONTAINER = "A3-CONTAINER"
A3_CODE = "A3-NO-UNCOUNTED-CODE"
BUNDLE_FILE = "code.bundle"
PACKAGE = "submission"
MAX_FILES = 2000
MAX_CODE_BYTES = 64_000_000
LARGEST_FILE_BYTES = 1 << 30  # of a stranger's artifact
NAMES_BYTES = 1_000_000  # room for the names in a bundle
MOST_ROLES = 24
OTHER = "other"
_SOURCE_LIMIT_BYTES = 1_000_000
JUDGE_S = 60.0  # processor time for the sections of one model; numbers take milliseconds
_MAGIC_NUMBERS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "a native binary (ELF)"),
    (b"\xcf\xfa\xed\xfe", "a native binary (Mach-O)"),
    (b"PK\x03\x04", "a ZIP archive, as torch.save writes it"),
    (b"\x00asm", "a WebAssembly module"),
    (b"#!/", "a script"),
)
_TELLING_OPCODES = {"PROTO", "GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
_TELLING_NODES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Call, ast.Lambda)


def read_folder(folder: Path) -> dict[str, bytes]:
    """The counted files of ``folder`` by relative path. Raises ``UsageError`` for links, special files and excess."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory.", remedy="`--submission FOLDER` names another submission.")
    files: dict[str, bytes] = {}
    room, places = MAX_CODE_BYTES, [folder]
    while places:
        for entry in sorted(os.scandir(places.pop()), key=lambda e: e.name):
            if entry.name.startswith(".") or entry.name == "__pycache__" or entry.name.endswith(".md"):
                continue
            path, mode = Path(entry.path), entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                places.append(path)
                continue
            if not stat.S_ISREG(mode):  # what a link leads to is not in the folder
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
                text = f"{path} is {kind}; a submission consists of regular files."
                raise UsageError(text, remedy="Copy its content in.")
            files[path.relative_to(folder).as_posix()] = data = read_regular(path, room)
            room -= len(data)
            if room < 0 or len(files) > MAX_FILES:
                what = f"more than {MAX_FILES:,} files" if room >= 0 else f"more than {MAX_CODE_BYTES:,} bytes of code"
                raise UsageError(f"{folder} holds {what} (at {path}).", remedy="Keep data and outputs elsewhere.")
    if not files:
        raise UsageError(f"{folder} holds no code.", remedy="`harness new FOLDER` writes a minimal submission.")
    return dict(sorted(files.items()))


def pack_code(files: dict[str, bytes]) -> bytes:
    """The bundle: one container, compressed as a whole. Raises ``UsageError`` for a file name it cannot carry."""
    try:
        return write_container(None, files, codec="lzma")
    except ContainerError as error:
        raise UsageError(f"the submission cannot be sealed: {error}", remedy="Rename the file.") from error


def read_bundle(bundle: bytes) -> dict[str, bytes]:
    """The files of a bundle by relative path. Raises ``ContainerError`` when it is damaged, or fits into no folder."""
    files = read_container(bundle, max_unpacked_bytes=MAX_CODE_BYTES + NAMES_BYTES)
    for name in files:
        if above := next((str(path) for path in PurePosixPath(name).parents if str(path) in files), ""):
            raise ContainerError(f"{name!r} lies below {above!r}, which is a file.")
    return files


def unpack_code(bundle: bytes, target: Path) -> dict[str, bytes]:
    """Write the files of ``bundle`` below ``target``, read-only. Raises ``CouldNotCheck`` when it is damaged."""
    try:
        files = read_bundle(bundle)
    except ContainerError as error:
        text = f"the code.bundle is damaged: {error}"
        raise CouldNotCheck(text, remedy="Take the run's own artifact/code.bundle.") from error
    for name, data in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)
    for folder, _, _ in os.walk(target, topdown=False):
        Path(folder).chmod(0o555)
    return files


@dataclass(frozen=True)
class SealedSubmission:
    """The sealed code of a run.

    root:        folder whose subfolder ``submission`` is the package
    bundle:      path of ``code.bundle``; bundle_bytes: what it counts as a bundle; raw_bytes: the sum of its files
    code_digest: SHA-256 of the bundle, hex; files: relative path -> SHA-256
    """

    manifest: SubmissionManifest
    root: Path
    bundle: Path
    bundle_bytes: int
    raw_bytes: int
    code_digest: str
    files: dict[str, str]


def seal_submission(submission_dir: Path, run_dir: Path) -> SealedSubmission:
    """Seal the code of a run [A3-NO-UNCOUNTED-CODE]. Raises ``UsageError`` when the folder is not a submission."""
    # 1. The folder is read once; what becomes of it from here on changes nothing.
    files = read_folder(submission_dir)
    read_manifest(files, str(submission_dir))
    if "__init__.py" not in files:
        raise UsageError(f"{submission_dir} has no __init__.py, so it is not a package.", remedy="Add an empty one.")
    # 2. The bundle is written: its bytes count, and its digest names the code in intent and record.
    write_atomic(run_dir / BUNDLE_FILE, pack_code(files), replace=True)
    # 3. What runs is unpacked from the bundle, not copied from the folder: every byte that runs was counted.
    return sealed_at(run_dir / BUNDLE_FILE, run_dir / "code")


def sealed_at(path: Path, root: Path, manifest: SubmissionManifest | None = None) -> SealedSubmission:
    """The sealed code of the bundle at ``path``, unpacked below ``root``, a folder that must not exist yet."""
    bundle = path.read_bytes()
    files = unpack_code(bundle, root / PACKAGE)
    return SealedSubmission(
        manifest=manifest or read_manifest(files, BUNDLE_FILE),
        root=root,
        bundle=path,
        bundle_bytes=len(bundle),
        raw_bytes=sum(map(len, files.values())),
        code_digest=hashlib.sha256(bundle).hexdigest(),
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    )


def read_model_file(path: Path, *, max_bytes: int, max_unpacked_bytes: int, links: bool = False) -> bytes:
    """The bytes of the model file, when it is a sound container. Raises ``RuleBroken`` (A3-CONTAINER) otherwise.

    max_bytes bounds what is read; a larger file is left to the count of bytes, so give it room beyond the cap.
    links: whether it may be a link, where it is the reader's own
    """

    def broken(text: str) -> RuleBroken:
        remedy = "Write the model with harness.protocol.container; keep code in the submission's folder: it counts."
        return RuleBroken(A3_CONTAINER, text, remedy=remedy)

    # 1. Size before reading.
    try:
        data = read_regular(path, max_bytes, links=links)
    except OSError as error:
        raise broken(f"the package phase left no readable {path.name} ({error.strerror}).") from error
    if len(data) > max_bytes:
        text = f"{path.name} is over {max_bytes:,} bytes."
        raise RuleBroken(A3_BYTES, text, remedy="Prune more, or compress better.")
    # 2. The container's own bounds. 3. No section is a program; nothing in it is run.
    try:
        sections = read_container(data, max_unpacked_bytes=max_unpacked_bytes)
    except ContainerError as error:
        raise broken(f"{path.name} is not a sound container: {error}") from error
    until = time.thread_time() + JUDGE_S
    for name, section in sections.items():
        if kind := executable_kind(section, until):
            raise broken(f"section {name!r} of {path.name} is {kind}.")
        if time.thread_time() > until:
            text = f"the sections of {path.name} read like pickles or source up to {name!r}, and took {JUDGE_S:g} s."
            raise CouldNotCheck(text, remedy="Write numbers as numbers, and long texts into one section.")
    return data


def executable_kind(section: bytes, until: float = math.inf) -> str:
    """What kind of executable content ``section`` is, in words; empty for plain data.

    until: thread time at which a search for pickles ends without a result
    """
    for magic, words in _MAGIC_NUMBERS:
        if section.startswith(magic):
            return words
    if section[:2] == b"MZ" and b"PE\0\0" in section[:1024]:
        return "a native binary (PE)"
    if len(section) > 16 and section[2:4] == b"\r\n" and section[4:8] == bytes(4):
        return "Python byte code"
    if _is_pickle(section, until):
        return "a pickle"
    return "Python source" if _is_python(section) else ""


def _is_pickle(section: bytes, until: float) -> bool:
    """Whether the bytes are a whole pickle that names itself one or calls something; nothing is executed."""
    telling = False
    try:
        for opcode, _, _ in pickletools.genops(section):
            telling = telling or opcode.name in _TELLING_OPCODES
            if time.thread_time() > until:
                return False
    except Exception:  # genops raises many kinds for bytes that are not a pickle
        return False
    return telling


def _is_python(section: bytes) -> bool:
    """Whether the text parses as a program that defines or imports something; plain numbers and words do not."""
    if not 0 < len(section) <= _SOURCE_LIMIT_BYTES or b"\0" in section:
        return False
    try:
        tree = parse(section.decode("utf-8"))
    except (UnicodeDecodeError, OpaqueError):
        return False
    return any(isinstance(node, _TELLING_NODES) for node in ast.walk(tree))


def artifact_sizes(track: Track, sealed: SealedSubmission, model_bytes: int) -> Sizes:
    """Count the artifact: the numbers of the record, in bytes [A3-ARTIFACT-BYTES]."""
    # 1. Code counts by the track's reading: as the bundle, or as files; these as the bundle where names outweigh them.
    bundled = track.readings.code_bytes == "bundle"
    code = sealed.bundle_bytes if bundled else max(sealed.raw_bytes, sealed.bundle_bytes)
    # 2. The model counts as the file that evaluation reads. 3. Nothing else reaches evaluation, so nothing else counts.
    return Sizes(code, sealed.raw_bytes, model_bytes, code + model_bytes, track.limits.artifact_bytes)


def judge_sizes(sizes: Sizes) -> Finding:
    """PASS or FAIL with all numbers [A3-ARTIFACT-BYTES]."""
    parts = f"model.bin {sizes.model_bytes:,} + code {sizes.code_bytes:,}"
    room = sizes.cap_bytes - sizes.total_bytes
    if room >= 0:
        text = f"{sizes.total_bytes:,} of {sizes.cap_bytes:,} bytes ({room:,} to spare); {parts}."
        return Finding(A3_BYTES, Verdict.PASS, text)
    return Finding(
        A3_BYTES,
        Verdict.FAIL,
        f"artifact is {sizes.total_bytes:,} bytes, cap {sizes.cap_bytes:,} ({-room:,} over); {parts}.",
        where="artifact",
        found=f"{sizes.total_bytes:,} bytes",
        wanted=f"at most {sizes.cap_bytes:,} bytes",
        remedy="Prune more, use fewer bits, or compress better.",
    )


def bytes_by_role(model: bytes, *, max_unpacked_bytes: int) -> dict[str, int]:
    """Role -> bytes before the container's own compression, largest first, at most :data:`MOST_ROLES` and "other".

    A role is a section's name without numbers and beyond its third part: ``codes/blocks.3.mlp.up.weight`` counts as
    ``codes/blocks/mlp``. The names are the submission's choice; the sizes are not. Raises ``ContainerError``.
    """
    sizes: Counter[str] = Counter()
    for name, data in read_container(model, max_unpacked_bytes=max_unpacked_bytes).items():
        parts = [part for part in re.split(r"[/.]", name) if not part.isdigit()]
        sizes["/".join(parts[:3]) or OTHER] += len(data)
    ordered = sizes.most_common()
    kept = dict(ordered[:MOST_ROLES])
    rest = sum(size for _, size in ordered[MOST_ROLES:])
    return kept | ({OTHER: kept.get(OTHER, 0) + rest} if rest else {})


def check_artifact_files(record: RunRecord, folder: Path) -> list[Finding]:
    """Judge ``model.bin`` and ``code.bundle`` in ``folder`` against the record."""
    sizes, found = record.sizes, list[Finding]()
    if missing := [name for name in record.artifact_files if not (folder / name).is_file()]:
        text = f"no {' and no '.join(missing)} at hand: give their folder with --artifact"
        return [Finding(A3_CONTAINER, Verdict.ERROR, text)]

    def fail(rule: str, text: str, remedy: str = "") -> None:
        found.append(Finding(rule, Verdict.FAIL, text, remedy=remedy))

    # 0. A file of holes can be larger than any disk; digests and memory are for sizes that some track takes.
    for name in record.artifact_files:
        if (size := (folder / name).stat().st_size) > LARGEST_FILE_BYTES:
            fail(A3_BYTES, f"{folder / name} has {size:,} bytes and was not read; no track takes so much")
    if found:
        return found
    # 1. The files are the recorded ones, by digest.
    for name, digest in record.artifact_files.items():
        if (own := file_digest(folder / name)) != digest:
            fail("R4-ARITHMETIC", f"{folder / name} has SHA-256 {own[:16]}…; the record names {digest[:16]}…")
    # 2. They weigh what the record counts, by the reading of its track.
    bundled = record.track.readings.get("code_bytes", "bundle") == "bundle"
    model = (folder / MODEL_FILE).stat().st_size
    code = max((folder / BUNDLE_FILE).stat().st_size, 0 if bundled else sizes.code_raw_bytes)
    if (model, code) != (sizes.model_bytes, sizes.code_bytes):
        weigh = f"model.bin has {model:,} bytes and the code counts {code:,}"
        fail(A3_BYTES, f"{weigh}; the record says {sizes.model_bytes:,} and {sizes.code_bytes:,}")
    # 3. The model is a sound container; nothing in it is run.
    name = record.track.name
    unpacked = load_track(name).limits.unpacked_bytes if name in track_names() else 64 * sizes.cap_bytes
    try:
        read_model_file(folder / MODEL_FILE, max_bytes=sizes.cap_bytes, max_unpacked_bytes=unpacked, links=True)
    except RuleBroken as error:
        fail(error.rule, error.message, error.remedy)
    # 4. So is the code, and its files are the recorded ones.
    try:
        files = read_bundle((folder / BUNDLE_FILE).read_bytes())
    except ContainerError as error:
        fail(A3_CODE, f"code.bundle is not a sound container: {error}")
    else:
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        if names := sorted({name for name, _ in digests.items() ^ record.submission.files.items()}):
            fail(A3_CODE, f"code.bundle differs from the recorded files in {', '.join(names[:8])}")
        if (raw := sum(map(len, files.values()))) != sizes.code_raw_bytes:
            fail(A3_BYTES, f"the code has {raw:,} bytes; the record says {sizes.code_raw_bytes:,}")
    return found or [Finding(A3_CONTAINER, Verdict.PASS, "the artifact at hand is the recorded one, and sound")]
