"""One public record, loaded: folder, metadata, README, logs and code, with the findings about how they read."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.public.files import Folder, open_folder
from harness.public.findings import Findings
from harness.public.jsonin import JsonProblem, parse_json
from harness.public.logs import looks_like_log, parse_log
from harness.public.metadata import Metadata, read_metadata
from harness.public.readings import Readings
from harness.public.readme import Readme, read_readme
from harness.public.runlog import RunLog, seed_of_name

MAX_LOGS = 40
LONGEST_KEY = 200
MAX_CODE_FILES = 24
CODE_BYTES = 1 << 20
LOG_ENDINGS = (".log", ".txt", ".out")
CODE_ENDINGS = (".py", ".cpp", ".cc", ".c", ".cu", ".h", ".sh")
RECORD, NON_RECORD = "10min_16mb", "non_record_16mb"


@dataclass
class Record:
    """All that the checks look at. ``logs`` has one log a run: identical copies are dropped."""

    folder: Folder
    readings: Readings
    out: Findings
    metadata: Metadata | None = None
    json_file: str = ""
    readme: Readme | None = None
    readme_file: str = ""
    logs: list[RunLog] = field(default_factory=list)
    absent_logs: list[str] = field(default_factory=list)
    code: dict[str, bytes] = field(default_factory=dict)
    main_code: str | None = None
    track: str = RECORD

    @property
    def official(self) -> bool:
        """Whether the caps of the record track hold."""
        return self.track == RECORD

    @property
    def scored_logs(self) -> list[RunLog]:
        """Logs with a final score."""
        return [log for log in self.logs if log.final]


def load_record(path: Path, readings: Readings) -> Record:
    """Read a folder into a :class:`Record`. Raises ``UsageError`` when ``path`` is not a folder."""
    out = Findings()
    folder = open_folder(path, readings, out)
    record = Record(folder, readings, out)
    _load_json(record)
    _load_readme(record)
    _load_code(record)
    _load_logs(record)
    record.track = _track_of(record, path)
    return record


def _load_json(record: Record) -> None:
    top = [name for name in record.folder.sizes if name.endswith(".json") and "/" not in name]
    chosen = next(
        (n for n in top if n == "submission.json"), next((n for n in top if n.startswith("submission")), None)
    )
    if chosen is None:
        return
    data = record.folder.read(chosen, record.out, limit=2 << 20)
    if data is None:
        return
    record.json_file = chosen
    try:
        raw = parse_json(data, longest_key=LONGEST_KEY)
    except JsonProblem as problem:
        record.out.fail("A9-JSON", str(problem), file=chosen, remedy="Write one JSON object in UTF-8, each key once.")
        return
    if not isinstance(raw, dict):
        record.out.fail("A9-JSON", "the file holds no JSON object.", file=chosen, found=type(raw).__name__)
        return
    record.metadata = read_metadata(raw, data.decode("utf-8-sig", "replace"))
    record.out.passed("A9-JSON", "one JSON object, each key once.", file=chosen)


def _load_readme(record: Record) -> None:
    here = sorted(record.folder.sizes)
    names = [n for n in here if n.lower() in ("readme.md", "readme.txt", "readme")]
    names += [n for n in here if re.fullmatch(r"[^/]*readme[^/]*\.md", n, re.IGNORECASE)]
    if names:
        record.readme_file = names[0]
        data = record.folder.read(names[0], record.out, limit=1 << 20)
        if data is not None:
            record.readme = read_readme(data)


def _load_code(record: Record) -> None:
    names = [n for n in record.folder.names if n.endswith(CODE_ENDINGS)]
    top = [n for n in names if "/" not in n and n.endswith(".py")]
    record.main_code = next(
        (n for n in top if n == "train_gpt.py"),
        next((n for n in top if n.startswith("train")), top[0] if len(top) == 1 else None),
    )
    first = [record.main_code] if record.main_code else []
    for name in (first + [n for n in names if n != record.main_code])[:MAX_CODE_FILES]:
        if record.folder.sizes.get(name):
            data = record.folder.read(name, record.out, limit=CODE_BYTES)
            if data is not None:
                record.code[name] = data


def _load_logs(record: Record) -> None:
    seen: set[str] = set()
    names = sorted(
        (
            n
            for n in record.folder.names
            if n.endswith(LOG_ENDINGS) and not n.lower().startswith(("requirements", "readme"))
        ),
        key=lambda n: (seed_of_name(n) is None, "/" in n, n),
    )
    for name in names[:MAX_LOGS]:
        data = record.folder.read(name, record.out)
        if data is None:
            if record.folder.size_of(name):
                record.absent_logs.append(name)
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest in seen or not looks_like_log(data):
            continue
        seen.add(digest)
        record.logs.append(parse_log(name, data))
    record.logs.sort(key=lambda log: log.file)


def parent_of(path: Path) -> str:
    """Name of the folder that ``path`` lies in."""
    return path.resolve().parent.name


def _track_of(record: Record, path: Path) -> str:
    """The folder decides; the author's own word counts only where the folder lies in no track."""
    stated = record.metadata.text("track") if record.metadata else ""
    parent = parent_of(path)
    return track_named(parent if parent.startswith("track_") else stated)


def track_named(text: str) -> str:
    """The track that a folder's name or a JSON field means."""
    words = re.sub(r"[^a-z0-9]+", "_", text.lower())
    return NON_RECORD if "non_record" in words or "unlimited" in words else RECORD
