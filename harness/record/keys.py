"""Signing keys (private, outside the repository) and the trust list (public, in ``records/keys``).

A private key is PKCS#8 PEM ``<keys_dir>/<keyid>.pem``, mode 0600, under a passphrase where ``GOLF_KEY_PASSPHRASE`` is
set; ``<keys_dir>/active`` names the one that signs. A key id is the SHA-256 of the public key's DER form, so a
public key can't be exchanged under the same name. Who may change ``records/keys`` decides who is trusted.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from harness.errors import CouldNotCheck, UsageError
from harness.record.canonical import (
    HEX64,
    canonical_bytes,
    parse_utc,
    read_bounded,
    strict_json,
    utc_now,
    write_atomic,
)

PASSPHRASE = "GOLF_KEY_PASSPHRASE"
ACTIVE = "active"


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the trust list.

    status:     trusted; retired (its records stay good, it signs no new ones); revoked (nothing it signed counts)
    public:     base64 of the 32 raw bytes
    not_before, not_after: validity window, compared with the date in what is signed; "" for open
    replaces:   key id of the key this one took over from, and that key's signature over this one's id; or ""
    """

    keyid: str
    owner: str
    status: Literal["trusted", "retired", "revoked"]
    public: str
    not_before: str = ""
    not_after: str = ""
    reason: str = ""
    replaces: str = ""
    endorsement: str = ""

    def loaded(self) -> Ed25519PublicKey:
        """The key for verification."""
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(self.public, validate=True))


@dataclass(frozen=True)
class SigningKey:
    """The private key that signs, under its id."""

    keyid: str
    private: Ed25519PrivateKey


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 hex of the key's SubjectPublicKeyInfo in DER."""
    der = key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def open_signing_key(keys_dir: Path, records_dir: Path) -> SigningKey:
    """The active private key, created on first use; its public half is listed in ``records_dir/keys``.

    Raises ``CouldNotCheck`` for a file that others can read, a wrong or missing passphrase, or a key that the trust
    list has revoked, retired or let expire.
    """
    pointer = keys_dir / ACTIVE
    key = load_private(keys_dir, read_active(keys_dir)) if pointer.exists() else create_key(keys_dir)
    listed = public_path(records_dir, key.keyid)
    if not listed.exists():
        store_public(records_dir, describe_key(key))
    problem = signing_problem(load_public(listed), utc_now())
    if problem:
        raise CouldNotCheck(f"the signing key can't be used: {problem}.", remedy="`harness keys rotate` makes another.")
    return key


def create_key(keys_dir: Path) -> SigningKey:
    """Make a new private key and let it be the active one."""
    _private_folder(keys_dir)
    private = Ed25519PrivateKey.generate()
    key = SigningKey(key_id(private.public_key()), private)
    passphrase = os.environ.get(PASSPHRASE)
    protection: ser.KeySerializationEncryption = ser.NoEncryption()
    if passphrase:
        protection = ser.BestAvailableEncryption(passphrase.encode())
    pem = private.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, protection)
    write_atomic(keys_dir / f"{key.keyid}.pem", pem, replace=False, mode=0o600)
    write_atomic(keys_dir / ACTIVE, f"{key.keyid}\n".encode(), replace=True, mode=0o600)
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
    check_private_mode(path)
    passphrase = os.environ.get(PASSPHRASE)
    pem = read_bounded(path)
    encrypted = b"ENCRYPTED PRIVATE KEY" in pem
    if encrypted and not passphrase:
        raise CouldNotCheck(f"private key {path} has a passphrase.", remedy=f"Set {PASSPHRASE}.")
    try:
        private = ser.load_pem_private_key(pem, passphrase.encode() if encrypted and passphrase else None)
    except ValueError as error:
        what = f"does not open with the passphrase in {PASSPHRASE}" if encrypted else "is no PKCS#8 PEM key"
        raise CouldNotCheck(f"private key {path} {what}.", remedy="Correct it, or use another key.") from error
    if not isinstance(private, Ed25519PrivateKey) or key_id(private.public_key()) != keyid:
        raise CouldNotCheck(f"private key {path} is not the Ed25519 key that its name says.")
    return SigningKey(keyid, private)


def check_private_mode(path: Path) -> None:
    """Raise ``CouldNotCheck`` when anybody but the owner may read or write the file."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise CouldNotCheck(f"private key {path} has mode {mode:04o}; wanted 0600.", remedy=f"chmod 600 {path}")


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CouldNotCheck(
            f"keys folder {folder} cannot be made: {error.strerror}.", remedy="Set GOLF_KEYS_DIR to a folder of yours."
        ) from error


def describe_key(key: SigningKey, *, owner: str = "") -> PublicKey:
    """A fresh, trusted entry of the trust list for ``key``, without limits in time."""
    raw = key.private.public_key().public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw)
    public = base64.b64encode(raw).decode()
    return PublicKey(keyid=key.keyid, owner=owner, status="trusted", public=public)


def public_path(records_dir: Path, keyid: str) -> Path:
    """Where the public half of a key is listed."""
    return records_dir / "keys" / f"{keyid}.json"


def store_public(records_dir: Path, key: PublicKey) -> Path:
    """Write one entry of the trust list."""
    path = public_path(records_dir, key.keyid)
    write_atomic(path, encode_public(key), replace=True)
    return path


def encode_public(key: PublicKey) -> bytes:
    """The one byte string that stands for this entry in a file."""
    return canonical_bytes(key) + b"\n"


def load_public(path: Path) -> PublicKey:
    """Read one entry of the trust list. Raises ``UsageError`` that names the file and what is wrong with it."""
    data = read_bounded(path)
    try:
        key = msgspec.convert(strict_json(data), PublicKey)
        actual = key_id(key.loaded())
        start, end = (parse_utc(t) if t else None for t in (key.not_before, key.not_after))
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"{path} is no public key entry: {error}.", remedy="Restore it, or remove it.") from error
    if actual != key.keyid or path.name != f"{key.keyid}.json":
        raise UsageError(f"{path} holds the key {actual}, not the one it claims.", remedy="Restore it, or remove it.")
    if encode_public(key) != data:
        raise UsageError(f"{path} is not in canonical form: it was edited.", remedy="Use `harness keys` to change it.")
    if start and end and end < start:
        raise UsageError(f"{path}: not_after lies before not_before.", remedy="Use `harness keys trust` to set it.")
    return key


def load_trust(folder: Path) -> tuple[dict[str, PublicKey], dict[Path, str]]:
    """All public keys in ``folder`` by id, and what is wrong with each file that is none."""
    keys: dict[str, PublicKey] = {}
    bad: dict[Path, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            key = load_public(path)
        except (UsageError, CouldNotCheck) as error:
            bad[path] = str(error)
        else:
            keys[key.keyid] = key
    return keys, bad


def signing_problem(key: PublicKey, at: str) -> str:
    """Why ``key`` may not sign something dated ``at`` ("" where it carries no date); "" when it may."""
    if key.status == "revoked":
        return f"key {key.keyid[:16]} is revoked ({key.reason or 'no reason given'}); nothing it signed counts"
    if not at:
        return ""
    moment = parse_utc(at)
    if key.not_before and moment < parse_utc(key.not_before):
        return f"key {key.keyid[:16]} is valid from {key.not_before} on, and this is dated {at}"
    if key.not_after and moment > parse_utc(key.not_after):
        word = "retired" if key.status == "retired" else "expired"
        return f"key {key.keyid[:16]} {word} at {key.not_after}, and this is dated {at}"
    return ""
