from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.export.formats import Format, rendering
from extproc.recording.document import merged
from tests.recording_of import NOW, exchange

REMOVED = {
    "id": "gone",
    "session": "s1",
    "opened_at": NOW,
    "kind": "exchange",
    "facts": {"user": "alice", "model": "gpt-5"},
    "entry": {"log": "a.0.1", "index": 3},
    "removed": "its content was removed from the store",
}


def document(exchange_id: str = "e1", session: str = "s1", **more: Any) -> dict[str, Any]:
    request = {"method": "POST", "host": "gateway", "path": "/chat/completions?a=1&b=", "body_bytes": 138}
    opening, closing = exchange(exchange_id, session=session, **{**request, **more})
    closing["timing"] = {"released": 3.8, "response_headers": 8.0, "first_piece": 49.0, "pieces": [], "closed": 174.9}
    closing["response"] |= {"content_type": "text/event-stream", "body_bytes": 1327}
    return {**merged(opening, closing), "entry": {"log": "a.0.1", "index": 0}}


def file_of(wanted: Format, documents: Iterable[dict[str, Any]]) -> bytes:
    made = rendering(wanted)
    return b"".join([made.begin(), *map(made.add, documents), made.end()])


def har_of(*documents: dict[str, Any]) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(file_of(Format.HAR, documents))["log"]
    return log


def test_json_lines_are_the_documents() -> None:
    documents = [document(), REMOVED, document("e2", path="/x\u2028\n")]
    lines = file_of(Format.JSONL, documents).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == documents


# --- HAR -------------------------------------------------------------------------------------------------------------

# The members that HAR 1.2 requires, by object.
REQUIRED: dict[str, dict[str, Any]] = {
    "log": {"version": str, "creator": dict, "entries": list},
    "creator": {"name": str, "version": str},
    "page": {"startedDateTime": str, "id": str, "title": str, "pageTimings": dict},
    "entry": {
        "startedDateTime": str,
        "time": (int, float),
        "request": dict,
        "response": dict,
        "cache": dict,
        "timings": dict,
    },
    "request": {
        "method": str,
        "url": str,
        "httpVersion": str,
        "cookies": list,
        "headers": list,
        "queryString": list,
        "headersSize": int,
        "bodySize": int,
    },
    "response": {
        "status": int,
        "statusText": str,
        "httpVersion": str,
        "cookies": list,
        "headers": list,
        "content": dict,
        "redirectURL": str,
        "headersSize": int,
        "bodySize": int,
    },
    "content": {"size": int, "mimeType": str},
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
    "postData": {"mimeType": str, "text": str},
    "pair": {"name": str, "value": str},
}


def check(kind: str, value: dict[str, Any]) -> None:
    for name, wanted in REQUIRED[kind].items():
        assert isinstance(value[name], wanted), f"{kind}.{name}"


def check_har(log: dict[str, Any]) -> None:
    check("log", log)
    check("creator", log["creator"])
    for page in log["pages"]:
        check("page", page)
    for entry in log["entries"]:
        check("entry", entry)
        assert entry["pageref"] in {page["id"] for page in log["pages"]}
        assert entry["time"] == pytest.approx(sum(entry["timings"].values()))
        for kind in ("request", "response", "timings"):
            check(kind, entry[kind])
        check("content", entry["response"]["content"])
        if "postData" in entry["request"]:
            check("postData", entry["request"]["postData"])
        for pair in (*entry["request"]["headers"], *entry["request"]["queryString"], *entry["response"]["headers"]):
            check("pair", pair)


def test_an_exchange_is_a_har_entry_whose_session_is_a_page() -> None:
    log = har_of(document(), document("e2", session="s2"), document("e3"))
    check_har(log)
    assert log["version"] == "1.2"
    assert [page["id"] for page in log["pages"]] == ["s1", "s2"]
    first = log["entries"][0]
    assert first["startedDateTime"] == "2025-10-09T08:53:20.000Z"
    assert first["request"]["url"] == "https://gateway/chat/completions?a=1&b="
    assert first["request"]["queryString"] == [{"name": "a", "value": "1"}, {"name": "b", "value": ""}]
    assert first["request"]["headers"] == [{"name": "user-agent", "value": "copilot/1.0"}]
    assert json.loads(first["request"]["postData"]["text"])["messages"][0]["content"] == "say hello"
    content = first["response"]["content"]
    assert json.loads(content["text"])["text"] == "Hello"
    assert content["size"] == len(content["text"].encode())
    assert first["timings"] == {"send": 0, "wait": 8.0, "receive": 166.9}
    assert (first["_id"], first["_outcome"], first["_entry"]["index"]) == ("e1", "completed", 0)


def test_turn_retry_and_purpose_are_in_har_and_markdown() -> None:
    turn = {"id": "t1", "retry_of": "e0", "purpose": "title"}
    [entry, old] = har_of({**document(), "turn": turn}, document("e2"))["entries"]
    assert (entry["_turn"], old["_turn"]) == (turn, None)
    text = file_of(Format.MARKDOWN, [{**document(), "turn": turn}]).decode()
    assert "- turn: `t1`\n- retry of: `e0`\n- purpose: `title`\n" in text
    assert "retry" not in file_of(Format.MARKDOWN, [document()]).decode()


def test_a_refused_exchange_is_a_har_entry_too() -> None:
    refused = document(model=None, messages=None)
    refused |= {"outcome": "denied", "response": {"status": None, "content_type": None, "body_bytes": 0}}
    refused |= {"timing": {"response_headers": None, "closed": 1.5}, "principal": None, "decision": None}
    check_har(har_of(refused))
    check_har(har_of({**refused, "response": None, "timing": None}))


def test_what_was_removed_is_told_in_the_har_and_is_no_entry() -> None:
    log = har_of(REMOVED, document())
    check_har(log)
    assert len(log["entries"]) == 1
    assert log["_removed"] == [REMOVED]
    assert har_of()["entries"] == []


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown_of(*documents: dict[str, Any]) -> str:
    return file_of(Format.MARKDOWN, documents).decode()


def test_a_conversation_is_readable() -> None:
    text = markdown_of(document())
    for part in (
        "# Session `s1`\n",
        "## 2025-10-09 08:53:20 UTC, `alice`\n",
        "- request: `POST gateway/chat/completions?a=1&b=`",
        "- decision: `allow by rule developers`",
        "### `user`\n\n```text\nsay hello\n```\n",
        "### `assistant`\n\n```text\nHello\n```\n",
    ):
        assert part in text


def test_only_what_is_new_since_the_last_answer_is_shown() -> None:
    said = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "text", "text": "third"}]},
    ]
    text = markdown_of(document(messages=said))
    assert "*2 earlier messages were sent again.*" in text
    assert "first" not in text
    assert "```text\nsecond\nthird\n```" in text


def test_sessions_that_are_mixed_are_told_apart() -> None:
    text = markdown_of(document("e1", "s1"), document("e2", "s2"), document("e3", "s1"))
    assert [line for line in text.splitlines() if line.startswith("# ")] == [
        "# Session `s1`",
        "# Session `s2`",
        "# Session `s1`, continued",
    ]


def test_what_was_removed_is_told_in_its_place() -> None:
    text = markdown_of(REMOVED)
    assert "- exchange `gone`, model `gpt-5`\n- `its content was removed from the store`" in text


def test_tool_calls_approvals_findings_and_errors_are_shown() -> None:
    one = document(paths=["a.tf"], findings=[])
    one["findings"] = [{"rule": "npm-token", "direction": "prompt", "where": "messages[0]", "action": "mask"}]
    one["approvals"] = [{"id": "a1", "state": "approved"}]
    one["error"] = {"code": "upstream.reset", "message": "broken"}
    one["response"]["error"] = {"message": "overloaded"}
    text = markdown_of(one)
    for part in ("`assistant, tool call edit`", "npm-token in prompt", '"state":"approved"', "upstream.reset: broken"):
        assert part in text
    assert '{"message":"overloaded"}' in text


PIECES = st.sampled_from(["`", "```", "\n", "# ", "<script>", "~~~", " ", "a", "\x1b", "\u202e"])
HOSTILE = st.lists(PIECES, max_size=30).map("".join)


@given(HOSTILE, HOSTILE)
def test_no_prompt_gets_out_of_its_block(content: str, role: str) -> None:
    text = markdown_of(document(messages=[{"role": role, "content": content}]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    outside, fence = [], None
    for line in text.split("\n"):
        if fence is not None:
            fence = None if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text")
        else:
            outside.append(line)
    assert fence is None
    headings = [line for line in outside if line.startswith("#")]
    assert len(headings) == 4
    # What comes from outside stands in code, which has no backtick of its own.
    assert all(line.count("`") == 2 for line in headings)
    assert not any("<script>" in line.replace(line[line.find("`") : line.rfind("`") + 1], "") for line in headings)
