"""What a log says of how the score came about: switches and lines that name a forbidden or disputed method."""

from __future__ import annotations

import re

from harness.public.record import Record
from harness.public.runlog import RunLog
from harness.rules import Verdict

LOG_MARKS: tuple[tuple[str, str, Verdict, str], ...] = (
    (
        r"pre[-_ ]?quant[-_ ]?ttt",
        "A6-PREQUANT-TTT",
        Verdict.FAIL,
        "adaptation on validation tokens before quantisation",
    ),
    (r"two[-_ ]pass|rescor", "C4-SINGLE-PASS", Verdict.WARN, "the log speaks of a second pass or rescoring"),
    (
        r"\bppm",
        "C2-NORMALISED",
        Verdict.WARN,
        "a byte model is mixed in; such mixtures were not normalised over tokens (#1872)",
    ),
    (r"n-?gram[-_ ]?(?:cache|mix)", "C2-NORMALISED", Verdict.WARN, "an n-gram cache is mixed in"),
    (r"\bslot\b", "C3-SCORE-BEFORE-UPDATE", Verdict.WARN, "SLOT optimises on the scored positions"),
    (r"oracle", "C2-TARGET-GATE", Verdict.WARN, "the log speaks of an oracle"),
    (r"force_stop_step", "A1-CLOCK-PATCHED", Verdict.WARN, "a fixed last step ignores the clock (#1908)"),
    (
        r"temp_search|best_temp|final_temped|ttt[ _]temp(?:erature)?[:=]\s*(?!1(?:\.0+)?\s*$)\d",
        "C4-SINGLE-PASS",
        Verdict.WARN,
        "scores are taken at a temperature; it must be fixed before the first of these tokens is scored (#991)",
    ),
    (r"paid[_ ]prefix", "A4-PAID-PREFIX", Verdict.FAIL, "validation text is stored in the artifact"),
    (
        r"\b16777216\b",
        "A3-ARTIFACT-BYTES",
        Verdict.WARN,
        "the script checks its size against 16 MiB; the cap is 16,000,000 bytes (#705)",
    ),
)
OFF = re.compile(
    r"\w*\s*(?:[:=]\s*$|(?:[:=]\s*|\s(?:(?:is|was)\s)?)(?:(?:enabled|epochs|steps|mode)\s*[:=]\s*)?"
    r"(?:false|0(?:\.0+)?|off|none|disabled|skip(?:ped|ping)?)(?=[\s,;)]|$))",
    re.IGNORECASE,
)
"""What stands behind a mark that is switched off: the rest of its key, and the value of that key alone."""
DENIED = re.compile(
    r"(?:^|[^a-z])(?:no|not|without|skip(?:ped|ping)?|disabled)[-_ ]{1,3}(?:(?:any|the|a) )?$", re.IGNORECASE
)
SWITCH = re.compile(r"(?:enabled|epochs|_mode|_gate|_beta|_step)$|^use_|^(?:slot|ppm|prequant_ttt)$")
GATE = re.compile(r"\b(within|word)_(?:gate|beta)[:=]\s*([\d.]+)")


def check(record: Record) -> None:
    """Every log's marks, one finding a method; adaptation before the model is packed."""
    for log in record.logs:
        lines = [(mark.label, mark.line) for mark in log.marks]
        lines += [(f"{key}: {value}", line) for key, (value, line) in log.settings.items() if SWITCH.search(key)]
        _gates(record, log, lines)
        _methods(record, log, lines)
        _before_packing(record, log)


def _gates(record: Record, log: RunLog, lines: list[tuple[str, int]]) -> None:
    for text, line in lines:
        for which, value in GATE.findall(text):
            if float(value.rstrip(".") or 0) > 0:
                record.out.fail(
                    "C2-TARGET-GATE",
                    f"the {which} expert of the n-gram tilt is on; it is gated by the realised token (#1420).",
                    file=log.file,
                    line=line,
                    found=text,
                    computed="0",
                    remedy="Keep only the token expert.",
                )


def _methods(record: Record, log: RunLog, lines: list[tuple[str, int]]) -> None:
    for pattern, rule, verdict, message in LOG_MARKS:
        hits = sorted((line, text) for text, line in lines if _is_on(pattern, text))
        if hits:
            line, text = hits[0]
            more = f" ({len(hits)} lines say so)" if len(hits) > 1 else ""
            record.out.add(
                verdict, rule, f"{message}{more}.", file=log.file, line=line, found=text, confidence="likely"
            )


def _is_on(pattern: str, text: str) -> bool:
    """Whether the line names the method and neither denies it nor gives it a value that switches it off."""
    return any(
        not OFF.match(text, hit.end()) and not DENIED.search(text[: hit.start()])
        for hit in re.finditer(pattern, text, re.IGNORECASE)
    )


def _before_packing(record: Record, log: RunLog) -> None:
    """Test-time training between the last step and the packed model: what it learnt travels in the artifact."""
    packed = next((model.line for model in log.models if model.label), None)
    begun = log.stop.line if log.stop else 0
    early = [item for item in log.adaptations if packed and begun < item.line < packed]
    if early and not any(i.rule == "A6-PREQUANT-TTT" and i.file == log.file for i in record.out.items):
        record.out.warn(
            "A6-PREQUANT-TTT",
            "test-time training runs before the model is packed: what it learnt travels in the artifact.",
            file=log.file,
            line=early[0].line,
            found=early[0].label,
            computed=f"the model is packed in line {packed}",
            remedy="Adapt only on tokens that are scored already, after packing.",
            confidence="likely",
        )
