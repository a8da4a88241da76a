"""``python -m harness``: the same commands as the console script."""

from harness.cli.main import run

if __name__ == "__main__":
    run()
