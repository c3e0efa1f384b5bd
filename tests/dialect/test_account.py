from __future__ import annotations

import json

from extproc.dialect.account import AccountDialect
from extproc.errors import Code, Refusal


def test_a_refusal_has_what_editors_show_and_what_the_record_is_found_by() -> None:
    refusal = Refusal(403, Code.POLICY_DENIED, "Ask your manager.")
    error = json.loads(AccountDialect().error_body(refusal, "d1"))
    assert (error["message"], error["code"], error["decision_id"]) == ("Ask your manager.", "policy.denied", "d1")
    # The validator of VS Code drops the details unless all four are strings.
    assert set(error["error_details"]) == {"message", "title", "url", "notification_id"}
    assert all(isinstance(value, str) for value in error["error_details"].values())
    assert error["error_details"]["message"] == "Ask your manager."
