"""Find out which tool call a fragment of a chat answer continues, and gather the calls."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from extproc.conversation import Piece, ToolCall

# Bound on what one choice may open, far above what any client offers to a model (OpenAI's own bound on `tools` is 128).
MAX_TOOL_CALLS: Final = 1024

# Behind any text that does not end a JSON value this ends none, and behind one that does it is one too many.
_SPOILER: Final = " ended by the gateway"

Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Function(msgspec.Struct, gc=False):
    """What is said of a function to call."""

    name: str | None = None
    arguments: str | None = None


class Custom(msgspec.Struct, gc=False):
    """What a custom tool has in place of a function: free text as its input."""

    name: str | None = None
    input: str | None = None


class ToolFragment(msgspec.Struct, gc=False):
    """One entry of `tool_calls`: a whole call, or a part of one in a stream."""

    index: Natural | None = None
    id: str | None = None
    function: Function | None = None
    custom: Custom | None = None

    def named(self) -> bool:
        """Say whether it has the name of a tool."""
        return any(tool is not None and tool.name for tool in (self.function, self.custom))


class CallFinder:
    """Number the tool calls of one choice in the order in which they appear, from 0."""

    __slots__ = ("by_index", "ids")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.by_index: dict[int | str, int] = {}

    def number(self, index: int | str | None, call_id: str | None, name: str | None) -> int:
        """Return the number of the call that a fragment continues or begins; `MAX_TOOL_CALLS` for all beyond the bound.

        Where a call gets another id, the last one counts: clients do not join them.
        """
        number = self._find(index, call_id, name)
        if number is None:
            number = len(self.ids)
            if number >= MAX_TOOL_CALLS:
                return MAX_TOOL_CALLS
            self.ids.append("")
            if index is not None:
                self.by_index[index] = number
        if call_id:
            self.ids[number] = call_id
        return number

    def _find(self, index: int | str | None, call_id: str | None, name: str | None) -> int | None:
        """Find the call a fragment continues, or None where it begins one.

        Another id under a known index begins one: some upstreams give every parallel call the index 0. Without an
        index the id decides; without both, a name begins a call and anything else continues the last.
        """
        if index is not None:
            number = self.by_index.get(index)
            is_other = number is not None and call_id and self.ids[number] and self.ids[number] != call_id
            return None if is_other else number
        last = len(self.ids) - 1
        if call_id:
            return next((number for number in range(last, -1, -1) if self.ids[number] == call_id), None)
        return last if self.ids and not name else None


class _CallBuilder:
    """Gather one tool call."""

    __slots__ = ("arguments", "channel", "is_custom", "name")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.name = ""
        self.arguments: list[str] = []
        self.is_custom = False


class ToolCalls:
    """Gather the tool calls of one choice; `channel` is what their channels begin with."""

    __slots__ = ("_calls", "_channel", "_finder")

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._finder = CallFinder()
        self._calls: list[_CallBuilder] = []

    def take(self, fragment: ToolFragment, index: int | str | None, pieces: list[Piece]) -> bool:
        """Add a fragment to its call, or open one; return False when there are too many."""
        function, custom = fragment.function or Function(), fragment.custom or Custom()
        name = function.name or custom.name
        text = (function.arguments or "") + (custom.input or "")
        number = self._finder.number(index, fragment.id, name)
        if number >= MAX_TOOL_CALLS:
            return False
        is_new = number == len(self._calls)
        if is_new:
            self._calls.append(_CallBuilder(f"{self._channel}{number}"))
        call = self._calls[number]
        # Where a name comes again, clients take the last one; they do not join them.
        call.name = name or call.name
        call.is_custom = call.is_custom or fragment.custom is not None
        call.arguments.append(text)
        if text or is_new:
            pieces.append(Piece(call.channel, text))
        return True

    def take_more(self, index: int, text: str, pieces: list[Piece]) -> bool:
        """Add to the arguments of the call that has an index now; return False where none has."""
        number = self._finder.by_index.get(index)
        if number is None:
            return False
        call = self._calls[number]
        call.arguments.append(text)
        if text:
            pieces.append(Piece(call.channel, text))
        return True

    def calls(self) -> list[ToolCall]:
        """Return the calls so far."""
        return [
            ToolCall(call_id, call.name, "".join(call.arguments))
            for call_id, call in zip(self._finder.ids, self._calls, strict=True)
        ]

    def spoiling(self) -> list[dict[str, Any]]:
        """Return deltas after which the arguments of no call are JSON, so that a client cannot run it.

        Reaches every call to which a further fragment can be added: not one whose index another has since taken, and
        of those that have no index only the last.
        """
        deltas: list[dict[str, Any]] = []
        for index, number in self._finder.by_index.items():
            if index == "function_call":
                deltas.append({"function_call": {"arguments": _SPOILER}})
            else:
                deltas.append({"tool_calls": [{"index": index, **self._spoiled(number)}]})
        last = len(self._calls) - 1
        if self._calls and last not in self._finder.by_index.values():
            deltas.append({"tool_calls": [self._spoiled(last)]})
        return deltas

    def _spoiled(self, number: int) -> dict[str, Any]:
        if self._calls[number].is_custom:
            return {"custom": {"input": _SPOILER}}
        return {"function": {"arguments": _SPOILER}}
