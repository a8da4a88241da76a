"""The score: bytes implied, tokens covered, data seen, and whether it can be believed (A4, A7, C4)."""

from __future__ import annotations

import math
import re

from harness.public.checks.claims import claimed_pass
from harness.public.record import Record
from harness.public.runlog import RunLog, Score, base_label
from harness.rules import Verdict

WINDOWS = {
    "sp1024": 62_021_632,
    "sp1024, before the split was cut (#837)": 63_779_840,
    "sp4096": 45_508_608,
    "sp4096 (#1285)": 45_514_752,
    "sp8192": 40_540_160,
    "CaseOps sp8192": 47_851_520,
    "byte260": 151_130_112,
    "byte": 151_076_864,
}
LONGEST_WINDOW = 32_768
SUBSET = re.compile(r"subset_?tokens$|(?:eval|val|score)_?max_?tokens$|max_(?:eval|val|scored)_tokens$")
LARGEST_GAIN = 0.06
"""bpb between the end of training and the last pass; above it, the way of scoring has to be explained."""
LEGACY_BYTES = 155_769_746
KNOWN_BAD = {
    164_594_398: "CaseOps shards read without their byte sidecar (#2071, #2138)",
    157_319_833: "byte-fallback tokens counted as three bytes (#1143, #1271)",
    176_332_748: "a leading space counted twice (#1545, #1719)",
}
DOCUMENTS = 50_000


def check(record: Record) -> None:
    """Every log's figures."""
    for log in record.logs:
        _bytes(record, log)
        _coverage(record, log)
        _shards(record, log)
        _gain(record, log)
        _single_pass(record, log)
    _plausible(record)


def implied_bytes(score: Score, tokens: float) -> tuple[float, float] | None:
    """Least and most bytes that loss, bpb and token count allow, given how many digits are printed."""
    if score.loss_text is None or score.bpb <= 0 or not score.loss:
        return None
    loss_half, bpb_half = (0.5 * 10.0 ** -_decimals(text) for text in (score.loss_text, score.bpb_text))
    scale = tokens / math.log(2)
    low = scale * max(score.loss - loss_half, 0) / (score.bpb + bpb_half)
    return low, scale * (score.loss + loss_half) / max(score.bpb - bpb_half, 1e-9)


def _decimals(text: str) -> int:
    return len(text.split(".")[1]) if "." in text and "e" not in text else 0


def _bytes(record: Record, log: RunLog) -> None:
    scores = [s for s in log.passes if s.loss_text] or [s for s in log.curve if s.loss_text][-1:]
    if log.val_tokens is None or not scores:
        record.out.unknown(
            "A7-BYTES", "bytes can't be derived: no token count, or no loss beside the bpb.", file=log.file
        )
        return
    final = log.final if log.final and log.final.loss_text else max(scores, key=lambda s: (len(s.bpb_text), s.line))
    for score in scores:
        if score is final or not any(_accepted(record, score, count) for count in _counts(log.val_tokens.value)):
            _judge_bytes(record, log, score, decides=score is final)


def _counts(tokens: float) -> tuple[float, float]:
    """Targets that a pass may have scored: all, or (document by document) all but each document's first token."""
    return tokens, tokens - DOCUMENTS


def _accepted(record: Record, score: Score, tokens: float) -> bool:
    bounds = implied_bytes(score, tokens)
    if bounds is None:
        return True
    slack = LONGEST_WINDOW * bounds[1] / tokens if tokens else 0
    return bounds[0] <= record.readings.byte_high and bounds[1] >= record.readings.byte_low - slack


def _judge_bytes(record: Record, log: RunLog, score: Score, *, decides: bool) -> None:
    """``decides``: the log's last pass; another pass with other bytes is a WARN."""
    rule, out = "A7-BYTES", record.out
    tokens = log.val_tokens.value if log.val_tokens else 0
    bounds = implied_bytes(score, tokens)
    if bounds is None:
        return
    low, high = bounds
    middle, least = round((low + high) / 2), record.readings.byte_low
    text = f"{middle:,} bytes (+-{(high - low) / 2:,.0f})"
    found = f"loss {score.loss_text}, bpb {score.bpb_text}, {tokens:,.0f} tokens"
    if _accepted(record, score, tokens):
        out.passed(rule, f"the score implies {text}.", file=log.file, line=score.line, found=text)
        return
    if _accepted(record, score, _counts(tokens)[1]):
        out.warn(
            "C4-COVERAGE",
            f"{score.label} fits the text when the first token of each of {DOCUMENTS:,} documents is left out: these "
            "have no bytes, but a loss.",
            file=log.file,
            line=score.line,
            found=found,
            computed=f"{_counts(tokens)[1]:,.0f} tokens",
            remedy="Score every token, the start of each document too.",
            confidence="likely",
        )
        return
    verdict, remedy = Verdict.FAIL, "Count the UTF-8 bytes of the raw documents; compare the table with decoded text."
    if abs(middle - LEGACY_BYTES) <= (high - low) / 2 + 60_000:
        verdict, cause, remedy = Verdict.WARN, "the validation split before it was cut (#837)", ""
    elif middle < least:
        rule, remedy = "C4-COVERAGE", "Score the whole split."
        cause = "fewer bytes than the text has: part of the split, or another text"
        verdict = Verdict.FAIL if middle < 0.99 * least else Verdict.WARN
    else:
        why = next(
            (why for known, why in KNOWN_BAD.items() if abs(middle - known) < 300_000), "bytes counted too often"
        )
        cause = f"{middle / 151_078_000 - 1:+.2%} against the raw text: {why}"
    message = f"{score.label} implies {text}: {cause}."
    out.add(
        verdict if decides else Verdict.WARN,
        rule,
        message,
        file=log.file,
        line=score.line,
        found=found,
        computed=text,
        remedy=remedy,
    )


def _coverage(record: Record, log: RunLog) -> None:
    rule, out = "C4-COVERAGE", record.out
    if log.val_tokens is None:
        out.unknown(rule, "the log states no validation token count.", file=log.file)
        return
    tokens, line = int(log.val_tokens.value), log.val_tokens.line
    name = next((n for n, full in WINDOWS.items() if full - LONGEST_WINDOW <= tokens <= full + LONGEST_WINDOW), None)
    for count in log.scored:
        shares = [count.value * ranks for ranks in {1, log.world or 8}]
        if all(tokens - share > 8 * LONGEST_WINDOW for share in shares):
            out.fail(
                rule,
                f"{count.label} is less than the split.",
                file=log.file,
                line=count.line,
                found=f"{count.value:,.0f} tokens",
                computed=f"val_tokens {tokens:,}",
                remedy="Score every token.",
            )
    if log.documents and log.documents.value not in (DOCUMENTS, DOCUMENTS // 8) and log.documents.value < DOCUMENTS:
        out.fail(
            rule,
            "not all validation documents were evaluated.",
            file=log.file,
            line=log.documents.line,
            found=f"{log.documents.value:,.0f} documents",
            computed=f"{DOCUMENTS:,}",
        )
    for key in ("val_doc_fraction", "val_fraction", "eval_fraction"):
        value, at = log.settings.get(key, ("", 0))
        if re.fullmatch(r"0?\.\d+", value) and float(value) < 1:
            out.fail(rule, f"{key} cuts the split.", file=log.file, line=at, found=value, computed="1.0")
    for key, (value, at) in log.settings.items():
        if SUBSET.search(key) and value.isdigit() and 0 < int(value[:18]) < 0.99 * tokens:
            out.fail(
                rule,
                f"{key} scores a part of the split.",
                file=log.file,
                line=at,
                found=f"{int(value[:18]):,} tokens",
                computed=f"val_tokens {tokens:,}",
                remedy="Score every token.",
            )
    if name:
        out.passed(rule, f"the token count is that of {name}.", file=log.file, line=line, found=f"{tokens:,} tokens")
    elif not out.failed(rule):
        out.warn(
            "A7-TOKENIZER",
            "a token count of no known tokenizer: its bpb needs proof.",
            file=log.file,
            line=line,
            found=f"{tokens:,} tokens",
            computed=f"known: {', '.join(f'{n} {c:,}' for n, c in list(WINDOWS.items())[:6])}",
            remedy="Show an exact byte check over all documents, or a byte sidecar.",
        )


def _shards(record: Record, log: RunLog) -> None:
    rule, out = "A4-DISJOINT", record.out
    caseops = any("caseops" in value for value, _ in log.settings.values())
    if log.train_shards is not None and log.train_shards.value > 1_000:
        report = out.fail if caseops else out.warn
        report(
            rule,
            "the shard count of the local preparation that trains on validation documents 10,000 to 49,999 (#2127).",
            file=log.file,
            line=log.train_shards.line,
            found=f"train_shards {log.train_shards.value:,.0f}",
            computed="80 published CaseOps shards",
            remedy="Use the published shards, or prepare with all 50,000 validation documents held out.",
        )
    elif log.train_shards is not None and log.train_shards.value <= 1 and record.official:
        out.warn(
            "A4-TRAIN-NO-VAL",
            "the run saw one training shard, as many as the validation split has; it may be that one (#44).",
            file=log.file,
            line=log.train_shards.line,
            found=f"train_shards {log.train_shards.value:,.0f}",
            computed="80 published training shards",
            remedy="Train on the train shards, and let the log name the files.",
            confidence="hint",
        )
    elif log.train_shards is not None:
        out.unknown(rule, "shard counts show nothing wrong; only the data could prove that the sets are disjoint.")
    files, line = log.settings.get("train_files", ("", 0))
    if re.search(r"(?:^|[/_])val(?:id)?[_*]", files.rsplit("/", 1)[-1]):
        out.fail("A4-TRAIN-NO-VAL", "the train files are validation shards.", file=log.file, line=line, found=files)
    elif files and "train" not in files.rsplit("/", 1)[-1]:
        out.warn(
            "A4-TRAIN-NO-VAL",
            "the pattern of train files also fits validation shards.",
            file=log.file,
            line=line,
            found=files,
        )


def _gain(record: Record, log: RunLog) -> None:
    """How much the last pass gains on the trained model: windows and legal adaptation have given at most 0.05."""
    final = log.final
    if final is None or not log.curve:
        return
    base = log.curve[-1]
    gain = base.bpb - final.bpb
    if gain > LARGEST_GAIN:
        record.out.warn(
            "S6-PLAUSIBLE",
            f"evaluation lowers the score by {gain:.4f} bpb; sliding windows and adaptation on scored tokens have "
            "given at most 0.05. Scores taken after training on the same tokens, or probabilities that don't sum "
            "to one, would look like this.",
            file=log.file,
            line=final.line,
            found=f"{final.label} {final.bpb:g}",
            computed=f"after training {base.bpb:g} (line {base.line})",
            remedy="Show that each token is scored once, before it is trained on, from a normalised distribution.",
            confidence="likely",
        )


def _single_pass(record: Record, log: RunLog) -> None:
    """A pass that was scored again: the first score is the one that counts, whatever was reported."""
    decides = {base_label(label) for label in (claimed_pass(record), log.final.label if log.final else "") if label}
    for base, scorings in log.rescored.items():
        first, last = scorings.first, scorings.last
        chosen = base in decides and last.bpb < first.bpb
        report = record.out.fail if chosen else record.out.warn
        report(
            "C4-SINGLE-PASS",
            f"the pass {base} was scored {scorings.number} times with different results"
            + (", and the later, better score is the reported one." if chosen else "."),
            file=log.file,
            line=last.line,
            found=f"last {last.bpb:g}",
            computed=f"first {first.bpb:g} (line {first.line})",
            remedy="Score every token once, and report that score.",
        )


def _plausible(record: Record) -> None:
    rule, out, floor = "S6-PLAUSIBLE", record.out, record.readings.floor_bpb
    low = [
        (log.file, log.final.line, log.final.bpb) for log in record.scored_logs if log.final and log.final.bpb < floor
    ]
    claimed = record.metadata.number("val_bpb") if record.metadata else None
    if record.metadata and claimed is not None and claimed < floor:
        low.append((record.json_file, record.metadata.line("val_bpb"), claimed))
    for file, line, value in low:
        out.fail(
            rule,
            "a score no known method reaches: held until it is proved.",
            file=file,
            line=line,
            found=f"{value:g} bpb",
            computed=f"floor {floor:g} bpb",
            remedy="Show that every probability is normalised and that every byte is counted once.",
        )
    if not low and (claimed is not None or record.scored_logs):
        out.passed(rule, f"no score is under {floor:g} bpb.")
