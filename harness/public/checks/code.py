"""Code, read and never run: evidence for a reviewer on what it would do (A1, A3 to A7, C1 to C4)."""

from __future__ import annotations

import ast
import re

from harness.public.checks import flow, patterns, scoring
from harness.public.checks.size import model_and_code
from harness.public.record import Record
from harness.public.unwrap import Unwrapped, unwrap

NOT_AT_EVAL = re.compile(
    r"prepare|download|tokeniz|export|build_|setup|launch|modal|plot|analy|human|readable|make_|test|sweep|cached_",
    re.I,
)
SOURCES = (".cpp", ".cc", ".c", ".cu")


def check(record: Record) -> None:
    """Scan the training script and what it pulls in; say so where the code isn't here."""
    if record.main_code is None or record.main_code not in record.code:
        _absent(record)
        return
    reached = _reach(record)
    for name, script in reached.items():
        if script.tree is None:
            continue
        if record.folder.late():
            record.out.unknown("A3-CODE-BYTES", "not looked at: the folder's time is used up.", file=name)
            continue
        patterns.scan(record, name, script)
        flow.scan(record, name, script)
        scoring.scan(record, name, script)
    for name, data in record.code.items():
        if name.endswith(".py") and name not in reached:
            patterns.scan_preparation(record, name, data.decode("utf-8", "replace"))
    _uncounted(record, reached)


def _absent(record: Record) -> None:
    others = [n for n in record.folder.names if n.endswith((".py", *SOURCES)) and n != record.main_code]
    likely = [n for n in others if not NOT_AT_EVAL.search(n)]
    if likely:
        sizes = sum(record.folder.size_of(n) or 0 for n in likely)
        record.out.warn(
            "A3-NO-UNCOUNTED-CODE",
            f"files beside the script may be needed at evaluation and are not in its size: {', '.join(likely[:5])}.",
            file=likely[0],
            found=f"{sizes:,} bytes",
            remedy="Put the code into the counted script.",
            confidence="hint",
        )
    record.out.unknown("A3-CODE-BYTES", "the code is not here: nothing can be said about what it does.")


def _reach(record: Record) -> dict[str, Unwrapped]:
    """The training script and every file of the folder that it executes or imports, unwrapped."""
    assert record.main_code is not None
    reached: dict[str, Unwrapped] = {}
    waiting = [record.main_code]
    while waiting and len(reached) < 12 and not record.folder.late():
        name = waiting.pop()
        if name in reached or name not in record.code:
            continue
        script = unwrap(record.code[name].decode("utf-8", "replace"), record.folder.late)
        reached[name] = script
        if script.opaque:
            record.out.unknown("A3-CODE-BYTES", f"the code can't be read: {script.opaque}.", file=name)
        if script.tree is None:
            continue
        if name.endswith(".py"):
            waiting += [n.removeprefix("./") for n in script.executes]
            waiting += _local_imports(record, script)
    return reached


def _local_imports(record: Record, script: Unwrapped) -> list[str]:
    names: list[str] = []
    for node in script.nodes:
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names if node.module)]
        for module in modules:
            path = module.replace(".", "/")
            names += [n for n in (f"{path}.py", f"{path}/__init__.py") if path and n in record.code]
    return names


def _uncounted(record: Record, reached: dict[str, Unwrapped]) -> None:
    rule, main = "A3-NO-UNCOUNTED-CODE", record.main_code
    assert main is not None
    beside = {name for name in reached if name != main}
    for script in reached.values():
        for name in record.folder.names:
            if name.endswith(SOURCES) and name.rsplit("/", 1)[-1] in script.source:
                beside.add(name)
    if not beside:
        record.out.passed(rule, "the script imports and executes no other file of the folder.", file=main)
        return
    extra = sum(record.folder.size_of(name) or 0 for name in beside)
    cap = record.readings.artifact_cap_bytes
    totals = [int(log.total.value) for log in record.logs if log.total]
    models = [int(model.value) for log in record.logs if (model := model_and_code(log)[0])]
    shipped = (record.folder.size_of(main) or 0) + extra
    with_all = max(models) + shipped if models else max(totals, default=0) + extra
    executes = any(script.executes for script in reached.values())
    report = record.out.fail if with_all > cap and executes else record.out.warn
    report(
        rule,
        f"the script needs files that its size leaves out: {', '.join(sorted(beside)[:5])}.",
        file=sorted(beside)[0],
        found=f"{extra:,} bytes beside {main}",
        computed=f"with them {with_all:,} bytes, cap {cap:,}" if with_all > extra else f"cap {cap:,} bytes",
        remedy="Put them into the counted script.",
        confidence="certain" if executes else "likely",
    )
