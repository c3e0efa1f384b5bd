"""Gather what a completions answer says, from its whole body or from the events of its stream.

Sources: OpenAI API reference, "Chat", "Chat streaming" and "Completions" (whose choices have a `text`, no message).
Upstreams behind Copilot vary from it, and so does this reading: reasoning has several names, entries of `choices` may
share an index, tool calls may lack theirs.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from extproc.conversation import Answer, Choice, Piece, Usage
from extproc.dialect.chat_calls import Function, Natural, ToolCalls, ToolFragment
from extproc.dialect.json_api import as_text

# Bound on what one answer may open: OpenAI's own bound on `n`.
MAX_CHOICES: Final = 128


class _Part(msgspec.Struct, gc=False):
    text: str | None = None


class _Message(msgspec.Struct, gc=False):
    """The message of a whole answer or the delta of a streamed one; their fields have the same names."""

    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    thinking: str | None = None
    cot_summary: str | None = None
    tool_calls: list[ToolFragment] | None = None
    function_call: Function | None = None


class _Entry(msgspec.Struct, gc=False):
    """One entry of `choices`."""

    index: Natural = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class Tokens(msgspec.Struct, gc=False):
    """What an answer took."""

    prompt_tokens: Natural | None = None
    completion_tokens: Natural | None = None


class _Body(msgspec.Struct, gc=False):
    """A whole answer, or one event of a streamed one."""

    choices: list[_Entry] | None = None
    model: str | None = None
    usage: Tokens | None = None
    error: Any = None


class Goal(msgspec.Struct, frozen=True, gc=False):
    """Where the one text of an event goes: to a choice, there to the call whose index is `call`, if any."""

    choice: int
    is_thought: bool = False
    call: int | None = None


def goal_of(tree: Any) -> Goal | None:  # noqa: ANN401 - decoded JSON
    """Return where the text of an event goes that says nothing else; None where it may."""
    try:
        body = msgspec.convert(tree, _Body)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
    if body.usage is not None or body.error is not None or body.choices is None or len(body.choices) != 1:
        return None
    entry = body.choices[0]
    message = entry.delta or _Message()
    others = (entry.finish_reason, entry.message, message.function_call, type(message.content) is list)
    texts, thoughts = [text for text in (entry.text, message.content, message.refusal) if text], _thoughts(message)
    calls = message.tool_calls or []
    if any(others) or len(texts) + len(thoughts) + len(calls) != 1:
        return None
    if not calls:
        return Goal(entry.index, is_thought=bool(thoughts))
    return Goal(entry.index, call=calls[0].index) if calls[0].index is not None and not calls[0].named() else None


class AnswerBuilder:
    """Gather the fragments of one answer; they are joined only when it is asked for."""

    __slots__ = ("_choices", "_errors", "_model", "_usage")

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceBuilder] = {}
        self._errors: list[str] = []
        self._model: str | None = None
        self._usage: Usage | None = None

    def take(self, tree: Any, pieces: list[Piece]) -> bool:  # noqa: ANN401 - decoded JSON
        """Add what the decoded JSON `tree` says, and append its texts to `pieces`.

        Returns False when it says nothing we know, or when some of it is over a bound and was left out. Raises
        `msgspec.ValidationError`, having added nothing, when it is no object or a field we read has an unexpected type.
        """
        body = msgspec.convert(tree, _Body)
        understood = body.choices is not None
        if body.model and self._model is None:
            self._model = body.model
        if body.usage is not None:
            self._usage = Usage(body.usage.prompt_tokens or 0, body.usage.completion_tokens or 0)
            understood = True
        if body.error is not None:
            self._errors.append(_error_text(body.error))
            understood = True
        for entry in body.choices or ():
            choice = self._choices.get(entry.index) or self._open_choice(entry.index)
            if choice is None or not choice.take(entry, pieces):
                understood = False
        return understood

    def take_more(self, goal: Goal, text: str, pieces: list[Piece]) -> bool:
        """Add a text and append it to `pieces`; return False, having added nothing, where its goal is not known."""
        choice = self._choices.get(goal.choice)
        return choice is not None and choice.take_more(goal, text, pieces)

    @property
    def is_complete(self) -> bool:
        """Say whether every choice, at least one, has its finish reason."""
        return bool(self._choices) and not self.unfinished()

    def answer(self) -> Answer:
        """Return what has been said so far."""
        choices = [self._choices[index].choice() for index in sorted(self._choices)]
        return Answer(self._model, choices, self._usage, self.is_complete, "\n".join(self._errors) or None)

    def unfinished(self) -> list[int]:
        """Return the indexes of the choices that have no finish reason yet."""
        return [index for index, choice in sorted(self._choices.items()) if choice.finish_reason is None]

    def has(self, index: int) -> bool:
        """Say whether anything was said of a choice."""
        return index in self._choices

    def spoiling(self, index: int) -> list[dict[str, Any]]:
        """Return the deltas that make the tool calls of an unfinished choice useless to whoever would run them."""
        return self._choices[index].tools.spoiling() if index in self._choices else []

    def _open_choice(self, index: int) -> _ChoiceBuilder | None:
        if len(self._choices) >= MAX_CHOICES:
            return None
        return self._choices.setdefault(index, _ChoiceBuilder(index))


class _ChoiceBuilder:
    """Gather one choice."""

    __slots__ = ("_index", "_reasoning", "_reasoning_channel", "_text", "_text_channel", "finish_reason", "tools")

    def __init__(self, index: int) -> None:
        self._index = index
        self._text_channel = f"{index}.text"
        self._reasoning_channel = f"{index}.reasoning"
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.tools = ToolCalls(f"{index}.tool.")
        self.finish_reason: str | None = None

    def take(self, entry: _Entry, pieces: list[Piece]) -> bool:
        """Add what `entry` says; return False when some of it was over a bound and left out."""
        if entry.finish_reason:
            self.finish_reason = entry.finish_reason
        if entry.text:
            self._say(entry.text, pieces)
        understood = entry.delta is None or self._take_message(entry.delta, pieces)
        if entry.message is not None:
            understood = self._take_message(entry.message, pieces) and understood
        return understood

    def take_more(self, goal: Goal, text: str, pieces: list[Piece]) -> bool:
        """Add a text; return False where it is that of a call which is not known."""
        if goal.call is not None:
            return self.tools.take_more(goal.call, text, pieces)
        if text:
            (self._think if goal.is_thought else self._say)(text, pieces)
        return True

    def choice(self) -> Choice:
        """Return what this choice has said so far."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        return Choice(self._index, text, reasoning, self.tools.calls(), self.finish_reason)

    def _take_message(self, message: _Message, pieces: list[Piece]) -> bool:
        # Once for every event of a stream, nearly all of which have only `content`.
        content = message.content
        if content:
            self._say(content if isinstance(content, str) else "".join(part.text or "" for part in content), pieces)
        if message.refusal:
            self._say(message.refusal, pieces)
        for thought in _thoughts(message):
            self._think(thought, pieces)
        understood = True
        for fragment in message.tool_calls or ():
            understood = self.tools.take(fragment, fragment.index, pieces) and understood
        if message.function_call is not None:
            legacy = ToolFragment(function=message.function_call)
            understood = self.tools.take(legacy, "function_call", pieces) and understood
        return understood

    def _say(self, text: str, pieces: list[Piece]) -> None:
        self._text.append(text)
        pieces.append(Piece(self._text_channel, text))

    def _think(self, thought: str, pieces: list[Piece]) -> None:
        self._reasoning.append(thought)
        pieces.append(Piece(self._reasoning_channel, thought))


def _thoughts(message: _Message) -> list[str]:
    thoughts = (
        message.reasoning_content,
        message.reasoning,
        message.reasoning_text,
        message.thinking,
        message.cot_summary,
    )
    # Some upstreams say the same under two of the names.
    return [thought for thought in dict.fromkeys(thoughts) if thought] if any(thoughts) else []


def _error_text(error: Any) -> str:  # noqa: ANN401 - decoded JSON
    """Return the message of an error object, or all of it where it has none."""
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else as_text(error)
