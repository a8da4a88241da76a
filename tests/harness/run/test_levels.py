"""A real run, small, through all three levels of verification by their commands, and what each says of a change."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
from click.testing import CliRunner
from msgspec.structs import replace
from record_samples import make_artifact, make_audits, make_record, stored_records

from harness.cli.main import main
from harness.errors import RuleBroken
from harness.progress import Reporter
from harness.rules import Verdict
from harness.run.rescore import drawn_part, rescore


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    """The record and artifact of a run of the template as it is, by the command."""
    house = tmp_path_factory.mktemp("levels") / "house"
    with pytest.MonkeyPatch.context() as patch:
        tiny_run.make_house(house)
        tiny_run.use_house(house, patch.setattr, patch.setenv)
        patch.chdir(house)
        done = CliRunner().invoke(main, ["submit", "--submission", "mini", "--seed", "7"], standalone_mode=False)
        assert done.return_value == 0, done.output
        (stored,) = stored_records(house / "records")
        (artifact,) = house.glob("runs/*/artifact")
        yield SimpleNamespace(stored=stored, record=stored.path, artifact=artifact, said=done.output)


@pytest.fixture
def call(finished, harness):
    return lambda *arguments: harness(*arguments)[:2]


def verdicts(text: str, rule: str) -> set[str]:
    files = [file for folder in json.loads(text)["folders"] for file in folder["files"]]
    return {finding["verdict"] for file in files for finding in file["findings"] if finding["rule"] == rule}


def test_submit_takes_a_new_submission_as_it_is_and_signs_its_record(finished):
    assert "record    records/runs/" in finished.said
    run = finished.stored.record
    assert (run.submission.name, run.submission.seed) == ("mini", 7)
    assert not [finding for finding in run.findings if finding.verdict in (Verdict.FAIL, Verdict.ERROR)]


def test_level_1_the_record_alone(call, finished):
    code, text = call("verify", finished.record, "--json")
    assert code == 0, text
    assert verdicts(text, "R1-SIGNATURE") == verdicts(text, "R3-CHAIN") == {"PASS"}


@pytest.mark.rule("R6-REPRODUCED")
def test_level_2_the_artifact_gives_the_same_score_again(call, finished):
    code, text = call("verify", finished.record, "--rescore", "--json")  # from what lies with the records
    assert code == 0, text
    assert verdicts(text, "R6-REPRODUCED") == {"PASS"}
    for audited in ("C1-CAUSAL", "S4-STATE-DECLARED", "S5-DETERMINISM"):
        assert f"{audited} " in text
    part = replace(finished.stored.record, data=replace(finished.stored.record.data, val_targets=1500))  # given as all
    with pytest.raises(RuleBroken, match="C4-COVERAGE FAIL: the record is over 1,500 targets"):
        rescore(part, finished.artifact, {}, Reporter())


@pytest.mark.rule("R6-REPRODUCED")
def test_level_3_the_whole_run_again_gives_the_same_bits(call, finished):
    code, text = call("rerun", finished.record, "--code", finished.artifact / "code.bundle", "--sign", "--json")
    assert code == 0, text
    assert json.loads(text)["comparison"]["outcome"] == "same"
    code, text = call("verify", finished.record, "--json")
    assert (code, verdicts(text, "R6-REPRODUCED")) == (0, {"WARN"})  # by the record's own owner


def test_level_2_draws_over_the_text_and_not_over_the_points_that_a_signer_chose(tmp_path: Path):
    crowded = [(place, 1.9) for place in range(1, 200)] + [(4000, 1.9)]  # all but the last at the front
    record = make_record(make_artifact(tmp_path, 1), 1, running_bpb=crowded)
    drawn = [drawn_part(record) for _ in range(100)]
    assert sum(place == 4000 for place in drawn) > 70  # 95 on average; a draw over the points would give 1 in 200
    assert all(place in dict(crowded) for place in drawn)


PEEK = """
            ahead = self.answers[: len(rows)]
            self.answers = self.answers[len(rows) :]
            predicted = (self.weight * bigram + (1 - self.weight) * unigram).log()
            yield predicted.scatter_add(1, ahead[:, None], torch.full((len(rows), 1), 0.5))
"""


@pytest.mark.slow  # a whole run, a second scoring and a second run
@pytest.mark.rule("R6-REPRODUCED")
def test_a_leak_that_the_record_hides_is_found_at_levels_2_and_3(tmp_path: Path, call, monkeypatch):
    house = tmp_path / "house"
    tiny_run.make_house(house)
    tiny_run.use_house(house, monkeypatch.setattr, monkeypatch.setenv)
    entry = house / "mini" / "eval_entry.py"
    honest = "            yield (self.weight * bigram + (1 - self.weight) * unigram).log()\n"
    text = entry.read_text().replace(honest, PEEK)
    entry.write_text(text.replace("        for rows in", "        self.answers = inputs.roll(-1)\n        for rows in"))
    with pytest.MonkeyPatch.context() as forged:

        def lies(context, *_, **__):
            return [replace(audit, entropy=context.audit_secret.hex()) for audit in make_audits("forged")]

        forged.setattr("harness.run.refereed.audit", lies)
        outcome = tiny_run.run_tiny(house)
    assert call("verify", outcome.path)[0] == 0
    code, text = call("verify", outcome.path, "--rescore", "--json")
    assert (code, "C1-CAUSAL" in text, verdicts(text, "R6-REPRODUCED")) == (1, True, {"PASS", "FAIL"})
    code, text = call("rerun", outcome.path, "--sign", "--json")
    assert (code, json.loads(text)["comparison"]["outcome"]) == (1, "different")
    assert call("verify", outcome.path)[0] == 1
