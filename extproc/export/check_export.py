#!/usr/bin/env python3
"""Check an export of copilot-extproc, offline: `python check_export.py [FOLDER]`.

Needs Python 3.9 or newer and the package `cryptography`, nothing else. It is copied into every export; whoever does not
trust that copy takes the one of the source code. It checks that

- every file is listed in the manifest, and is what the manifest says;
- every document is of an entry whose head is in a log, by an inclusion proof (RFC 9162) to a checkpoint that was signed
  with Ed25519 (C2SP tlog-checkpoint) by a key of `keys.txt`, or of --key;
- a document in JSON is what that head names by SHA-256, its parts included;
- content that is missing was removed by a record that is itself in such a log.

Not checked, and told: documents that were encrypted at rest, and documents as HAR or Markdown, are bound to the export
by the manifest alone. The manifest is as genuine as its SHA-256, which `extproc export` printed and recorded. Nor is it
checked that nothing was left out: `extproc verify` does that with the store.
"""

# ruff: noqa: T201 - a program of its own, which prints

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST = "manifest.json"
MAX_TOLD = 20
MAX_DEPTH = 32

Json = dict[str, Any]
Keys = dict[tuple[str, bytes], bytes]  # by name and hash
Blobs = dict[tuple[str, str], bytes]  # by session and address


class Bad(Exception):
    """Say what does not hold."""


class Check:
    """Check one export; what is wrong is in `faults`, what could not be checked in `notes`."""

    def __init__(self, folder: Path, trusted: Keys | None) -> None:
        """Begin; `trusted` are the keys to check with, None for those of the export."""
        self.folder = folder
        self.trusted = trusted
        self.keys: Keys = {}
        self.manifest: Json = {}
        self.digest = ""
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.heads: dict[tuple[str, int], str] = {}
        self.removals: list[Json] = []
        self.documents = 0

    def run(self) -> None:
        """Check everything; raises Bad where there is no use in going on."""
        raw = (self.folder / MANIFEST).read_bytes()
        self.digest = hashlib.sha256(raw).hexdigest()
        self.manifest = parsed(raw)
        if self.manifest.get("v") != 1 or self.manifest.get("complete") is not True:
            raise Bad("the manifest is of another version, or of an export that was not finished")
        self.check_files()
        self.keys = parse_keys(self.text("keys.txt")) if self.trusted is None else self.trusted
        if self.trusted is None:
            self.notes.append("the keys are those that came with the export: compare them, or give --key FILE")
        for log in self.manifest["logs"]:
            self.attempt(f"log {log['log']}", self.check_log, log)
        self.read_removals()
        for number in range(1, self.manifest["parts"] + 1):
            self.attempt(f"part {number}", self.check_part, f"{number:06}")
        if self.documents != sum(self.manifest["contents"].values()):
            self.faults.append(f"{self.documents} documents, and the manifest says {self.manifest['contents']}")
        for content, why in (
            ("encrypted", "were encrypted at rest: bound by the manifest alone"),
            ("unreadable", "are encrypted, and were exported without their key"),
        ):
            if count := self.manifest["contents"].get(content):
                self.notes.append(f"{count} documents {why}")
        if self.manifest["format"] != "jsonl":
            self.notes.append(f"documents are {self.manifest['format']}: what they say is bound by the manifest alone")

    def attempt(self, what: str, check: Callable[..., None], *arguments: object) -> None:
        """Check something; go on with the rest whatever comes of it."""
        try:
            check(*arguments)
        except Bad as error:
            self.faults.append(f"{what}: {error}")
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            self.faults.append(f"{what}: malformed, {type(error).__name__}: {error}")

    def text(self, name: str) -> str:
        """Return the content of a file of text."""
        if name not in self.manifest["files"]:
            raise Bad(f"{name} is not listed in the manifest")
        return (self.folder / name).read_bytes().decode()

    def lines(self, name: str) -> Iterator[Json]:
        """Yield the JSON of the lines of a file."""
        if name not in self.manifest["files"]:
            raise Bad(f"{name} is not listed in the manifest")
        with (self.folder / name).open("rb") as file:
            for line in file:
                yield json.loads(line)

    # --- files and logs ---

    def check_files(self) -> None:
        """Compare what is there with the manifest."""
        listed = self.manifest["files"]
        there = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        there = {name for name in there if name != MANIFEST and "__pycache__" not in name}
        for name in sorted(there - set(listed)):
            self.faults.append(f"{name}: is not listed in the manifest")
        for name, facts in sorted(listed.items()):
            if name not in there:
                self.faults.append(f"{name}: is missing")
            elif sha256_of_file(self.folder / name) != facts["sha256"]:
                self.faults.append(f"{name}: has other content than the manifest says")

    def check_log(self, log: Json) -> None:
        """Check the checkpoint of a log, and that the heads are below it."""
        origin, size, root = open_note(self.text(log["checkpoint"]), self.keys)
        if origin.rpartition("/")[2] != log["log"] or size != log["size"]:
            raise Bad(f"the checkpoint is of {origin} with {size} entries")
        for line in self.lines(log["entries"]):
            canonical = line["head"].encode()
            head = json.loads(canonical)
            if json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() != canonical:
                raise Bad(f"entry {line['index']}: its head is not in canonical form")
            if (head["log"], head["index"]) != (log["log"], line["index"]):
                raise Bad(f"entry {line['index']}: its head is that of entry {head['index']} of {head['log']}")
            leaf = hashlib.sha256(b"\x00" + canonical).digest()
            proof = [bytes.fromhex(one) for one in line["proof"]]
            if root_of_inclusion(leaf, line["index"], size, proof) != root:
                raise Bad(f"entry {line['index']}: the proof does not lead to the checkpoint")
            self.heads[log["log"], line["index"]] = line["head"]

    def head(self, log: str, index: int) -> Json:
        """Return a head that is proved; raises Bad."""
        if (log, index) not in self.heads:
            raise Bad(f"no proved head at {index} of log {log}")
        head: Json = json.loads(self.heads[log, index])
        return head

    def read_removals(self) -> None:
        """Read the prune records."""
        for line in self.lines("prunes.jsonl"):
            self.attempt(f"prune record {line.get('index')} of {line.get('log')}", self.read_removal, line)

    def read_removal(self, line: Json) -> None:
        """Read a prune record."""
        head = self.head(line["log"], line["index"])
        if head["kind"] != "prune" or hashlib.sha256(line["body"].encode()).hexdigest() != head["body"]:
            raise Bad("it is not what its head says")
        self.removals.append(json.loads(line["body"]))

    # --- documents ---

    def check_part(self, number: str) -> None:
        """Check the documents of a part."""
        is_json = self.manifest["format"] == "jsonl"
        stored = self.stored(number) if is_json else ({}, {})
        documents = list(self.lines(f"documents/{number}.jsonl")) if is_json else None
        index = list(self.lines(f"index/{number}.jsonl"))
        if documents is not None and [one["id"] for one in documents] != [line["id"] for line in index]:
            raise Bad("the documents are not those of the index")
        for place, line in enumerate(index):
            self.documents += 1
            document = None if documents is None else documents[place]
            self.attempt(f"document {line['id']}", self.check_document, line, document, stored)

    def stored(self, number: str) -> tuple[dict[str, bytes], Blobs]:
        """Return the stored bodies of a part by exchange, and their parts."""
        bodies: dict[str, bytes] = {}
        blobs: Blobs = {}
        for line in self.lines(f"stored/{number}.jsonl"):
            if "body" in line:
                bodies[line["id"]] = base64.b64decode(line["body"], validate=True)
                continue
            data = base64.b64decode(line["data"], validate=True)
            if hashlib.sha256(data).hexdigest() != line["blob"]:
                raise Bad(f"blob {line['blob']} has other bytes than its name says")
            blobs[line["session"], line["blob"]] = data
        return bodies, blobs

    def check_document(self, line: Json, document: Json | None, stored: tuple[dict[str, bytes], Blobs]) -> None:
        """Check a document against its head; None where it is not in JSON."""
        head = self.head(line["log"], line["index"])
        if (head["kind"], head["id"], head["session"]) != ("exchange", line["id"], line["session"]):
            raise Bad(f"its head is that of {head['kind']} {head['id']} of session {head['session']}")
        self.check_content(line, head)
        if document is None or line["content"] == "encrypted":
            return
        place = {"log": line["log"], "index": line["index"]}
        if line["content"] == "clear":
            expected = {**rebuilt(line, head, *stored), "entry": place}
        else:
            expected = {"id": head["id"], "session": head["session"], "opened_at": head["at"] / 1_000_000}
            expected.update(kind=head["kind"], facts=head["facts"], entry=place, removed=document.get("removed"))
        if document != expected:
            raise Bad("it is not what was recorded")

    def check_content(self, line: Json, head: Json) -> None:
        """Check that what there is of the content is what the head, and the prune records, say."""
        content = line["content"]
        if content == "gone" and not any(lists(one, line["log"], line["index"]) for one in self.removals):
            raise Bad("its content is missing, and no record says why")
        if content == "erased" and not any(line["session"] in one["erased"] for one in self.removals):
            raise Bad("its key is missing, and no record says why")
        if content == "clear" and (head["key"] is not None or head["body"] is None):
            raise Bad("it is said to have been stored in the clear, and was not")
        if content in ("encrypted", "erased", "unreadable") and head["key"] is None:
            raise Bad("it is said to have been encrypted, and was not")
        if content == "none" and head["body"] is not None:
            raise Bad("it is said to have no content, and has")
        if content not in ("gone", "erased", "clear", "encrypted", "unreadable", "none"):
            raise Bad(f"its content is said to be {content}")


# --- the formats ---


def parsed(manifest: bytes) -> Json:
    """Return a manifest; raises Bad where it is none."""
    try:
        value = json.loads(manifest)
    except (ValueError, RecursionError) as error:
        raise Bad(f"{MANIFEST} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise Bad(f"{MANIFEST} is no manifest of an export")
    return value


def rebuilt(line: Json, head: Json, bodies: dict[str, bytes], blobs: Blobs) -> Json:
    """Return the document that the stored body is; raises Bad where that is not the one that the head names."""
    body = bodies.get(line["id"])
    if body is None or hashlib.sha256(body).hexdigest() != head["body"] or len(body) != head["size"]:
        raise Bad("its stored body is missing, or not the one that its head names")
    parts = json.loads(body)
    return merged(unpacked(parts["opening"], line["session"], blobs), parts["closing"])


def unpacked(opening: Json, session: str, blobs: Blobs) -> Json:
    """Return an opening with its references replaced by what they refer to."""

    def blob(address: str | None) -> Any:  # noqa: ANN401 - JSON
        if address is None or (session, address) not in blobs:
            raise Bad(f"blob {address} is missing")
        return json.loads(blobs[session, address])

    def element(value: Any) -> Any:  # noqa: ANN401 - JSON
        kind, address = reference(value)
        if kind == "$list":
            raise Bad("a row where an element belongs")
        return value if kind is None else blob(address)

    def joined(items: Iterable[Any], depth: int) -> list[Any]:
        if depth > MAX_DEPTH:
            raise Bad("too many rows within each other")
        result: list[Any] = []
        for item in items:
            kind, address = reference(item)
            result += joined(blob(address), depth + 1) if kind == "$list" else [element(item)]
        return result

    request = opening.get("request")
    for name in ("messages", "tools"):
        if isinstance(request, dict) and name in request:
            value = request[name]
            request[name] = joined(value, 0) if isinstance(value, list) else element(value)
    return opening


def reference(value: object) -> tuple[str | None, str | None]:
    """Return kind and address of a reference, None and None for anything else."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, address),) = value.items()
        if kind in ("$blob", "$list"):
            return kind, address
    return None, None


def merged(opened: Json, closed: Json) -> Json:
    """Join the two halves of a document."""
    return {
        **opened,
        **closed,
        "findings": [*opened.get("findings", ()), *closed.get("findings", ())],
        "masking": {**(opened.get("masking") or {}), **(closed.get("masking") or {})} or None,
        "approvals": closed.get("approvals", []),
    }


def lists(record: Json, log: str, index: int) -> bool:
    """Return whether a prune record lists the body of an entry."""
    return any(name == log and first <= index < end for name, first, end in record["bodies"])


def open_note(note: str, keys: Keys) -> tuple[str, int, bytes]:
    """Return origin, size and root of a checkpoint that one of the keys signed."""
    body, blank, signatures = note.rpartition("\n\n")
    text = body + "\n"
    origin, size, root, _ = text.split("\n", 3)
    for line in signatures.splitlines() if blank else ():
        dash, name, encoded = line.split(" ")
        signature = base64.b64decode(encoded, validate=True)
        key = keys.get((name, signature[:4]))
        if dash == "\u2014" and key is not None and origin.rpartition("/")[0] == name:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature[4:], text.encode())
            except InvalidSignature:
                raise Bad("the signature of the checkpoint is wrong") from None
            return origin, int(size), base64.b64decode(root, validate=True)
    raise Bad("the checkpoint is not signed by any key that is trusted")


def parse_keys(text: str) -> Keys:
    """Return the keys of lines <name>+<hash>+<base64>, by name and hash (C2SP signed-note)."""
    keys: Keys = {}
    for line in text.split():
        try:
            name, key_hash, encoded = line.split("+", 2)
            typed = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise Bad(f"{line[:80]!r} is no public key: expected <name>+<hash>+<key>") from None
        known = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
        if typed[:1] != b"\x01" or known.hex() != key_hash:
            raise Bad(f"the key of {name} is no Ed25519 key, or was changed")
        keys[name, known] = typed[1:]
    return keys


def root_of_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """Return the root that a proof leads to (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        raise Bad(f"entry {index} is not among {size}")
    node, at, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise Bad("the proof is too long")
        if at & 1 or at == last:
            node = hashlib.sha256(b"\x01" + sibling + node).digest()
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + sibling).digest()
        at, last = at >> 1, last >> 1
    if last:
        raise Bad("the proof is too short")
    return node


def counted(number: int, one: str, more: str) -> str:
    """Return a number of things in words."""
    return f"{number} {one if number == 1 else more}"


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> None:
    """Check the export that the command line names; exit 0 where everything holds, 1 where not."""
    parser = argparse.ArgumentParser(description="Check an export of copilot-extproc, offline.")
    parser.add_argument("folder", nargs="?", default=Path(__file__).parent, type=Path)
    parser.add_argument("--key", type=Path, help="public keys that are trusted, one a line; not those of the export")
    parser.add_argument("--manifest", help="the SHA-256 that the manifest must have")
    given = parser.parse_args()
    try:
        check = Check(given.folder, parse_keys(given.key.read_text(errors="replace")) if given.key else None)
        check.run()
    except OSError as error:
        print(f"FAILED: {error.filename}: cannot be read: {error.strerror}")
        raise SystemExit(1) from None
    except Bad as error:
        print(f"FAILED: {error}")
        raise SystemExit(1) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        print(f"FAILED: the export is malformed, {type(error).__name__}: {error}")
        raise SystemExit(1) from None
    if given.manifest and given.manifest.lower() != check.digest:
        check.faults.insert(0, "the manifest is not the one with the SHA-256 that was given")
    for fault in check.faults[:MAX_TOLD]:
        print(f"FAILED: {fault}")
    if len(check.faults) > MAX_TOLD:
        print(f"FAILED: and {len(check.faults) - MAX_TOLD} more")
    for note in check.notes:
        print(f"note: {note}")
    print(f"manifest {check.digest}")
    for (name, key_hash), _ in sorted(check.keys.items()):
        print(f"signed by {name} (key {key_hash.hex()})")
    if check.faults:
        raise SystemExit(1)
    documents = counted(check.documents, "document", "documents")
    entries, logs = counted(len(check.heads), "entry", "entries"), counted(len(check.manifest["logs"]), "log", "logs")
    print(f"ok: {documents}, {entries} of {logs} are proved")


if __name__ == "__main__":
    main()
