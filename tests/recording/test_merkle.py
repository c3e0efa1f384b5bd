from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.merkle import (
    EMPTY_ROOT,
    BadProof,
    Frontier,
    check_consistency,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of_inclusion,
)

# The test tree of Certificate Transparency (RFC 6962): its leaves' data and the roots at sizes 1 to 8.
DATA = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(data)) for data in DATA]
MANY = [leaf_hash(str(number).encode()) for number in range(130)]
OTHER = leaf_hash(b"other")

sizes = st.integers(1, 129)


def frontier(leaves: list[bytes]) -> Frontier:
    result = Frontier()
    for leaf in leaves:
        result.append(leaf)
    return result


# RFC 9162 section 2.1.1, word for word.
def naive_root(leaves: list[bytes]) -> bytes:
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"").digest()
    middle = largest_power_below(len(leaves))
    return node_hash(naive_root(leaves[:middle]), naive_root(leaves[middle:]))


# RFC 9162 section 2.1.3.1.
def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = largest_power_below(len(leaves))
    if index < middle:
        return [*naive_path(index, leaves[:middle]), naive_root(leaves[middle:])]
    return [*naive_path(index - middle, leaves[middle:]), naive_root(leaves[:middle])]


# RFC 9162 section 2.1.4.1.
def naive_subproof(first: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [naive_root(leaves)]
    middle = largest_power_below(len(leaves))
    if first <= middle:
        return [*naive_subproof(first, leaves[:middle], whole=whole), naive_root(leaves[middle:])]
    return [*naive_subproof(first - middle, leaves[middle:], whole=False), naive_root(leaves[:middle])]


def largest_power_below(number: int) -> int:
    power = 1
    while power * 2 < number:
        power *= 2
    return power


def hashes(*texts: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def changed(proof: list[bytes], place: int) -> list[bytes]:
    return [*proof[:place], OTHER, *proof[place + 1 :]]


def test_the_empty_tree_has_the_hash_of_nothing_as_its_root() -> None:
    assert Frontier().root() == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_known_tree(size: int) -> None:
    assert frontier(LEAVES[:size]).root().hex() == ROOTS[size - 1]


def test_proofs_are_those_of_the_known_tree() -> None:
    assert inclusion_proof(LEAVES, 0, 8) == hashes(
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    )
    assert consistency_proof(LEAVES, 6, 8) == hashes(
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    )
    assert consistency_proof(LEAVES, 2, 5) == hashes(
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    )


def test_the_root_of_every_size_is_that_of_the_definition() -> None:
    growing = Frontier()
    for size in range(len(MANY)):
        assert growing.size == size
        assert growing.root() == naive_root(MANY[:size])
        growing.append(MANY[size])


@given(st.integers(0, 129), st.integers(0, 129))
def test_a_frontier_goes_on_where_it_was_dumped(one: int, other: int) -> None:
    size, stop = sorted((one, other))
    first = frontier(MANY[:size])
    loaded = Frontier.load(size, first.dump())
    assert loaded.roots == first.roots
    for leaf in MANY[size:stop]:
        loaded.append(leaf)
    assert loaded.root() == naive_root(MANY[:stop])
    assert first.root() == naive_root(MANY[:size])


@pytest.mark.parametrize(
    ("size", "dumped"),
    [(0, ["00" * 32]), (3, ["00" * 32]), (1, []), (1, ["00" * 31]), (1, ["zz" * 32]), (-1, ["00" * 32]), (-1, [])],
)
def test_what_cannot_be_a_frontier_is_not_loaded(size: int, dumped: list[str]) -> None:
    with pytest.raises(ValueError, match=r"frontier|hexadecimal"):
        Frontier.load(size, dumped)


def test_data_is_not_taken_for_a_leaf() -> None:
    with pytest.raises(ValueError, match="a leaf has 32 bytes, not 4"):
        Frontier().append(b"data")


def test_inclusion_is_proved_as_defined_for_every_leaf_of_every_small_tree() -> None:
    for size in range(1, 35):
        root = naive_root(MANY[:size])
        for index in range(size):
            proof = inclusion_proof(MANY, index, size)
            assert proof == naive_path(index, MANY[:size])
            assert root_of_inclusion(MANY[index], index, size, proof) == root


def test_consistency_is_proved_as_defined_for_every_two_small_trees() -> None:
    for second in range(35):
        for first in range(second + 1):
            proof = consistency_proof(MANY, first, second)
            assert proof == (naive_subproof(first, MANY[:second]) if first else [])
            check_consistency(first, second, naive_root(MANY[:first]), naive_root(MANY[:second]), proof)


@given(sizes, st.data())
def test_nothing_else_is_proved_to_be_included(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(MANY, index, size), naive_root(MANY[:size])
    assert root_of_inclusion(OTHER, index, size, proof) != root
    for place in range(len(proof)):
        assert root_of_inclusion(MANY[index], index, size, changed(proof, place)) != root
    elsewhere = data.draw(st.integers(0, 129))
    try:
        found = root_of_inclusion(MANY[index], elsewhere, size, proof)
    except BadProof:
        return
    assert (found == root) == (elsewhere == index)


@given(sizes, st.data())
def test_a_proof_of_another_length_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(MANY, index, size)
    with pytest.raises(BadProof, match="too long"):
        root_of_inclusion(MANY[index], index, size, [*proof, OTHER])
    if proof:
        with pytest.raises(BadProof, match="too short"):
            root_of_inclusion(MANY[index], index, size, proof[:-1])
        with pytest.raises(BadProof, match="has not 32 bytes"):
            root_of_inclusion(MANY[index], index, size, [*proof[:-1], b"short"])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3), (5, 2)])
def test_an_index_outside_of_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(BadProof, match="has none at"):
        root_of_inclusion(OTHER, index, size, [])
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(MANY, index, size)


@given(st.integers(0, 129), st.integers(0, 129), st.data())
def test_a_tree_with_another_beginning_is_found(one: int, other: int, data: st.DataObject) -> None:
    first, second = sorted((one, other))
    if first == 0:
        return
    proof = consistency_proof(MANY, first, second)
    forged = changed(MANY[:second], data.draw(st.integers(0, first - 1)))
    roots = naive_root(MANY[:first]), naive_root(MANY[:second])
    with pytest.raises(BadProof):
        check_consistency(first, second, roots[0], naive_root(forged), consistency_proof(forged, first, second))
    with pytest.raises(BadProof):
        check_consistency(first, second, OTHER, roots[1], proof)
    with pytest.raises(BadProof, match="too long"):
        check_consistency(first, second, roots[0], roots[1], [*proof, OTHER])
    for place in range(len(proof)):
        with pytest.raises(BadProof):
            check_consistency(first, second, *roots, changed(proof, place))
    if proof:
        with pytest.raises(BadProof, match=r"too short|is empty"):
            check_consistency(first, second, *roots, proof[:-1])


def test_a_smaller_tree_does_not_begin_with_a_larger_one() -> None:
    with pytest.raises(BadProof, match="with 2 leaves does not begin with one of 3"):
        check_consistency(3, 2, OTHER, OTHER, [])
    with pytest.raises(ValueError, match="no tree with 3"):
        consistency_proof(MANY, 3, 2)


def test_only_the_empty_tree_is_the_beginning_without_leaves() -> None:
    check_consistency(0, 5, EMPTY_ROOT, OTHER, [])
    check_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    with pytest.raises(BadProof, match="without leaves has another root"):
        check_consistency(0, 5, OTHER, OTHER, [])
    with pytest.raises(BadProof, match="not 32 bytes"):
        check_consistency(0, 5, EMPTY_ROOT, b"short", [])
    with pytest.raises(BadProof, match="two trees with 0 leaves differ"):
        check_consistency(0, 0, EMPTY_ROOT, OTHER, [])
    with pytest.raises(BadProof, match="too long"):
        check_consistency(0, 5, EMPTY_ROOT, OTHER, [OTHER])


@given(st.integers(0, 128), sizes, st.data())
def test_what_remains_of_a_log_is_proved_with_the_frontier_of_what_is_gone(
    gone: int, more: int, data: st.DataObject
) -> None:
    size = min(gone + more, len(MANY))
    prefix, rest = frontier(MANY[:gone]), MANY[gone:]
    index, first = data.draw(st.integers(gone, size - 1)), data.draw(st.integers(gone, size))
    assert inclusion_proof(rest, index, size, prefix) == inclusion_proof(MANY, index, size)
    assert consistency_proof(rest, first, size, prefix) == consistency_proof(MANY, first, size)
    assert prefix.root() == naive_root(MANY[:gone])


def test_what_is_gone_is_not_proved() -> None:
    prefix = frontier(MANY[:5])
    with pytest.raises(ValueError, match="no leaf 4 among those from 5 to 9"):
        inclusion_proof(MANY[5:], 4, 9, prefix)
    with pytest.raises(ValueError, match="no tree with 4 leaves"):
        consistency_proof(MANY[5:], 4, 9, prefix)
    with pytest.raises(ValueError, match="from 2 to 4 are not known"):
        prefix.part(2, 4)


def test_too_few_leaves_make_no_proof() -> None:
    with pytest.raises(ValueError, match="8 leaves make no tree with 9"):
        inclusion_proof(LEAVES, 0, 9)
    with pytest.raises(ValueError, match="8 leaves make no tree with 9"):
        consistency_proof(LEAVES, 3, 9)
