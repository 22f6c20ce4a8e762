"""Objects that follow one another, cut wherever the pieces end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.jsonstream import Objects

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("data", "objects", "stray"),
    [
        pytest.param(b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}'], 0, id="one on a line"),
        pytest.param(b'{\n  "a": {\n  }\n}\n{}', [b'{\n  "a": {\n  }\n}', b"{}"], 0, id="over many lines, one after another"),
        pytest.param(b'{"a":"}{"}', [b'{"a":"}{"}'], 0, id="braces in a string are text"),
        pytest.param(rb'{"a":"\"}\\"}', [rb'{"a":"\"}\\"}'], 0, id="an escaped quote ends no string"),
        pytest.param(b'error: "no" server\n{}', [b"{}"], len(b'error: "no" server'), id="words between objects are passed over"),
        pytest.param(b"}}{}", [b"{}"], 2, id="ends without a beginning are passed over"),
        pytest.param(b'{"a":', [], 0, id="half an object is kept back"),
    ],
)
def test_cutting(data: bytes, objects: list[bytes], stray: int) -> None:
    cutter = Objects()
    assert list(cutter.feed(data)) == objects
    assert cutter.stray == stray


@given(values=st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=3), max_size=4), size=st.integers(1, 7), indent=st.booleans())
def test_pieces_of_any_size_give_the_same_objects(values: list[dict[str, Any]], size: int, indent: bool) -> None:
    data = b"\n".join(json.dumps(value, indent=2 if indent else None).encode() for value in values)
    cutter = Objects()
    found = [one for at in range(0, len(data), size) for one in cutter.feed(data[at : at + size])]
    assert [json.loads(one) for one in found] == values


@given(data=st.binary(max_size=300), size=st.integers(1, 50))
def test_any_bytes_are_taken(data: bytes, size: int) -> None:
    whole, parts = Objects(), Objects()
    found = [one for at in range(0, len(data), size) for one in parts.feed(data[at : at + size])]
    assert found == list(whole.feed(data))


def test_an_object_that_is_too_long_is_passed_over_and_the_next_is_read() -> None:
    cutter = Objects(most_bytes=100)
    long = b'{"a":"' + b"x}" * 500 + b'"}'
    found = [one for at in range(0, len(long), 64) for one in cutter.feed(long[at : at + 64])]
    assert [*found, *cutter.feed(b'{"b":1}')] == [b'{"b":1}']
    assert cutter.lost == 1
