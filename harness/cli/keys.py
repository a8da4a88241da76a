"""``harness keys``: private keys that sign, and the list of public keys that are trusted."""

from pathlib import Path

import click

from harness.cli import FILE, JSON, epilog, say
from harness.cli.result import fitted_table
from harness.config.variables import keys_dir, records_dir
from harness.errors import CouldNotCheck, UsageError
from harness.record import trust as trusted
from harness.record.signing import ACTIVE, bind_key, create_key, describe_key, load_private, read_active, rotate_key
from harness.text import printable


@click.group(epilog=epilog("keys"))
def command() -> None:
    """Make, list, trust, revoke, rotate and bind signing keys, and sign the list of them."""


@command.command()
@click.option("--owner", default="", help="A name to show beside the key; anything you like.")
@JSON
def new(owner: str, as_json: bool) -> None:
    """Make a private key that signs from now on. Its public half goes into the list of keys."""
    key = describe_key(create_key(keys_dir(), records_dir=records_dir(), owner=owner), owner=owner)
    path = trusted.public_path(records_dir(), key.keyid)
    say([key], f"Key {key.keyid} signs from now on; its public half is {path}.", as_json=as_json)


@command.command("list")
@JSON
def list_(as_json: bool) -> None:
    """List the trusted keys, and the one that signs here."""
    accepted = trusted.accepted_keys(records_dir() / "keys")
    active = read_active(keys_dir()) if (keys_dir() / ACTIVE).exists() else ""
    rows = []
    for key in accepted.keys.values():
        owner, reason = printable(key.owner, 30), printable(key.reason, 40)
        here, window = "signs here" if key.keyid == active else "", (key.not_before or "open", key.not_after or "open")
        rows.append((key.keyid[:16], owner, " ".join((key.status, *key.roles)), *window, here, reason))
    table = fitted_table(("key", "owner", "status", "from", "until", "", "reason"), rows)
    shown = f"{table}\n\nKeys by {accepted.source}." if rows else "No key is listed yet; the first signed run adds one."
    say(list(accepted.keys.values()), shown, as_json=as_json)
    if accepted.bad:
        raise CouldNotCheck(" ".join(accepted.bad.values()), remedy="")  # each has its own


@command.command()
@click.argument("key")
@click.option("--owner", help="A name to show beside the key.")
@click.option("--from", "not_before", help="Start of the window, such as 2026-11-24T00:00:00Z.")
@click.option("--until", "not_after", help="End of the window; what is dated later does not count.")
@click.option("--role", "roles", type=click.Choice(["runner", "reviewer"]), multiple=True,
              help="What it may sign: a runner's records, a reviewer's reviews. Default: both.")  # fmt: skip
@JSON
def trust(key: str, roles: tuple[trusted.Role, ...], as_json: bool, **shown: str | None) -> None:
    """Accept a public key, and set its window and roles. KEY is a public key file, or the id of a listed key."""
    known = trusted.load_public(Path(key)) if Path(key).is_file() else _find(key)
    listed = trusted.change_key(records_dir(), known, status="trusted", roles=roles or None, **shown)
    window = f"from {listed.not_before or 'any time'} until {listed.not_after or 'further notice'}"
    say([listed], f"Key {listed.keyid} is trusted {window}.", as_json=as_json)


@command.command()
@click.argument("key")
@click.option("--reason", required=True, help="Why; shown with every record that no longer counts.")
@JSON
def revoke(key: str, reason: str, as_json: bool) -> None:
    """Revoke a key: nothing it signed counts any more. KEY is the start of its id."""
    listed = trusted.change_key(records_dir(), _find(key), status="revoked", reason=reason)
    say([listed], f"Key {listed.keyid} is revoked: {reason}.", as_json=as_json)


@command.command()
@click.option("--owner", default="", help="A name for the new key; the old one's by default.")
@JSON
def rotate(owner: str, as_json: bool) -> None:
    """Replace the key that signs here. The old one endorses the new one and retires; its records stay good."""
    old, made = rotate_key(keys_dir(), records_dir(), owner=owner)
    say([made], f"Key {made.keyid} signs from now on; {old.keyid[:16]} retired at {old.not_after}.", as_json=as_json)


@command.command()
@click.argument("ssh_key", type=FILE)
@JSON
def bind(ssh_key: Path, as_json: bool) -> None:
    """Let an SSH key say whose the key that signs here is. SSH_KEY is a private key file such as ~/.ssh/id_ed25519."""
    listed = bind_key(keys_dir(), records_dir(), ssh_key)
    say([listed], f"Key {listed.keyid} is bound to {listed.ssh}.", as_json=as_json)


@command.command()
@click.option("--root", "roots", multiple=True, metavar="KEY", help="A listed key that may sign later versions too.")
@JSON
def sign(roots: tuple[str, ...], as_json: bool) -> None:
    """Sign the list of keys as it is now. From then on keys/ counts only as its newest signed version has it."""
    key = load_private(keys_dir(), read_active(keys_dir()))
    path = trusted.sign_list(records_dir(), key.keyid, key.private, [_find(start).keyid for start in roots])
    listed = list(trusted.load_trust(records_dir() / "keys")[0].values())
    say(listed, f"signed by {key.keyid}: {path}", as_json=as_json)


def _find(start: str) -> trusted.PublicKey:
    keys, _ = trusted.load_trust(records_dir() / "keys")
    found = [key for keyid, key in keys.items() if keyid.startswith(start.lower())] if start else []
    if len(found) != 1:
        known = ", ".join(keyid[:16] for keyid in keys) or "none"
        raise UsageError(f"{start!r} is the start of {len(found)} listed keys, wanted one.", remedy=f"Listed: {known}.")
    return found[0]
