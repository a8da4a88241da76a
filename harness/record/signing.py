"""Private signing keys, outside the repository: Ed25519, made on first use.

A private key is PKCS#8 PEM ``<keys_dir>/<keyid>.pem``, mode 0600, under a passphrase where ``GOLF_KEY_PASSPHRASE`` is
set; ``<keys_dir>/active`` names the one that signs.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.errors import CouldNotCheck
from harness.files import write_atomic
from harness.record import trust
from harness.record.canonical import HEX64, locked, read_bounded, utc_now
from harness.record.dsse import pae
from harness.record.trust import PublicKey

PASSPHRASE = "GOLF_KEY_PASSPHRASE"
ACTIVE = "active"


@dataclass(frozen=True)
class SigningKey:
    """The private key that signs, under its id."""

    keyid: str
    private: Ed25519PrivateKey


def open_signing_key(keys_dir: Path, records_dir: Path, role: trust.Role | None = None) -> SigningKey:
    """The active private key, created on first use; its public half is listed in ``records_dir/keys``.

    Raises ``CouldNotCheck`` for a file that others can read, a wrong or missing passphrase, or a key that the trust
    list has revoked, retired, let expire or given other roles than ``role``.
    """
    there = (keys_dir / ACTIVE).exists()
    key = load_private(keys_dir, read_active(keys_dir)) if there else create_key(keys_dir, first=True)
    return open_listed(key, records_dir, utc_now(), role)


def open_listed(key: SigningKey, records_dir: Path, at: str, role: trust.Role | None = None) -> SigningKey:
    """``key``, listed, if it may sign what is dated ``at``; else ``CouldNotCheck`` with the reason."""
    listed = trust.public_path(records_dir, key.keyid)
    if not listed.exists():
        trust.store_public(records_dir, describe_key(key))
    if problem := trust.signing_problem(trust.load_public(listed), at, role):
        raise CouldNotCheck(f"the signing key can't be used: {problem}.", remedy="`harness keys rotate` makes another.")
    return key


def create_key(keys_dir: Path, *, first: bool = False, records_dir: Path | None = None, owner: str = "") -> SigningKey:
    """Make a new private key and let it be the active one, or leave nothing of it.

    first:       only where there is none; of two runs that start at the same time one makes it and both use it
    records_dir: list its public half there, as ``owner``'s; else its first use does
    """
    key, pointer = _write_private(keys_dir), keys_dir / ACTIVE
    files = [keys_dir / f"{key.keyid}.pem"]
    try:
        if records_dir:
            files.append(trust.public_path(records_dir, key.keyid))
            trust.store_public(records_dir, describe_key(key, owner=owner))
        write_atomic(pointer, f"{key.keyid}\n".encode(), replace=not first, mode=0o600)
    except BaseException as error:  # a full disk, or Ctrl-C
        if not (pointer.is_file() and key.keyid.encode() in pointer.read_bytes()):
            for path in files:
                path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            return load_private(keys_dir, read_active(keys_dir))
        raise
    return key


def _write_private(keys_dir: Path) -> SigningKey:
    """A new private key in its file, which signs nothing yet."""
    try:
        keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        remedy = "Set GOLF_KEYS_DIR to a folder of yours."
        raise CouldNotCheck(f"keys folder {keys_dir} cannot be made: {error.strerror}.", remedy=remedy) from error
    private = Ed25519PrivateKey.generate()
    key = SigningKey(trust.key_id(private.public_key()), private)
    passphrase = os.environ.get(PASSPHRASE)
    protection = ser.BestAvailableEncryption(passphrase.encode()) if passphrase else ser.NoEncryption()
    pem = private.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, protection)
    write_atomic(keys_dir / f"{key.keyid}.pem", pem, replace=False, mode=0o600)
    return key


def read_active(keys_dir: Path) -> str:
    """The id of the key that signs. Raises ``CouldNotCheck`` when the pointer holds no key id."""
    pointer = keys_dir / ACTIVE
    keyid = read_bounded(pointer).decode("ascii", "replace").strip()
    if not HEX64.fullmatch(keyid):
        raise CouldNotCheck(f"{pointer} does not hold a key id (64 hex digits).", remedy="`harness keys new` mends it.")
    return keyid


def load_private(keys_dir: Path, keyid: str) -> SigningKey:
    """Open one private key. Raises ``CouldNotCheck`` as :func:`open_signing_key` does."""
    path = keys_dir / f"{keyid}.pem"
    if not path.exists():
        raise CouldNotCheck(f"private key {path} is missing.", remedy="Restore it, or use `harness keys new`.")
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        raise CouldNotCheck(f"private key {path} has mode {mode:04o}; wanted 0600.", remedy=f"chmod 600 {path}")
    passphrase, pem = os.environ.get(PASSPHRASE), read_bounded(path)
    encrypted = b"ENCRYPTED PRIVATE KEY" in pem
    if encrypted and not passphrase:
        raise CouldNotCheck(f"private key {path} has a passphrase.", remedy=f"Set {PASSPHRASE}.")
    try:
        private = ser.load_pem_private_key(pem, passphrase.encode() if encrypted and passphrase else None)
    except ValueError as error:
        what = f"does not open with the passphrase in {PASSPHRASE}" if encrypted else "is not a PKCS#8 PEM key"
        raise CouldNotCheck(f"private key {path} {what}.", remedy="Correct it, or use another key.") from error
    if not isinstance(private, Ed25519PrivateKey) or trust.key_id(private.public_key()) != keyid:
        text = f"private key {path} is not the Ed25519 key whose id is its name."
        raise CouldNotCheck(text, remedy="Restore the file, or use `harness keys new`.")
    return SigningKey(keyid, private)


def describe_key(key: SigningKey, *, owner: str = "") -> PublicKey:
    """A fresh, trusted entry of the trust list for ``key``, without limits in time."""
    return PublicKey(keyid=key.keyid, owner=owner, status="trusted", public=key.private.public_key().public_bytes_raw())


def rotate_key(keys_dir: Path, records_dir: Path, *, owner: str = "") -> tuple[PublicKey, PublicKey]:
    """Let a new key that the old one endorses be the active one, and retire the old one. Returns (old, new) as listed.

    Runs that are under way still get their results signed by the old key. A rotation that was killed leaves the old key
    in use, or one that only another rotation replaces; that one goes on where it was killed.
    """
    with locked(records_dir):
        old = load_private(keys_dir, read_active(keys_dir))
        before = trust.listed_as(records_dir, describe_key(old))
        if before.status == "revoked":
            reason = f"key {old.keyid[:16]} is revoked; it can't endorse another."
            raise CouldNotCheck(reason, remedy="`harness keys new`.")
        successors = [key for key in trust.load_trust(records_dir / "keys")[0].values() if key.replaces == old.keyid]
        for after in successors:  # one that a killed rotation has listed, while the old key is still active
            if after.status == "trusted" and (keys_dir / f"{after.keyid}.pem").exists():
                break
        else:
            new = _write_private(keys_dir)
            endorsement = old.private.sign(pae(trust.ROTATION_TYPE, new.keyid.encode()))
            after = msgspec.structs.replace(describe_key(new), replaces=old.keyid, endorsement=endorsement)
        after = msgspec.structs.replace(after, owner=owner or after.owner or before.owner)
        trust.store_public(records_dir, after)  # both are listed before the new one can sign anything
        now = utc_now()
        retired = msgspec.structs.replace(before, status="retired", not_after=min(before.not_after or now, now))
        trust.store_public(records_dir, retired)
        write_atomic(keys_dir / ACTIVE, f"{after.keyid}\n".encode(), replace=True, mode=0o600)
    return retired, after


def bind_key(keys_dir: Path, records_dir: Path, ssh_key: Path) -> PublicKey:
    """Let an SSH key sign that it and the active key are one person's, and list that. Returns the entry.

    Raises ``CouldNotCheck`` when ``ssh-keygen`` is missing or does not sign.
    """
    key = open_signing_key(keys_dir, records_dir)
    command = ["ssh-keygen", "-Y", "sign", "-f", str(ssh_key), "-n", trust.SSH_NAMESPACE]
    try:
        signed = subprocess.run(command, input=trust.ssh_statement(key.keyid), capture_output=True, check=True).stdout
        public = subprocess.run(["ssh-keygen", "-y", "-f", str(ssh_key)], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode("utf-8", "replace").strip() or error
        remedy = "Install OpenSSH, or name a private key that opens."
        raise CouldNotCheck(f"{ssh_key} did not sign: {said}.", remedy=remedy) from error
    with locked(records_dir):
        listed = trust.load_public(trust.public_path(records_dir, key.keyid))
        ssh = " ".join(public.decode().split()[:2])
        bound = msgspec.structs.replace(listed, ssh=ssh, ssh_signature=signed.decode())
        if problem := trust.ssh_problem(bound):
            raise CouldNotCheck(problem, remedy="`ssh-keygen -Y verify` says more.")
        trust.store_public(records_dir, bound)
    return bound
