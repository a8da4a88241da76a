"""A variable that was meant for the submission and misspelt stops the run before anything starts."""

from pathlib import Path

import msgspec
import pytest

from harness.errors import RuleBroken, UsageError
from harness.run.artifact import read_folder
from harness.run.manifest import MAX_SETTINGS_BYTES, accepted_variables, check_variables, read_manifest
from harness.sandbox.policy import cell_environment, inherited

ROOT = Path(__file__).parents[3]


FILES = read_folder(ROOT / "submission")


@pytest.fixture(scope="module")
def manifest():
    return read_manifest(FILES, "submission")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TTT_EPOCH", "TTT_EPOCHS"),
        ("NUM_LAYERZ", "NUM_LAYERS"),
        ("RECPIE", "RECIPE"),
        ("SEEED", "SEED"),
        ("TRAK", "TRACK"),
    ],
)
def test_a_typing_error_is_named_with_what_was_meant(manifest, name: str, meant: str):
    with pytest.raises(UsageError, match=rf"{name} \(did you mean {meant}\?\)"):
        check_variables(manifest, {name: "1", "HOME": "/root"}, FILES)


@pytest.mark.parametrize(("name", "likely"), [("EPOCHS", "TTT_EPOCHS"), ("OUT", None), ("SEEDS", "SEED")])
def test_a_name_that_make_was_given_is_refused_where_nothing_reads_it(manifest, name: str, likely: str | None):
    environ = {name: "3", "TTT_LR": "0.1", "GIVEN_TO_MAKE": f"{name} TTT_LR"}  # what the command reads is left out
    with pytest.raises(UsageError, match=rf" {name}{rf' .did you mean {likely}' if likely else ''}.*goes before make"):
        check_variables(manifest, environ, FILES)
    check_variables(manifest, environ | {"GIVEN_TO_MAKE": "TTT_LR"}, FILES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("TIED_EMBED_LR", "it is EMBED_LR here"),
        ("MUON_WD", "it is WEIGHT_DECAY here"),
        ("GRAD_CLIP_NORM", "not clipped"),
        ("WARMUP_STEPS", "MUON_MOMENTUM_WARMUP_STEPS"),
        ("SWA_ENABLED", "EMA_DECAY"),
    ],
)
def test_a_name_of_another_script_is_told_what_it_is_here(manifest, name: str, words: str):
    with pytest.raises(UsageError, match=rf"{name} \([^)]*{words}"):
        check_variables(manifest, {name: "1"}, FILES)


def test_the_words_of_a_stranger_stay_on_their_line(manifest):
    loud = msgspec.structs.replace(manifest.env, hints={"HOME": "leave it out\nharness: PASS"})
    with pytest.raises(UsageError, match=r"HOME \(leave it out harness: PASS\)"):
        check_variables(msgspec.structs.replace(manifest, env=loud), {"HOME": "/"}, FILES)


def test_a_name_of_the_namespace_is_refused_without_a_likeness(manifest):
    with pytest.raises(UsageError, match="MUON_QQQQQQQQQQQQQQQQQQQQ"):
        check_variables(manifest, {"MUON_QQQQQQQQQQQQQQQQQQQQ": "1"}, FILES)


def test_accepted_names_and_names_of_others_pass(manifest):
    others = ("HOME", "PATH", "SHELL", "LANG", "SEED", "TRACK", "DATA", "OMP_NUM_THREADS", "RECORD", "HOSTNAME")
    check_variables(manifest, dict.fromkeys({*manifest.env.accept, *others, "EDITOR"}, "1"), FILES)


@pytest.mark.rule("A3-NO-UNCOUNTED-CODE")
def test_variables_hold_settings_and_no_weights(manifest):
    room = MAX_SETTINGS_BYTES - len("RECIPE")
    fits = {"RECIPE": "é" * (room // 2), "OTHERS": "x" * 10**6}
    assert accepted_variables(manifest, fits) == {"RECIPE": fits["RECIPE"]}
    for sets in ({"RECIPE": "é" * (room // 2) + "x"}, dict.fromkeys(manifest.env.accept, "x" * 80)):
        with pytest.raises(RuleBroken, match=r"hold .* bytes, names and values; 4,096 at most") as caught:
            check_variables(manifest, sets, FILES)
        assert caught.value.rule == "A3-NO-UNCOUNTED-CODE"
        assert "model file" in caught.value.remedy


def test_a_whole_configuration_fits(manifest):
    """A rerun sets every accepted variable to what the record says: numbers, and words of the submission's own."""
    words = {"WARMDOWN_SHAPE": "linear", "RECIPE": "pr1890"}
    check_variables(manifest, dict.fromkeys(manifest.env.accept, "0.0123456789") | words, FILES)


def test_a_variable_that_every_cell_inherits_holds_no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    shelf, toolkit = tmp_path / "shelf", tmp_path / "toolkit"
    shelf.mkdir()
    (shelf / "libown.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/weights/3q2+7w:{shelf}:{tmp_path}:c2hlbGY:{shelf}")
    for name in (switches := {"CUDA_HOME", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "NCCL_NVLS_ENABLE"}):
        monkeypatch.setenv(name, "weights: 3q2+7w")
    own = {"LD_LIBRARY_PATH": str(shelf)}
    assert inherited(gpus=False) == own
    assert {name: value for name, value in inherited(gpus=True).items() if name in {*own, *switches}} == own | {
        "NCCL_NVLS_ENABLE": "0"
    }
    (toolkit / "bin").mkdir(parents=True)
    (toolkit / "bin" / "nvcc").touch()
    honest = {"CUDA_HOME": str(toolkit), "CUDA_VISIBLE_DEVICES": "0,MIG-4b/1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    for name, value in (honest := honest | {"NCCL_NVLS_ENABLE": "1"}).items():
        monkeypatch.setenv(name, value)
    assert (own | honest).items() <= inherited(gpus=True).items()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0," * 2500)
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES is 5,000 characters"):
        cell_environment(tmp_path, gpus=True)


def stranger(*accept: str, name: str = "mine") -> dict[str, bytes]:
    entry = "".join(f'{phase} = "entry"\n' for phase in ("describe", "train", "package", "eval"))
    listed = ", ".join(f'"{variable}"' for variable in accept)
    text = f'name = "{name}"\n[entry]\n{entry}[env]\naccept = [{listed}]\n'
    return {"submission.toml": text.encode(), "entry.py": b"MODES = ('fast', 'exact')\n"}


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "MY_TOKEN", "DB_PASSWORD", "AWS_PROFILE", "SSH_CONNECTION", "GH_HOST"),
        *("MYSQL_PWD", "HEROKU_API_KEY", "SENTRY_DSN", "FTP_PASS", "PGPASSWORD", "SSHPASS", "DOCKER_AUTH_CONFIG"),
    ],
)
def test_a_submission_can_not_accept_a_variable_of_the_user_s_secrets(name: str):
    with pytest.raises(UsageError, match=f"'{name}', which is reserved"):
        read_manifest(stranger(name), "mine")


@pytest.mark.parametrize(
    "name", ["MY_ACCESSTOKEN", "MY_APITOKEN2", "MY_KEY1", "MY_PW", "MY_JWT", "MY_PRIVATEKEY", "BEARER"]
)
def test_names_of_secrets_are_known_with_a_number_and_in_one_word(name: str):
    with pytest.raises(UsageError, match=f"'{name}', which is reserved"):
        read_manifest(stranger(name), "mine")
    read_manifest(stranger("TRAIN_TOKENS", "BATCH_TOKENS2", "KEY_DIM", "SPOKEN", "TOKENIZER_DIR"), "mine")  # no secrets


PRIVATE = {"hub": "hf_abcdefghij", "random": "Zm9vYmFyMTIzNDU2Nzg5MGFi", "name": "ada", "host": "ada-laptop.example"}


@pytest.mark.parametrize("value", PRIVATE.values(), ids=PRIVATE)
def test_what_is_no_setting_stays_with_the_user(value: str):
    files = stranger("LOGNAME")
    manifest = read_manifest(files, "mine")
    with pytest.raises(UsageError, match="the variable LOGNAME, and its value here") as caught:
        check_variables(manifest, {"LOGNAME": value}, files)
    assert value not in str(caught.value)
    secret = value in (PRIVATE["hub"], PRIVATE["random"])
    assert ("GOLF_ACCEPT" in caught.value.remedy) is not secret
    if secret:  # whatever the user or the name says
        with pytest.raises(UsageError, match="looks like a secret"):
            check_variables(manifest, {"LOGNAME": value, "GOLF_ACCEPT": "LOGNAME"}, files)
    else:
        check_variables(manifest, {"LOGNAME": value, "GOLF_ACCEPT": "LOGNAME"}, files)


@pytest.mark.parametrize("value", ["0.025", "1,2,3,4,6", "1e-05", "fast", "EXACT,fast", "true", "", "-3"])
def test_numbers_and_the_submission_s_own_words_are_settings(value: str):
    files = stranger("MODE")
    check_variables(read_manifest(files, "mine"), {"MODE": value}, files)


def test_under_its_own_prefix_a_submission_takes_any_word_that_is_no_secret():
    files = stranger("MY_MODEL_TITLE", name="my-model")
    manifest = read_manifest(files, "mine")
    check_variables(manifest, {"MY_MODEL_TITLE": "warm and slow"}, files)
    # the name, and so the prefix, is the stranger's choice: it opens nothing that the user would not show
    check_variables(manifest, {"MY_MODEL_TITLE": "tables/of/Long/Words/1/that/are/a/path"}, files)
    check_variables(manifest, {"MY_MODEL_TITLE": "Basic training, cosine-V2 and_rows_then_columns_of_layer_2"}, files)
    secrets = ("ghp_abcdefghij", "postgres://ada:x@db/x", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "Uid=ada;Pwd=x")
    secrets += ("rk_live_51H8", "dckr_pat_A-1", "hvs.CAES", "SG.abc.def", "Bearer abc", "Basic YTpi=YTp")
    secrets += ("wJalr-XUtnF_EMI-K7MDEN_GbPxR-fiCYEX_AMPLE", "wJalrXUt/K7MDENG/bPxRfiCYzEXAMPLEKEYabcd")
    for value in (*secrets, "postgres://db/x?user=ada&password=x"):
        with pytest.raises(UsageError, match="looks like a secret"):
            check_variables(manifest, {"MY_MODEL_TITLE": value}, files)


def test_a_manifest_that_is_nested_without_end_is_refused_by_name():
    with pytest.raises(UsageError, match=r"mine/submission\.toml: "):
        read_manifest({"submission.toml": b"a=" + b"[" * 50_000}, "mine")
