"""git in a repository that may be a stranger's: nothing that its configuration names is run, and nothing is fetched."""

import os
import subprocess
from pathlib import Path

from harness.errors import CouldNotCheck
from harness.text import printable

TIMEOUT_S = 120
QUIET = {  # a partial clone would fetch by the program that its address names; grafts hide what came before
    **{"GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"},
    **{"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_GRAFT_FILE": os.devnull},
}
_OURS = (  # what a repository's own settings name git would run, leave out, or take from a wrong cache of its history
    *("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.commitGraph=false", "i18n.logOutputEncoding=UTF-8"),
    *("log.showSignature=false", "log.showRoot=true", "log.diffMerges=separate", "log.follow=false"),
)
WHOLE = "It takes a clone with the whole history; pull requests: git fetch origin '+refs/pull/*/head:…'."


def git(repository: Path, *arguments: str, remedy: str = WHOLE, check: bool = True) -> bytes:
    """Output of one git command. Raises ``CouldNotCheck`` when it fails and ``check`` is set."""
    settings = [word for setting in _OURS for word in ("-c", setting)]
    command = ["git", "-C", str(repository), *settings, "--no-pager", "--literal-pathspecs", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, env=os.environ | QUIET)
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"git {arguments[0]} could not be run in {repository}: {error}."
        raise CouldNotCheck(message, remedy="Install git, or leave out what asks for it.") from error
    if done.returncode and check:
        reason = printable(done.stderr.decode("utf-8", "replace").strip()).rstrip(".") or "failed"
        raise CouldNotCheck(f"git {arguments[0]} in {repository}: {reason}.", remedy=remedy)
    return done.stdout
