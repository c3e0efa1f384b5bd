"""A strict stand-in for an Azure Cosmos DB account, spoken to by the unmodified SDK over HTTP.

What it refuses matters more than what it does: wrong signatures, rights that a role does not have, items and batches
above the limits, queries outside the part of the language that is used here, cross-partition queries that the client
must join itself. It has two partition key ranges, so that joining is really done.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from tests.cosmos import sql
from tests.cosmos.account import MAX_ITEM_BYTES, Account, Container, Failure, loads, size_of
from tests.cosmos.fault import Fault
from tests.cosmos.rights import Rights

KEY: Final = "bWFkZSB1cCBmb3IgdGVzdHM6IG5vIGFjY291bnQgYW55d2hlcmUgaGFzIHRoaXMga2V5"
MAX_PAGE_BYTES: Final = 4 * 1024 * 1024
_MIDDLE: Final = "1F" + "F" * 30
RANGES: Final = [
    {"id": "0", "minInclusive": "", "maxExclusive": _MIDDLE, "_rid": "r0", "parents": []},
    {"id": "1", "minInclusive": _MIDDLE, "maxExclusive": "FF", "_rid": "r1", "parents": []},
]


class FakeCosmos:
    """Serve one account on 127.0.0.1; `faults` may be changed while it runs, from any thread.

    `requests` counts what came by operation; a batch counts once.
    """

    def __init__(self, account: Account, *, key: str = KEY, tokens: Mapping[str, set[str]] | None = None) -> None:
        self.account = account
        self.rights = Rights(key, tokens or {})
        self.faults: list[Fault] = []
        self.requests: dict[str, int] = {}
        self.page_items = 1000
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("POST", "/_faults", self._add_fault)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        sockets = site._server.sockets  # type: ignore[union-attr]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            # Before anything is aborted: a client would come back at once, and its connection outlive the test.
            for site in self._runner.sites:
                await site.stop()
            # Clients that were refused something leave connections open, which TLS would wait for.
            for handler in self._runner.server.connections if self._runner.server else []:
                if handler.transport is not None:
                    handler.transport.abort()
            await self._runner.cleanup()
        self.account.close()

    async def _add_fault(self, request: web.Request) -> web.Response:
        self.faults.append(Fault(**await request.json()))
        return web.Response()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        text = body.decode("utf-8", "replace") + unquote(request.path)
        try:
            operation, needs = _operation(request, body)
            self.requests[operation] = self.requests.get(operation, 0) + 1
            self._authorise(request, needs)
            fault = next((one for one in self.faults if one.fits(operation, text)), None)
            if fault is None:
                return self._answer(request, operation, body)
            fault.use()
            answer = self._answer(request, operation, body) if fault.commit else None
        except Failure as failure:
            return _failed(failure.status, failure.sub_status, failure.message)
        await asyncio.sleep(fault.stall)
        if fault.status is not None:
            return _spoiled(fault, fault.status, body)
        if fault.stall and answer is not None:
            return answer
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _authorise(self, request: web.Request, needs: set[str]) -> None:
        kind, link = _resource(request)
        header = request.headers.get("Authorization", "")
        self.rights.check(header, request.method, kind, link, request.headers.get("x-ms-date", ""), needs)

    def _answer(self, request: web.Request, operation: str, body: bytes) -> web.Response:
        if len(body) > MAX_ITEM_BYTES + 4096:
            raise Failure(413, "the request is too large")
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        match parts:
            case ["dbs", _, "colls", _, "docs", *name]:
                return self._items(request, operation, "/".join(parts[:4]), name, body)
            case _ if request.method == "GET":
                return self._described(request, parts)
            case _:
                return self._provisioned(request.method, parts, loads(body))

    def _provisioned(self, method: str, parts: list[str], body: dict[str, Any]) -> web.Response:
        match method, parts:
            case "POST", ["dbs"]:
                self.account.create_database(body["id"])
                return web.json_response(body, status=201)
            case "POST", ["dbs", name, "colls"]:
                made = self.account.put_container(name, body, replace=False)
                return web.json_response({**made.definition, "_rid": made.rid}, status=201)
            case "PUT", ["dbs", name, "colls", _]:
                made = self.account.put_container(name, body, replace=True)
                return web.json_response({**made.definition, "_rid": made.rid})
        raise Failure(405, "not here")

    def _described(self, request: web.Request, parts: list[str]) -> web.Response:
        match parts:
            case [""]:
                return web.json_response(self._description())
            case ["dbs", name] if name in self.account.databases:
                return web.json_response({"id": name, "_rid": "d"})
            case ["dbs", _, "colls", _]:
                container = self.account.container("/".join(parts))
                return web.json_response({**container.definition, "_rid": container.rid})
            case ["dbs", _, "colls", _, "pkranges"] if request.headers.get("If-None-Match"):
                return web.Response(status=304, headers={"etag": '"1"'})
            case ["dbs", _, "colls", _, "pkranges"]:
                self.account.container("/".join(parts[:4]))
                return web.json_response({"PartitionKeyRanges": RANGES, "_count": 2}, headers={"etag": '"1"'})
        raise Failure(404, "there is nothing")

    def _description(self) -> dict[str, Any]:
        here = [{"name": "Here", "databaseAccountEndpoint": self.url}]
        consistency = {"defaultConsistencyLevel": "Session"}
        return {
            "id": "fake",
            "writableLocations": here,
            "readableLocations": here,
            "userConsistencyPolicy": consistency,
        }

    def _items(self, request: web.Request, operation: str, link: str, name: list[str], body: bytes) -> web.Response:
        if operation == "plan":
            return web.json_response(_plan(loads(body)["query"]))
        if operation == "query":
            return self._query(request, self.account.container(link), loads(body))
        key = json.dumps(loads(request.headers["x-ms-documentdb-partitionkey"]))
        if operation == "Read":
            return web.json_response(self.account.read(link, key, name[0]))
        minimal = request.headers.get("Prefer") == "return=minimal"
        if operation == "batch":
            results = self.account.write(link, key, loads(body))
            failed = any(one["statusCode"] >= 400 for one in results)
            shown = [_without_body(one) if minimal else one for one in results]
            return web.json_response(shown, status=207 if failed else 200)
        change: dict[str, Any] = {"operationType": operation, "ifMatch": request.headers.get("If-Match")}
        change |= {"id": name[0]} if operation == "Delete" else {"resourceBody": loads(body)}
        (result,) = self.account.write(link, key, [change])
        if result["statusCode"] >= 400:
            raise Failure(result["statusCode"], result["message"])
        if minimal or operation == "Delete":
            return web.Response(status=result["statusCode"])
        return web.json_response(result["resourceBody"], status=result["statusCode"])

    def _query(self, request: web.Request, container: Container, body: dict[str, Any]) -> web.Response:
        text = str(body["query"])
        query = _parsed(text.removeprefix(_REWRITTEN))
        key, chosen = request.headers.get("x-ms-documentdb-partitionkey"), request.headers.get(_RANGE_HEADER)
        if key is None and chosen is None:
            if request.headers.get("x-ms-documentdb-query-enablecrosspartition", "").lower() != "true":
                raise Failure(400, "cross partition query is required but disabled")
            if query.needs_client:
                raise Failure(400, json.dumps({"additionalErrorInfo": json.dumps(_plan(text))}), 1004)
        container.check_order(query.order_path)
        wanted = None if key is None else json.dumps(loads(key))
        items = [
            item
            for its_key, item in self.account.alive(container)
            if wanted in {None, its_key} and chosen in {None, _range_of(its_key)}
        ]
        parameters = {one["name"]: one["value"] for one in body.get("parameters", [])}
        rows = list(query.run(items, parameters))
        if text.startswith(_REWRITTEN):
            ordered = [{"_rid": rid, "orderByItems": [{"item": at}], "payload": row} for row, at, rid in rows]
        else:
            ordered = [row for row, _, _ in rows]
        return self._page(request, container, ordered)

    def _page(self, request: web.Request, container: Container, rows: list[Any]) -> web.Response:
        start = int(request.headers.get("x-ms-continuation", "0"))
        asked = int(request.headers.get("x-ms-max-item-count", "-1"))
        page: list[Any] = []
        size = 0
        for row in rows[start : start + (self.page_items if asked < 1 else min(asked, self.page_items))]:
            size += size_of(row)
            if page and size > MAX_PAGE_BYTES:
                break
            page.append(row)
        following = start + len(page)
        headers = {"x-ms-continuation": str(following)} if following < len(rows) else {}
        return web.json_response({"_rid": container.rid, "Documents": page, "_count": len(page)}, headers=headers)


_REWRITTEN: Final = "/*per range*/ "
_RANGE_HEADER: Final = "x-ms-documentdb-partitionkeyrangeid"


def _parsed(text: str) -> sql.Query:
    try:
        return sql.parse(text)
    except sql.QueryError as error:
        raise Failure(400, f"syntax error: {error}") from error


def _plan(text: str) -> dict[str, Any]:
    query = _parsed(text)
    order = [] if query.order_by is None else ["Descending" if query.descending else "Ascending"]
    info: dict[str, Any] = {
        "distinctType": "Unordered" if query.distinct else "None",
        "orderBy": order,
        "orderByExpressions": ["c"] * len(order),
        "aggregates": [],
        "hasSelectValue": query.value,
        "rewrittenQuery": _REWRITTEN + text if order else "",
    }
    everything = {"min": "", "max": "FF", "isMinInclusive": True, "isMaxInclusive": False}
    return {"partitionedQueryExecutionInfoVersion": 2, "queryInfo": info, "queryRanges": [everything]}


def _range_of(key: str) -> str:
    return str(zlib.crc32(key.encode()) % 2)


def _without_body(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "resourceBody"}


def _resource(request: web.Request) -> tuple[str, str]:
    """Return the type and the link that a signature is about."""
    parts = [unquote(part) for part in request.path.strip("/").split("/") if part]
    if len(parts) % 2:
        return parts[-1], "/".join(parts[:-1])
    return (parts[-2] if parts else ""), "/".join(parts)


def _operation(request: web.Request, body: bytes) -> tuple[str, set[str]]:
    """Return the name of what is asked and what one must be allowed to for it."""
    if "/docs" not in request.path:
        return "metadata", {"metadata" if request.method == "GET" else "control"}
    if request.headers.get("x-ms-cosmos-is-query-plan-request", "").lower() == "true":
        return "plan", {"query"}
    if request.headers.get("x-ms-documentdb-isquery", "").lower() == "true":
        return "query", {"query"}
    if request.headers.get("x-ms-cosmos-is-batch-request", "").lower() == "true":
        return "batch", {one["operationType"] for one in loads(body)}
    if request.headers.get("x-ms-documentdb-is-upsert", "").lower() == "true":
        return "Upsert", {"Upsert"}
    name = {"GET": "Read", "POST": "Create", "PUT": "Replace", "DELETE": "Delete"}.get(request.method)
    if name is None:
        raise Failure(405, "not here")
    return name, {name}


def _failed(status: int, sub_status: int, message: str) -> web.Response:
    answer = loads(message) if message.startswith("{") else {"code": str(status), "message": message}
    return web.json_response(answer, status=status, headers={"x-ms-substatus": str(sub_status)})


def _spoiled(fault: Fault, status: int, body: bytes) -> web.Response:
    headers = {"x-ms-substatus": str(fault.sub_status)}
    if fault.retry_after_ms is not None:
        headers["x-ms-retry-after-ms"] = str(fault.retry_after_ms)
    if fault.inside:
        results = [{"statusCode": 424 if number else status} for number, _ in enumerate(loads(body))]
        return web.json_response(results, status=207, headers=headers)
    return web.json_response({"code": str(status), "message": "spoiled"}, status=status, headers=headers)
