"""Find the strings of a completions stream that a client joins, and name the text that each of them continues."""

from __future__ import annotations

from typing import Any, Final

from extproc.dialect.chat_answer import MAX_CHOICES
from extproc.dialect.chat_calls import CallFinder
from extproc.dialect.port import Form, Reading, Slot

_TEXTS: Final = (
    "content",
    "refusal",
    "reasoning_content",
    "reasoning",
    "reasoning_text",
    "thinking",
    "cot_summary",
)
_CALL_TEXTS: Final = (("name", Form.PLAIN), ("arguments", Form.JSON), ("input", Form.PLAIN))


class SlotReader:
    """Read the events of one stream; what is beyond a bound, or has an index that is none, shares channels."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int | str, _ChoiceReader] = {}

    def read(self, tree: dict[str, Any]) -> Reading:
        """Return the slots of an event, and the choices that it finishes."""
        reading = Reading()
        choices = tree.get("choices")
        if type(choices) is list:
            for entry in choices:
                if type(entry) is dict:
                    self._read_entry(entry, reading)
        return reading

    def _read_entry(self, entry: dict[str, Any], reading: Reading) -> None:
        index = _index(entry.get("index") or 0)
        choice = self._choices.get(index)
        if choice is None:
            if len(self._choices) >= MAX_CHOICES:
                index = "more"
            choice = self._choices.setdefault(index, _ChoiceReader(f"{index}."))
        choice.read(entry, reading.slots)
        finish_reason = entry.get("finish_reason")
        if finish_reason and type(finish_reason) is str:
            reading.closes += (choice.prefix,)


class _ChoiceReader:
    """Read what events say of one choice; its channels begin with `prefix`."""

    __slots__ = ("_channels", "_finder", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._channels = {name: f"{prefix}{name}" for name in _TEXTS}
        self._finder = CallFinder()

    def read(self, entry: dict[str, Any], slots: list[Slot]) -> None:
        """Add the slots of an entry of `choices`."""
        for name in ("delta", "message"):
            message = entry.get(name)
            if type(message) is dict:
                self._read_message(message, slots)
        if type(entry.get("text")) is str:
            slots.append(Slot(entry, "text", f"{self.prefix}text"))
        logprobs = entry.get("logprobs")
        if type(logprobs) is dict:
            self._read_logprobs(logprobs, slots)

    def _read_message(self, message: dict[str, Any], slots: list[Slot]) -> None:
        for name, value in message.items():
            channel = self._channels.get(name)
            if channel is not None:
                if type(value) is str:
                    slots.append(Slot(message, name, channel))
                elif type(value) is list:
                    slots.extend(Slot(part, "text", channel) for part in _holders(value, "text"))
            elif name == "tool_calls" and type(value) is list:
                for fragment in value:
                    if type(fragment) is dict:
                        index = fragment.get("index")
                        self._read_call(fragment, None if index is None else _index(index), slots)
            elif name == "function_call":
                self._read_call({"function": value}, name, slots)

    def _read_call(self, fragment: dict[str, Any], index: int | str | None, slots: list[Slot]) -> None:
        tools = [tool for tool in (fragment.get("function"), fragment.get("custom")) if type(tool) is dict]
        name = ""
        for tool in tools:
            name = name or _text(tool.get("name"))
        prefix = f"{self.prefix}tool.{self._finder.number(index, _text(fragment.get('id')), name)}."
        for tool in tools:
            for key, form in _CALL_TEXTS:
                if type(tool.get(key)) is str:
                    slots.append(Slot(tool, key, prefix + key, form))

    def _read_logprobs(self, logprobs: dict[str, Any], slots: list[Slot]) -> None:
        """Add the tokens of a choice, which are its text once more; legacy completions have them as plain strings."""
        channel = f"{self.prefix}logprobs."
        for name, tokens in logprobs.items():
            if type(tokens) is list and name in {"content", "refusal", "tokens"}:
                slots.extend(Slot(token, "token", channel + name) for token in _holders(tokens, "token"))
                slots.extend(
                    Slot(tokens, position, channel + name)
                    for position, token in enumerate(tokens)
                    if type(token) is str
                )


def _holders(values: list[Any], key: str) -> list[dict[str, Any]]:
    return [value for value in values if type(value) is dict and type(value.get(key)) is str]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _index(value: Any) -> int | str:  # noqa: ANN401 - decoded JSON
    """Return what a lenient client takes an index for."""
    try:
        index = int(value)
    except (TypeError, ValueError, OverflowError):
        return "other"
    return index if 0 <= index < 2**31 else "other"
