"""What a cheat of ``tests/zoo/processes`` tries, and what its twin may do; a copy lies beside the code of a case."""

import sys


def attempt(what, action):
    """Try ``action``; print whether the system let it. A cheat goes on either way. Returns the result or None."""
    try:
        result = action()
    except (OSError, LookupError, ImportError) as error:
        print(f"zoo refused {what}: {error!r}", file=sys.stderr, flush=True)
        return None
    print(f"zoo got in {what}", file=sys.stderr, flush=True)
    return result


def need(action):
    """Do what an honest twin may do."""
    if action() is None:
        raise RuntimeError("what is allowed was refused")
