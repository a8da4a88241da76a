"""The command line as people and CI call it, with keys and records in a folder of the test."""

from pathlib import Path

import pytest

from harness.cli.main import run


@pytest.fixture
def call(capsys, monkeypatch, tmp_path: Path):
    """``call("verify", path)`` -> (exit code, all that was printed)."""
    monkeypatch.setenv("GOLF_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("GOLF_RECORDS_DIR", str(tmp_path / "records"))
    monkeypatch.delenv("GOLF_KEY_PASSPHRASE", raising=False)

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call
