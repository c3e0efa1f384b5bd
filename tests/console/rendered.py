"""Replay pages rendered for tests, and what must hold for their HTML, whatever was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Final

from extproc.console.roles import Role, Viewer
from extproc.console.showing import exchange as showing
from extproc.console.showing.rhythm import data, scenes
from extproc.console.templates import environment
from extproc.identity.principal import Principal
from tests.recording_of import Exchange
from tests.recording_of import exchange as recorded

VIEWER: Final = Viewer(
    Principal("issuer#carol", "carol", "person", "issuer", "carol", frozenset({"auditors"})),
    frozenset({Role.AUDITOR}),
)
TEMPLATES: Final = environment()

_ELEMENTS: Final = """
html head meta title link script body a header nav img div span form input button main h1 h2 h3 h4 p section article
strong code pre mark details summary ul li dl dt dd kbd dialog footer output
"""
_ATTRIBUTES: Final = """
lang charset name content rel href src defer class width height alt title method action type value id tabindex hidden
role min max step download aria-label aria-current aria-keyshortcuts aria-description aria-live aria-hidden
"""
ELEMENTS: Final = frozenset(_ELEMENTS.split())
ATTRIBUTES: Final = frozenset(_ATTRIBUTES.split())


def document(**changes: Any) -> dict[str, Any]:
    """Return the document of an exchange as readers get it; members of `request` and `response` are added."""
    return joined(recorded("x1"), **changes)


def joined(made: Exchange, **changes: Any) -> dict[str, Any]:
    """Return an opening and a closing as one document, with changes."""
    opening, closing = made
    whole = {**opening, **closing, "entry": {"log": "test", "index": 0}}
    for name, value in changes.items():
        whole[name] = {**whole[name], **value} if name in {"request", "response"} and isinstance(value, dict) else value
    return whole


def rendered(documents: Sequence[Mapping[str, Any]], *, alone: bool = False) -> str:
    """Return the page of a session, or of its first exchange."""
    exchanges = [showing.alone(documents[0])] if alone else showing.session(documents, numbered=True)
    return TEMPLATES.get_template("replay.html").render(
        viewer=VIEWER,
        navigation=[],
        csrf="csrf",
        path="/sessions/s1",
        now=0,
        session="s1",
        one=exchanges[0] if alone else None,
        exchanges=exchanges,
        played=data(scenes(documents)),
        first=1,
        before=None,
        after=None,
        signed={},
        unchecked=None,
    )


class Read(HTMLParser):
    """What a browser makes of a page: elements with their attributes, the text outside of scripts, and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._in_script = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


def assert_harmless(html: str) -> Read:
    """Fail where a page has an element, an attribute or an address that our templates do not have."""
    read = Read(html.encode().decode())
    for tag, attributes in read.elements:
        assert tag in ELEMENTS, tag
        for name, value in attributes.items():
            assert name in ATTRIBUTES or name.startswith("data-"), (tag, name)
            if name in {"href", "src", "action"}:
                assert value is not None
                assert value.startswith(("/", "#")), value
                assert not value.startswith("//"), value
    # One for each static script, and the data of the player.
    assert [one for one in read.all("script") if "src" not in one] == [{"type": "application/json", "id": "played"}]
    return read
