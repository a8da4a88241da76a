"""A repository with pull requests made for tests, written straight into git's objects: no working tree, one import."""

from __future__ import annotations

import subprocess
from pathlib import Path

from public_folders import PublicFolder

_RECORDS = b"records/track_10min_16mb/"
Files = list[tuple[bytes, bytes, bytes]]
"""(mode, path, data) of each file."""
HOSTILE: dict[str, Files] = {
    "link": [(b"120000", _RECORDS + b"2026-04-05_Link/train_seed1.log", b"/etc/passwd")],
    "pipe": [(b"100644", _RECORDS + b"2026-04-05_Pipe/|mkfifo x;.log", b"val_loss:1 val_bpb:nan\n")],
    "escape": [(b"100644", _RECORDS + b"2026-04-05_\x1b]0;x\x07\x1b[31mE/README.md", b"\x1b[2J<script>x</script>")],
    "utf8": [(b"100644", _RECORDS + b"2026-04-05_\xff\xfe/sub\xc3.log", b"val_loss:\xff\xfe 1.0\n" * 9)],
    "large": [(b"100644", _RECORDS + b"2026-04-05_Large/train.log", b"x val_bpb:1.1 " * 700_000)],
    "deep": [(b"100644", _RECORDS + b"2026-04-05_Deep/" + b"d/" * 40 + b"a.log", b"x")],
    "markup": [(b"100644", _RECORDS + b"</script><b>/submission.json", b'{"name": "</script><b>", "val_bpb": 1e999}')],
    "none": [(b"100644", b"train_gpt.py", b"x = 2\n")],
}  # fmt: skip


def files_of(folder: PublicFolder, place: Path) -> Files:
    """A made-up folder as (mode, path, data)."""
    written = folder.write(place / "records")
    return [
        (b"100644", str(path.relative_to(place)).encode(), path.read_bytes())
        for path in sorted(written.rglob("*"))
        if path.is_file()
    ]


def write_repository(root: Path, pulls: dict[int, Files], base: Files) -> Path:
    """A bare repository whose ``main`` holds ``base``; each pull request adds its files in one commit."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(root)], check=True)
    out = [b"", *_commit(b"refs/heads/main", 1_770_000_000, b"", base)]
    for number, files in pulls.items():
        out += _commit(b"refs/pull/%d/head" % number, 1_770_000_000 + 86_400 * number, b"refs/heads/main", files)
    subprocess.run(["git", "-C", str(root), "fast-import", "--quiet"], input=b"".join(out), check=True)
    return root


def _commit(ref: bytes, when: int, parent: bytes, files: Files) -> list[bytes]:
    out = [b"commit %s\ncommitter T <t@example.org> %d +0000\ndata 1\nx\n" % (ref, when)]
    out += [b"from %s\n" % parent] if parent else []
    for mode, path, data in files:
        quoted = b'"' + b"".join(b"\\%03o" % c if c < 33 or c > 126 or c in b'"\\' else bytes([c]) for c in path) + b'"'
        out.append(b"M %s inline %s\ndata %d\n%s\n" % (mode, quoted, len(data), data))
    return [*out, b"\n"]
