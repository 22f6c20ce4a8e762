"""KV blocks: what is held, found, and given back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.inference.blocks import Blocks
from simulator.inference.request import PIECE_TOKENS

PIECE = PIECE_TOKENS // 16


def test_a_prefix_is_found_and_taken_once() -> None:
    blocks = Blocks(1000)
    blocks.take(2 * PIECE_TOKENS + 5, (1, 2))
    assert (blocks.found((1, 2, 3)), blocks.found((2,)), blocks.found((3, 1))) == (2, 1, 0)
    assert blocks.free == 1000 - 2 * PIECE - 1
    assert blocks.wanted(2 * PIECE_TOKENS + 16, (1, 2)) == 1
    blocks.take(2 * PIECE_TOKENS + 16, (1, 2))
    assert blocks.free == 1000 - 2 * PIECE - 2


def test_what_nobody_uses_is_free_and_still_found() -> None:
    blocks = Blocks(1000)
    blocks.take(PIECE_TOKENS, (1,))
    blocks.give(PIECE_TOKENS, (1,))
    assert (blocks.free, blocks.use, blocks.found((1,))) == (1000, 0.0, 1)


def test_the_longest_unused_goes_first() -> None:
    blocks = Blocks(3 * PIECE)
    for piece in (1, 2, 3):
        blocks.take(PIECE_TOKENS, (piece,))
        blocks.give(PIECE_TOKENS, (piece,))
    blocks.take(16, ())
    assert [blocks.found((piece,)) for piece in (1, 2, 3)] == [0, 1, 1]


def test_leaked_blocks_are_in_use() -> None:
    blocks = Blocks(100)
    blocks.leaked = 60
    assert blocks.free == 40
    assert blocks.use == pytest.approx(0.6)


@given(st.lists(st.tuples(st.integers(1, 3000), st.lists(st.integers(0, 5), max_size=4, unique=True)), max_size=12), st.data())
@settings(max_examples=40)
def test_all_comes_back(taken: list[tuple[int, list[int]]], data: st.DataObject) -> None:
    blocks = Blocks(100_000)
    held = [(tokens, tuple(pieces[: tokens // PIECE_TOKENS])) for tokens, pieces in taken]
    for tokens, pieces in held:
        before, wanted = blocks.free, blocks.wanted(tokens, pieces)
        blocks.take(tokens, pieces)
        assert before - blocks.free == wanted
        assert 0 <= blocks.free <= blocks.total
    for tokens, pieces in data.draw(st.permutations(held)):
        blocks.give(tokens, pieces)
    assert blocks.free == blocks.total
    assert blocks.private == 0
