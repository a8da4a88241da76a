"""Required files, metadata fields, dates, track, hardware, and whether the logs are whole (A9)."""

from __future__ import annotations

import re
from datetime import date
from pathlib import PurePath

from harness.public.metadata import DATE, shown
from harness.public.record import RECORD, Record, parent_of, track_named
from harness.rules import Verdict

FIELDS_NEEDED = ("name", "github_id", "val_bpb")
FIELDS_WANTED = ("author", "date", "bytes_total")
DAYS_APART = 10
PLACEHOLDER = re.compile(r"[_<\[{ ]*(?:fill|todo|tbd|fixme|your[_ -])", re.IGNORECASE)


def check(record: Record) -> None:
    """All of the above."""
    _required_files(record)
    if record.metadata is not None:
        _fields(record)
        _date(record)
        _track(record)
    _logs_whole(record)
    _hardware(record)


def _required_files(record: Record) -> None:
    out, before = record.out, len(record.out.items)
    if record.readme_file and not record.readme_file.lower().startswith("readme"):
        out.warn("A9-FILES", "the README is not called README.md.", file=record.readme_file)
    elif not record.readme_file and not any(n.lower().startswith("readme") for n in record.folder.names):
        out.fail("A9-FILES", "README.md is missing.", found="no README", remedy="Describe method, command and results.")
    if not record.json_file:
        out.fail(
            "A9-FILES", "submission.json is missing.", found="no JSON", remedy="Add name, github_id, val_bpb, date."
        )
    elif record.json_file != "submission.json":
        out.warn("A9-FILES", "the metadata file is not called submission.json.", file=record.json_file)
    if record.main_code is None:
        out.fail("A9-FILES", "no training script.", found="no train_gpt.py", remedy="Ship train_gpt.py as it ran.")
    elif record.folder.size_of(record.main_code) == 0:
        out.fail("A9-FILES", "the training script is empty.", file=record.main_code, found="0 bytes")
    elif record.main_code != "train_gpt.py":
        out.warn("A9-FILES", "the training script is not called train_gpt.py.", file=record.main_code)
    if not record.logs and not record.absent_logs:
        out.fail("A9-FILES", "no training log.", found="no log with losses", remedy="Ship one log for every seed.")
    if all(item.verdict not in (Verdict.FAIL, Verdict.WARN) for item in out.items[before:]):
        out.passed("A9-FILES", "README, metadata, script and logs are there.")


def _fields(record: Record) -> None:
    meta, out = record.metadata, record.out
    assert meta is not None
    before = len(out.items)
    for name in FIELDS_NEEDED:
        if meta.values.get(name) in (None, "", []):
            retracted = name == "val_bpb" and any("retract" in key for key in meta.raw)
            problem = (
                "retracted by its author: no score is claimed" if retracted else f"no {name}, in any known spelling"
            )
            out.add(
                Verdict.WARN if retracted else Verdict.FAIL,
                "A9-METADATA",
                f"{problem}.",
                file=record.json_file,
                found=shown(meta.raw.get(name)),
                remedy=f'Add "{name}".',
            )
        elif PLACEHOLDER.match(str(meta.values[name])):
            out.fail(
                "A9-METADATA",
                f"{name} still holds a placeholder.",
                file=record.json_file,
                line=meta.line(name),
                found=shown(meta.values[name]),
                remedy="Fill it in.",
            )
        elif meta.spelt[name] != name:
            out.warn(
                "A9-METADATA",
                f"{name} is spelt {meta.spelt[name]}.",
                file=record.json_file,
                line=meta.line(name),
                found=meta.spelt[name],
            )
    missing = [name for name in FIELDS_WANTED if meta.values.get(name) in (None, "")]
    if missing:
        out.warn("A9-METADATA", f"missing: {', '.join(missing)}.", file=record.json_file, found=", ".join(missing))
    for name in ("val_bpb", "val_loss", "bytes_total"):
        if name in meta.values and meta.number(name) is None:
            out.fail(
                "A9-METADATA",
                f"{name} is no number.",
                file=record.json_file,
                line=meta.line(name),
                found=shown(meta.values[name]),
            )
    _loss_is_loss(record)
    if len(out.items) == before:
        out.passed("A9-METADATA", "the fields are there, with the usual names and types.", file=record.json_file)


def _loss_is_loss(record: Record) -> None:
    meta = record.metadata
    assert meta is not None
    loss = meta.number("val_loss")
    scores = [log.final for log in record.scored_logs]
    if loss is None or not scores:
        return
    losses = [score.loss for score in scores if score and score.loss is not None]
    bpbs = [score.bpb for score in scores if score]
    if losses and min(abs(loss - x) for x in bpbs) < 0.02 < min(abs(loss - x) for x in losses):
        record.out.fail(
            "A9-METADATA",
            "val_loss holds a bpb, not nats a token.",
            file=record.json_file,
            line=meta.line("val_loss"),
            found=loss,
            computed=f"loss {losses[0]:.5f}, bpb {bpbs[0]:.5f} in the logs",
            remedy="Put the nats a token in val_loss and the bits a byte in val_bpb.",
        )


def _date(record: Record) -> None:
    meta, out = record.metadata, record.out
    assert meta is not None
    text = meta.text("date")
    folder_date = _parsed(PurePath(record.folder.root.absolute()).name)
    if not text:
        return
    if not DATE.fullmatch(text) or _parsed(text) is None:
        out.warn(
            "A9-METADATA",
            "the date is not YYYY-MM-DD or ISO 8601.",
            file=record.json_file,
            line=meta.line("date"),
            found=text,
        )
        return
    stated = _parsed(text)
    if stated and folder_date and abs((stated - folder_date).days) > DAYS_APART:
        out.warn(
            "A9-METADATA",
            f"date and folder name are {abs((stated - folder_date).days)} days apart.",
            file=record.json_file,
            line=meta.line("date"),
            found=text,
            computed=f"folder {folder_date}",
        )


def _parsed(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _track(record: Record) -> None:
    meta = record.metadata
    assert meta is not None
    stated, parent = meta.text("track"), parent_of(record.folder.root)
    contradicts = stated and parent.startswith("track_") and track_named(stated) != record.track
    if contradicts:
        report = record.out.fail if record.official else record.out.warn
        report(
            "A9-TRACK",
            f"the track in the JSON is not the folder's; judged as {record.track}.",
            file=record.json_file,
            line=meta.line("track"),
            found=stated,
            computed=parent,
            remedy="Correct the field, or move the folder to the track that it states.",
        )
    else:
        by = "" if parent.startswith("track_") else ", by its own word: it lies in no track's folder"
        record.out.passed("A9-TRACK", f"judged as {record.track}{by}.", file=record.json_file, found=stated or parent)


def _logs_whole(record: Record) -> None:
    for log in record.logs:
        if log.final is None:
            record.out.warn(
                "A9-LOG",
                "the log ends without a final score.",
                file=log.file,
                line=log.curve[-1].line if log.curve else 0,
                found=f"last step {log.last_step}",
                remedy="Ship the whole log.",
            )
    if record.logs and all(log.final for log in record.logs):
        record.out.passed("A9-LOG", f"{len(record.logs)} log(s) end in a final score.")
    elif not record.logs:
        record.out.unknown("A9-LOG", "there is no log to read.")


def _hardware(record: Record) -> None:
    if record.track != RECORD:
        return
    named = [(log, gpu) for log in record.logs for gpu in log.gpus]
    other = [(log, gpu) for log, gpu in named if "H100" not in gpu]
    worlds = [(log, log.world) for log in record.logs if log.world not in (None, 8)]
    for log, gpu in other[:1]:
        record.out.warn(
            "A1-HARDWARE",
            "the run was not on H100s: times don't compare with the track's.",
            file=log.file,
            found=f"{len(log.gpus)} x {gpu}",
            computed="8 x NVIDIA H100 SXM",
            remedy="Repeat the run on 8 H100 SXM.",
        )
    for log, world in worlds[:1]:
        record.out.warn("A1-HARDWARE", "the run used another number of GPUs.", file=log.file, found=world, computed="8")
    if named and not other and not worlds:
        record.out.passed("A1-HARDWARE", f"{named[0][1]} in the logs.")
    elif not named and not worlds:
        record.out.unknown("A1-HARDWARE", "no log names the GPU.", remedy="Print nvidia-smi at the head of the log.")
