"""The trust list: public keys of accepted signers in ``records/keys``, their status and validity window.

A key id is the SHA-256 of the public key's DER form, so a public key can't be exchanged under the same name. Who may
change ``records/keys`` decides who is trusted: review changes there as you review code.

    trusted   signs now                       unknown   not in the list: nothing counts
    retired   its records stay good, it       expired   dated after the end of its window
              announces no runs (rotation)    revoked   nothing it signed counts, whatever the date

A record is dated by the start of its run. So the key that announced a run signs its result even if it was retired or
expired meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from harness.errors import CouldNotCheck, UsageError
from harness.record.canonical import canonical_bytes, parse_utc, read_bounded, strict_json, write_atomic
from harness.record.dsse import pae
from harness.record.lock import locked

ROTATION_TYPE = "application/vnd.parameter-golf.key-rotation"


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the trust list.

    status:     trusted; retired (its records stay good, it announces no runs); revoked (nothing it signed counts)
    public:     base64 of the 32 raw bytes
    not_before, not_after: validity window, compared with the date in what is signed; "" for open
    replaces:   id of the key this one took over from, "" for none
    endorsement: base64 of the older key's signature over this one's id, "" for none
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
        return Ed25519PublicKey.from_public_bytes(_one_base64(self.public))


def _one_base64(text: str) -> bytes:
    """What ``text`` stands for. Raises ``ValueError`` unless it is the one way to write it: spare bits are 0."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("its base64 has spare bits that are not 0")
    return data


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 hex of the key's SubjectPublicKeyInfo in DER."""
    der = key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


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
    for key in list(keys.values()):
        if key.replaces in keys and not _is_endorsed(key, keys[key.replaces]):
            del keys[key.keyid]
            bad[public_path(folder.parent, key.keyid)] = (
                f"key {key.keyid[:16]} claims to follow {key.replaces[:16]}, which has not signed that."
            )
    return keys, bad


def _is_endorsed(key: PublicKey, older: PublicKey) -> bool:
    try:
        older.loaded().verify(_one_base64(key.endorsement), pae(ROTATION_TYPE, key.keyid.encode()))
    except (InvalidSignature, ValueError):
        return False
    return True


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


def trust_key(
    records_dir: Path, key: PublicKey, *, owner: str | None, not_before: str | None, not_after: str | None
) -> PublicKey:
    """List ``key`` as trusted; ``None`` keeps what it says. Raises ``UsageError`` for a bad window or a revoked key."""
    with locked(records_dir):
        changed = _with_window(records_dir, key, owner, not_before, not_after)
        store_public(records_dir, changed)
    return changed


def _with_window(
    records_dir: Path, key: PublicKey, owner: str | None, not_before: str | None, not_after: str | None
) -> PublicKey:
    listed = public_path(records_dir, key.keyid)
    if key.status == "revoked" or (listed.exists() and load_public(listed).status == "revoked"):
        raise UsageError(f"key {key.keyid[:16]} is revoked and stays so.", remedy="Let its owner make a new one.")
    given = {"owner": owner, "not_before": not_before, "not_after": not_after}
    changed = msgspec.structs.replace(key, status="trusted", **{n: v for n, v in given.items() if v is not None})
    try:
        start, end = (parse_utc(text) if text else None for text in (changed.not_before, changed.not_after))
    except ValueError as error:
        raise UsageError(f"{error}.", remedy="Give a time like 2026-11-24T17:00:00Z.") from error
    if start and end and end < start:
        raise UsageError(
            f"the window ends ({changed.not_after}) before it starts ({changed.not_before}).",
            remedy="Set --from before --until.",
        )
    return changed


def revoke_key(records_dir: Path, key: PublicKey, reason: str) -> PublicKey:
    """List ``key`` as revoked for ``reason``."""
    with locked(records_dir):
        listed = public_path(records_dir, key.keyid)
        now = load_public(listed) if listed.exists() else key
        changed = msgspec.structs.replace(now, status="revoked", reason=reason)
        store_public(records_dir, changed)
    return changed
