"""Who may do what: master keys by their signature, bearer tokens by the data actions of a role definition."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from tests.cosmos.account import Failure

_ACCOUNT: Final = "Microsoft.DocumentDB/databaseAccounts/"
_CONTAINER: Final = f"{_ACCOUNT}sqlDatabases/containers/"

# What each operation needs; queries by the SDK need both.
NEEDED: Final = {
    "metadata": {f"{_ACCOUNT}readMetadata"},
    "Create": {f"{_CONTAINER}items/create"},
    "Read": {f"{_CONTAINER}items/read"},
    "Replace": {f"{_CONTAINER}items/replace"},
    "Upsert": {f"{_CONTAINER}items/upsert"},
    "Delete": {f"{_CONTAINER}items/delete"},
    "query": {f"{_CONTAINER}executeQuery", f"{_CONTAINER}readChangeFeed"},
}


def actions_of(role: Mapping[str, Any]) -> set[str]:
    """Return the data actions of a role definition as `az cosmosdb sql role definition create` reads it."""
    return {action for permission in role["Permissions"] for action in permission["DataActions"]}


class Rights:
    """Check the Authorization header of a request, as "Access control in the Azure Cosmos DB SQL API" has it."""

    def __init__(self, key: str, tokens: Mapping[str, set[str]]) -> None:
        self._key = base64.b64decode(key)
        self.tokens = dict(tokens)

    def check(self, header: str, verb: str, kind: str, link: str, date: str, needs: set[str]) -> None:
        """Raise `Failure` unless this request may do all of `needs` (names of `NEEDED`, or `control`)."""
        parts = dict(part.split("=", 1) for part in unquote(header).split("&") if "=" in part)
        match parts.get("type"):
            case "master":
                text = f"{verb.lower()}\n{kind}\n{link}\n{date.lower()}\n\n"
                digest = base64.b64encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest()).decode()
                if not hmac.compare_digest(digest, parts["sig"]):
                    raise Failure(401, "the signature is wrong")
            case "aad":
                self._check_token(parts["sig"], needs)
            case _:
                raise Failure(401, "no credential")

    def _check_token(self, token: str, needs: set[str]) -> None:
        if token not in self.tokens:
            raise Failure(401, "the token is not known")
        allowed = self.tokens[token]
        for need in needs:
            # Databases and containers are the control plane's: no data action allows to make them.
            if need == "control" or not NEEDED[need] <= allowed:
                raise Failure(403, f"the role does not allow {need}", 5300)
