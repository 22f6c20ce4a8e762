"""Mutated pages and mutated values of a machine's tree end in readings or in the parser's own error: `bench.fuzz_pages` tries more."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator, Philox

from bench.fuzz_pages import FILES, grow, mutated, of_page, of_tree, pages_of
from collectors.node.notes import Notes
from collectors.node.survey import look
from collectors.node.tree import Tree

PAGES = pages_of()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_a_mutated_page_is_read_or_refused(seed: int) -> None:
    readings, refused = of_page(Generator(Philox(key=seed)), PAGES)
    assert readings >= 0
    assert not (refused and readings)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    grow(root)
    return root


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**63))
def test_a_tree_with_mutated_values_is_read(tree: Path, seed: int) -> None:
    assert of_tree(Generator(Philox(key=seed)), tree) > 0


def test_a_blank_line_of_pressure_is_passed_over(tmp_path: Path) -> None:
    grow(tmp_path)
    (tmp_path / "proc/pressure/io").write_bytes(b"\n\n" + b"some avg10=1 avg60=50.0 avg300=0 total=5\n\n full\n")
    notes = Notes("n1")
    look(Tree(str(tmp_path)), notes)
    assert notes.get("node.pressure_io_some_ratio") == 0.5


def test_the_same_seed_makes_the_same_case() -> None:
    one, other = (mutated(Generator(Philox(key=5)), FILES["proc/meminfo"]) for _ in range(2))
    assert one == other
