from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from extproc.errors import ConfigError
from extproc.yaml_file import MAX_BYTES, MAX_DEPTH, Kind, YamlFile

TYPED = Kind(typed_scalars=True)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int = 1
    seconds: float = 0.5
    strict: bool = False


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: Inner = Inner()
    items: list[str] = []


def read(tmp_path: Path, text: str | bytes, kind: Kind = TYPED) -> Outer:
    path = tmp_path / "file.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return YamlFile(path, kind).checked(Outer)


def faults(tmp_path: Path, text: str | bytes, kind: Kind = TYPED) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, kind)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(tmp_path / "file.yaml")) for line in lines)
    return [line.removeprefix(f"{tmp_path}/") for line in lines]


def test_a_file_is_read_with_its_scalars_as_yaml_types_them(tmp_path: Path) -> None:
    text = "name: x\ninner: { port: 8080, seconds: 1.5, strict: true }\nitems: [a, 'b: c']\n"
    found = read(tmp_path, text)
    assert found == Outer(name="x", inner=Inner(port=8080, seconds=1.5, strict=True), items=["a", "b: c"])


def test_the_bytes_of_the_file_are_kept_for_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\n")
    file = YamlFile(path, TYPED)
    assert file.raw == b"\xef\xbb\xbfname: x\r\n"
    assert file.checked(Outer).name == "x"


def test_without_typed_scalars_only_text_and_small_whole_numbers_are_values(tmp_path: Path) -> None:
    assert read(tmp_path, "name: x\ninner: { port: 80 }\n", Kind()).inner.port == 80
    (fault,) = faults(tmp_path, "name: x\ninner:\n  strict: yes\n", Kind())
    assert fault.startswith("file.yaml:3: inner.strict: ")
    assert "yes" in fault


def test_every_fault_is_told_in_the_order_of_the_file_with_its_line(tmp_path: Path) -> None:
    expected = [
        "file.yaml:1: name: required, but it is missing",
        "file.yaml:2: inner.port: Input should be a valid integer",
        "file.yaml:3: inner.colour: unknown key",
        "file.yaml:4: items: expected a list, write [one]",
    ]
    found = faults(tmp_path, "inner:\n  port: many\n  colour: red\nitems: one\n")
    assert [fault[: len(text)] for fault, text in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ":1: the file is empty"),
        ("name: x\nname: y\n", ":2: name: the key is already on line 1"),
        ("name: &a x\n", ":1: a YAML anchor or alias"),
        ("name: x\n\titems: [a]\n", ":2: a tab"),
        ("name: [a\n", ":2: not valid YAML"),
        (b"name: x\nitems: ['\xff']\n", ":2: not UTF-8"),
        ("name: x\n? [a]\n: b\n", ":2: expected text as a key"),
        ("name:\n", ":1: name: expected text; got nothing"),
        ("name: 1\n", ":1: name: expected text; got the number 1"),
        ("- a\n", ":1: expected a mapping"),
        ('name: "\\ud800"\n', ":1: name: expected text"),
        ("name: x\nitems:\n  - a\n  - 2\n", ":4: items[1]: expected text; got the number 2"),
        (f"name: {'[' * (MAX_DEPTH + 1)}\n", f"nested more than {MAX_DEPTH} levels"),
        ("name: x\x01\n", ":1: a character that YAML does not allow"),
    ],
)
def test_a_fault_is_told_with_its_line_and_what_was_expected(tmp_path: Path, text: str | bytes, fault: str) -> None:
    assert fault in "\n".join(faults(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        YamlFile(tmp_path / "none.yaml", TYPED)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        YamlFile(tmp_path, TYPED)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=f"larger than {MAX_BYTES} bytes"):
        YamlFile(path, TYPED)


def test_an_object_of_python_is_not_made(tmp_path: Path) -> None:
    assert "expected text" in faults(tmp_path, "name: !!python/object/apply:os.getcwd []\n")[0]


def test_conflicts_and_remarks_of_a_kind_are_told_with_their_lines(tmp_path: Path) -> None:
    kind = Kind(
        conflicts=lambda _: iter([(("items",), "no items on Sundays")]), unknown_key=lambda loc: f"never {loc[-1]}"
    )
    assert faults(tmp_path, "name: x\nitems: []\nbad: 1\n", kind) == [
        "file.yaml:2: items: no items on Sundays",
        "file.yaml:3: bad: never bad",
    ]
    path = tmp_path / "file.yaml"
    path.write_text("name: x\nitems: []\n")
    assert YamlFile(path, TYPED).tell(iter([(("items",), "empty")])) == [f"{path}:2: items: empty"]
