"""The table of pull request #1890's claims: which runs count, how they are paired, and what is concluded."""

from pathlib import Path

import msgspec
import pytest
import seed_table
from record_samples import make_artifact, make_record, make_score, store_run
from seed_table import BASE, BUG, CLAIMS, ONE_EPOCH, Variant, agreement, base_settings, code_of, row, variant_of

from harness.record.canonical import canonical_digest
from harness.record.predicate import SubmissionInfo


def submission_of(variant: Variant, seed: int, code: Path) -> SubmissionInfo:
    sample = make_record(make_artifact(code, seed), seed).submission
    config = dict(base_settings("smoke")) | dict(variant.settings)
    return msgspec.structs.replace(sample, name=variant.name, config=config, config_digest=canonical_digest(config))


def store(root: Path, variant: Variant, seed: int, nats: float) -> Path:
    name = f"{seed_table.VARIANTS.index(variant)}"
    submission = submission_of(variant, seed, root / "artifacts" / f"{name}-{seed}")
    return store_run(root, seed, name=name, nats=nats, submission=submission).path


def test_runs_are_paired_by_seed_and_broken_ones_left_out(tmp_path: Path) -> None:
    """One epoch costs 10, 20 and 30 nats of 9,000 bytes more; the fourth pair's record was changed after signing."""
    for seed, more in ((1, 10.0), (2, 20.0), (3, 30.0), (4, 9e3)):
        store(tmp_path, BASE, seed, 12000.5)
        changed = store(tmp_path, ONE_EPOCH, seed, 12000.5 + more)
    store(tmp_path, BUG, 7, 1.0)
    changed.write_text(changed.read_text().replace("A", "B", 1))
    runs, notes = seed_table.collect(tmp_path / "records", "smoke")
    found = row(CLAIMS[0], runs)
    step = 1e3 * (make_score("final", 10.0).bpb)
    assert found[3:] == (f"{-2 * step:+.2f} ± {step:.2f}", "3", "undecided", "no")
    assert row(CLAIMS[1], runs)[3:5] == ("not run", "0")
    assert any(changed.name in note for note in notes)


def test_a_run_of_something_else_is_no_variant(tmp_path: Path) -> None:
    record = make_record(make_artifact(tmp_path, 1), 1)
    assert variant_of(record) is None
    for variant in seed_table.VARIANTS:
        submission = submission_of(variant, 1, tmp_path)
        assert variant_of(msgspec.structs.replace(record, submission=submission)) is variant
    other = msgspec.structs.replace(submission, config=submission.config | {"MODEL_DIM": "128"})
    assert variant_of(msgspec.structs.replace(record, submission=other)) is None


@pytest.mark.parametrize(
    ("mean", "half", "found"),
    [
        (-7.6, None, ("one seed", "one seed")),
        (-7.0, 1.0, ("yes", "yes")),
        (-2.0, 1.0, ("yes", "no")),
        (3.0, 1.0, ("no", "no")),
        (-2.0, 9.0, ("undecided", "yes")),
    ],
)
def test_an_interval_decides(mean: float, half: float | None, found: tuple[str, str]) -> None:
    assert agreement(CLAIMS[0], mean, half) == found


def test_the_copy_with_the_bug_differs_in_its_floor_and_name() -> None:
    with code_of(BASE) as sound, code_of(BUG) as copy:
        differing = {
            path.relative_to(sound).as_posix(): copy / path.relative_to(sound)
            for path in sound.rglob("*")
            if path.is_file()
            and "__pycache__" not in path.parts
            and path.read_bytes() != (copy / path.relative_to(sound)).read_bytes()
        }
        assert differing.keys() == {"package/grid.py", "submission.toml"}
        assert "1 / 127" in differing["package/grid.py"].read_text()
