"""Files, fields, track, hardware, whole logs; one code, one configuration, one model; which seeds ran (A1, A8, A9)."""

import math
import re
from calendar import timegm

from harness.review.jsonfile import is_number, shown
from harness.review.logs import alike
from harness.review.number import Number
from harness.review.patterns import PATTERNS, WORDS
from harness.review.record import LARGEST_SCORE, NON_RECORD, Record, track_named
from harness.review.source import named_files


def required_files(record: Record) -> None:
    """README, metadata, script and logs."""
    rule, out, names = "A9-FILES", record.out, record.folder.names
    if not any("readme" in n.lower() for n in names):
        out.fail(rule, "README.md is missing.", "", "no README", "", "Describe method, command and results.")
    if "submission.json" not in names:
        others = [n for n in names if re.search(r"submission[^/]*\.json$", n)]
        message = "submission.json is missing" + (f"; is it {others[0]}?" if others else ".")
        certain, remedy = not (record.json_file or others), "Add name, github_id, val_bpb, date."
        out.add(certain, rule, message, record.json_file, "no submission.json", "", remedy)
    if record.main_code is None:
        scripts = ", ".join([n for n in names if n.endswith((".py", ".ipynb", ".sh", ".cu", ".cpp"))][:4])
        message = f"no train_gpt.py; which is the script: {scripts}?" if scripts else "no training script."
        out.add(not scripts, rule, message, "", "no train_gpt.py", "", "Ship train_gpt.py as it ran.")
    elif record.folder.size_of(record.main_code) == 0:
        out.fail(rule, "the training script is empty.", record.main_code, "0 bytes")
    elif record.main_code != "train_gpt.py":
        out.warn(rule, "the training script is not called train_gpt.py.", record.main_code)
    if not record.runs and not record.absent_logs:
        maybe = [n for n in names if WORDS["maybe_log"].search(n) and not WORDS["no_log"].search(n)]
        form = f" of a known form ({', '.join(maybe[:3])})" if maybe else ""
        certain, remedy = not (maybe or record.study), "Ship one log for every seed."
        out.add(certain, rule, f"no training log{form}.", "", "no log with losses", "", remedy)
    bases, lists = {n.rsplit("/", 1)[-1] for n in names}, [list[str]()]
    linked = [name for text in record.readme.raw for name in WORDS["linked"].findall(text)]
    for line in record.readme.raw:
        if hit := WORDS["listed_file"].match(line):
            lists[-1].append(hit[1])
        elif line.strip() and not line.lstrip().startswith(("-", "*")):
            lists.append([])
    told = dict.fromkeys([*(name for group in lists if bases & set(group) for name in group), *linked])
    if absent := ", ".join(name for name in told if name not in bases):
        out.warn(rule, "the README lists files that are not here.", record.readme_file, absent)
    out.passed(rule, "README, metadata, script and logs are there.")


def fields(record: Record) -> None:
    """The JSON's fields: there, of their type, and no placeholders."""
    meta, out, rule = record.metadata, record.out, "A9-METADATA"
    if not meta.source:
        return
    score, text = meta.values.get("val_bpb"), " ".join(meta.source)
    at = (record.json_file, meta.line("val_bpb"))
    if isinstance(score, Number) and not math.isfinite(score.value):
        out.fail(rule, "val_bpb is not a finite number.", at, score.text)
    elif score in (None, "", []) and "val_bpb" not in meta.raw:
        inside = re.findall(r'"(\w*bpb\w*)"\s*:\s*(?:0\.[2-9]|[1-7]\b)', text)
        where = f" at the top; {inside[0]} stands deeper." if inside else ", in any known spelling."
        pending = re.search(r"retract|\bpending|\bnot (?:yet )?(?:validated|run|measured)\b", text)
        certain = not (inside or pending or record.study)
        out.add(certain, rule, f"no val_bpb{where}", record.json_file, "", "", 'Add "val_bpb".')
    elif is_number(score) and score.value > LARGEST_SCORE:
        message = "val_bpb is more than a model needs that knows nothing: no score, or of another unit."
        out.warn(rule, message, at, score.text, f"{LARGEST_SCORE:g} bits in a byte", "Give bits a byte of the text.")
    elif not is_number(score) or score.value == 0:
        out.warn(rule, "val_bpb holds a placeholder, no score.", at, shown(score), "", "Fill it in.")
    wanted = ("name", "github_id", "author", "date", *["val_loss"] * is_number(score), "bytes_total")
    empty = [name for name in wanted if meta.values.get(name) in (None, "", [])]
    elsewhere = [name for name in empty if name in PATTERNS.elsewhere and PATTERNS.elsewhere[name].search(text)]
    if missing := ", ".join(name for name in empty if name not in elsewhere):
        sized = any(run.total or run.packed for run in record.runs) or any(map(WORDS["a_size"].search, record.told))
        unsized = "; nothing tells the artifact's size" * ("bytes_total" in missing and not (sized or record.study))
        out.warn(rule, f"fields are missing or empty: {missing}{unsized}.", record.json_file, missing, "", "Add them.")
    for name, value in meta.values.items():
        at, key = (record.json_file, meta.line(name)), meta.spelt[name]
        written = meta.raw.get(key, value)
        numeric = name in ("val_loss", "bytes_total") or (name == "val_bpb" and is_number(value))
        zero = numeric and not record.study and name != "val_bpb" and is_number(value) and value.value == 0
        if zero or (isinstance(value, str) and name != "val_bpb" and WORDS["placeholder"].match(value)):
            out.warn(rule, f"{key} still holds a placeholder.", at, shown(value))
        elif numeric and not is_number(value if isinstance(written, dict) and key != name else written):
            out.warn(rule, f"{key} is not a number.", at, shown(written))
    told = re.findall(r"(?m)^(20\d\d)-(0[1-9]|1[0-2])-(\d\d)", f"{record.folder.name}\n{meta.text('date')}")
    days = [timegm((*map(int, day), 0, 0, 0)) // 86_400 for day in told]
    if len(days) == 2 and abs(days[0] - days[1]) > 1:  # one is the time zone
        at = (record.json_file, meta.line("date"))
        out.warn(rule, "the date is not that of the folder's name.", at, meta.text("date"), record.folder.name[:10])
    if meta.loss_is_bpb:
        message = "val_loss holds a bpb, not nats a token"
        message += ", and no val_bpb is there." if meta.spelt.get("val_bpb") == "val_loss" else "."
        out.warn(rule, message, (record.json_file, meta.line("val_loss")), shown(meta.values.get("val_loss")))
    out.passed(rule, "the fields are there, with the usual names and types.", record.json_file)


def track(record: Record) -> None:
    """The JSON's track is the folder's."""
    meta, parent = record.metadata, record.folder.parent
    stated, filed = meta.text("track"), parent.startswith("track_")
    heads = (record.readme_file, record.readme.raw, 12), (record.json_file, meta.source, 40)
    lines = [(at, n, text, n <= most) for at, texts, most in heads for n, text in enumerate(texts, 1)]
    told = [one for one in lines if WORDS["no_claim"].search(one[2]) or (one[3] and WORDS["disclaimed"].search(one[2]))]
    if stated and filed and track_named(stated) != track_named(parent):
        certain = record.official and re.search(r"non[-_ ]?record|unlimited", stated, re.IGNORECASE) is not None
        message = f"the track in the JSON is not the folder's; judged as {record.track}."
        record.out.add(certain, "A9-TRACK", message, (record.json_file, meta.line("track")), stated, parent)
    elif record.official and told:
        message = f"the folder calls itself a non-record; those belong in track_{NON_RECORD}."
        record.out.warn("A9-TRACK", message, told[0][:2], told[0][2].strip()[:160], parent, "Move the folder.")
    else:
        by = "" if filed else ", by its own word: it lies in no track's folder"
        record.out.passed("A9-TRACK", f"judged as {record.track}{by}.", record.json_file, stated or parent)


def logs_whole(record: Record) -> None:
    """Logs that end in a score; runs that are not compared are one note."""
    out, rule = record.out, "A9-LOG"
    named = set(record.metadata.seeds) - {run.seed for run in record.runs if run.final}
    for run in record.bound.runs + [run for run in record.bound.others if run.seed in named]:
        if run.final is None:
            at = (run.file, run.curve[-1].line if run.curve else 0)
            last = f"last step {run.last_step}" if run.last_step else ""
            if unread := [item for item in run["unread"] if item.line > at[1]]:
                message = f"a score of a form that isn't known: {unread[-1].label.strip()}."
                out.unknown(rule, message, run.place(unread[-1]))
            else:
                out.warn(rule, "the log ends without a final score of a known form.", at, last)
    for run in record.bound.training:
        hit = WORDS["in_a_run"].match(record.texts.get(run.file, "")) if run.first_line == 1 else None
        if hit and not run.settings:
            out.warn(rule, "the log begins within a run: it tells no settings.", (run.file, 1), hit[1])
    for name, text in record.texts.items():
        if cut := re.search(r"^\[?\.{3} ?\w.{0,80}\]?$", text, re.MULTILINE):
            at = (name, text.count("\n", 0, cut.start()) + 1)
            out.warn(rule, "a line that says what was left out of the log.", at, cut[0], "", "Ship the log as it was.")
    if others := record.bound.others:
        shown = named_files(run.file for run in others)
        out.unknown(rule, f"{len(others)} further run(s) are not compared with the claimed ones: {shown}.")
    elsewhere = [*record.absent_logs, *({run.file for run in record.runs} - {*record.texts})]
    if record.official and record.runs and not (elsewhere or any(map(WORDS["a_step"].search, record.texts.values()))):
        message, text = "no log tells of training: no step, no clock.", named_files(run.file for run in record.runs)
        out.warn(rule, message, record.runs[0].file, text, "", "Ship the training logs too.", "likely")
    if record.bound.runs and not out.has(rule):
        out.passed(rule, f"{len(record.bound.runs)} log(s) end in a final score.")


def hardware(record: Record) -> None:
    """The GPUs that the logs name."""
    if not record.official:
        return
    out, rule, runs = record.out, "A1-HARDWARE", record.bound.training
    for run in runs:
        if other := run.other_hardware:
            message = "the run was not on 8 H100: its times don't compare with the track's."
            out.warn(rule, message, run.file, other, "8 x NVIDIA H100 SXM")
    if not out.has(rule) and any(run["gpus"] for run in runs):
        out.passed(rule, f"{next(gpu.label for run in runs for gpu in run['gpus'])} in the logs.")
    elif not out.has(rule):
        out.unknown(rule, "no log names the GPU.", remedy="Print nvidia-smi at the head of the log.")


def same_config(record: Record) -> None:
    """Settings of the claimed runs against those of the first."""
    rule, out = "A8-SAME-CONFIG", record.out
    of_seed = {run.seed: run for run in record.bound.training if run.settings and run.seed is not None}
    runs = list(of_seed.values())
    if len(runs) < 2:
        return
    first, named = runs[0], set(record.metadata.seeds)
    certain = record.bound.certain and record.bound.how == "mean" and {run.seed for run in runs} <= named
    for other in (run for run in runs[1:] if run.other_hardware == first.other_hardware):
        for key in sorted({*first.settings} & {*other.settings}):
            (a, line_a), (b, line_b) = first.settings[key], other.settings[key]
            if alike(a, b) or WORDS["per_run"].search(key) or WORDS["harmless"].search(key):
                continue
            idle = key.startswith("ttt_") and "ttt" not in record.bound.name
            fixed = key == "model_params" or (first.block and WORDS["hyperparameter"].search(key) and not idle)
            values = f"{key} = {b}", f"{a} in {first.file}:{line_a}"
            out.add(certain and bool(fixed), rule, f"{key} differs between seeds.", (other.file, line_b), *values)
        known = {*first.settings} ^ {*other.settings} if first.block and other.block and other.last_step else set()
        for one, key in ((run, key) for run in (first, other) for key in sorted(known & {*run.settings})):
            if one.settings[key][0] == "True":
                message, at = "a switch that is on in one log, and that another doesn't know.", one.settings[key][1]
                out.warn(rule, message, (one.file, at), f"{key} = True")
    out.passed(rule, f"{len(runs)} logs have equal settings, apart from seed and places.")


def seed_set(record: Record) -> None:
    """Seeds that are claimed, logged, and enough."""
    rule, out, meta, bound = "A8-SEEDS", record.out, record.metadata, record.bound
    logged = {run.seed for run in record.runs if run.seed is not None}
    told = " ".join(str(meta.raw.get(key)) for key in ("name", "blurb", "description"))
    claimed = set(meta.seeds) or {int(seed) for seed in WORDS["seed_in_text"].findall(told)}
    wanted = claimed | record.known_seeds
    if logged and (unseen := ", ".join(map(str, sorted(wanted - logged)))):
        at = (record.json_file, meta.line("seeds")) if claimed - logged else (record.readme_file, 0)
        out.warn(rule, f"no log of seed(s) {unseen}.", at, sorted(wanted), f"logs of {sorted(logged)}")
    single = WORDS["few_seeds"].search(" ".join([*record.readme.raw[:60], *meta.source[:60]]))
    number = len(record.known_seeds - logged) or (int(single[0][0] in "2t") + 1 if single else 0)
    number = max(len(claimed), len(bound.runs) + len(record.absent_logs), 1 if record.runs else number)
    if bound.how == "mean" and len({run.key for run in bound.runs}) < len({i.bpb.value for i in bound.scores()}):
        text = f"seeds {', '.join(str(run.seed) for run in bound.runs)}"
        out.warn(rule, "several runs of one seed go into the mean.", "", text, "", "Claim one run a seed.")
    unnamed = record.claimed is not None and not any("seed" in line.lower() for line in record.told)
    if record.official and number < record.readings.min_seeds and (number or unnamed):
        usual, remedy = record.readings.min_seeds, "Add seeds, named before they run."
        message = f"{number or 'no seed told, 0'} run(s); a record is usually shown with {usual}."
        out.warn(rule, message, "", number, usual, remedy)
    elif logged and not out.has(rule):
        texts = [record.texts.get(run.file, "seed 0") for run in record.runs]  # that of a very long log is not kept
        how = "" if any(map(WORDS["a_seed"].search, texts)) else ", by the names of the files: no log prints one"
        out.passed(rule, f"{len(logged)} seeds are claimed and logged{how}.", "", sorted(logged))
