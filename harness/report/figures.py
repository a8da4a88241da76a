"""What a report shows, as numbers and tables, from records that are verified as they are read; drawn elsewhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import CouldNotCheck, UsageError
from harness.record.predicate import RunRecord
from harness.record.statement import Entry
from harness.record.verification import beside, verify_paths
from harness.rules import Finding, Verdict, title_of, worst
from harness.stats.seeds import SeedStatistics, aggregate, describe_against, pool_fields, pools

FINEWEB = "fineweb"
WRAPPED = 20  # characters that a column of words keeps at least
# columns that a narrow terminal leaves out, the first one first; page and Markdown have all
GIVES = ("clocks", "data", "eval s", "train s", "n", "bytes", "rank", "bpb before quantisation", "track")


@dataclass(frozen=True)
class ReportedRun:
    """One record and what was found about it; ``verdict`` covers signature, chain, arithmetic and its own findings.

    owner: the first key of the rotations that lead to its signer's
    """

    stored: Entry
    verdict: Verdict
    findings: tuple[Finding, ...]
    owner: str = ""

    @property
    def record(self) -> RunRecord:
        """The record itself."""
        return self.stored.record

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.record.submission.seed

    @property
    def stages(self) -> dict[tuple[str, str], float]:
        """(stage, what a table calls it) -> bpb. Stages over a part of the set say so."""
        words = self.record.stages
        found: dict[tuple[str, str], float] = {}
        for score in self.record.scores:
            if score.stage in words:
                part = "" if score.whole_set else f" (first {score.targets:,} targets)"
                found[score.stage, words[score.stage] + part] = score.bpb
        return found

    @property
    def verdict_rows(self) -> list[tuple[str, str, str]]:
        """(rule, verdict, what was seen) of each finding."""
        return [(f.rule, f.verdict.value, f"{title_of(f.rule)}: {f.message}") for f in self.findings]

    def used_s(self, budget: str) -> float:
        """Seconds in a budget; 0 for a script, of which only the whole is known."""
        return next((entry.used_s for entry in self.record.clocks if entry.name == budget), 0.0)


@dataclass(frozen=True)
class Standing:
    """A line of the overview; ``None`` is what is not known. Bytes and clocks are those of the worst seed."""

    name: str
    track: str
    data: str
    bpb: float | None
    sample_std: float | None
    seeds: int
    total_bytes: int | None
    clocks: dict[str, float]
    verdict: Verdict
    kind: str

    @property
    def ranked_in(self) -> tuple[str, str]:
        """Track and text: FineWeb's validation text is one, whatever the tokens."""
        return self.track, FINEWEB if self.data.startswith(FINEWEB) else self.data


@dataclass(frozen=True)
class Pool:
    """Runs that differ in nothing but the seed, and their statistics (``None`` without a final score).

    settings: what tells it from most pools of its submission and track, such as "TTT_EPOCHS=1"
    """

    runs: tuple[ReportedRun, ...]
    statistics: SeedStatistics | None
    settings: str = ""

    @property
    def name(self) -> str:
        """Submission and settings."""
        return self.runs[0].record.submission.name + (f" ({self.settings})" if self.settings else "")

    @property
    def title(self) -> str:
        """Submission, settings and track."""
        return f"{self.name} on track {self.runs[0].record.track.name}"

    @property
    def stages(self) -> list[tuple[str, str]]:
        """The keys of :attr:`ReportedRun.stages` that any run has, in the order of a run: the columns of its table."""
        order = list(self.runs[0].record.stages)
        return sorted({key for run in self.runs for key in run.stages}, key=lambda key: (order.index(key[0]), key[1]))

    @property
    def standing(self) -> Standing:
        """Its line of the overview."""
        record, bpb = self.runs[0].record, self.statistics.bpb if self.statistics else None
        return Standing(
            name=self.name,
            track=record.track.name,
            data=record.data.name,
            bpb=bpb.mean if bpb else None,
            sample_std=bpb.sample_std if bpb else None,
            seeds=bpb.n if bpb else len(self.runs),
            total_bytes=max(run.record.sizes.total_bytes for run in self.runs),
            clocks={name: max(run.used_s(name) for run in self.runs) for name in self.budgets},
            verdict=worst([finding for run in self.runs for finding in run.findings]),
            kind=record.kind,
        )

    @property
    def budgets(self) -> list[str]:
        """The budgets that any run has."""
        return list(dict.fromkeys(budget.name for run in self.runs for budget in run.record.clocks))


@dataclass(frozen=True)
class FolderClaim:
    """A public folder: what it says of itself, and what a check of it found, as (rule, verdict, message)."""

    standing: Standing
    findings: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Report:
    """Everything in one report; ``folder_findings`` are about keys, heads and chains."""

    pools: tuple[Pool, ...]
    folder_findings: tuple[Finding, ...]
    comparison: tuple[str, ...] = ()
    claims: tuple[FolderClaim, ...] = ()

    @property
    def runs(self) -> tuple[ReportedRun, ...]:
        """All runs, pool after pool."""
        return tuple(run for pool in self.pools for run in pool.runs)


def pool_runs(runs: Sequence[ReportedRun]) -> tuple[Pool, ...]:
    """Group runs by owner and everything but the seed.

    Runs that fail or could not be checked do not count; of a seed that was run twice the first by time counts.
    """
    groups: dict[tuple[str, ...], list[ReportedRun]] = {}
    for run in sorted(runs, key=lambda run: run.record.started_at):
        groups.setdefault((run.owner, *pool_fields(run.record).values()), []).append(run)
    found = []
    for group in groups.values():
        counted = pools([run.record for run in group if run.verdict not in (Verdict.FAIL, Verdict.ERROR)])
        try:
            statistics = aggregate(counted[0]) if counted else None
        except UsageError:
            statistics = None
        found.append(Pool(tuple(sorted(group, key=lambda run: run.seed)), statistics))
    named = [replace(pool, settings=uncommon_settings(pool, found)) for pool in found]
    keys = [(pool.title, pool.runs[0].owner) for pool in named]
    for at, (title, owner) in enumerate(keys):  # a name says nothing of whose it is
        if any(title == other and owner != another for other, another in keys):
            named[at] = replace(named[at], settings=f"{named[at].settings} key {owner[:8]}".strip())
    return tuple(named)


def uncommon_settings(pool: Pool, pools: Sequence[Pool]) -> str:
    """The settings in which ``pool`` differs from what most pools of its submission and track have, the first two."""
    titled = [other.runs[0].record.submission.config for other in pools if other.title == pool.title]
    changed = []
    for key, value in sorted(pool.runs[0].record.submission.config.items()):
        values = [str(config.get(key)) for config in titled]
        if str(value) != max(values, key=values.count):
            changed.append(f"{key}={value}")
    return ", ".join(changed[:2]) + (f" and {len(changed) - 2} more" if len(changed) > 2 else "")


def collect(
    paths: Sequence[Path],
    *,
    trust: Path | None = None,
    baseline: Path | None = None,
    margin: str | None = None,
    claims: Sequence[FolderClaim] = (),
) -> Report:
    """Records in ``paths`` (records folders, or single files under ``runs/`` of one), grouped by what they ran.

    trust: folder of accepted keys, for the baseline too
    baseline, margin: also compare the records with this folder's, a track at a time; it has a default margin
    claims: public folders, which stand beside them
    A file that is not a readable record is named and left out. Raises ``CouldNotCheck`` when nothing is left.
    """
    runs: list[ReportedRun] = []
    folder: list[Finding] = []
    reports, seen = verify_paths(paths, trust=trust), set[str]()
    for report in reports:
        folder += report.folder
        for entry in (*report.records, *beside(report, report.records)):
            if entry.entry is None or entry.record is None:
                folder += [finding for finding in entry.findings if finding.verdict is not Verdict.PASS]
            elif entry.entry.digest not in seen:  # else a copy, such as an exported folder holds
                seen.add(entry.entry.digest)
                own = tuple(finding for finding in entry.record.findings if finding.verdict is Verdict.PASS)
                runs.append(ReportedRun(entry.entry, entry.verdict, (*entry.findings, *own), report.owner_of(entry)))
    if not runs and not claims:
        text = f"no record in {', '.join(str(path) for path in paths)}."
        raise CouldNotCheck(text, remedy="`harness submit` makes one; or name a folder that holds runs/.")
    compared = describe_against(reports, verify_paths([baseline], trust=trust)[0], margin=margin) if baseline else []
    return Report(pool_runs(runs), tuple(folder), tuple(compared), tuple(claims))


@dataclass(frozen=True)
class PlainTable:
    """headers: (name, kind) with kind "n" for numbers, "name", "verdict" or ""; links: ids on the page, a row each."""

    headers: list[tuple[str, str]]
    rows: list[list[str]]
    links: list[str] = field(default_factory=list)

    def fitting(self, width: int) -> "PlainTable":
        """Without those of :data:`GIVES` for which so many characters a line are too few; long words may still wrap."""
        shown = list(range(len(self.headers)))
        for name in ("", *GIVES):
            shown = [at for at in shown if self.headers[at][0] != name]
            titles = [max(map(len, self.headers[at][0].split())) for at in shown]
            cells = [max((len(row[at]) for row in self.rows), default=0) for at in shown]
            if sum(max(title, min(cell, WRAPPED)) + 2 for title, cell in zip(titles, cells, strict=True)) <= width:
                break
        return PlainTable([self.headers[at] for at in shown], [[row[at] for at in shown] for row in self.rows])


def overview_table(report: Report) -> PlainTable:
    """One row a set of seeds or folder, by track and text, best first; what fails or has no score is not ranked."""
    found = [(pool.standing, f"pool-{index}") for index, pool in enumerate(report.pools, 1)]
    found += [(claim.standing, f"claim-{index}") for index, claim in enumerate(report.claims, 1)]
    found.sort(key=lambda item: (item[0].ranked_in, item[0].bpb is None, item[0].bpb or 0.0))
    headers = [("rank", "n"), ("submission", "name"), ("track", ""), ("data", ""), ("bpb", "n"), ("n", "n"),
               ("bytes", "n"), ("clocks", ""), ("verdict", "verdict"), ("kind", "")]  # fmt: skip
    ranks: Counter[tuple[str, str]] = Counter()
    rows = []
    for line, _ in found:
        ranked = line.verdict not in (Verdict.FAIL, Verdict.ERROR) and line.bpb is not None
        ranks[line.ranked_in] += ranked
        bpb = "none" if line.bpb is None else f"{line.bpb:.4f}"
        bpb += f" ± {line.sample_std:.4f}" if line.sample_std is not None else ""
        size = "unknown" if line.total_bytes is None else f"{line.total_bytes:,}"
        times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in line.clocks.items()) or "unknown"
        place = [str(ranks[line.ranked_in]) if ranked else "-", line.name, line.track, line.data]
        rows.append([*place, bpb, str(line.seeds), size, times, line.verdict.value, line.kind])
    return PlainTable(headers, rows, [link for _, link in found])


def pool_table(pool: Pool, *, summed: bool = False) -> PlainTable:
    """One row a seed.

    summed: also mean and deviations, of the stages that every run has; one seed has none, its row says it all
    """
    headers = [("seed", ""), *((f"bpb {words}", "n") for _, words in pool.stages), ("bytes", "n"),
               *((f"{name} s", "n") for name in pool.budgets), ("verdict", "verdict")]  # fmt: skip
    rows = []
    for run in pool.runs:
        scores = {key: f"{bpb:.4f}" for key, bpb in run.stages.items()}
        row = [str(run.seed), *(scores.get(key, "") for key in pool.stages), f"{run.record.sizes.total_bytes:,}"]
        rows.append([*row, *(f"{run.used_s(name):.1f}" for name in pool.budgets), run.verdict.value])
    if summed and (found := pool.statistics) and len(found.seeds) > 1:
        in_all = [all(key in run.stages for run in pool.runs) for key in pool.stages]
        stages = [found.stages.get(key[0]) if there else None for key, there in zip(pool.stages, in_all, strict=True)]
        for label, name in (("Mean", "mean"), ("Sample std", "sample_std"), ("Population std", "population_std")):
            means = ["" if summary is None else f"{getattr(summary, name):.4f}" for summary in stages]
            size = f"{getattr(found.total_bytes, name):,.0f}"
            rows.append([label, *means, size, *[""] * (len(pool.budgets) + 1)])
    return PlainTable(headers, rows)


def report_document(report: Report) -> dict[str, object]:
    """JSON data: the overview, pools with statistics and runs, findings about the folder, the comparison."""
    overview = overview_table(report)
    return {
        "overview": [dict(zip([name for name, _ in overview.headers], row, strict=True)) for row in overview.rows],
        "pools": [
            {
                "title": pool.title,
                "statistics": pool.statistics,
                "runs": [
                    {
                        "file": run.stored.path.name,
                        "digest": run.stored.digest,
                        "seed": run.seed,
                        "verdict": run.verdict.value,
                        "bpb": {score.stage: score.bpb for score in run.record.scores},
                        "total_bytes": run.record.sizes.total_bytes,
                        "budgets": run.record.budgets,
                        "findings": run.findings,
                    }
                    for run in pool.runs
                ],
            }
            for pool in report.pools
        ],
        "public_folders": report.claims,
        "folder_findings": report.folder_findings,
        "comparison": report.comparison,
    }
