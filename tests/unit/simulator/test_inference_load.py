"""Arrivals, lengths and the count of arrivals that the closed form uses."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.chance import stream
from simulator.inference.arrivals import Counted, Load, means, requests
from simulator.inference.lengths import Lengths
from simulator.inference.request import PIECE_TOKENS


@pytest.mark.parametrize("shape", ["fixed", "uniform", "lognormal"])
def test_lengths_have_the_mean_that_is_asked_for(shape: str) -> None:
    lengths = Lengths(mean=2000, shape=shape, spread=0.5)  # type: ignore[arg-type]
    drawn = lengths.draw(stream(1, "lengths"), 40_000)
    assert drawn.mean() == pytest.approx(2000, rel=0.01)
    assert drawn.min() >= 1
    bounds = np.array([500.0, 1500.0, 2000.0, 4000.0])
    assert lengths.share_below(bounds) == pytest.approx([(drawn <= bound).mean() for bound in bounds], abs=0.01)


@pytest.mark.parametrize(
    ("load", "gap", "irregular"),
    [
        pytest.param(Load(kind="poisson", rate=5.0), 0.2, True, id="Poisson"),
        pytest.param(Load(kind="fixed", rate=5.0), 0.2, False, id="a fixed rate"),
        pytest.param(Load(kind="closed", most_in_flight=3), 0.0, False, id="a closed loop asks for all at once"),
    ],
)
def test_arrivals(load: Load, gap: float, irregular: bool) -> None:
    came = np.array([r.due_at for r in itertools.islice(requests(load, seed=3, name="chat", begin=100.0), 5000)])
    assert (came[-1] - 100.0) / 5000 == pytest.approx(gap, rel=0.05)
    assert (np.diff(came).std() > 0.1) == irregular


def test_as_many_as_are_asked_for_and_the_same_every_time() -> None:
    load = Load(count=1500)
    first, second = (list(requests(load, seed=3, name="chat")) for _ in range(2))
    assert len(first) == 1500
    assert [(r.due_at, r.prompt, r.output) for r in first] == [(r.due_at, r.prompt, r.output) for r in second]


def test_shared_prefixes_stand_before_prompts() -> None:
    load = Load(shared_prefixes=4, shared_tokens=4 * PIECE_TOKENS, prompt=Lengths(mean=10, shape="fixed"))
    some = list(itertools.islice(requests(load, seed=1, name="chat"), 400))
    assert {len(r.pieces) for r in some} == {4}
    assert len({r.prefix for r in some}) == 4
    assert means(load)[0] == some[0].prompt


def test_a_trace_is_played_again_and_faster(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(f'{{"timestamp":{at},"input_length":{at + 1},"output_length":3}}\n' for at in (0, 1000)))
    load = Load(kind="trace", trace=str(path), speed=2.0)
    assert [r.due_at for r in itertools.islice(requests(load, seed=1, name="x", begin=10.0), 4)] == [10.0, 10.5, 11.0, 11.5]
    assert means(load) == (501.0, 3.0)
    assert Counted(load, share=0.5, seed=1, name="x", begin=10.0).by(12.0) == 2.5


@pytest.mark.parametrize(
    "wrong", [{"kind": "closed"}, {"kind": "trace"}, {"trace": "x.csv"}], ids=["closed, no limit", "trace, no file", "a file, no trace"]
)
def test_a_load_that_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="load"):
        Load(**wrong)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 20_000), min_size=2, max_size=12))
@settings(max_examples=25)
def test_the_count_depends_on_the_moment_alone(moments: list[float]) -> None:
    asked, fresh = (Counted(Load(rate=2.0), share=0.5, seed=5, name="e", begin=0.0) for _ in range(2))
    counts = [asked.by(at) for at in moments]
    assert counts == [Counted(Load(rate=2.0), share=0.5, seed=5, name="e", begin=0.0).by(at) for at in moments]
    assert [fresh.by(at) for at in sorted(moments)] == sorted(counts)
    assert asked.by(20_000.0) == pytest.approx(20_000.0, rel=0.05)
