"""The README's single figures: key facts against the logs, sizes of listed files, and its arithmetic (A9).

Only what names its meaning is compared: a row of a two-column table or a list entry with a known label. The arithmetic
(means, deviations, differences, totals) is that of ``harness check claims``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from harness.public.checks.readmefigures import OTHER_RECORD
from harness.public.figures import agrees, decimals_of
from harness.public.record import Record
from harness.public.runlog import RunLog
from harness.rules import Verdict

RULE = "A9-README-MATCH"
ROW = re.compile(r"^\s*\|([^|]{2,80})\|([^|]{1,80})\|\s*$")
ENTRY = re.compile(r"^\s*[-*]\s+([^:|]{2,60}):\s+(.{1,80})$")
BYTES = re.compile(r"^\W*(\d{1,3}(?:,\d{3})+|\d{3,9})\W*(?:bytes|B)?\b\W*(?:\(|$)")
SCORE = re.compile(r"^\W*(\d\.\d{4,10})\b")
FILE_SIZE = re.compile(r"`([\w./-]{3,80})`[^`\n]{0,60}?\(([\d,]{3,11}) bytes\)")
MILLIONS = re.compile(r"\b(\d{1,3}(?:\.\d{1,3})?)\s?M\b(?= (?:total |trainable |model )?param)", re.IGNORECASE)
NEAR = 0.05
MAX_TEXT = 200_000
"""Characters of a README whose arithmetic is checked; real ones have well under 50,000."""


def _totals(log: RunLog) -> list[float]:
    return [item.value for item in log.totals]


def _models(log: RunLog) -> list[float]:
    return [item.value for item in log.models]


def _codes(log: RunLog) -> list[float]:
    return [item.value for item in log.codes]


def _parameters(log: RunLog) -> list[float]:
    return [log.parameters.value] if log.parameters else []


def _steps(log: RunLog) -> list[float]:
    return [] if log.last_step is None else [float(log.last_step)]


def _scores(log: RunLog) -> list[float]:
    return [s.bpb for s in log.passes + log.curve] + [f.value for f in log.figures]


FACTS: tuple[tuple[str, re.Pattern[str], Callable[[RunLog], list[float]]], ...] = (
    (
        r"(?:total )?submission(?: size| bytes)(?: [\w+/-]{3,24})?|total (?:artifact|submission|size|bytes)"
        r"|artifact(?: size| bytes)?",
        BYTES,
        _totals,
    ),
    (
        r"compressed (?:artifact|model)(?: size)?|model bytes|(?:serialized|quanti[sz]ed) model(?: [\w+/-]{3,24})?",
        BYTES,
        _models,
    ),
    (r"code (?:size|bytes)", BYTES, _codes),
    (r"(?:model )?param(?:eter)?s|model params|parameter count", BYTES, _parameters),
    (r"(?:training )?steps", re.compile(r"^\W*(\d{1,3}(?:,\d{3})+|\d{3,6})\b"), _steps),
    (r".*\bbpb\b.*", SCORE, _scores),
)


def check(record: Record) -> None:
    """All of the above; nothing is compared with logs that aren't here."""
    readme = record.readme
    if readme is None:
        return
    lines = readme.text.splitlines()
    if record.scored_logs and not _incomplete(record):
        _facts(record, lines)
    _parameters_stated(record, lines)
    _file_sizes(record, lines)
    _arithmetic(record)


def _incomplete(record: Record) -> bool:
    seeds = set(record.metadata.seeds) if record.metadata else set()
    seeds |= {seed for table in record.readme.tables for seed in table.rows} if record.readme else set()
    return bool(record.absent_logs) or bool(seeds - {log.seed for log in record.logs})


def _labelled(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    fenced = False
    for number, line in enumerate(lines, 1):
        fenced ^= line.lstrip().startswith("```")
        hit = None if fenced else ROW.match(line) or ENTRY.match(line)
        if hit and not OTHER_RECORD.search(line):
            yield (
                number,
                re.sub(r"[*`_]+", " ", hit[1].replace("val_bpb", "bpb")).strip(),
                re.sub(r"[*`~]+", "", hit[2]).strip(),
            )


def _facts(record: Record, lines: list[str]) -> None:
    for number, label, text in _labelled(lines):
        plain = re.sub(r"\s*\(.*", "", label).lower()
        for names, form, figures in FACTS:
            value = form.match(text)
            if value is None or not re.fullmatch(names, plain):
                continue
            known = [x for log in record.logs for x in figures(log)]
            stated = float(value[1].replace(",", ""))
            decimals = decimals_of(value[1])
            near = min(known, key=lambda x: abs(x - stated), default=None)
            if near is None or any(_same(stated, decimals, x) for x in known) or abs(near - stated) > NEAR * near:
                break
            record.out.warn(
                RULE,
                f"{label[:50]!r}: the figure is in no log.",
                file=record.readme_file,
                line=number,
                found=value[1],
                computed=f"nearest {near:,.{decimals}f}",
                remedy="Write it from the logs by script.",
                confidence="likely",
            )
            break


def _same(stated: float, decimals: int, known: float) -> bool:
    return agrees(stated, decimals, known) if decimals else stated == known


def _parameters_stated(record: Record, lines: list[str]) -> None:
    """ "26.5M parameters" against the models of the logs: a log of another model is no evidence (#86)."""
    known = [log.parameters.value / 1e6 for log in record.logs if log.parameters]
    for number, line in enumerate(lines, 1):
        stated = [value for value in map(float, MILLIONS.findall(line)) if known and 0.5 < value / known[0] < 2]
        if not stated or OTHER_RECORD.search(line):
            continue
        if all(abs(value - x) > 0.05 * x for value in stated for x in known):
            record.out.warn(
                "A9-MODEL-MATCH",
                "the README tells of a model of another size than the logs.",
                file=record.readme_file,
                line=number,
                found=f"{', '.join(f'{value:g}M' for value in stated)} parameters",
                computed=f"{', '.join(sorted({f'{x:.1f}M' for x in known}))} in the logs",
                remedy="Ship the logs of the model that is claimed.",
                confidence="likely",
            )
            return


def _file_sizes(record: Record, lines: list[str]) -> None:
    for number, line in enumerate(lines, 1):
        for name, digits in FILE_SIZE.findall(line)[:4]:
            listed = record.folder.listing.get(name)
            size = listed.size if listed else record.folder.size_of(name)
            if size and size != int(digits.replace(",", "")):
                record.out.warn(
                    RULE,
                    f"{name} has another size than the README says.",
                    file=record.readme_file,
                    line=number,
                    found=f"{digits} bytes",
                    computed=f"{size:,} bytes",
                    remedy="Ship the file that the README describes.",
                )


def _arithmetic(record: Record) -> None:
    """What the README gets wrong about its own numbers, unless another check has named the line already."""
    from harness.claims import check_text

    assert record.readme is not None
    named = {i.line for i in record.out.items if i.file == record.readme_file and i.verdict is not Verdict.PASS}
    for claim in check_text(record.readme.text[:MAX_TEXT]):
        if claim.verdict is Verdict.FAIL and claim.line not in named:
            record.out.warn(
                RULE,
                f"the README contradicts itself: {claim.what}: {claim.message}.",
                file=record.readme_file,
                line=claim.line,
                found=claim.claimed,
                computed=claim.right,
                remedy="Compute it again; `harness check claims README.md` shows all claims.",
            )
