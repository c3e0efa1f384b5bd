r"""What the demo upstream answers: decided by words in the last user message, the same for the same words. Pure.

Anywhere in the prompt:

| words              | answer                                                                                     |
| ------------------ | ------------------------------------------------------------------------------------------ |
| (none of these)    | a short text that repeats the question, white space collapsed, at most 80 words            |
| `count to N`       | the numbers 1 to N (at most 1000), one event each                                          |
| `create FILE`      | a call of an offered tool that writes files (FILE holds a dot or a slash), in fragments    |
| `create FILE       | the same with "text" and a newline at its end                                              |
| containing "text"` |                                                                                            |
| `edit FILE`        | a call of an offered tool that edits files                                                 |
| `edit FILE         | the same that works on a file that has "old" once; a tool that takes patches replaces      |
| replacing "old"    | whole lines                                                                                |
| with "new"`        |                                                                                            |
| `use a tool`       | a call of an offered tool: one that writes files, else the first                           |
| `echo credential`  | the Authorization header it got: in the text whole, then split over events, and as the     |
|                    | response header `x-echo-authorization`                                                     |

Quotation marks are ", ' or `; `\n` in them is a newline. A relative FILE is taken to lie in the working directory
that the client tells the model, if it does.

Only as the first words of the prompt, alone or one after the other (`slow reset count to 20`), since people also ask
why a test fails and what git reset does:

| word    | effect                                                                                                |
| ------- | ----------------------------------------------------------------------------------------------------- |
| `fail`  | instead: 500 with a JSON error                                                                        |
| `html`  | instead: 200 with an HTML page                                                                        |
| `long`  | a text of 200 events                                                                                  |
| `slow`  | 50 ms between events                                                                                  |
| `reset` | half of the answer, then a TCP reset                                                                  |
| `leak`  | made-up secrets in the text and the reasoning, cut into small pieces; where a tool that writes files  |
|         | is offered, also a call of it with such secrets in its arguments                                      |
| `gzip`  | a gzip body, though identity was asked for; so do `deflate`, `br` and `zstd`                          |

Case does not matter. A conversation that ends with a tool's result gets a closing sentence, so that an agent does not
call the same tool for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from extproc.conversation import ToolCall
from extproc.dev import upstream_leak
from extproc.dev.upstream_orders import Order, find_order, offered_tools, tool_call, tool_for, working_directory

_MAX_COUNT = 1000
_MAX_WORDS = 80
_LONG_EVENTS = 200
_FRAGMENT = 7  # characters: small enough that paths and secrets straddle events

_ENCODINGS = ("gzip", "deflate", "br", "zstd")
_MODES = {"fail", "html", "long", "slow", "reset", "leak", *_ENCODINGS}
_FILLERS = {"please", "and"}
# Clients wrap what they add for the model (date, reminders) in such blocks; the user did not write it.
_CLIENT_BLOCK = re.compile(r"<([a-z]+(?:[_-][a-z]+)+)>.*?</\1>", re.DOTALL)
# Copilot's language server writes so much around the prompt that it marks what the user wrote.
_USER_REQUEST = re.compile(r"<userRequest>(.*?)</userRequest>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Script:
    """One answer: `pieces` of text and a `tool_call`, either or both, and how it misbehaves.

    `is_custom` says that the tool takes free text instead of JSON; `reasoning` is for requests that ask for it.
    """

    pieces: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    tool_call: ToolCall | None = None
    is_custom: bool = False
    instead: Literal["fail", "html"] | None = None
    echo_authorization: bool = False
    slow: bool = False
    reset: bool = False
    encoding: str | None = None

    fragment: int = _FRAGMENT
    """So many characters of a tool's arguments come in one event."""

    def argument_pieces(self) -> Iterator[str]:
        """Cut the arguments of the call as they are streamed."""
        return fragments("" if self.tool_call is None else self.tool_call.arguments, self.fragment)

    def text(self) -> str:
        """Return the text of the answer."""
        return "".join(self.pieces)

    def tokens(self) -> int:
        """Count words, which stand in for tokens."""
        call = "" if self.tool_call is None else self.tool_call.arguments
        return len(f"{self.text()} {call}".split())


def script_for(messages: list[Any], tools: list[Any], authorization: str) -> Script:
    """Decide the answer to a chat completion request; `authorization` is the header it came with."""
    question = _question(messages)
    modes = _modes(question)
    if modes & {"fail", "html"}:
        return Script(instead="fail" if "fail" in modes else "html")
    is_done = _ends_with_tool_result(messages)
    echo, leak = _says(question, "echo credential"), "leak" in modes and not is_done
    offered = {} if is_done else offered_tools(tools)
    order = _order(question, leak=leak)
    tool = None if order is None else tool_for(order, offered, any_tool=_says(question, "use a tool"))
    call = None
    if order is not None and tool is not None:
        secrets = upstream_leak.assignments(order.file) if leak else ""
        call = tool_call(tool, order, offered[tool], working_directory(map(text_of, messages)), secrets=secrets)
    pieces: tuple[str, ...] = ()
    if leak:
        pieces = tuple(fragments(f"This is what I found:\n\n{upstream_leak.assignments(question)}\nThat is all."))
    elif call is None and echo:
        pieces = ("Your credential is ", authorization, ", in parts: ", *fragments(authorization), ".")
    elif call is None:
        pieces = _text(question, messages, modes)
    return Script(
        pieces=pieces,
        reasoning=_reasoning(question, leak=leak),
        tool_call=call,
        is_custom=tool is not None and offered[tool] is None,
        echo_authorization=echo,
        slow="slow" in modes,
        reset="reset" in modes,
        encoding=next((name for name in _ENCODINGS if name in modes), None),
    )


def fragments(text: str, size: int = _FRAGMENT) -> Iterator[str]:
    """Cut `text` as a model's tokens would be: a few characters each."""
    return (text[start : start + size] for start in range(0, len(text), size))


def text_of(message: object) -> str:
    """Return the text of a chat message, whose content is a string or a list of parts; "" when it has none."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _text(question: str, messages: list[Any], modes: set[str]) -> tuple[str, ...]:
    if _ends_with_tool_result(messages):
        return _words(f"Done. The tool answered: {_shortened(text_of(messages[-1]))}")
    if match := re.search(r"\bcount to (\d{1,6})\b", question, re.IGNORECASE):
        numbers = range(1, min(int(match[1]), _MAX_COUNT) + 1)
        return tuple(f"{number} " for number in numbers)
    if "long" in modes:
        return tuple(f"word{number} " for number in range(1, _LONG_EVENTS + 1))
    if _says(question, "use a tool") or find_order(question):
        return _words("I would use a tool for that, but this request offers none that fits.")
    return _words(f"Hello! You asked: {_shortened(question)}\n\nI am the demo upstream, so this answer is scripted.")


def _question(messages: list[Any]) -> str:
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            text = text_of(message)
            request = _USER_REQUEST.search(text)
            return _CLIENT_BLOCK.sub("", request[1] if request else text).strip()
    return ""


def _ends_with_tool_result(messages: list[Any]) -> bool:
    return bool(messages) and isinstance(messages[-1], dict) and messages[-1].get("role") == "tool"


def _reasoning(question: str, *, leak: bool) -> tuple[str, ...]:
    if leak:
        return tuple(fragments(f"They want their key:\n{upstream_leak.private_key(question)}I shall tell."))
    return _words(f"They ask {len(question.split())} words. I follow the script.")


def _order(question: str, *, leak: bool) -> Order | None:
    if order := find_order(question):
        return order
    return Order("create", "demo.txt") if leak or _says(question, "use a tool") else None


def _modes(question: str) -> set[str]:
    words = (match[0] for match in re.finditer(r"\w+", question.lower()))
    return set(takewhile((_MODES | _FILLERS).__contains__, words)) - _FILLERS


def _says(text: str, words: str) -> bool:
    return re.search(rf"\b{words}\b", text, re.IGNORECASE) is not None


def _shortened(text: str) -> str:
    words = text.split()
    return " ".join(words[:_MAX_WORDS]) + (" …" if len(words) > _MAX_WORDS else "")


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\S+\s*", text))
