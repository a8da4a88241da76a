"""Code, read and never run: places for a reviewer to look at (A1, A3, A4, C2, C4)."""

import ast
import re

from harness.review.patterns import PATTERNS, WORDS
from harness.review.record import Record

_SOURCES = (".cpp", ".cc", ".c", ".cu")
LOOKED_AT = (ast.Assign, ast.Expr, ast.Import, ast.ImportFrom, ast.AugAssign, ast.Return, ast.For)
_COUNT = "Put the code into the counted script."


def absent(record: Record) -> None:
    """Say so where the code isn't here, or can't be read."""
    for name, script in record.scripts.items():
        if script.opaque:
            record.out.unknown("A3-CODE-BYTES", f"the code can't be read: {script.opaque}.", name)
    if record.scripts:
        return
    others = [n for n in record.folder.names if n.endswith((".py", *_SOURCES)) and n != record.main_code]
    tiny = 0 < (record.folder.size_of(record.main_code or "") or 0) < 500  # then the code stands in another file
    likely = [n for n in others if tiny or not (WORDS["not_at_eval"].search(n) or "train" in n)]
    told = "\n".join(record.told)  # which may call a file an analysis
    names = {n: re.escape(n.rsplit("/", 1)[-1]) for n in likely}
    likely = [n for n, x in names.items() if not re.search(rf"(?i)analysis\W.{{0,20}}{x}|{x}\W.{{0,40}}analysis", told)]
    size = sum(record.folder.size_of(n) or 0 for n in likely)
    with_script = size + (record.folder.size_of(record.main_code or "") or 0)
    counted = re.search(r'(?i)"bytes_code\w*": ?"[^"]*includ', told) is not None
    counted = counted or any(with_script == code.value for run in record.runs for code in run["codes"])
    claimed, scripts = record.metadata.number("bytes_code"), [n for n in record.folder.names if n.endswith(".py")]
    counted = counted or bool(claimed and claimed.value >= sum(record.folder.size_of(n) or 0 for n in scripts))
    totals = [int(run.total.value) for run in record.bound.sized if run.total]
    if likely and record.main_code and not counted:
        message = f"files beside the script may be needed at evaluation, uncounted: {', '.join(likely[:5])}."
        text = f"with the logged {max(totals):,} bytes {max(totals) + size:,}" if totals else ""
        record.out.warn("A3-NO-UNCOUNTED-CODE", message, likely[0], f"{size:,} bytes", text, _COUNT, "hint")
    record.out.unknown("A3-CODE-BYTES", "the code is not here: nothing can be said about what it does.")


def uncounted(record: Record) -> None:
    """Files that the script executes or imports, and that no size counts."""
    rule, main, reached = "A3-NO-UNCOUNTED-CODE", record.main_code or "", record.scripts
    if not reached:
        return
    sources = [n for n in record.folder.names if n.endswith(_SOURCES)]
    beside = {name for name in reached if name != main}
    beside |= {n for n in sources if any(n.rsplit("/", 1)[-1] in script.source for script in reached.values())}
    executed = {n.removeprefix("./") for script in reached.values() for n in script.executes}
    missing = sorted(executed - set(record.folder.names))
    if missing:
        message = f"the script executes files that are not in the folder: {', '.join(missing[:5])}."
        record.out.warn(rule, message, main, ", ".join(missing[:5]), "", "Ship and count them.")
    if not beside:
        record.out.passed(rule, "the script imports and executes no other file of the folder.", main)
        return
    extra, cap = sum(record.folder.size_of(name) or 0 for name in beside), record.readings.artifact_cap_bytes
    models = [int(run.packed[-1].value) for run in record.bound.sized if run.packed]
    with_all = max(models, default=0) + (record.folder.size_of(main) or 0) + extra
    computed = f"with them {with_all:,} bytes, cap {cap:,}" if models else f"cap {cap:,} bytes"
    message = f"the script needs files that its size leaves out: {', '.join(sorted(beside)[:5])}."
    record.out.warn(rule, message, sorted(beside)[0], f"{extra:,} bytes beside {main}", computed, _COUNT, "likely")


def preparation(record: Record) -> None:
    """The default that puts validation documents into the train set (#2127), unless a command overrides it."""
    plain = {name: data.decode("utf-8", "replace") for name, data in record.code.items() if record.scripts}
    sources = plain | {name: script.source for name, script in record.scripts.items()}
    commands = [*record.readme.raw, *(text for name, text in sources.items() if name.endswith(".sh"))]
    for name, source in sources.items():
        hit = WORDS["val_docs"].search(source)
        if hit and not any(re.search(r"--val[-_]docs[ =]+50[_,]?000\b", text) for text in [*commands, source]):
            message = "the preparation holds out 10,000 documents by default; the split has 50,000 (#2127)."
            at, found = (name, source.count("\n", 0, hit.start()) + 1), hit[0][:120]
            record.out.warn("A4-DISJOINT", message, at, found, "50,000", "Set the default to 50,000.", "likely")


def patterns(record: Record) -> None:
    """Patterns on every statement of the training script and of what it pulls in."""
    out = record.out
    for name, script in record.scripts.items():
        seen = set[str]()
        lines = re.split(r"\r\n?|\n", script.source)
        for node in script.statements:
            if not isinstance(node, LOOKED_AT):
                continue
            loop = ast.unparse(node.target) if isinstance(node, ast.For) else ""
            raw = loop or "\n".join(lines[node.lineno - 1 : node.end_lineno])
            beside = WORDS["worth_beside_target"].search(raw) and WORDS["target"].search(raw)
            if not (WORDS["worth_of_loop" if loop else "worth"].search(raw) or beside) or record.folder.late():
                continue
            text = ast.unparse(node)[:4_000]
            at = (name, 0 if script.layers else node.lineno)  # an unpacked script has other lines
            if not loop and WORDS["val_files"].match(text):
                out.fail("A4-TRAIN-NO-VAL", "the train files are validation shards.", at, text[:160])
                continue
            for one in PATTERNS.code:
                if one.what not in seen and (not loop or "for each" in one.what) and one.pattern.search(text):
                    seen.add(one.what)
                    out.warn(one.rule, f"{one.what}.", at, text[:160], "", one.remedy, "likely")
