"""Mask every string of decoded JSON in place: values, names of members, at any depth. Pure."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from extproc.conversation import ToolCall
from extproc.dialect.port import Form
from extproc.json_body import encoded
from extproc.masking import json_text
from extproc.masking.channel import MIN_WORD_CHARS
from extproc.masking.masker import Masker
from extproc.tool_paths import touched

_ARGUMENTS: Final = frozenset({"input", "arguments", "parameters"})
"""Members that hold what a model or a person wrote as an object: no name in there means anything to the protocol."""

_MIN_NAME_CHARS: Final = 16

# A place in the tree, from the inside out: the name or index, and the place of what holds it.
_Place = tuple[str | int, Any] | None


class _Text(msgspec.Struct, gc=False):
    """A string in the tree, `holder[key]`; `call` is the object around it that may be a call of a tool."""

    holder: Any
    key: str | int
    value: str
    place: _Place
    call: dict[str, Any] | None
    free: bool


class TreeMasker:
    """Mask the JSON of one dialect; `opaque` and `json_texts` as in `extproc.dialect.port.Dialect`."""

    def __init__(self, masker: Masker, opaque: AbstractSet[str], json_texts: AbstractSet[str]) -> None:
        self._masker = masker
        self._opaque = opaque
        self._json_texts = json_texts
        self.members = 0
        """How many members the objects of the last tree had."""
        self.is_clean = False
        """Whether nothing in the last tree had to be looked at by itself, whatever became of it."""

    def mask(self, tree: Any, skip: Collection[tuple[int, str | int]] = ()) -> bool:  # noqa: ANN401
        """Mask what is not in `skip`, which names strings by the id of what holds them and their key there.

        Returns whether anything was changed.
        """
        self.is_clean = True
        texts, changed = self._texts(tree, skip)
        suspects = self._suspects(texts)
        self.is_clean &= not suspects
        for text in suspects:
            masked = self._masked(text)
            if masked is not text.value:
                text.holder[text.key] = masked
                changed = True
        return changed

    def _texts(self, tree: Any, skip: Collection[tuple[int, str | int]]) -> tuple[list[_Text], bool]:  # noqa: ANN401
        """Return the texts in `tree`, and whether any name in it was masked; count its members."""
        changed = False
        self.members = 0
        texts: list[_Text] = []
        todo: list[tuple[Any, _Place, bool, Any]] = [(tree, None, False, None)]
        while todo:
            holder, place, free, call = todo.pop()
            named = type(holder) is dict
            if named:
                self.members += len(holder)
                changed |= max(map(len, holder), default=0) >= _MIN_NAME_CHARS and self._mask_names(holder, place)
                call = holder if "arguments" in holder or "input" in holder else call
            for key, value in holder.items() if named else enumerate(holder):
                if type(value) is str:
                    if len(value) >= MIN_WORD_CHARS and not (skip and (id(holder), key) in skip):
                        texts.append(_Text(holder, key, value, place, call, free))
                elif type(value) is dict or type(value) is list:
                    todo.append((value, (key, place), free or (key in _ARGUMENTS and type(value) is dict), call))
        return texts, changed

    def _suspects(self, texts: list[_Text]) -> list[_Text]:
        """Return the texts that must be looked at one by one; a scan of all of them at once acquits the others."""
        masker = self._masker
        suspects: list[_Text] = []
        others: list[_Text] = []
        for text in texts:
            if text.key in self._opaque and not text.free:
                if masker.holds_ours(text.value):
                    suspects.append(text)
            else:
                others.append(text)
        if others:
            members = [text.key if type(text.key) is str else "" for text in others]
            said = [json_text.read(text.value) if text.key in self._json_texts else text.value for text in others]
            suspects += [others[at] for at in masker.suspicious(said, members)]
        return suspects

    def _masked(self, text: _Text) -> str:
        masker = self._masker
        form = Form.JSON if text.key in self._json_texts else Form.PLAIN
        member = text.key if type(text.key) is str else ""
        where = _dotted((text.key, text.place))
        if text.key in self._opaque and not text.free:
            return masker.text_of_ours(text.value, where)
        paths = () if text.call is None else _paths(text.call)
        return masker.suspect_text(text.value, where, form=form, member=member, paths=paths)

    def _mask_names(self, holder: dict[str, Any], place: _Place) -> bool:
        """Mask the names of members; where that makes two of them equal, the last value stays, as in JSON."""
        suspects = [name for name in holder if not self._masker.is_clean(name)]
        if not suspects:
            return False
        self.is_clean = False
        masked = {name: name for name in holder}
        masked |= {name: self._masker.suspect_text(name, _dotted((name, place))) for name in suspects}
        if all(name == after for name, after in masked.items()):
            return False
        members = [(masked[name], value) for name, value in holder.items()]
        holder.clear()
        holder.update(members)
        return True


def drop_logprobs(tree: Any) -> bool:  # noqa: ANN401 - decoded JSON
    """Take out what repeats a text token by token, with its bytes and alternatives; say whether there was any.

    A secret is not recognised in there. Where it was masked in the text nothing of this may pass.
    """
    dropped = False
    todo = [tree]
    while todo:
        holder = todo.pop()
        for key, value in holder.items() if type(holder) is dict else enumerate(holder):
            if (type(value) is dict or type(value) is list) and value:
                if key == "logprobs":
                    holder[key] = None if type(value) is dict else []
                    dropped = True
                else:
                    todo.append(value)
    return dropped


def _dotted(place: _Place) -> str:
    """Name a place as JavaScript does: `messages[3].content`."""
    parts: list[str] = []
    while place is not None:
        key, place = place
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key[:64]}")
    return "".join(reversed(parts)).removeprefix(".")


def _paths(holder: dict[str, Any]) -> tuple[str, ...]:
    """Return the files that a tool call touches, if `holder` is one."""
    arguments = holder.get("arguments", holder.get("input"))
    name = holder.get("name")
    if not isinstance(name, str) or not isinstance(arguments, str | dict):
        return ()
    text = arguments if isinstance(arguments, str) else encoded(arguments).decode()
    return tuple(touched(ToolCall("", name, text)))
