"""The account dialect: what Copilot clients ask about the account they use, its token first of all."""

from __future__ import annotations

from typing import Final

import msgspec

from extproc.dialect.json_api import JsonDialect
from extproc.errors import Refusal

_TITLE: Final = "The gateway refuses"


class AccountDialect(JsonDialect):
    """Implement `Dialect` for account endpoints."""

    def error_body(self, refusal: Refusal, decision_id: str) -> bytes:
        """Return the refusal as GitHub refuses a token: editors show `error_details`, if all four members are there.

        They are those of `TokenErrorNotification` in the Copilot extension; `url` is opened by a button, if it is one.
        """
        details = {"message": refusal.message, "title": _TITLE, "url": "", "notification_id": refusal.code.value}
        error = {"message": refusal.message, "code": refusal.code.value, "decision_id": decision_id}
        return msgspec.json.encode({**error, "error_details": details})
