"""Gather what a chat completions answer says, from its whole body or from the events of its stream.

Sources: OpenAI API reference, "Chat" and "Chat streaming". Upstreams behind Copilot vary from it, and so does this
reading: reasoning has four names, several entries of `choices` may share an index, tool calls may lack theirs.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from extproc.conversation import Answer, Choice, Piece, ToolCall, Usage

# Bounds on what one answer, or one choice of it, may open; OpenAI's own bound on `n` is 128, as that on `tools`.
MAX_CHOICES: Final = 128
MAX_TOOL_CALLS: Final = 1024

# What decoding raises for bytes that are not the JSON we expect.
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Custom(msgspec.Struct, gc=False):
    """What a custom tool has in place of a function: free text as its input."""

    name: str | None = None
    input: str | None = None


class _ToolFragment(msgspec.Struct, gc=False):
    index: _Natural | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct, gc=False):
    """The message of a whole answer or the delta of a streamed one; their fields have the same names."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolFragment] | None = None
    function_call: _Function | None = None


class _Entry(msgspec.Struct, gc=False):
    """One entry of `choices`."""

    index: _Natural = 0
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _Tokens(msgspec.Struct, gc=False):
    prompt_tokens: _Natural | None = None
    completion_tokens: _Natural | None = None


class _Body(msgspec.Struct, gc=False):
    """A whole answer, or one event of a streamed one."""

    choices: list[_Entry] | None = None
    model: str | None = None
    usage: _Tokens | None = None
    error: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    message: str


_BODY: Final = msgspec.json.Decoder(_Body)
_ERROR: Final = msgspec.json.Decoder(str | _Error)


class AnswerBuilder:
    """Gather the fragments of one answer; they are joined only when it is asked for."""

    __slots__ = ("_choices", "_errors", "_model", "_usage")

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceBuilder] = {}
        self._errors: list[str] = []
        self._model: str | None = None
        self._usage: Usage | None = None

    def take(self, data: bytes, pieces: list[Piece]) -> bool:
        """Add what the JSON object `data` says, and append its texts to `pieces`.

        Returns False when it says nothing we know, or when some of it is over a bound and was left out. Raises one of
        `MALFORMED`, having added nothing, when it is no JSON object or a field we read has an unexpected type.
        """
        body = _BODY.decode(data)
        understood = body.choices is not None
        if body.model and self._model is None:
            self._model = body.model
        if body.usage is not None:
            self._usage = Usage(body.usage.prompt_tokens or 0, body.usage.completion_tokens or 0)
            understood = True
        if body.error and bytes(body.error) != b"null":
            self._errors.append(_error_text(body.error))
            understood = True
        for entry in body.choices or ():
            choice = self._choices.get(entry.index) or self._open_choice(entry.index)
            if choice is None or not choice.take(entry, pieces):
                understood = False
        return understood

    def answer(self) -> Answer:
        """Return what has been said so far; complete when every choice, at least one, has its finish reason."""
        choices = [self._choices[index].choice() for index in sorted(self._choices)]
        complete = bool(choices) and all(choice.finish_reason is not None for choice in choices)
        return Answer(self._model, choices, self._usage, complete, "\n".join(self._errors) or None)

    def _open_choice(self, index: int) -> _ChoiceBuilder | None:
        if len(self._choices) >= MAX_CHOICES:
            return None
        return self._choices.setdefault(index, _ChoiceBuilder(index))


class _ChoiceBuilder:
    """Gather one choice."""

    __slots__ = ("_finish_reason", "_index", "_reasoning", "_reasoning_channel", "_text", "_text_channel", "_tools")

    def __init__(self, index: int) -> None:
        self._index = index
        self._text_channel = f"{index}.text"
        self._reasoning_channel = f"{index}.reasoning"
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tools = _ToolCalls(f"{index}.tool.")
        self._finish_reason: str | None = None

    def take(self, entry: _Entry, pieces: list[Piece]) -> bool:
        """Add what `entry` says; return False when some of it was over a bound and left out."""
        if entry.finish_reason:
            self._finish_reason = entry.finish_reason
        understood = entry.delta is None or self._take_message(entry.delta, pieces)
        if entry.message is not None:
            understood = self._take_message(entry.message, pieces) and understood
        return understood

    def choice(self) -> Choice:
        """Return what this choice has said so far."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        return Choice(self._index, text, reasoning, self._tools.calls(), self._finish_reason)

    def _take_message(self, message: _Message, pieces: list[Piece]) -> bool:
        # Once for every event of a stream, nearly all of which have only `content`.
        if message.content:
            self._text.append(message.content)
            pieces.append(Piece(self._text_channel, message.content))
        if message.refusal:
            self._text.append(message.refusal)
            pieces.append(Piece(self._text_channel, message.refusal))
        if message.reasoning_content or message.reasoning or message.reasoning_text or message.thinking:
            self._take_thoughts(message, pieces)
        understood = True
        for fragment in message.tool_calls or ():
            understood = self._tools.take(fragment, fragment.index, pieces) and understood
        if message.function_call is not None:
            legacy = _ToolFragment(function=message.function_call)
            understood = self._tools.take(legacy, "function_call", pieces) and understood
        return understood

    def _take_thoughts(self, message: _Message, pieces: list[Piece]) -> None:
        thoughts = (message.reasoning_content, message.reasoning, message.reasoning_text, message.thinking)
        # Some upstreams say the same under two of the names.
        for thought in filter(None, dict.fromkeys(thoughts)):
            self._reasoning.append(thought)
            pieces.append(Piece(self._reasoning_channel, thought))


class _CallBuilder:
    """Gather one tool call."""

    __slots__ = ("arguments", "channel", "id", "name")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class _ToolCalls:
    """Gather the tool calls of one choice, in the order in which they appear."""

    __slots__ = ("_by_index", "_calls", "_channel")

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._calls: list[_CallBuilder] = []
        self._by_index: dict[int | str, _CallBuilder] = {}

    def take(self, fragment: _ToolFragment, index: int | str | None, pieces: list[Piece]) -> bool:
        """Add a fragment to its call, or open one; return False when there are too many."""
        function, custom = fragment.function or _Function(), fragment.custom or _Custom()
        name = function.name or custom.name
        text = (function.arguments or "") + (custom.input or "")
        call = self._find(index, fragment.id, name)
        is_new = call is None
        if call is None:
            if len(self._calls) >= MAX_TOOL_CALLS:
                return False
            call = _CallBuilder(f"{self._channel}{len(self._calls)}")
            self._calls.append(call)
            if index is not None:
                self._by_index[index] = call
        # Where a name or an id comes again, clients take the last one; they do not join them.
        call.id, call.name = fragment.id or call.id, name or call.name
        call.arguments.append(text)
        if text or is_new:
            pieces.append(Piece(call.channel, text))
        return True

    def calls(self) -> list[ToolCall]:
        """Return the calls so far."""
        return [ToolCall(call.id, call.name, "".join(call.arguments)) for call in self._calls]

    def _find(self, index: int | str | None, call_id: str | None, name: str | None) -> _CallBuilder | None:
        """Find the call a fragment continues, or None where it begins one.

        Another id under a known index begins one: some upstreams give every parallel call the index 0. Without an
        index the id decides; without both, a name begins a call and anything else continues the last.
        """
        if index is not None:
            call = self._by_index.get(index)
            is_other = call is not None and call_id and call.id and call.id != call_id
            return None if is_other else call
        if call_id:
            return next((call for call in reversed(self._calls) if call.id == call_id), None)
        return self._calls[-1] if self._calls and not name else None


def _error_text(raw: msgspec.Raw) -> str:
    """Return the message of an error object, or all of it where it has none."""
    try:
        error = _ERROR.decode(raw)
    except MALFORMED:
        return bytes(raw).decode("utf-8", "replace")
    return error if isinstance(error, str) else error.message
