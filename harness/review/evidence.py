"""What logs and words tell of the score: bytes, coverage, data, method, plausibility (A4, A6, A7, C1 to C4, S6)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.review.logs import Pass, Run
from harness.review.published import (
    CERTAIN,
    DOCUMENTS,
    LONGEST_WINDOW,
    SUBSET_TOKENS,
    VARIANTS,
    Implied,
    implied_bytes,
    judge_bytes,
    judge_tokens,
    variant_named,
    variant_of,
)
from harness.review.record import Record
from harness.rules import Verdict

LARGEST_GAIN = 0.06
"""bpb between the end of training and the last pass; above it, the way of scoring has to be explained."""
_SUBSET = re.compile(r"subset_?tokens$|(?:eval|val|score)_?max_?tokens$|max_(?:eval|val|scored)_tokens$")
_MIXED = re.compile(r"ppm|n-?gram|mix|cache|blend|bayes", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:no|not|non|never|without|nor|isn't|doesn't|instead|unlike|avoid\w*|replac\w+|remov\w+|exclud\w+|illegal|banned|"
    r"disabled|vs|versus|ruled out|free of|drop\w*)\b[^.;|]{0,25}$",
    re.IGNORECASE,
)
_SPOKEN = tuple(
    (re.compile(pattern), rule, message)
    for rule, message, pattern in (
        ("C4-COVERAGE", "a part of the tokens is scored by the claimed method", r"SUBSET_TOKENS\W{1,3}[1-9]\d{4,}"),
        ("A4-TRAIN-NO-VAL", "training on validation data", r"(?i)\bval[- ]only\b|\btrain(?:ed|ing|s)? (?:\w+ )?on "
         r"(?:the )?val(?:idation)?(?: shards?| set| data| split| tokens)"),
        ("A4-PAID-PREFIX", "validation text stored in the artifact",
         r"(?i)\bpaid[- _]?prefix|\bval(?:idation)? (?:token )?prefix (?:blob|covering)"),
        ("A6-PREQUANT-TTT", "adaptation on validation tokens before quantisation",
         r"(?i)\bpre[- ]?quant(?:i[sz]ation)?\b[\w ()+-]{0,20}\bTTT\b"),
        ("C3-SCORE-BEFORE-UPDATE", "scores taken in the last of several epochs over the same tokens",
         r"(?i)(?:last|final)[- ]epoch[- ](?:only )?scor|only records? scores? on the (?:final|last) epoch"),
        ("C3-SCORE-BEFORE-UPDATE", "SLOT, which optimises on scored positions", r"\bSLOT\b"),
        ("C2-NORMALISED", "an n-gram cache, whose blend has to sum to one over the vocabulary",
         r"(?i)n-?gram\W?\w{0,14}\W?(?:cache|mix|back-?off)|back-?off\W?n-?gram|\beval(?:-time)? cache"),
        ("C2-NORMALISED", "a byte model (PPM), not normalised over tokens", r"\bPPM\b|\bPPM-?D\b"),
        ("A7-TOKENIZER", "text changed before it is tokenised, which can't be undone (#1578)",
         r"(?i)\bcase-?fold|\blower-?cased? (?:tokeni[sz]er|text|vocab)"),
        ("C4-SINGLE-PASS", "a second pass or rescoring", r"(?i)\btwo[- ]pass\b|\brescor"),
    )
)  # fmt: skip
_ANYWHERE = ("scores taken", "a part of")
"""Beginnings of messages of plain statements, which count in a README's body too."""
_FIELDS = re.compile(r"name|blurb|descri|techni|summary|criterion|method|changes", re.IGNORECASE)
_SELECTED = re.compile(
    r"\bbest (\d+|two|three|five) (?:seeds )?(?:out )?of \w+\b|\b(\d+)-best\b|lowest[- ]val_bpb|seeds with lowest"
    r"|\bbest \w+ (?:across|of|over|among) (?:\d+|two|three|four|five) (?:seeds|runs)\b"
    r"|(?:submitted|reported)(?: run| seed)?\W{1,4}seed \d+ \(best\)",
    re.IGNORECASE,
)
_LOG_MARKS = (
    (r"two[-_ ]pass|rescor", "C4-SINGLE-PASS", "the log speaks of a second pass or rescoring"),
    (r"\bppm", "C2-NORMALISED", "a byte model is mixed in; such mixtures were not normalised over tokens (#1872)"),
    (r"n-?gram[-_ ]?(?:cache|mix)", "C2-NORMALISED", "an n-gram cache is mixed in"),
    (r"\bslot\b", "C3-SCORE-BEFORE-UPDATE", "SLOT optimises on the scored positions"),
    (r"oracle", "C2-TARGET-GATE", "the log speaks of an oracle"),
    (r"(?:within|word)_(?:gate|beta)[:= ]+(?=[\d.]*[1-9])", "C2-TARGET-GATE",
     "the within-word or word expert of the n-gram tilt is on; it was gated by the realised token (#1420)"),
    (r"force_stop_step", "A1-CLOCK-PATCHED", "a fixed last step ignores the clock (#1908)"),
    (r"temp_search|best_temp|final_temped|ttt[ _]temp(?:erature)?[:=]\s*(?!1(?:\.0+)?\s*$)\d", "C4-SINGLE-PASS",
     "scores are taken at a temperature; it must be fixed before the first of these tokens is scored (#991)"),
    (r"\b16777216\b", "A3-ARTIFACT-BYTES",
     "the script checks its size against 16 MiB; the cap is 16,000,000 bytes (#705)"),
)  # fmt: skip
_OFF = re.compile(
    r"\w*\s*(?:[:=]\s*$|(?:[:=]\s*|\s(?:(?:is|was)\s)?)(?:(?:enabled|epochs|steps|mode)\s*[:=]\s*)?"
    r"(?:false|0(?:\.0+)?(?: bytes)?|off|none|disabled|skip(?:ped|ping)?)(?=[\s,;)]|$))",
    re.IGNORECASE,
)
"""What stands behind a mark that is switched off: the rest of its key, and the value of that key alone."""
_NOT_BEFORE = re.compile(
    r"(?:^|[^a-z])(?:no|not|without|skip(?:ped|ping)?|disabled)[-_ ]{1,3}(?:(?:any|the|a) )?$", re.IGNORECASE
)
_SWITCH = re.compile(r"(?:enabled|epochs|_mode|_gate|_beta|_step|_temperature)$|^use_|^(?:slot|ppm|prequant_ttt)$")


def check(record: Record) -> None:
    """The claimed runs' figures, then what logs and texts say of the method."""
    for run in record.bound.runs:
        _bytes(record, run)
        _coverage(record, run)
        _gain(record, run)
        _rescored(record, run)
    for run in {id(r): r for r in [*record.bound.training, *record.bound.runs]}.values():
        _marks(record, run)
        _data(record, run)
    _plausible(record)
    _words(record)


def implied(run: Run, item: Pass) -> Implied | None:
    """Bytes that a pass implies; ``None`` without loss or token count."""
    if item.loss is None or run.val_tokens is None:
        return None
    try:
        return implied_bytes(item.loss, item.bpb, run.val_tokens.value)
    except ValueError:
        return None


def _bytes(record: Record, run: Run) -> None:
    """Bytes of the claimed pass. A FAIL needs a second pass or the training curve to divide by as many."""
    out, name, readings = record.out, record.bound.name, record.readings
    item = run.by_name.get(name) or run.final
    if item is None or item.loss is None:
        out.unknown("A7-BYTES", "bytes can't be derived: no loss beside the bpb.", run.file)
        return
    if run.val_tokens is None:
        _ratio(record, run, item)
        return
    total, tokens = implied(run, item), run.val_tokens.value
    if total is None:
        return
    low = readings.byte_low - round(LONGEST_WINDOW * total.value / tokens)
    finding = judge_bytes(total, tokens, readings.byte_low, readings.byte_high)
    if finding.verdict is Verdict.WARN and finding.found == "tail":
        finding = judge_bytes(total, tokens, low, readings.byte_high)
    found = f"loss {item.loss.text}, bpb {item.bpb.text}, {tokens:,.0f} tokens"
    at, text = run.place(item), f"{total.value:,.0f} bytes"
    if finding.verdict in (Verdict.PASS, Verdict.UNKNOWN):
        out.add(finding.verdict, "A7-BYTES", f"{item.name}: {finding.message}", at, text)
        return
    fewer = implied_bytes(item.loss, item.bpb, tokens - DOCUMENTS) if tokens > DOCUMENTS else total
    if judge_bytes(fewer, tokens, low, readings.byte_high).verdict is Verdict.PASS:
        message = (
            f"{item.name} fits the text when the first token of each of {DOCUMENTS:,} documents is left out: "
            "these have no bytes, but a loss."
        )
        remedy = "Score every token, the start of each document too."
        out.warn("C4-COVERAGE", message, at, found, f"{tokens - DOCUMENTS:,.0f} tokens", remedy, "likely")
        return
    others = [b for other in [*run.passes, *run.curve[-3:]] if other is not item and (b := implied(run, other))]
    agree = [b for b in others if abs(b.value - total.value) <= b.slack + total.slack + CERTAIN / 2 * total.value]
    sound = [b for b in others if judge_bytes(b, tokens, low, readings.byte_high).verdict is Verdict.PASS]
    remedy = "Count the UTF-8 bytes of the raw documents; compare the table with decoded text."
    if sound:
        message = f"{item.name}: loss and bpb imply other bytes than the run's other passes: a mixture, or two counts."
        share = f"{100 * (total.value / sound[-1].value - 1):+.2f} % against {sound[-1].value:,.0f} bytes"
        out.warn("A7-BYTES", message, at, found, f"{text}, {share}", remedy, "likely")
        return
    unknown = variant_of(tokens) is None and finding.found == "unknown"
    odd = tokens < SUBSET_TOKENS or unknown or _MIXED.search(item.name)
    certain = finding.verdict is Verdict.FAIL and bool(agree) and record.bound.certain and not odd
    verdict = Verdict.FAIL if certain else Verdict.WARN
    out.add(verdict, finding.rule, f"{item.name}: {finding.message}", at, found, text, remedy)


def _ratio(record: Record, run: Run, item: Pass) -> None:
    """Without a token count the tokenizer's name tells the ratio of bpb to nats a token."""
    words = " ".join(value for key, (value, _) in run.settings.items() if re.search(r"token|data|vocab|run_id", key))
    known = variant_named(f"{words} {record.folder.name}")
    if known is None or item.loss is None or not item.loss.value > 0:
        record.out.unknown("A7-BYTES", "bytes can't be derived: no token count stands in the log.", run.file)
        return
    ratio, want = item.bpb.value / item.loss.value, known.val_tokens / known.bytes / 0.6931471805599453
    slack = item.bpb.half / item.bpb.value + item.loss.half / item.loss.value + 3e-3 if item.bpb.value > 0 else 1.0
    figures = f"bpb / nats = {ratio:.6f}", f"{want:.6f} for {known.name}"
    if abs(ratio / want - 1) <= slack:
        record.out.passed("A7-BYTES", f"bpb to nats is as with {known.name}.", run.place(item), figures[0])
    else:
        message = f"{item.name}: bpb and nats a token are in another ratio than with {known.name}, which is named."
        record.out.warn("A7-BYTES", message, run.place(item), *figures, confidence="likely")


def _coverage(record: Record, run: Run) -> None:
    rule, out, certain = "C4-COVERAGE", record.out, record.bound.certain
    strict = out.fail if certain else out.warn
    if run.val_tokens is None:
        out.unknown(rule, "the log states no validation token count.", run.file)
        return
    tokens, at = int(run.val_tokens.value), run.place(run.val_tokens)
    shown = f"{tokens:,} tokens"
    for count in run.scored:
        shares = [count.value * ranks for ranks in {1, run.world or 8}]
        if all(tokens - share > 8 * LONGEST_WINDOW for share in shares):
            out.warn(
                rule, f"{count.label} is less than the split.", run.place(count), f"{count.value:,.0f} tokens", shown
            )
    documents = run.documents
    if documents and documents.value not in (DOCUMENTS, DOCUMENTS // 8) and documents.value < DOCUMENTS:
        message = "not all validation documents were evaluated."
        values = (f"{documents.value:,.0f} documents", f"{DOCUMENTS:,}")
        evaluated = tokens < SUBSET_TOKENS or "ttt" in record.bound.name
        (strict if evaluated else out.warn)(rule, message, run.place(documents), *values)
    for key, (value, line) in run.settings.items():
        part = key in ("val_doc_fraction", "val_fraction", "eval_fraction") and re.fullmatch(r"0?\.\d+", value)
        few = _SUBSET.search(key) and value.isdigit() and 0 < int(value[:18]) < 0.99 * tokens
        if part or few:
            message = f"{key} scores a part of the split."
            used = not _MIXED.search(key) or _MIXED.search(record.bound.name)
            (strict if used and part else out.warn)(rule, message, (run.file, line), value, shown, "Score every token.")
    finding = judge_tokens(tokens)
    if finding.verdict is Verdict.FAIL:
        strict(rule, finding.message, at, shown, "151.08 million bytes in the split", "Score every token.")
    elif variant_of(tokens) or finding.found == "legacy":
        verdict = Verdict.PASS if variant_of(tokens) else Verdict.UNKNOWN  # A7-BYTES warns of the older set
        out.add(verdict, rule, finding.message, at, shown)
    elif not out.has(rule):
        known = ", ".join(f"{v.name} {v.val_tokens:,}" for v in VARIANTS)
        message = "a token count of no known tokenizer: its bpb needs proof."
        remedy = "Show an exact byte check over all documents, or a byte sidecar."
        out.warn("A7-TOKENIZER", message, at, shown, f"known: {known}", remedy)


def _data(record: Record, run: Run) -> None:
    """Which shards the run says that it read. A count alone proves no overlap of train and validation."""
    out, shards = record.out, run.train_shards
    if shards is not None and shards.value <= 1 and record.official:
        message = "the run saw one training shard, as many as the validation split has; it may be that one (#44)."
        values = (f"train_shards {shards.value:,.0f}", "80 published shards", "Let the log name the files.", "hint")
        out.warn("A4-TRAIN-NO-VAL", message, run.place(shards), *values)
    elif shards is not None:
        message = "shard counts show nothing wrong; only the data could prove that the sets are disjoint."
        out.unknown("A4-DISJOINT", message, run.file)
    files, line = run.settings.get("train_files", ("", 0))
    last = files.rsplit("/", 1)[-1]
    if re.search(r"(?:^|[/_])val(?:id)?[_*]", last):
        out.fail("A4-TRAIN-NO-VAL", "the train files are validation shards.", (run.file, line), files)
    elif files and "*" in last and "train" not in last:
        out.warn("A4-TRAIN-NO-VAL", "the pattern of train files also fits validation shards.", (run.file, line), files)
    if re.search(r"(\bdatasets/)\1", " ".join(value for value, _ in run.settings.values())):
        message = "a doubled datasets/datasets path, as in preparations that held out too few documents (#2127)."
        out.warn("A4-DISJOINT", message, run.file, confidence="hint")


def _gain(record: Record, run: Run) -> None:
    """How much the last pass gains on the trained model: windows and legal adaptation have given at most 0.05."""
    final = run.by_name.get(record.bound.name) or run.final
    if final is None or not run.curve or record.out.has("S6-PLAUSIBLE"):
        return
    base = run.curve[-1]
    whole = run.last_step is None or int(base.name.split()[1]) >= 0.9 * run.last_step
    if whole and base.bpb.value - final.bpb.value > LARGEST_GAIN:
        message = (
            f"evaluation lowers the score by {base.bpb.value - final.bpb.value:.4f} bpb; windows and adaptation on "
            "scored tokens have given at most 0.05. Scores taken after training on the same tokens, or probabilities "
            "that don't sum to one, would look like this."
        )
        found, trained = f"{final.name} {final.bpb.text}", f"after training {base.bpb.text} (line {base.line})"
        remedy = "Show that each token is scored once, before it is trained on, from a normalised distribution."
        record.out.warn("S6-PLAUSIBLE", message, run.place(final), found, trained, remedy, "likely")


def _rescored(record: Record, run: Run) -> None:
    """A pass that was scored again in one run: the first score is the one that counts, whatever was reported."""
    for name, (first, last) in run.rescored.items():
        better = last.bpb.value < first.bpb.value and record.bound.name.startswith(name)
        message = f"the pass {name} was scored more than once with different results"
        message += ", and the later, better score is the claimed one." if better else "."
        values = (f"last {last.bpb.text}", f"first {first.bpb.text} (line {first.line})")
        remedy = "Score every token once, and report that score."
        record.out.warn("C4-SINGLE-PASS", message, run.place(last), *values, remedy)


def _plausible(record: Record) -> None:
    rule, out, floor, claimed = "S6-PLAUSIBLE", record.out, record.readings.floor_bpb, record.claimed
    low = [
        (run.place(item), item.bpb.text) for run in record.bound.runs if (item := run.by_name.get(record.bound.name))
    ]
    low = [(at, text) for at, text in low if 0 < float(text) < floor]
    if claimed is not None and claimed.value < floor and record.metadata is not None:
        low.insert(0, ((record.json_file, record.metadata.line("val_bpb")), claimed.text))
    if claimed is not None and claimed.value < floor:
        message = "a score no known method reaches: held until it is proved."
        remedy = "Show that every probability is normalised and that every byte is counted once."
        for at, text in low:
            out.fail(rule, message, at, f"{text} bpb", f"floor {floor:g} bpb", remedy)
    elif not low and (claimed is not None or record.bound.runs):
        out.passed(rule, f"no score is under {floor:g} bpb.")


def _is_on(pattern: str, text: str) -> bool:
    """Whether the line names the method and neither denies it nor gives it a value that switches it off."""
    return any(
        not _OFF.match(text, hit.end()) and not _NOT_BEFORE.search(text[: hit.start()])
        for hit in re.finditer(pattern, text, re.IGNORECASE)
    )


def _marks(record: Record, run: Run) -> None:
    """Switches and lines that name a method; adaptation before the model is packed."""
    out = record.out
    lines = [(mark.label, mark.line) for mark in run.marks]
    switches = [(f"{key}: {value}", line) for key, (value, line) in run.settings.items() if _SWITCH.search(key)]
    off = {
        text.split(":")[0].removesuffix("_enabled") for text, _ in switches if re.search(r"enabled: (?:False|0)$", text)
    }
    for pattern, rule, message in _LOG_MARKS:
        hits = sorted((line, text) for text, line in lines + switches if _is_on(pattern, text))
        hits = [(line, text) for line, text in hits if not any(text.startswith(name) for name in off)]
        if hits:
            out.warn(rule, f"{message}.", (run.file, hits[0][0]), hits[0][1], confidence="likely")
    prequant = [item for item in lines if _is_on(r"pre[-_ ]?quant[-_ ]?ttt", item[0])]
    ran = [item for item in prequant if re.search(r"start|epoch|done|enabled|lr|chunk|step|loss", item[0], re.I)]
    asked = [item for item in switches if re.fullmatch(r"prequant_ttt(?:_enabled)?: (?:True|1)", item[0])]
    hit = next(iter(asked + ran + prequant), None)
    if hit and "prequant_ttt" not in off:
        on_train = re.search(r"train[-_ ]?(?:data|tokens|shard)", hit[0], re.IGNORECASE)
        report = out.fail if (asked or ran) and not on_train else out.warn
        message = "adaptation on validation tokens before quantisation."
        remedy = "Adapt only on tokens that are scored already, after packing."
        report("A6-PREQUANT-TTT", message, (run.file, hit[1]), hit[0], "", remedy, "likely")
    packed = next((model.line for model in run.models if model.label), None)
    begun = run.stop.line if run.stop else 0
    early = [item for item in run.adaptations if packed and begun < item.line < packed]
    if early and not out.has("A6-PREQUANT-TTT"):
        message = "test-time training runs before the model is packed: what it learnt travels in the artifact."
        values = (early[0].label, f"the model is packed in line {packed}", "Adapt after packing.", "likely")
        out.warn("A6-PREQUANT-TTT", message, run.place(early[0]), *values)
    prefix = [(text, line) for text, line in lines if _is_on(r"paid[_ ]prefix(?:[_ ]blob)?", text)]
    if prefix:
        sized = re.search(r"[1-9][\d,]* bytes", prefix[0][0])
        report = out.fail if sized else out.warn
        report("A4-PAID-PREFIX", "validation text is stored in the artifact.", (run.file, prefix[0][1]), prefix[0][0])


def _texts(record: Record) -> Iterator[tuple[str, int, str, str]]:
    """File, line, text, and what it is: "title" (a name or first heading), "field" of the JSON, or "" (a line)."""
    if record.metadata is not None:
        for key, value in record.metadata.raw.items():
            if _FIELDS.search(key):
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str):
                        kind = "title" if key in ("name", "title", "run_name") else "field"
                        yield record.json_file, record.metadata.lines.get(key, 0), text[:4_000], kind
    if record.readme is not None:
        first = min(record.readme.headings, default=0)
        for number, text in record.readme.text.items():
            yield record.readme_file, number, text, "title" if number == first else ""


def _words(record: Record) -> None:
    """Methods that the texts name; at most one hit a method. A README's body compares with other records."""
    seen: set[str] = set()
    for file, line, text, own in _texts(record):
        for pattern, rule, message in _SPOKEN:
            hit = pattern.search(text) if message not in seen and (own or message.startswith(_ANYWHERE)) else None
            if hit and not _DENIED.search(text[: hit.start()]):
                seen.add(message)
                found, remedy = text[max(0, hit.start() - 60) :].strip()[:160], "Say why it is within the rules."
                at = (file, line)
                banned = rule in ("A4-TRAIN-NO-VAL", "A4-PAID-PREFIX", "A6-PREQUANT-TTT") and own == "title"
                report = record.out.fail if banned and record.claimed is not None else record.out.warn
                report(rule, f"the folder's own words: {message}.", at, found, "", remedy, "likely")
        if file not in seen and _SELECTED.search(text):
            seen.add(file)
            message = "the text says that runs were chosen by their score."
            record.out.warn("A8-SEEDS", message, (file, line), text.strip()[:160], "", "Report all runs.", "likely")
