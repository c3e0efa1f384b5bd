"""What an account of the fake Cosmos DB holds: databases, containers, items; strict about everything it is given.

Everything is in memory for reading and, where a path is given, in a SQLite file before a write is answered, so that a
killed server starts again with all it acknowledged.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

MAX_ITEM_BYTES: Final = 2 * 1024 * 1024
MAX_BATCH_OPERATIONS: Final = 100
MAX_ID_BYTES: Final = 1023
MAX_PARTITION_KEY_BYTES: Final = 2048
# Limits: "Azure Cosmos DB service quotas", per-item and per-request limits.


class Failure(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, message: str, sub_status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.sub_status = sub_status


@dataclass(slots=True)
class Container:
    definition: dict[str, Any]
    rid: str
    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def key_paths(self) -> list[str]:
        return [str(path).strip("/") for path in self.definition["partitionKey"]["paths"]]

    def check_order(self, path: str | None) -> None:
        """Refuse ORDER BY of what is not indexed, as the service does."""
        # `id` and `_ts` are indexed whatever the policy says ("Indexing policies in Azure Cosmos DB").
        if path in {"id", "_ts"}:
            return
        included = [one["path"] for one in self.definition.get("indexingPolicy", {}).get("includedPaths", [])]
        if path is not None and not {f"/{path}/?", "/*"} & set(included or ["/*"]):
            raise Failure(400, f"the index path /{path} that ORDER BY names is excluded")


def loads(text: str | bytes) -> Any:
    """Read JSON with numbers as IEEE 754 has them: integers above 2^53 lose digits."""
    return json.loads(text, parse_int=lambda digits: int(digits) if abs(int(digits)) <= 1 << 53 else int(float(digits)))


def size_of(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


class Account:
    """Hold databases and containers; `now` gives unix seconds, by which items expire."""

    def __init__(self, path: Path | None, now: Callable[[], float]) -> None:
        self._now = now
        self._file = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode=WAL")
        self._file.execute("PRAGMA synchronous=FULL")
        self._file.execute("CREATE TABLE IF NOT EXISTS database (id TEXT PRIMARY KEY)")
        self._file.execute("CREATE TABLE IF NOT EXISTS container (link TEXT PRIMARY KEY, definition TEXT)")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS item (link TEXT, key TEXT, id TEXT, item TEXT, PRIMARY KEY (link, key, id))"
        )
        self.databases = {row[0] for row in self._file.execute("SELECT id FROM database")}
        self.containers: dict[str, Container] = {}
        for link, definition in self._file.execute("SELECT link, definition FROM container"):
            self.containers[link] = Container(json.loads(definition), _rid(link))
        for link, key, name, item in self._file.execute("SELECT link, key, id, item FROM item ORDER BY rowid"):
            self.containers[link].items[key, name] = json.loads(item)

    def close(self) -> None:
        self._file.close()

    def create_database(self, name: str) -> None:
        if name in self.databases:
            raise Failure(409, "the database exists")
        self._file.execute("INSERT INTO database VALUES (?)", (name,))
        self.databases.add(name)

    def put_container(self, database: str, definition: dict[str, Any], *, replace: bool) -> Container:
        if database not in self.databases:
            raise Failure(404, "no such database")
        link = f"dbs/{database}/colls/{definition['id']}"
        known = self.containers.get(link)
        if (known is not None) is not replace:
            raise Failure(404 if replace else 409, "the container is there" if known else "no such container")
        if known is not None and known.definition["partitionKey"] != definition["partitionKey"]:
            raise Failure(400, "the partition key of a container cannot be changed")
        self._file.execute("INSERT OR REPLACE INTO container VALUES (?,?)", (link, json.dumps(definition)))
        container = known or Container(definition, _rid(link))
        container.definition = definition
        self.containers[link] = container
        return container

    def container(self, link: str) -> Container:
        try:
            return self.containers[link]
        except KeyError:
            raise Failure(404, "no such container", 1003) from None

    def alive(self, container: Container) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (partition key, item) of what has not expired."""
        for (key, _), item in list(container.items.items()):
            if not self._expired(container, item):
                yield key, item

    def _expired(self, container: Container, item: dict[str, Any]) -> bool:
        default = container.definition.get("defaultTtl")
        if default is None:
            return False
        seconds = item.get("ttl", default)
        return bool(seconds != -1 and item["_ts"] + seconds <= self._now())

    def read(self, link: str, key: str, name: str) -> dict[str, Any]:
        container = self.container(link)
        item = container.items.get((key, name))
        if item is None or self._expired(container, item):
            raise Failure(404, "no such item")
        return item

    def write(self, link: str, key: str, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Do all operations or none; return the statuses (and items), the failing one first to be looked for."""
        container = self.container(link)
        if len(operations) > MAX_BATCH_OPERATIONS:
            raise Failure(400, "a batch has at most 100 operations")
        before = dict(container.items)
        self._file.execute("BEGIN IMMEDIATE")
        results: list[dict[str, Any]] = []
        for operation in operations:
            try:
                results.append(self._one(container, link, key, operation))
            except Failure as failure:
                self._file.execute("ROLLBACK")
                container.items = before
                return [
                    {"statusCode": failure.status if other is operation else 424, "message": failure.message}
                    for other in operations
                ]
        self._file.execute("COMMIT")
        return results

    def _one(self, container: Container, link: str, key: str, operation: dict[str, Any]) -> dict[str, Any]:
        kind, item = operation["operationType"], operation.get("resourceBody")
        name = item.get("id") if item is not None else operation["id"]
        known = container.items.get((key, name))
        if known is not None and self._expired(container, known):
            known = None
        if kind in {"Create", "Upsert", "Replace"}:
            _check(container, key, item)
        if kind == "Create" and known is not None:
            raise Failure(409, "an item with this id exists")
        if kind in {"Replace", "Delete", "Read"} and known is None:
            raise Failure(404, "no such item")
        if known is not None and operation.get("ifMatch") not in {None, known["_etag"]}:
            raise Failure(412, "the item was changed meanwhile")
        if kind == "Read":
            return {"statusCode": 200, "resourceBody": known}
        if kind == "Delete":
            del container.items[key, name]
            self._file.execute("DELETE FROM item WHERE link=? AND key=? AND id=?", (link, key, name))
            return {"statusCode": 204}
        stored = {**(item or {}), **self._system(container, name)}
        container.items[key, name] = stored
        self._file.execute("INSERT OR REPLACE INTO item VALUES (?,?,?,?)", (link, key, name, json.dumps(stored)))
        return {"statusCode": 201 if known is None else 200, "resourceBody": stored, "eTag": stored["_etag"]}

    def _system(self, container: Container, name: str) -> dict[str, Any]:
        rid = f"{container.rid}{uuid.uuid5(uuid.NAMESPACE_OID, name).hex[:16]}"
        etag = f'"{uuid.uuid4()}"'
        return {"_rid": rid, "_self": rid, "_etag": etag, "_attachments": "attachments/", "_ts": int(self._now())}


def _rid(link: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, link).hex[:12]


def _check(container: Container, key: str, item: Any) -> None:
    name = item.get("id")
    if not isinstance(name, str) or not name or name != name.strip() or any(one in name for one in "/\\?#"):
        raise Failure(400, "an id is text without / \\ ? #")
    if len(name.encode()) > MAX_ID_BYTES:
        raise Failure(400, "the id is too long")
    if key != json.dumps([item.get(path) for path in container.key_paths]):
        raise Failure(400, "the partition key is not that of the item", 1001)
    if len(key.encode()) > MAX_PARTITION_KEY_BYTES:
        raise Failure(400, "the partition key is too long")
    if any(one.startswith("_") and one not in {"_etag", "_ts", "_rid", "_self", "_attachments"} for one in item):
        raise Failure(400, "names with _ are the service's own here")
    if size_of(item) > MAX_ITEM_BYTES:
        raise Failure(413, "the item is too large")
    if "ttl" in item and (not isinstance(item["ttl"], int) or item["ttl"] == 0 or item["ttl"] < -1):
        raise Failure(400, "ttl is -1 or seconds")
