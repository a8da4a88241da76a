"""``python -m harness``: the same commands as the console script."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder
    from harness.cli.main import run

    run()
