"""The trust list: public keys of accepted signers in ``records/keys``, their status and validity window.

A key id is the SHA-256 of the public key's DER form, so a public key can't be exchanged under the same name. Who may
change ``records/keys`` decides who is trusted: review changes there as you review code.

    trusted   signs now                       unknown   not in the list: nothing counts
    retired   its records stay good, it       expired   dated after the end of its window
              announces no runs (rotation)    revoked   nothing it signed counts, whatever the date

A record is dated by the start of its run. So the key that announced a run signs its result even if it was retired or
expired meanwhile. Roles say what a key may sign: ``runner`` intents and records, ``reviewer`` reviews.

The entries themselves are not signed. ``keys/list/`` may hold a signed list of them, in numbered versions: then the
newest version decides, every version is signed by a root of the one before, and a revocation stays in all later ones
(in the manner of The Update Framework's root metadata, with one signature a version). What neither shows: a folder
that was put back as a whole to an earlier version. ``harness verify --root KEY`` holds the list to a root that the
reader knows.
"""

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from harness.errors import CouldNotCheck, UsageError
from harness.files import write_atomic
from harness.record.canonical import canonical_bytes, locked, parse_utc, read_bounded, strict_json, utc_now
from harness.record.dsse import Envelope, decode, encode, is_signed_by, pae, sign

ROTATION_TYPE = "application/vnd.parameter-golf.key-rotation"
LIST_TYPE = "application/vnd.parameter-golf.trust-list+json"
LIST_FOLDER = "list"
SSH_NAMESPACE = "parameter-golf"
Role = Literal["runner", "reviewer"]


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the trust list.

    public:     the 32 raw bytes, in JSON base64
    not_before, not_after: validity window, compared with the date in what is signed; "" for open
    replaces:   id of the key this one took over from, "" for none
    endorsement: the older key's signature over this one's id, in JSON base64; empty for none
    roles:      what it may sign; none named: everything
    ssh, ssh_signature: an SSH public key and its signature (``ssh-keygen -Y sign``) over this key's id, "" for none
    """

    keyid: str
    owner: str
    status: Literal["trusted", "retired", "revoked"]
    public: bytes
    not_before: str = ""
    not_after: str = ""
    reason: str = ""
    replaces: str = ""
    endorsement: bytes = b""
    roles: tuple[Role, ...] = ()
    ssh: str = ""
    ssh_signature: str = ""

    def encoded(self) -> bytes:
        """The one byte string that stands for this entry in a file; those from before there were roles keep theirs."""
        later = {"roles", "ssh", "ssh_signature"}
        fields = {name: value for name, value in msgspec.to_builtins(self).items() if value or name not in later}
        return canonical_bytes(fields) + b"\n"

    def check_window(self) -> None:
        """Raise ``ValueError`` for a window that ends before it starts, or a time in another form."""
        start, end = (parse_utc(text) if text else None for text in (self.not_before, self.not_after))
        if start and end and end < start:
            raise ValueError(f"the window ends ({self.not_after}) before it starts ({self.not_before})")


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 hex of the key's SubjectPublicKeyInfo in DER."""
    return hashlib.sha256(key.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def public_path(records_dir: Path, keyid: str) -> Path:
    """Where the public half of a key is listed."""
    return records_dir / "keys" / f"{keyid}.json"


def store_public(records_dir: Path, key: PublicKey) -> Path:
    """Write one entry of the trust list."""
    write_atomic(path := public_path(records_dir, key.keyid), key.encoded(), replace=True)
    return path


def load_public(path: Path) -> PublicKey:
    """Read one entry of the trust list. Raises ``UsageError`` that names the file and what is wrong with it."""
    data = read_bounded(path)
    try:
        key = msgspec.convert(strict_json(data), PublicKey)
        actual = key_id(Ed25519PublicKey.from_public_bytes(key.public))
        key.check_window()
    except (ValueError, msgspec.ValidationError) as error:
        remedy = "Wanted is a file like those in keys/; restore or remove a damaged one."
        raise UsageError(f"{path} is not a public key entry: {error}.", remedy=remedy) from error
    if actual != key.keyid or path.name != f"{key.keyid}.json":
        raise UsageError(f"{path} holds the key {actual}, not the one it claims.", remedy="Restore it, or remove it.")
    if key.encoded() != data:
        raise UsageError(f"{path} is not in canonical form: it was edited.", remedy="Use `harness keys` to change it.")
    return key


def load_trust(folder: Path) -> tuple[dict[str, PublicKey], dict[Path, str]]:
    """All public keys in ``folder`` by id, and what is wrong with each file that is none."""
    keys: dict[str, PublicKey] = {}
    bad: dict[Path, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            keys[path.stem] = load_public(path)  # which is called by the key's id
        except (UsageError, CouldNotCheck) as error:
            bad[path] = str(error)
    for key in list(keys.values()):
        problem = ssh_problem(key) if key.ssh else ""
        if key.replaces in keys:
            try:
                signed = pae(ROTATION_TYPE, key.keyid.encode())
                Ed25519PublicKey.from_public_bytes(keys[key.replaces].public).verify(key.endorsement, signed)
            except InvalidSignature:
                del keys[key.keyid]
                problem = f"key {key.keyid[:16]} claims to follow {key.replaces[:16]}, which has not signed that."
        if problem:
            bad[folder / f"{key.keyid}.json"] = problem
    return keys, bad


def ssh_statement(keyid: str) -> bytes:
    """What an SSH key signs to be bound to a signing key."""
    return f"the SSH key that signs this and the parameter-golf key {keyid} are one person's\n".encode()


def ssh_problem(key: PublicKey) -> str:
    """Why the entry's SSH key can't be taken for its owner's, by OpenSSH's own check; "" when it can."""
    with tempfile.TemporaryDirectory(prefix="golf-ssh-") as scratch:
        signers, signature = Path(scratch) / "signers", Path(scratch) / "signature"
        signers.write_text(f"owner {' '.join(key.ssh.split())}\n")
        signature.write_text(key.ssh_signature)
        try:
            command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "owner", "-n", SSH_NAMESPACE]
            command += ["-s", str(signature)]
            done = subprocess.run(command, input=ssh_statement(key.keyid), capture_output=True, timeout=20, check=False)
        except (OSError, subprocess.SubprocessError):
            return ""  # without OpenSSH nothing rests on it: an equal SSH key only ever speaks against a review
    return "" if done.returncode == 0 else f"the SSH key bound to {key.keyid[:16]} has not signed that."


def compare_owners(one: PublicKey, other: PublicKey, accepted: "Accepted") -> tuple[bool | None, str]:
    """Are ``one`` and ``other`` the same owner's, ``None`` where that can't be known; and how it is known.

    By rotation and SSH keys, else by the names in the list.
    """
    if first_key(one.keyid, accepted.keys) == first_key(other.keyid, accepted.keys):
        return True, "it is the same key, or one follows the other"
    if one.ssh and one.ssh == other.ssh:
        return True, "both are bound to one SSH key"
    if not one.owner or not other.owner:
        return None, "a key without an owner in the list may be anybody's"
    how = f"owners {one.owner!r} and {other.owner!r} by {accepted.source}"
    return one.owner.casefold().split() == other.owner.casefold().split(), how


def first_key(keyid: str, keys: Mapping[str, PublicKey]) -> str:
    """The first key of the rotations that lead to ``keyid``: one owner's results belong together."""
    seen = {keyid}
    while keyid in keys and keys[keyid].replaces in keys:
        keyid = keys[keyid].replaces
        if keyid in seen:  # two keys that replace each other are one owner's all the same
            return min(seen)
        seen.add(keyid)
    return keyid


class TrustList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signed version of the trust list.

    previous: digest of the version before, "" for the first; roots: id -> public key of who may sign the next
    """

    version: int
    issued_at: str
    previous: str
    roots: dict[str, bytes]
    keys: list[PublicKey]


@dataclass(frozen=True)
class Accepted:
    """The keys that count, what is wrong with the list by file, and on whose word it is."""

    keys: dict[str, PublicKey]
    bad: dict[Path, str]
    source: str


def accepted_keys(folder: Path, root: str = "") -> Accepted:
    """The keys in ``folder``, held to its signed list where there is one.

    root: id, or its start, of a key that must have signed the first version; then a list without one is wrong
    """
    keys, bad = load_trust(folder)
    lists, _, problem = read_lists(folder, root)
    if problem:
        bad[folder / LIST_FOLDER] = problem
    if not lists:
        return Accepted(keys, bad, "the unsigned list in keys/")
    newest = lists[-1]
    listed = {key.keyid: key for key in newest.keys}
    for keyid, key in listed.items():
        path = folder / f"{keyid}.json"
        if keys.get(keyid) != key and path not in bad:
            bad[path] = f"key {keyid[:16]} is not as version {newest.version} of the signed list has it."
    return Accepted(listed, bad, f"version {newest.version} of the signed list")


def read_lists(folder: Path, root: str = "") -> tuple[list[TrustList], str, str]:
    """All sound versions from the first on, the digest of the last, and what is wrong with the next one."""
    found, digest = list[TrustList](), ""
    for path in sorted((folder / LIST_FOLDER).glob("*.json")):
        try:
            envelope = decode(read_bounded(path))
            found.append(check_list(envelope, found, digest, root))
        except (ValueError, msgspec.MsgspecError, CouldNotCheck) as error:
            return found, digest, f"{path.name} is not the next version of the signed list: {error}."
        digest = hashlib.sha256(envelope.payload).hexdigest()
    problem = "" if found or not root else f"no signed list of keys, so none can be traced to the root {root[:16]}."
    return found, digest, problem


def check_list(envelope: Envelope, before: Sequence[TrustList], previous: str, root: str = "") -> TrustList:
    """The version in ``envelope``, if it may follow ``before``, the last of which has the digest ``previous``.

    Raises ``ValueError`` or ``MsgspecError`` when it is not signed by a root, out of order, or takes back a revocation.
    """
    new = msgspec.json.decode(envelope.payload, type=TrustList)
    revoked = {key.keyid for key in (before[-1].keys if before else ()) if key.status == "revoked"}
    roots = {keyid: key for keyid, key in (before[-1] if before else new).roots.items() if keyid not in revoked}
    if root and not before:
        roots = {keyid: public for keyid, public in roots.items() if keyid.startswith(root.lower())}
    if envelope.keyid not in roots:
        raise ValueError(f"key {envelope.keyid[:16]} signed it, which is not {'the root' if root else 'a root'}")
    public = Ed25519PublicKey.from_public_bytes(roots[envelope.keyid])
    if key_id(public) != envelope.keyid or not is_signed_by(envelope, public):
        raise ValueError("its signature does not fit its content")
    number = len(before) + 1
    if envelope.payload_type != LIST_TYPE or (new.version, new.previous) != (number, previous):
        raise ValueError(f"it calls itself version {new.version}; {number} is wanted, behind {previous[:12] or 'none'}")
    if len({key.keyid for key in new.keys}) < len(new.keys):
        raise ValueError("it lists a key twice")
    if back := revoked - {key.keyid for key in new.keys if key.status == "revoked"}:
        raise ValueError(f"it takes back that key {min(back)[:16]} is revoked")
    return new


def sign_list(records_dir: Path, signer: str, private: Ed25519PrivateKey, roots: Sequence[str] = ()) -> Path:
    """Sign the keys as they are listed now as the next version.

    roots: ids of further listed keys that may sign later versions
    Raises ``UsageError`` when an entry is bad, the list is, or the signer is none of its roots.
    """
    folder = records_dir / "keys"
    with locked(records_dir):
        keys, bad = load_trust(folder)
        lists, previous, problem = read_lists(folder)
        if bad or problem:
            raise UsageError(" ".join([*bad.values(), problem]).strip(), remedy="Mend it, then sign again.")
        allowed = lists[-1].roots if lists else {signer: private.public_key().public_bytes_raw()}
        if signer not in allowed:
            raise UsageError(f"key {signer[:16]} is not a root of the list.", remedy=f"Sign as {', '.join(allowed)}.")
        allowed = allowed | {keyid: keys[keyid].public for keyid in roots}
        new = TrustList(len(lists) + 1, utc_now(), previous, allowed, list(keys.values()))
        envelope = sign(canonical_bytes(new), signer, private, payload_type=LIST_TYPE)
        try:
            check_list(envelope, lists, previous)
        except ValueError as error:
            raise UsageError(f"the list is not signed: {error}.", remedy="Restore the entry in keys/.") from error
        path = folder / LIST_FOLDER / f"{new.version:04d}.json"
        write_atomic(path, encode(envelope), replace=False)
    return path


def signing_problem(key: PublicKey, at: str, role: Role | None = None) -> str:
    """Why ``key`` may not sign in ``role`` something dated ``at`` ("" where it carries no date); "" when it may."""
    if role and key.roles and role not in key.roles:
        return f"key {key.keyid[:16]} is listed as {' and '.join(key.roles)}, not as {role}"
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


def listed_as(records_dir: Path, key: PublicKey) -> PublicKey:
    """The entry that the list has for ``key``; ``key`` itself where it has none."""
    path = public_path(records_dir, key.keyid)
    return load_public(path) if path.exists() else key


def change_key(records_dir: Path, key: PublicKey, **given: str | tuple[Role, ...] | None) -> PublicKey:
    """List ``key`` with the fields that are ``given``, such as its status; ``None`` keeps what it says.

    Raises ``UsageError`` for a bad window, or a revoked key that shall be anything else.
    """
    with locked(records_dir):
        if "revoked" in (key.status, listed_as(records_dir, key).status) and given["status"] != "revoked":
            raise UsageError(f"key {key.keyid[:16]} is revoked and stays so.", remedy="Let its owner make a new one.")
        changed = msgspec.structs.replace(key, **{name: value for name, value in given.items() if value is not None})
        try:
            changed.check_window()
        except ValueError as error:
            raise UsageError(f"{error}.", remedy="--from before --until, each like 2026-11-24T17:00:00Z.") from error
        store_public(records_dir, changed)
    return changed
