"""Same code and same configuration in every seed's run; which seeds ran, and which are shown (A8)."""

from __future__ import annotations

import re

from harness.public.checks.claims import claimed_pass
from harness.public.metadata import disclosed_scores
from harness.public.record import Record
from harness.public.runlog import RunLog, seed_of_name

PER_RUN = {
    "seed",
    "run_id",
    "logfile",
    "log_file",
    "rank",
    "local_rank",
    "is_main_process",
    "device",
    "ttt_eval_batches",
    "batch_stride",
}
PLACES = re.compile(r"(?:dir|path|files|file|root|tokenizer|dataset|cache|prefix|pattern)s?$")
NAMES = re.compile(
    r"(?:^|_)(?:run|exp|experiment|job|log|trial|wandb)_?(?:name|tag|id|group)?$|(?:^|_)(?:tag|suffix|note|comment)s?$"
)
OF_THE_RUN = re.compile(r"(?:^|_)(?:time|host|hostname|date|uuid|hash|commit|port|master|device|gpu|pid|node)(?:_|$)")
KNOWN_SETTING = re.compile(
    r"(?:^|_)(?:lr|wd|decay|layers|dim|heads|mlp|mult|momentum|batch|tokens|len|iterations|iters|warmdown|vocab|qat|rank"
    r"|epochs|bits|clip|softcap|size)(?:_|$)"
)
HARMLESS = re.compile(
    r"(?:log_every|log_interval|val_loss_every|^val_batch|^eval_|reserve_seconds|save|checkpoint|verbose|wandb|artifact|output|train_shards|xsa)"
)


def check(record: Record) -> None:
    """All of the above."""
    _same_config(record)
    _same_code(record)
    _same_model(record)
    _seed_names(record)
    _seed_set(record)


def _same_config(record: Record) -> None:
    rule, out = "A8-SAME-CONFIG", record.out
    logs = [log for log in record.logs if log.settings]
    if len(logs) < 2:
        if len(record.logs) > 1:
            out.unknown(rule, "the logs print no hyper-parameters to compare.")
        return
    first, equal = logs[0], True
    for other in logs[1:]:
        for key in sorted(set(first.settings) & set(other.settings) - PER_RUN):
            (a, line_a), (b, line_b) = first.settings[key], other.settings[key]
            if a == b or PLACES.search(key) or OF_THE_RUN.search(key) or NAMES.search(key):
                continue
            equal = False
            mild = (
                HARMLESS.search(key) is not None
                or not (first.block or KNOWN_SETTING.search(key))
                or (key.startswith("ttt_") and "ttt" not in claimed_pass(record))
            )
            report = out.warn if mild else out.fail
            report(
                rule,
                f"{key} differs between seeds" + (" (it should not change the claimed score)." if mild else "."),
                file=other.file,
                line=line_b,
                found=f"{key} = {b}",
                computed=f"{a} in {first.file}:{line_a}",
                remedy="Repeat all seeds with one configuration.",
            )
        lone = sorted((set(first.settings) ^ set(other.settings)) - PER_RUN)
        if lone and min(len(first.settings), len(other.settings)) > 40:
            equal = False
            out.warn(
                rule,
                "some settings are printed in one log only.",
                file=other.file,
                found=", ".join(lone[:8]),
                computed=first.file,
            )
    if equal:
        out.passed(rule, f"{len(logs)} logs have equal settings, apart from seed and places.")


def _same_code(record: Record) -> None:
    rule, out = "A8-SAME-CODE", record.out
    sizes: dict[int, RunLog] = {}
    for log in record.logs:
        plain = [code for code in log.codes if code.label != "compressed"]
        if plain:
            sizes.setdefault(int(plain[-1].value), log)
    if len(sizes) > 1:
        (first, log), (second, other) = list(sizes.items())[:2]
        out.warn(
            rule,
            "the seeds ran scripts of different sizes.",
            file=other.file,
            line=next((c.line for c in other.codes if int(c.value) == second), 0),
            found=f"{second:,} bytes",
            computed=f"{first:,} bytes in {log.file}",
            remedy="Run all seeds with one script (#2124).",
        )
    elif sizes and len(record.logs) > 1:
        out.passed(rule, f"every log counted a script of {next(iter(sizes)):,} bytes.")


def _same_model(record: Record) -> None:
    counts = {int(log.parameters.value): log for log in record.logs if log.parameters}
    rule, out = "A9-MODEL-MATCH", record.out
    stated = record.metadata.raw.get("model_params") if record.metadata else None
    if len(counts) > 1:
        (first, log), (second, other) = list(counts.items())[:2]
        out.fail(
            rule,
            "the logs are of different models.",
            file=other.file,
            line=other.parameters.line if other.parameters else 0,
            found=f"{second:,} parameters",
            computed=f"{first:,} in {log.file}",
            remedy="Run every seed with the shipped script.",
        )
    elif counts and type(stated) is int and stated not in counts:
        out.warn(
            rule,
            "the JSON's parameter count is not the logs'.",
            file=record.json_file,
            found=f"{stated:,}",
            computed=f"{next(iter(counts)):,}",
        )
    elif counts:
        out.passed(rule, f"{next(iter(counts)):,} parameters in every log that states them.")
    else:
        out.unknown(rule, "no log states a parameter count.")


def _seed_names(record: Record) -> None:
    for log in record.logs:
        named = seed_of_name(log.file)
        if named is not None and log.seed is not None and named != log.seed:
            line = log.settings.get("seed", ("", 0))[1]
            claimed = set(record.metadata.seeds) if record.metadata else set()
            misleads = named in claimed and log.seed not in claimed
            report = record.out.fail if misleads else record.out.warn
            report(
                "A8-SEEDS",
                "the file name states another seed than the run used.",
                file=log.file,
                line=line,
                found=f"seed {log.seed} in the log",
                computed=f"seed {named} in the file name",
                remedy="Name the seed that ran, or run the one that is named.",
            )
    seeds = [log.seed for log in record.logs if log.seed is not None]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        files = ", ".join(log.file for log in record.logs if log.seed == twice[0])
        record.out.warn(
            "A8-SEEDS", f"seed {twice[0]} has several different logs.", found=files, remedy="Say which one counts."
        )


def _seed_set(record: Record) -> None:
    rule, out, meta = "A8-SEEDS", record.out, record.metadata
    before = len(out.items)
    logged = {log.seed for log in record.logs if log.seed is not None}
    claimed = set(meta.seeds) if meta else set()
    if meta is not None:
        disclosed = disclosed_scores(meta.raw)
        dropped = sorted(set(disclosed) - claimed) if claimed and claimed < set(disclosed) else []
        if dropped:
            kept_worst = max(disclosed[s] for s in claimed)
            by_score = all(disclosed[s] > kept_worst for s in dropped)
            report = out.fail if by_score else out.warn
            report(
                rule,
                f"{len(dropped)} of {len(disclosed)} runs are left out"
                + (", and they are the worst ones: the seeds were chosen by their score." if by_score else "."),
                file=record.json_file,
                line=meta.lines.get("seeds", 0),
                found=f"claimed {sorted(claimed)}",
                computed=f"left out {', '.join(f'{s}: {disclosed[s]:g}' for s in dropped)}",
                remedy="Report the mean over all runs.",
            )
        unseen = sorted(claimed - logged)
        if unseen and record.logs and len(record.logs) >= 1 and logged:
            out.warn(
                rule,
                f"no log of seed(s) {', '.join(map(str, unseen))}.",
                file=record.json_file,
                line=meta.line("seeds"),
                found=sorted(claimed),
                computed=f"logs of {sorted(logged)}",
            )
        extra = sorted(logged - claimed) if claimed and not (claimed - logged) else []
        if extra and len(claimed) > 1:
            out.warn(
                rule,
                f"logs of seeds that are not claimed: {', '.join(map(str, extra))}.",
                file=record.json_file,
                found=sorted(claimed),
                computed=sorted(logged),
            )
    number = max(len(logged), len(claimed), len(record.logs) + len(record.absent_logs))
    if record.official and 0 < number < record.readings.min_seeds:
        out.warn(
            rule,
            f"{number} run(s); a record is usually shown with {record.readings.min_seeds}.",
            found=number,
            computed=record.readings.min_seeds,
            remedy="Add seeds, named before they run.",
        )
    if len(out.items) == before and logged and not out.failed(rule):
        out.passed(rule, f"{len(logged)} seeds are claimed and logged.", found=sorted(logged))
