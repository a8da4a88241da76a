"""What logs and words tell of the score: bytes, coverage, data, method, plausibility (A4, A6, A7, C2 to C4, S6)."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from operator import itemgetter

from harness.fineweb import VARIANTS
from harness.review.logs import Pass, Run, alike
from harness.review.number import Number, Range, read_numbers
from harness.review.patterns import PATTERNS, WORDS, Method
from harness.review.published import CERTAIN, SUBSET_TOKENS, TAIL, implied_bytes, judge_bytes, judge_tokens, variant_of
from harness.review.record import LARGEST_SCORE, Record, each
from harness.rules import Verdict

_UNTRAINED = {"sp1024": math.log(1024), "sp8192": math.log(8192)}
"""Nats a token of a model that knows nothing: they tell the vocabulary."""
_COUNT_BYTES = "Count the UTF-8 bytes of the raw documents; compare the table with decoded text."
_OF_RECORDS = ("A1-HARDWARE", "A2-EVAL-CLOCK", "A8-MARGIN")
_GAINED = """windows and adaptation on scored tokens have given at most 0.05. Scores taken after training on the same \
tokens, or probabilities that don't sum to one, would look like this."""
_PROVE = "Show that each token is scored once, before it is trained on, by a normalised probability and all its bytes."
LARGEST_GAIN = 0.06
"""bpb between the end of training and the last pass; above it, the way of scoring has to be explained."""
ONE_RATIO = 2e-5
"""Share by which loss over bpb may differ between seeds beyond rounding: sums in single precision do."""


def implied(run: Run, item: Pass) -> Range | None:
    """Bytes that a pass implies; ``None`` without loss or token count."""
    tokens = run.one("val_tokens")
    try:
        return implied_bytes(item.loss, item.bpb, tokens.value) if item.loss and tokens else None
    except ValueError:
        return None


@each("runs")
def byte_count(record: Record, run: Run) -> None:
    """Bytes of the claimed pass. A FAIL needs a second pass or the training curve to divide by as many."""
    out, name, readings, stated = record.out, record.bound.name, record.readings, run.one("val_tokens")
    item = run.by_name.get(name) or run.final
    total = implied(run, item) if item else None
    for count in run["scored_bytes"] if item else ():
        low, high = readings.byte_low - TAIL, readings.byte_high
        if item and count.label.lstrip().startswith(item.name) and not low <= count.value <= high:
            message = f"{item.name}: its line counts other bytes than the text has"
            message += ": the number of its tokens." if stated and count.value == stated.value else "."
            text = "151.08 million bytes in the split"
            out.warn("A7-BYTES", message, run.place(count), f"{count.value:,.0f} bytes", text, _COUNT_BYTES, "likely")
    if item is None or item.loss is None or stated is None or total is None:
        out.unknown("A7-BYTES", "bytes can't be derived: they take a loss, a bpb and a token count.", run.file)
        return
    tokens = stated.value
    finding = judge_bytes(total, tokens, readings.byte_low, readings.byte_high)
    found = f"loss {item.loss.text}, bpb {item.bpb.text}, {tokens:,.0f} tokens"
    at, text = run.place(item), f"{total.value:,.0f} bytes"
    if tokens < SUBSET_TOKENS:
        return  # a part of the text, as C4-COVERAGE says
    if finding.verdict in (Verdict.PASS, Verdict.UNKNOWN):
        out.add(finding.verdict, "A7-BYTES", f"{item.name}: {finding.message}", at, text)
        return
    others = [b for other in [*run.passes, *run.curve[-3:]] if other is not item and (b := implied(run, other))]
    agree = [b for b in others if abs(b.value - total.value) <= b.slack + total.slack + CERTAIN / 2 * total.value]
    sound = [b for b in others if judge_bytes(b, tokens, readings.byte_low, readings.byte_high).verdict is Verdict.PASS]
    if sound:
        message = f"{item.name}: loss and bpb imply other bytes than the run's other passes: a mixture, or two counts."
        share = f"{100 * (total.value / sound[-1].value - 1):+.2f} % against {sound[-1].value:,.0f} bytes"
        out.warn("A7-BYTES", message, at, found, f"{text}, {share}", _COUNT_BYTES, "likely")
        return
    odd = (variant_of(tokens) is None and finding.found == "unknown") or WORDS["mixed"].search(item.name)
    certain = finding.verdict is Verdict.FAIL and bool(agree) and record.bound.certain and not odd
    out.add(certain, finding.rule, f"{item.name}: {finding.message}", at, found, text, _COUNT_BYTES)


def scored_alike(record: Record) -> None:
    """The claimed passes of the seeds: scored in one way, and with one count of bytes."""
    bound, meta, remedy = record.bound, record.metadata, "Score every seed in one way, with one script on one text."
    pairs = [(run, item) for run in bound.runs if (item := run.by_name.get(bound.name) or run.final)]
    for run, item in pairs[1:]:
        first, own = dict(pairs[0][1].how), dict(item.how)
        for key in (key for key in own if not alike(own[key], first.get(key, own[key]))):
            values = f"{key} = {own[key]}", f"{first[key]} in {pairs[0][0].file}:{pairs[0][1].line}"
            message = f"{key} of the pass {item.name} differs between the claimed runs."
            record.out.warn("A8-SAME-CONFIG", message, run.place(item), *values, remedy)
    told = [(item.loss, item.bpb, run.place(item)) for run, item in pairs]
    stated = meta.number("val_loss"), record.claimed  # which may be cut, or filled up with zeros
    loss, bpb = (n and replace(n, half=0.1 ** len(n.text.rstrip("0").partition(".")[2])) for n in stated)
    if bpb and not meta.loss_is_bpb:
        told.append((loss, bpb, (record.json_file, meta.line("val_loss"))))
    ratios = [(loss.value / bpb.value, loss, bpb, at) for loss, bpb, at in told if loss and bpb and bpb.low > 0]
    ratios = sorted((ratio for ratio in ratios if 0 < ratio[0] < math.inf), key=itemgetter(0))
    for (_, less, many, other), (_, more, few, at) in zip(ratios[:1], ratios[-1:], strict=True):
        if more.low / few.high > (1 + ONE_RATIO) * less.high / many.low:
            message = "loss over bpb is not one ratio, beyond rounding: not one count of bytes, pass or model."
            values = f"loss {more.text}, bpb {few.text}", f"loss {less.text}, bpb {many.text} in {other[0]}"
            record.out.warn("A7-BYTES", message, at, *values, remedy)


def by_name(record: Record) -> None:
    """Loss over bpb by the tokenizer's name, where no token count stands: that of each log, else the JSON's."""
    meta, claimed, out = record.metadata, record.claimed, record.out
    texts = [record.texts.get(run.file, "") for run in record.bound.runs] or record.told
    names = {name for text in texts for name in WORDS["shards"].findall(text)}
    if not names and not any(WORDS["other_count"].search(text) for text in [*texts, *record.told]):
        first = {float(hit[1]) for text in texts if (hit := WORDS["first_loss"].search(text))}
        names = {name for name, loss in _UNTRAINED.items() if first and all(abs(x - loss) < 0.06 for x in first)}
    finals = [(run, item) for run in record.bound.runs if (item := run.final) and not run.one("val_tokens")]
    pairs = list[tuple[Number | None, Number, tuple[str, int]]]()
    for run, item in finals:  # Without a loss the last one on training text, give or take a tenth, unless it adapts.
        adapts = WORDS["mixed"].search(item.name) or PATTERNS.stages["ttt"].search(item.name)
        last = [] if item.loss or adapts else WORDS["last_loss"].findall(record.texts.get(run.file, ""))[-1:]
        losses = [item.loss, *(Number(text, float(text), half=0.1 * float(text)) for text in last)]
        pairs.append((losses[-1], item.bpb, run.place(item)))
    if claimed and not record.runs and not record.absent_logs:
        names = names or {f"sp{size}" for size in WORDS["vocabulary"].findall(meta.text("name"))}
        pairs = [(meta.number("val_loss"), claimed, (record.json_file, meta.line("val_loss")))]
    for loss, bpb, at in pairs:
        if loss is None and not WORDS["text_told"].search(record.texts.get(at[0], "fineweb")):
            message = "nothing in the log tells what text the score is of: no loss, token count or name."
            out.warn("A7-BYTES", message, at, bpb.text, "", "Print val_loss, and the tokens scored.", "likely")
    variants = [variant for variant in VARIANTS if {variant.name} == names]
    for variant, (loss, bpb, at) in product(variants, pairs):
        if loss is None or not (loss.value > 0 and 0 < bpb.value < LARGEST_SCORE):
            continue
        finding = judge_bytes(implied_bytes(loss, bpb, variant.val_tokens), variant.val_tokens)
        if finding.verdict is Verdict.FAIL:
            message = f"with the tokens of {variant.name}, by its name or the first loss: {finding.message}"
            out.warn(finding.rule, message, at, f"loss {loss.text}, bpb {bpb.text}", "", _COUNT_BYTES, "likely")


@each("runs")
def coverage(record: Record, run: Run) -> None:
    """Tokens that were scored, against the published counts."""
    rule, out, stated = "C4-COVERAGE", record.out, run.one("val_tokens")
    if stated is None:
        out.unknown(rule, "the log states no validation token count.", run.file)
        return
    tokens, at = int(stated.value), run.place(stated)
    shown = f"{tokens:,} tokens"
    for again in (count for count in run["scored_tokens"] if count.value > tokens):
        message, found = "more tokens were scored than the text has.", f"{again.value:,.0f} tokens"
        out.warn("C4-SINGLE-PASS", message, run.place(again), found, shown, "Score each token once.")
    names = record.bound.name or " ".join(run.by_name)
    own = [count for count in run["scored_tokens"] if count.label.strip() and count.label.split()[0] in names]
    if own and (most := max(own, key=lambda item: item.value)).value < min(tokens, SUBSET_TOKENS):
        message = "a pass that counts is of a part of the text, by its own line."
        out.warn(rule, message, run.place(most), f"{most.value:,.0f} tokens", shown, "Score every token.")
    finding, variant = judge_tokens(tokens), variant_of(tokens)
    lengths = WORDS["window"].findall(record.texts.get(run.file, ""))
    window = max(map(int, lengths)) if lengths and all(lengths) else TAIL
    for text in record.told[:2_000] if finding.verdict is Verdict.FAIL else ():
        numbers = [n.value for n in read_numbers(text)] if re.search(r"token", text, re.IGNORECASE) else []
        if any(abs(n - tokens) <= 0.01 * tokens for n in numbers) or WORDS["not_comparable"].search(text):
            message, said = "the score is of a part of the text, as the folder says.", text.strip()[:160]
            out.warn(rule, message, at, shown, said, "Score every token.")
            return
    if finding.verdict is Verdict.FAIL:
        counts = [count.value for other in record.runs if (count := other.one("val_tokens"))]
        certain, whole = record.bound.certain or max(counts) < SUBSET_TOKENS, "151.08 million bytes in the split"
        out.add(certain, rule, finding.message, at, shown, whole, "Score every token.")
    elif variant and window < variant.val_tokens - tokens:
        message = f"more is left out than one window of the log: {finding.message}"
        out.warn(rule, message, at, shown, f"window of {window:,} tokens", "Score every token.")
    elif variant or finding.found == "legacy":
        verdict = Verdict.PASS if variant else Verdict.UNKNOWN  # A7-BYTES warns of the older set
        out.add(verdict, rule, finding.message, at, shown)
    elif not out.has(rule):
        known = ", ".join(f"{v.name} {v.val_tokens:,}" for v in VARIANTS)
        message = "a token count of no known tokenizer: its bpb needs proof."
        out.warn("A7-TOKENIZER", message, at, shown, f"known: {known}")


@each("runs")
def gain(record: Record, run: Run) -> None:
    """How much the last pass gains on the trained model: windows and legal adaptation have given at most 0.05."""
    final = run.by_name.get(record.bound.name) or run.final
    if final is None or not run.curve or record.out.has("S6-PLAUSIBLE"):
        return
    base = run.curve[-1]
    whole = bool(run.last_step) and int(base.name.split()[1]) >= 0.9 * (run.last_step or 0)
    if whole and base.bpb.value - final.bpb.value > LARGEST_GAIN:
        message = f"evaluation lowers the score by {base.bpb.value - final.bpb.value:.4f} bpb; {_GAINED}"
        found, trained = f"{final.name} {final.bpb.text}", f"after training {base.bpb.text} (line {base.line})"
        record.out.warn("S6-PLAUSIBLE", message, run.place(final), found, trained, _PROVE, "likely")
    elif base.bpb.value < (floor := record.readings.floor_bpb):
        message, values = "training reached a score no known method reaches.", (base.bpb.text, f"floor {floor:g} bpb")
        record.out.warn("S6-PLAUSIBLE", message, run.place(base), *values, _PROVE, "likely")


def plausible(record: Record) -> None:
    """A claim that no known method reaches is held for proof."""
    rule, out, floor, claimed = "S6-PLAUSIBLE", record.out, record.readings.floor_bpb, record.claimed
    if claimed is not None and claimed.value < floor:
        message, at = "a score no known method reaches: held until it is proved.", record.metadata.line("val_bpb")
        out.fail(rule, message, (record.json_file, at), f"{claimed.text} bpb", f"floor {floor:g} bpb", _PROVE)
    elif not out.has(rule) and (claimed is not None or record.bound.runs):
        out.passed(rule, f"no score is under {floor:g} bpb.")


def is_on(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the line names the method and neither denies it nor gives it a value that switches it off."""
    off, not_before = WORDS["off"], WORDS["not_before"]
    spans = (hit.span() for hit in pattern.finditer(text))
    return any(not off.match(text, end) and not not_before.search(text[:start]) for start, end in spans)


def _is_meant(record: Record, method: Method) -> bool:
    """Whether README and JSON have the words that the method takes, none speaks against it, and the track minds it."""
    unless, given = (p and any(map(p.search, record.told)) for p in (method.unless, method.given))
    listed = method.rule == "A1-HARDWARE" and any(run["gpus"] for run in record.bound.training)  # that is looked at
    return not (unless or listed) and given is not False and (record.official or method.rule not in _OF_RECORDS)


@each("any")
def marks(record: Record, run: Run) -> None:
    """Train files, switches and lines that name a method; adaptation before the model is packed."""
    out, (files, line) = record.out, run.settings.get("train_files", ("", 0))
    if re.search(r"(?:^|[/_])val(?:id)?[_*]", files.rsplit("/", 1)[-1]):
        out.fail("A4-TRAIN-NO-VAL", "the train files are validation shards.", (run.file, line), files)
    told = WORDS["method_switch"].search
    switches = [(line, f"{key}: {value}") for key, (value, line) in run.settings.items() if told(key)]
    off = {text.split("_enabled")[0] for _, text in switches if re.search(r"_enabled: (?:False|0)$", text)}
    named = [(item.line, item.name) for item in (run.by_name.get(record.bound.name) or run.final,) if item]
    lines = sorted(switches + named + [(mark.line, mark.label) for mark in run["marks"]])
    lines = [(line, text) for line, text in lines if not any(text.startswith(name) for name in off)]
    for method in PATTERNS.methods:
        hits = [one for one in lines if method.log and is_on(method.log, one[1]) and _is_meant(record, method)]
        ran = [hit for hit in hits if WORDS["method_ran"].search(hit[1]) and not WORDS["on_train"].search(hit[1])]
        for line, text in (ran or hits)[:1]:
            certain, message = method.banned and bool(ran), f"the log names {method.what}."
            out.add(certain, method.rule, message, (run.file, line), text, "", "Say why it is legal.", "likely")
    early = run.early_adaptation
    if run.epochs_first and run.final:
        message = "test-time training went over the text, and the score was taken only then."
        scored = f"{run.final.name} in line {run.final.line}"
        values = (run.epochs_first.label.strip(), scored, "Score each token before it is trained on.", "likely")
        out.warn("C3-SCORE-BEFORE-UPDATE", message, run.place(run.epochs_first), *values)
    if early and not out.has("A6-PREQUANT-TTT"):
        message = "test-time training runs before the model is packed: what it learnt travels in the artifact."
        values = (early.label, f"the model is packed in line {run.packed[0].line}", "Adapt after packing.", "likely")
        out.warn("A6-PREQUANT-TTT", message, run.place(early), *values)


def _texts(record: Record) -> Iterator[tuple[str, int, str, str]]:
    """File, line, text, and what it is: "title" (a name or first heading), "field" of the JSON, or "" (a line)."""
    for key, value in record.metadata.raw.items():
        for text in (value if isinstance(value, list) else [value]) if WORDS["fields_of_words"].search(key) else []:
            if isinstance(text, str):
                kind = "title" if key in ("name", "title", "run_name") else "" if key.startswith("note") else "field"
                yield record.json_file, record.metadata.lines.get(key, 0), text[:4_000], kind
    first = min(record.readme.headings, default=0)
    for number, text in record.readme.with_rows.items():
        yield record.readme_file, number, text, "title" if number == first else ""
    nested = (one for one in enumerate(record.metadata.source[:400], 1) if one[1][:3].isspace())
    yield from ((record.json_file, number, text, "") for number, text in nested)


def words(record: Record) -> None:
    """Methods that the texts name; at most one hit a method. A README's body compares with other records."""
    # A later pass gave another score than the claimed one, which neither names such a method nor looks like it.
    another = bool(record.bound.later) and not record.out.has("S6-PLAUSIBLE")
    another = another and not re.search(rf"{WORDS['mixed'].pattern}|ttt|slot", record.bound.name, re.IGNORECASE)
    seen = set[str]()
    adapted = any(run.early_adaptation for run in record.bound.any)  # by the log; then a README's words tell on what
    for file, line, text, own in _texts(record):
        for method in PATTERNS.methods:
            early = adapted and method.rule == "A6-PREQUANT-TTT"
            fresh = (own or method.anywhere or early) and method.what not in seen
            hit = method.words.search(text) if method.words and fresh else None
            if hit and not WORDS["denied"].search(text[: hit.start()]):
                seen.add(method.what)
                if record.out.has(method.beside) or not _is_meant(record, method):
                    continue
                start, remedy = text.rfind(" ", 0, max(hit.start() - 60, 0)) + 1, "Say why it is within the rules."
                found = text[start:].strip()[:160]
                certain = early or (method.banned and own == "title" and record.claimed is not None)
                message = f"the folder's own words: {method.what}"
                if elsewhere := another and method.rule.startswith(("C2", "C3")):
                    message += f"; not in the claimed pass, {record.bound.name}, for all that the logs say"
                verdict = Verdict.UNKNOWN if elsewhere else certain
                record.out.add(verdict, method.rule, f"{message}.", (file, line), found, "", remedy, "likely")
