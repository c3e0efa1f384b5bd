from __future__ import annotations

import pytest

from extproc.recording.merkle import Frontier, inclusion_proof, leaf_hash, root_of_inclusion
from extproc.recording.proofs import Tree


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(size)]


def frontier_of(leaves: list[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 100])
def test_every_proof_of_every_pruned_tree_is_that_of_the_plain_algorithm(size: int) -> None:
    leaves = leaves_of(size)
    root = frontier_of(leaves).root()
    for below in range(size):
        tree = Tree(leaves[below:], frontier_of(leaves[:below]))
        assert tree.root() == root
        for index in range(below, size):
            proof = tree.proof(index)
            assert proof == inclusion_proof(leaves, index, size)
            assert root_of_inclusion(leaves[index], index, size, proof) == root


def test_a_leaf_that_is_gone_or_was_never_there_has_no_proof() -> None:
    leaves = leaves_of(5)
    tree = Tree(leaves[3:], frontier_of(leaves[:3]))
    for index in (-1, 2, 5):
        with pytest.raises(ValueError, match=f"no leaf {index} among those from 3 to 5"):
            tree.proof(index)


def test_a_tree_whose_leaves_are_all_gone_still_has_its_root() -> None:
    leaves = leaves_of(7)
    assert Tree([], frontier_of(leaves)).root() == frontier_of(leaves).root()


def test_no_leaves_no_root() -> None:
    with pytest.raises(ValueError, match="no leaves"):
        Tree([]).root()
