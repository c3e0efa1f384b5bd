"""The checker is a program of its own; what it does to a bundle is tested in tests/export/test_exporting.py."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.export import check_export
from extproc.recording import document, merkle, packing, unpacking

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
# Long enough to be cut, and what looks like a reference.
LONG = st.text("ab", min_size=1, max_size=3).map(lambda text: {"role": "user", "content": text * 900})
MESSAGES = st.lists(LONG | JSON | st.just({"$blob": "0" * 64}) | st.just({"$list": "1" * 64}), max_size=12)


@given(MESSAGES | JSON, MESSAGES | JSON)
def test_it_puts_together_what_was_cut_as_the_gateway_does(messages: Any, tools: Any) -> None:
    opening = {"id": "e", "request": {"messages": messages, "tools": tools}}
    packed = packing.pack(opening, is_known=lambda _: False)
    blobs = {("s", address): data for address, data in packed.blobs}
    assert check_export.unpacked(json.loads(packed.data), "s", blobs) == opening
    assert unpacking.unpack(packed.data, lambda some: {one: blobs["s", one] for one in some}) == opening


MASKING = st.none() | st.just({"prompt": {"a": 1}}) | st.just({"answer": {"b": 2}})
HALF = st.fixed_dictionaries({"id": st.just("e")}, optional={"findings": st.just([{"rule": "r"}]), "masking": MASKING})


@given(HALF, HALF)
def test_it_joins_both_halves_as_the_gateway_does(opened: dict[str, Any], closed: dict[str, Any]) -> None:
    assert check_export.merged(opened, closed) == document.merged(opened, closed)


@given(st.integers(1, 40), st.integers(0, 45), st.integers(0, 45), st.integers(-1, 1))
def test_it_follows_proofs_as_the_gateway_does(size: int, index: int, claimed: int, longer: int) -> None:
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
    index %= size
    proof = merkle.inclusion_proof(leaves, index, size)
    proof = proof[:longer] if longer < 0 else proof + proof[:longer]
    try:
        expected = merkle.root_of_inclusion(leaves[index], claimed, size, proof)
    except merkle.BadProof:
        with pytest.raises(check_export.Bad):
            check_export.root_of_inclusion(leaves[index], claimed, size, proof)
    else:
        assert check_export.root_of_inclusion(leaves[index], claimed, size, proof) == expected


def test_a_row_within_itself_ends() -> None:
    address = "0" * 64
    blobs = {("s", address): json.dumps([{"$list": address}]).encode()}
    with pytest.raises(check_export.Bad, match="too many rows within each other"):
        check_export.unpacked({"request": {"messages": [{"$list": address}]}}, "s", blobs)


def test_it_needs_nothing_but_the_standard_library_and_cryptography() -> None:
    tree = ast.parse(Path(check_export.__file__).read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.partition(".")[0] for name in names} - {"cryptography"} <= sys.stdlib_module_names


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["check_export.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        check_export.main()
    return ended.value.code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (None, "manifest.json: cannot be read: No such file or directory"),
        (b"{", "manifest.json is no JSON: "),
        (b"\x9e\xff", "manifest.json is no JSON: "),
        (b"[" * 100_000, "manifest.json is no JSON: "),
        (b"[]", "manifest.json is no manifest of an export"),
        (b"{}", "the manifest is of another version"),
        (b'{"v":1,"complete":true}', "the export is malformed, KeyError: 'files'"),
        (b'{"v":1,"complete":true,"files":[]}', "the export is malformed, AttributeError: "),
    ],
)
def test_what_is_no_export_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    manifest: bytes | None,
    why: str,
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_bytes(manifest)
    code, out = told(monkeypatch, capsys, str(tmp_path))
    assert (code, out.startswith("FAILED: "), why in out, out.count("\n")) == (1, True, True, 1)


@pytest.mark.parametrize(("key", "why"), [(None, "cannot be read"), (b"a+b", "is no public key"), (b"\xff", "is no")])
def test_a_key_that_is_none_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    key: bytes | None,
    why: str,
) -> None:
    path = tmp_path / "key.pub"
    if key is not None:
        path.write_bytes(key)
    code, out = told(monkeypatch, capsys, str(tmp_path), "--key", str(path))
    assert (code, out.startswith("FAILED: "), why in out, out.count("\n")) == (1, True, True, 1)
