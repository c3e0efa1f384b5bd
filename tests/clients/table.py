"""One cell of the matrix at work: a person asks through a client, and what came of it is looked at."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from extproc.client_settings.settings import Mode
from extproc.signin.profile import WELL_KNOWN
from tests.clients.access import Access
from tests.clients.client import Client, Running
from tests.clients.process import Ran
from tests.clients.product import Product, until

ASK_SECONDS = 120
HELD_SECONDS = 60
RECORD_SECONDS = 20
MODEL_ENDPOINTS = {"chat", "messages", "responses", "completions"}
# What a client does on its own, some of it without saying who it is.
UNASKED = {"telemetry", "tunnel"}

# The shapes of what the demo upstream makes up when it is asked to `leak`.
SECRET = re.compile(r"ghp_\w{36}|AKIA[A-Z2-7]{16}|sk-ant-api03-[\w-]{20}|-----BEGIN PRIVATE KEY-----")


@dataclass
class Table:
    """Where a client sits: it asks, and everything it does is looked at afterwards."""

    product: Product
    client: Client
    access: Access

    def __post_init__(self) -> None:
        self._began = time.time()
        self._running: Running | None = None
        self._left_waiting = False

    def start(self, prompt: str) -> Running:
        self._running = self.client.start(self.access, prompt)
        return self._running

    def run(self, prompt: str) -> Ran:
        return self.start(prompt).wait(ASK_SECONDS)

    def held(self) -> dict[str, Any]:
        """Return the approval that the client's exchange waits for, as soon as it does."""
        client = self._running
        assert client is not None
        self._left_waiting = True

        def waiting() -> list[dict[str, Any]]:
            assert client.is_running(), f"the client did not wait:\n{client.output()}"
            return self.product.pending()

        [approval] = until(waiting, "a pending approval", HELD_SECONDS, client.output)
        return approval

    def decide(self, verdict: str, approval: dict[str, Any], reason: str) -> None:
        self.product.extproc("approvals", verdict, approval["id"], "--as", "bob", "--reason", reason)
        self._left_waiting = False

    def clear(self) -> None:
        """End what still runs, and answer what still waits, so that the next cell begins with nothing."""
        if self._running is not None:
            self._running.kill()
        if self._left_waiting:
            for approval in self.product.pending():
                self.decide("deny", approval, "the test is over")

    # --- what must be true after every cell --------------------------------------------------------------------------

    def check_upstream(self) -> None:
        """Check that GitHub saw the gateway's credential wherever it saw one, and nothing of the caller's."""
        # The signature is the part of a JWT that two tokens never share.
        secret = self.access.token.rpartition(".")[2]
        for seen in self.product.seen():
            what = f"{seen.method} {seen.path}"
            assert seen.authorization in {None, f"Bearer {self.product.credential}"}, f"{what}: another credential"
            assert secret not in seen.text, f"{what}: the caller's token"
            assert "proxy-authorization" not in {name.lower() for name, _ in seen.headers}, what

    def check_record(self) -> None:
        """Check that what the client asked is in the record: who asked, from where, and in which mode."""
        asked = until(self._asked, "the record of the exchange", RECORD_SECONDS, self.product.logs)
        for document in asked:
            what = f"{document['request']['endpoint']} {document['id']}"
            assert (document["principal"] or {}).get("name") == self.access.user, what
            assert document["client"]["address"].rpartition(":")[0] == "127.0.0.1", what
            assert (document["client"]["tunnel"] is not None) == (self.access.mode is Mode.PROXY), what

    def _asked(self) -> list[dict[str, Any]]:
        """Return what was recorded, once a model was asked for something or that was denied."""
        documents = [one for one in self.product.documents(self._began) if one["request"]["path"] != WELL_KNOWN]
        found = [one for one in documents if one["request"]["endpoint"] not in UNASKED]
        ended = any(one["request"]["endpoint"] in MODEL_ENDPOINTS or one["outcome"] == "denied" for one in found)
        return found if ended else []
