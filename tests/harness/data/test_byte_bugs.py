"""Each byte bug of the public challenge, made on purpose, is named by the audit. Numbers are its pull requests."""

import json
import math
import shutil

import click
import numpy as np
import pytest
import sentencepiece
from click.testing import CliRunner
from corpus import documents, model, small_dataset, trained

from harness.cli.check_public import bytes_command as command
from harness.data.dataset import join_values, write_shard
from harness.data.tokenizers import CaseTokenizer
from harness.errors import UsageError
from harness.fineweb import VARIANTS
from harness.review.published import judge_claim

DOCS = documents(30)


@pytest.fixture
def docs(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in DOCS))
    return path


@pytest.fixture
def folder(tmp_path):
    return small_dataset(tmp_path / "small", val=DOCS, shard_tokens=10**6)


def stream(folder):
    return join_values(sorted(folder.glob("*_val_0*.bin")))


def check(*arguments):
    result = CliRunner().invoke(command, [*(str(a) for a in arguments), "--json"], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value, json.loads(result.stdout)["findings"]


def named(findings):
    return {f.get("found", "") for f in findings if f["verdict"] == "FAIL"}


def test_a_sound_set_passes(folder, docs):
    total = sum(len(t.encode()) for t in DOCS)
    code, findings = check(folder, "--docs", docs, "--claimed-bytes", total, "--val-tokens", len(stream(folder)) - 1)
    assert code == 0
    assert not named(findings)


@pytest.mark.rule("C4-COVERAGE")
@pytest.mark.parametrize(
    ("targets", "name"),
    [
        (lambda n, starts: n // 3 + 5, "subset"),
        (lambda n, starts: int(starts[10]) - 1, "first-documents"),
        (lambda n, starts: 2 * n, "too-many"),
    ],
)
def test_b18_b19_a_part_reported_as_the_whole(folder, targets, name):
    tokens = stream(folder)
    starts = np.flatnonzero(tokens == 1)
    code, findings = check(folder, "--val-tokens", targets(len(tokens) - 1, starts))
    assert code == 1
    assert name in named(findings)


@pytest.mark.rule("C4-COVERAGE")
def test_b20_a_prep_slice_that_is_missing_from_the_shards(tmp_path, docs):
    folder = small_dataset(tmp_path / "sliced", val=DOCS[:10] + DOCS[20:])
    code, findings = check(folder, "--docs", docs, "--val-docs", 30)
    assert code == 1
    assert "documents-missing" in named(findings)
    assert "document 10 is the first" in next(f["message"] for f in findings if f.get("found") == "documents-missing")


def table_total(tokens, *, fallback=1, space=1, twice=0):
    """The public method with one mistake, written anew."""
    known = sentencepiece.SentencePieceProcessor(model_proto=trained().file)
    total = 0
    for before, target in zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True):
        piece = known.id_to_piece(target)
        if known.is_control(target) or known.is_unknown(target):
            continue
        if known.is_byte(target):
            total += fallback
        elif piece.startswith("\u2581"):
            shown = space if space == 3 else int(not known.is_control(before))
            total += len(piece[1:].encode()) + shown + twice
        else:
            total += len(piece.encode())
    return total


@pytest.mark.rule("A7-BYTES")
@pytest.mark.parametrize(
    ("bug", "mistake"),
    [("fallback-as-3", {"fallback": 3}), ("space-as-3", {"space": 3}), ("double-space", {"twice": 1})],
    ids=["b21-fallback", "b22-space", "b23-double-space"],
)
def test_b21_b22_b23_a_wrong_table_is_named(folder, bug, mistake):
    tokens = stream(folder)
    code, findings = check(folder, "--claimed-bytes", table_total(tokens, **mistake))
    assert code == 1
    assert named(findings) == {bug}
    nats = 1.2345 * (len(tokens) - 1)
    bpb = nats / math.log(2) / table_total(tokens, **mistake)
    claim = ["--val-loss", "1.23450000", "--val-bpb", f"{bpb:.8f}", "--val-tokens", len(tokens) - 1]
    assert named(check(folder, *claim)[1]) == {bug}


@pytest.mark.rule("A7-BYTES")
def test_b22_a_vocabulary_without_the_space_marker(tmp_path, docs):
    tokenizer = model(words=True)
    assert not tokenizer.table().space.any()
    folder = small_dataset(tmp_path / "spaceless", val=DOCS, tokenizer=tokenizer)
    table = int(tokenizer.table().target_bytes(stream(folder)).sum())
    total = sum(len(t.encode()) for t in DOCS)
    assert table > 1.1 * total
    code, findings = check(folder, "--docs", docs)
    assert code == 1
    assert "no-space-marker" in named(findings)


@pytest.mark.rule("A7-BYTES")
def test_b24_b25_case_operators_counted_as_text(tmp_path):
    inner = trained()
    folder = small_dataset(tmp_path / "case", val=DOCS, tokenizer=CaseTokenizer(inner))
    tokens = stream(folder)
    plain_table = int(inner.table().target_bytes(tokens).sum())
    written = inner.decode(tokens[1:].astype(np.int64)).decode()
    total = sum(len(t.encode()) for t in DOCS)
    with_operators = total + 3 * sum("\ue001" <= c <= "\ue004" for c in written)
    arguments = ["--tokenizer", folder / "small_bpe.model"]
    assert named(check(folder, *arguments, "--claimed-bytes", plain_table)[1]) == {"table-on-operators"}
    assert named(check(folder, *arguments, "--claimed-bytes", with_operators)[1]) == {"operators-counted"}
    assert check(folder, *arguments, "--claimed-bytes", total)[0] == 0


@pytest.mark.rule("A7-BYTES")
def test_b26_case_folding_is_not_reversible(tmp_path, docs):
    folder = small_dataset(tmp_path / "folded", val=DOCS, tokenizer=model(normalization_rule_name="nmt_nfkc_cf"))
    code, findings = check(folder, "--docs", docs)
    assert code == 1
    assert any("case is folded" in f["message"] and "document 0, byte 0" in f["message"] for f in findings)


@pytest.mark.rule("A4-DISJOINT")
def test_b36_validation_shard_among_the_train_shards(folder):
    shutil.copy(folder / "small_val_000000.bin", folder / "small_train_000001.bin")
    code, findings = check(folder)
    assert code == 1
    assert any("30 pairs are equal" in f["message"] and "100.0 %" in f["message"] for f in findings)


@pytest.mark.rule("A4-DISJOINT")
def test_b37_train_begins_inside_validation(tmp_path):
    folder = small_dataset(tmp_path / "overlap", val=DOCS, train=DOCS[6:] + documents(10, 300))
    code, findings = check(folder)
    assert code == 1
    finding = next(f for f in findings if f["rule"] == "A4-DISJOINT")
    assert "80.0 % of validation" in finding["message"]
    assert "validation document 6" in finding["message"]


@pytest.mark.rule("A4-DISJOINT")
def test_near_duplicates_are_seen_in_shards_too(tmp_path):
    folder = small_dataset(tmp_path / "near", val=DOCS, train=[*documents(5, 300), DOCS[4] + " one more"])
    assert check(folder)[0] == 0
    finding = next(f for f in check(folder, "--near")[1] if f["rule"] == "A4-DISJOINT")
    assert finding["verdict"] == "WARN"
    assert "1 nearly" in finding["message"]


@pytest.mark.rule("C4-COVERAGE")
def test_b37_a_manifest_with_another_split_or_count_is_named(folder, tmp_path):
    stats = {"docs_val": 10_000, "files_val": 1, "tokens_val": 7}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"datasets": [{"name": "small", "stats": stats}]}))
    code, findings = check(folder, "--manifest", path)
    message = next(f["message"] for f in findings if f.get("found") == "incomplete")
    assert code == 1
    assert "docs_val is 30, the manifest says 10,000" in message
    assert "the split has 50,000" in message


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_published_variants_pass_by_their_fingerprint(variant):
    loss = 2.5
    bpb = loss / math.log(2) * variant.val_tokens / variant.bytes
    assert {f.verdict for f in judge_claim(f"{loss:.8f}", f"{bpb:.8f}", variant.val_tokens)} == {"PASS"}


@pytest.mark.parametrize(
    ("total", "tokens", "name"),
    [
        (164_594_398, 47_851_520, "operators-counted"),
        (157_319_833, 62_021_632, "fallback-as-3"),
        (176_332_748, 40_540_160, "double-space"),
        (151_078_222 * 1.0895, 47_851_520, "operators-counted"),
        (151_078_222 * 1.20, 40_540_160, "space-as-3"),
        (30_000_000, 9_662_464, "subset"),
        (140_000_000, 36_562_944, "unknown"),
    ],
)
def test_known_wrong_totals_are_named_from_the_claim_alone(total, tokens, name):
    loss = 2.5
    bpb = loss / math.log(2) * tokens / total
    code, findings = check("--val-loss", f"{loss:.8f}", "--val-bpb", f"{bpb:.8f}", "--val-tokens", tokens)
    assert code == 1
    assert name in named(findings)


def test_a_claim_with_too_few_digits_is_not_called_good(folder):
    code, findings = check("--val-loss", "2.4", "--val-bpb", "0.9", "--val-tokens", 40_540_160)
    assert (code, [f["verdict"] for f in findings]) == (0, ["PASS", "UNKNOWN"])
    tokens = stream(folder)
    bpb = 2.5 * (len(tokens) - 1) / math.log(2) / sum(len(t.encode()) for t in DOCS)
    findings = check(folder, "--val-loss", "2.5", "--val-bpb", f"{bpb:.8f}", "--val-tokens", len(tokens) - 1)[1]
    assert any(f["verdict"] == "UNKNOWN" and "too few digits" in f["message"] for f in findings)


@pytest.mark.parametrize(
    "arguments", [[], ["--val-loss", "2.5"], ["--val-loss", "x", "--val-bpb", "1", "--val-tokens", "5"], ["nowhere"]]
)
def test_wrong_usage_is_one_message(arguments):
    with pytest.raises((UsageError, click.UsageError)):
        check(*arguments)


def test_a_changed_ledger_is_named(folder, docs):
    path = folder / "small_val_bytes_000000.bin"
    sizes = join_values([path]).copy()
    sizes[5] += 1
    sizes[9] -= 1
    path.unlink()
    write_shard(path, sizes)
    code, findings = check(folder, "--docs", docs)
    assert code == 1
    assert "ledger-differs" in named(findings)
