"""The ``harness`` command: one module a verb, imported only when that verb is used."""

import json
import os
import signal
import sys
import traceback
from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit

import click

import harness
from harness.cli import TEXTS, LazyGroup
from harness.config.variables import GIVEN_TO_MAKE, VARIABLES
from harness.errors import CouldNotCheck, ExitCode, HarnessError, RuleBroken, UsageError, machine_trouble
from harness.program import refuse_surroundings, typed
from harness.sandbox.processes import default_signals
from harness.text import guarded_streams

VERBS: dict[str, tuple[str, str]] = TEXTS["verbs"]
EXTRAS = {"torch": "train", "huggingface_hub": "train", "tiktoken": "tiktoken", "submitit": "fleet", "ray": "fleet"}
EXIT_CODES = "Exit codes: 0 good, 1 a rule is broken, 2 wrong usage, 3 could not check, 130 interrupted."


@click.group(cls=LazyGroup, places=VERBS, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(harness.__version__, prog_name="harness")
@click.pass_context
def main(context: click.Context) -> None:
    """The referee of Parameter Golf: it owns the clock, the data, the byte counts, the score and the signature."""
    given = set(os.environ.pop(GIVEN_TO_MAKE, "").split()) - set(VARIABLES)
    command = main.get_command(context, context.invoked_subcommand or "") if given else None
    if command is None:
        return
    read = {option.envvar for option in command.params if isinstance(option.envvar, str)}
    unread = sorted(given - read)
    if any(option.name == "submission_dir" for option in command.params):
        os.environ[GIVEN_TO_MAKE] = " ".join(unread)  # the rest may be the submission's own: its manifest decides
    elif unread:
        text = f"make {context.invoked_subcommand} reads no variable {', '.join(unread)}."
        known = f"It reads {', '.join(sorted(read))}." if read else "See `make help`."
        raise UsageError(text, remedy=f"{known} A variable for another program goes before make.")


def run(argv: list[str] | None = None) -> None:
    """Run the command line and exit. Failures end in one message on stderr and the exit code of their kind."""
    default_signals(signal.SIGCHLD)  # a parent that ignores it would hide how every child ends
    os.umask(os.umask(0o077) & 0o077)  # a mask for the owner too would take from a cell what it wrote itself
    # No program that is started from here, and no module that it imports, lies in the working folder.
    path = os.pathsep.join(filter(os.path.isabs, os.get_exec_path())) or os.defpath
    os.environ |= {"PYTHONSAFEPATH": "1", "PATH": path}
    with guarded_streams():
        code = _run(sys.argv[1:] if argv is None else argv)
        try:
            sys.stdout.flush()
        except OSError as error:
            code = _say(CouldNotCheck(f"the output could not be written: {error.strerror}.", remedy=""))
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        refuse_surroundings()
        if odd := [at for at in arguments if at != at.encode(errors="replace").decode() and not os.path.lexists(at)]:
            raise UsageError(f"{odd[0]!r} is not UTF-8.", remedy="Type it where the terminal's encoding is UTF-8.")
        code = main.main(args=arguments, prog_name="harness", standalone_mode=False)
    except SystemExit as done:
        code = done.code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt) as error:
        words = str(error) or str(error.__cause__ or "") or "interrupted; nothing half-written was kept."
        print(f"harness: {typed(words)}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except (HarnessError, OSError) as problem:
        known = machine_trouble(problem) if isinstance(problem, OSError) else problem
        if "--json" in arguments:
            found = {name: getattr(known, name, None) for name in ("rule", "message", "remedy")}
            print(json.dumps({"verdict": known.label} | found | ({"log": known.log} if known.log else {})))
        return _say(known)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get((error.name or "").split(".")[0])):
            words = f"harness {' '.join(arguments[:1])} needs {error.name}, which is not installed here."
            remedy = f"Install the extra {extra}: pip install 'parameter-golf-referee[{extra}]'."
            return _say(CouldNotCheck(words, remedy=remedy))
        traceback.print_exc()  # Python would end with 1, and that is the code of a broken rule
        words = f"the referee itself failed ({type(error).__name__}, above): that says nothing about what it judged."
        unlimited = all(getrlimit(kind)[0] == RLIM_INFINITY for kind in (RLIMIT_AS, RLIMIT_DATA))
        low = "" if unlimited else "First raise this shell's limits of memory (ulimit -v, ulimit -d). "
        return _say(CouldNotCheck(words, remedy=f"{low}If it fails again, report it with these lines."))
    return code if isinstance(code, int) else ExitCode.GOOD


def _say(error: HarnessError) -> int:
    named = "" if isinstance(error, RuleBroken) else f"{error.label}: "  # a broken rule says its name and FAIL itself
    print(f"harness: {typed(f'{named}{error}')}", file=sys.stderr)
    return error.exit_code
