"""Artifact bytes: each seed's total, the code that ships against the code that was counted, the JSON's claim (A3)."""

from __future__ import annotations

from statistics import fmean

from harness.public.record import Record
from harness.public.runlog import Count, RunLog

LIKE = 64
"""Code sizes that differ by at most this many bytes are the same script with a line changed."""


def check(record: Record) -> None:
    """All of the above."""
    totals = [_artifact(record, log) for log in record.logs]
    known = {log.file: total for log, total in zip(record.logs, totals, strict=True) if total is not None}
    if record.logs:
        _code_bytes(record)
    _claimed(record, known)


def _artifact(record: Record, log: RunLog) -> int | None:
    rule, out, cap = "A3-ARTIFACT-BYTES", record.out, record.readings.artifact_cap_bytes
    total = log.total
    model, code = model_and_code(log)
    if total is None:
        if model is None or code is None:
            out.unknown(rule, "the log states no artifact size.", file=log.file)
            return None
        total = Count("model + code", model.value + code.value, model.line)
    value = int(total.value)
    if model and code and int(model.value + code.value) != value and total.label != "budget":
        out.warn(
            "A3-CLAIMED-BYTES",
            "the log's total is not its model plus its code.",
            file=log.file,
            line=total.line,
            found=f"{value:,}",
            computed=f"{int(model.value):,} + {int(code.value):,} = {int(model.value + code.value):,}",
        )
        value = max(value, int(model.value + code.value)) if abs(model.value + code.value - value) < 2e6 else value
    if value > cap:
        shipped = (record.folder.size_of(record.main_code) or 0) if record.main_code else 0
        fits = model is not None and shipped and model.value + shipped <= cap
        but = (
            f"; with the shipped {record.main_code} it would be {int(model.value) + shipped:,}"
            if fits and model
            else ""
        )
        out.fail(
            rule,
            f"the artifact is {value - cap:,} bytes over the cap by the run's own line{but}.",
            file=log.file,
            line=total.line,
            found=f"{value:,} bytes",
            computed=f"cap {cap:,} bytes",
            remedy="Prune or quantise more; the largest seed decides.",
        )
    else:
        out.passed(
            rule, f"{cap - value:,} bytes under the cap.", file=log.file, line=total.line, found=f"{value:,} bytes"
        )
    return value


def model_and_code(log: RunLog) -> tuple[Count | None, Count | None]:
    """The compressed model's size, and the code size that the log adds to it."""
    labelled = [item for item in log.models if item.label]
    total = log.total
    for model in reversed(labelled):
        for code in reversed(log.codes):
            if total and int(model.value + code.value) == int(total.value):
                return model, code
    counted = [code for code in log.codes if code.label != "uncompressed"] or log.codes
    return (labelled[-1] if labelled else None), (counted[-1] if counted else None)


def _code_bytes(record: Record) -> None:
    rule, out = "A3-CODE-BYTES", record.out
    if record.main_code is None:
        return
    shipped = record.folder.size_of(record.main_code)
    if not shipped:
        return
    plain = {log.file: [c for c in log.codes if c.label != "compressed"] for log in record.logs}
    differing = [
        (log, codes[-1]) for log in record.logs if (codes := plain[log.file]) and int(codes[-1].value) != shipped
    ]
    for log, code in differing[:1]:
        gap = shipped - int(code.value)
        others = f" (and {len(differing) - 1} more log(s))" if len(differing) > 1 else ""
        kind = "nearly the same script" if abs(gap) <= LIKE else "another script"
        out.warn(
            rule,
            f"the run used {kind}: its code has another size than the shipped file{others}.",
            file=log.file,
            line=code.line,
            found=f"{int(code.value):,} bytes",
            computed=f"{record.main_code} has {shipped:,} bytes",
            remedy="Ship the file that ran.",
        )
    if not any(plain.values()):
        out.unknown(rule, "no log states a code size.")
    elif not differing:
        out.passed(rule, "the logs counted the shipped file.", file=record.main_code, found=f"{shipped:,} bytes")
    _shipped_total(record, shipped)


def _shipped_total(record: Record, shipped: int) -> None:
    out, cap = record.out, record.readings.artifact_cap_bytes
    over = []
    for log in record.logs:
        model, _ = model_and_code(log)
        if model is not None and int(model.value) + shipped > cap:
            over.append((log, model, int(model.value) + shipped))
    if not over:
        return
    log, model, total = max(over, key=lambda item: item[2])
    counted_compressed = any(code.label == "compressed" for code in log.codes)
    strict = record.readings.code_bytes == "shipped"
    count = f"{len(over)} of {len(record.logs)} log(s)"
    message = f"model plus the shipped script is {total - cap:,} bytes over the cap in {count}"
    remark = "; the log counts a compressed copy that isn't shipped" if counted_compressed else ""
    report = out.fail if strict else out.warn
    report(
        "A3-ARTIFACT-BYTES" if strict else "A3-CODE-BYTES",
        f"{message}{remark}.",
        file=log.file,
        line=model.line,
        found=f"{int(model.value):,} + {shipped:,} = {total:,} bytes",
        computed=f"cap {cap:,} bytes",
        remedy="Ship the compressed script that was counted, or make room for the readable one.",
    )


def _claimed(record: Record, totals: dict[str, int]) -> None:
    rule, out, meta = "A3-CLAIMED-BYTES", record.out, record.metadata
    claimed = meta.number("bytes_total") if meta else None
    if meta is None or claimed is None:
        return
    cap, line = record.readings.artifact_cap_bytes, meta.line("bytes_total")
    where, shown = record.json_file, f"{claimed:,.0f}"
    if claimed > cap:
        out.fail(
            "A3-ARTIFACT-BYTES",
            "the claimed size is over the cap.",
            file=where,
            line=line,
            found=shown,
            computed=f"{cap:,}",
        )
    if not totals:
        out.unknown(rule, "no log states a size to compare the claim with.")
        return
    values = list(totals.values())
    largest = max(values)
    if int(claimed) == largest:
        out.passed(rule, "the claim is the largest seed's size.", file=where, line=line, found=shown)
    elif int(claimed) in values:
        remark = "one seed's size, not the largest"
        out.warn(rule, f"the claim is {remark}.", file=where, line=line, found=shown, computed=f"{largest:,}")
    elif abs(claimed - fmean(values)) < 1:
        out.warn(
            rule,
            "the claim is the mean over seeds; the largest decides.",
            file=where,
            line=line,
            found=shown,
            computed=f"{largest:,}",
        )
    else:
        out.warn(
            rule,
            "the claimed size stands in no log.",
            file=where,
            line=line,
            found=shown,
            computed=f"logs: {', '.join(f'{value:,}' for value in values[:5])}",
            remedy="State the largest seed's total.",
        )
    _seed_sizes(record, totals)
    code = meta.number("bytes_code")
    shipped = record.folder.size_of(record.main_code) if record.main_code else None
    if code is not None and shipped and int(code) != shipped:
        out.warn(
            "A3-CODE-BYTES",
            "the claimed code size is not the shipped file's.",
            file=where,
            line=meta.line("bytes_code"),
            found=f"{code:,.0f}",
            computed=f"{record.main_code} has {shipped:,} bytes",
        )


def _seed_sizes(record: Record, totals: dict[str, int]) -> None:
    from harness.public.metadata import BYTES_OF_SEED

    meta = record.metadata
    assert meta is not None
    for log in record.logs:
        result = meta.results.get(log.seed) if log.seed is not None else None
        stated = result.first(BYTES_OF_SEED) if result else None
        if stated and log.file in totals and int(stated[1]) != totals[log.file]:
            record.out.warn(
                "A3-CLAIMED-BYTES",
                f"seed {log.seed}: the JSON's size is not the log's.",
                file=record.json_file,
                line=meta.lines.get(str(log.seed), 0),
                found=f"{stated[1]:,.0f}",
                computed=f"{totals[log.file]:,} in {log.file}",
            )
