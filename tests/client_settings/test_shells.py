from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.client_settings.settings import Settings
from extproc.client_settings.shells import Shell, render
from extproc.errors import ConfigError

PRINTABLE = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" '\"\\$`%!&|<>^(){}[]*?~#;=\u2018\u2019"),
    max_size=40,
)
NASTY = """it's "quoted" $HOME `id` $(id) \\ \\n %PATH% !x! & | < > ^ * ~ # ; = é 漢 """


def one(value: str, shell: Shell) -> str:
    return render(Settings({"NAME": value}), shell)


def read_by_sh(text: str) -> str:
    script = 'eval "$1"; printf %s "$NAME"'
    done = subprocess.run(  # noqa: S603 - our own text is what is tested
        ["/bin/sh", "-c", script, "sh", text], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stderr == b""
    return done.stdout.decode()


@pytest.mark.parametrize("value", [NASTY, "", "'", "''", "\\", "-n", "x" * 8000, '{"a":{"b":"c d"}}'])
def test_sh_reads_back_exactly_what_was_meant(value: str) -> None:
    assert read_by_sh(one(value, Shell.SH)) == value


@given(PRINTABLE)
@settings(max_examples=60, deadline=None)
def test_sh_reads_back_any_printable_text(value: str) -> None:
    assert read_by_sh(one(value, Shell.SH)) == value


def test_sh_exports_what_it_is_told_and_notes_do_nothing() -> None:
    text = render(Settings({"A": "1", "B": "2"}, notes=("Don't `touch` $(this).", "Nor this")), Shell.SH)
    script = f"{text}\nenv"
    done = subprocess.run(  # noqa: S603 - our own text is what is tested
        ["/bin/sh", "-c", script], capture_output=True, check=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert {"A=1", "B=2"} <= set(done.stdout.splitlines())
    assert done.stderr == ""


def test_sh_is_told_all_even_where_the_quotes_of_eval_are_forgotten() -> None:
    text = render(Settings({"A": "1", "B": "2 3"}, notes=("a note",)), Shell.SH)
    done = subprocess.run(  # noqa: S603 - our own text is what is tested
        ["/bin/sh", "-c", "eval $0; env", text],
        capture_output=True,
        check=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert {"A=1", "B=2 3"} <= set(done.stdout.splitlines())


def unquoted(quoted: str, escape: str, quotes: str) -> str:
    """Read one quoted word as fish and PowerShell do, by their documented rules; it must end with its last quote."""
    assert quoted[0] == quoted[-1] == "'"
    inner, out, place = quoted[1:-1], "", 0
    while place < len(inner):
        character, following = inner[place], inner[place + 1 : place + 2]
        doubled = character in quotes and following in set(quotes) if escape == "double" else False
        escaped = escape == "backslash" and character == "\\" and following in {"'", "\\"}
        assert doubled or escaped or character not in quotes, "a quote ends the word too early"
        out += following if doubled or escaped else character
        place += 2 if doubled or escaped else 1
    return out


@given(PRINTABLE)
def test_fish_and_powershell_read_back_any_printable_text_by_their_rules(value: str) -> None:
    fish = one(value, Shell.FISH).removeprefix("set -gx NAME ").removesuffix("\n")
    assert unquoted(fish, "backslash", "'") == value
    powershell = one(value, Shell.POWERSHELL).removeprefix("$env:NAME = ").removesuffix("\n")
    assert unquoted(powershell, "double", "'\u2018\u2019\u201a\u201b") == value


@pytest.mark.parametrize(
    ("shell", "value", "line"),
    [
        (Shell.FISH, "it's \\ $x", "set -gx NAME 'it\\'s \\\\ $x'"),
        (Shell.POWERSHELL, "it's \u2018x\u2019 $y", "$env:NAME = 'it''s \u2018\u2018x\u2019\u2019 $y'"),
        (Shell.CMD, "a b&c|d<e>f^g", 'set "NAME=a b&c|d<e>f^g"'),
        (Shell.CMD, '{"a":"b"}', 'set "NAME={"a":"b"}"'),
        (Shell.DOTENV, "http://a:b@h:1/x", "NAME=http://a:b@h:1/x"),
        (Shell.DOTENV, '{"a":"$b c"}', """NAME='{"a":"$b c"}'"""),
    ],
)
def test_a_value_is_written_by_the_shells_rules(shell: Shell, value: str, line: str) -> None:
    assert one(value, shell) == f"{line}\n"


@pytest.mark.parametrize(
    ("shell", "value"),
    [
        (Shell.CMD, "100%"),
        (Shell.CMD, "wow!"),
        (Shell.CMD, 'a"&calc"'),
        (Shell.DOTENV, "it's"),
        (Shell.DOTENV, "a\\\\b"),
        (Shell.DOTENV, "a b\\"),
    ],
)
def test_a_value_that_a_shell_cannot_be_told_exactly_is_refused_by_name_only(shell: Shell, value: str) -> None:
    with pytest.raises(ConfigError, match="NAME: the value has characters") as refused:
        one(value, shell)
    assert value not in str(refused.value)


@pytest.mark.parametrize("shell", Shell)
@pytest.mark.parametrize("character", "\n\r\t\0\x1b\x7f\x85\u2028")
def test_line_breaks_and_control_characters_are_refused_everywhere(shell: Shell, character: str) -> None:
    with pytest.raises(ConfigError, match="NAME: the value has a line break or a control character"):
        one(f"a{character}b", shell)


def test_json_has_variables_documents_and_notes() -> None:
    documents: dict[str, Any] = {"settings.json": {"http.proxy": "x"}}
    text = render(Settings({"A": "é'\""}, documents, ("a note",)), Shell.JSON)
    assert json.loads(text) == {"environment": {"A": "é'\""}, "settings": documents, "notes": ["a note"]}


@pytest.mark.parametrize("shell", [shell for shell in Shell if shell is not Shell.JSON])
def test_every_line_is_a_note_or_a_variable(shell: Shell) -> None:
    text = render(Settings({"A": "1", "B": "2"}, notes=("a note",)), shell)
    *rest, note = text.splitlines()
    assert re.fullmatch(r"(#|rem) a note", note)
    assert len(rest) == 2
