"""What a validation probe says of devices and nodes."""

from itertools import chain, combinations

import pytest

from detectors.traceslow.probe import judge_multiplications, judge_pairs, rounds

NODES = [f"n{k}" for k in range(8)]
EVEN = {f"n{k}/{g}": 700.0 + 2.0 * ((k * 3 + g) % 5) for k in range(2) for g in range(8)}


@pytest.mark.parametrize(
    ("rates", "expected", "named", "all_slow"),
    [
        pytest.param(EVEN, 0.0, [], False, id="all alike"),
        pytest.param({**EVEN, "n1/3": 560.0}, 0.0, [("n1/3", 0.7955)], False, id="one is slow"),
        pytest.param({**EVEN, "n1/3": 560.0, "n0/2": 350.0}, 0.0, [("n0/2", 0.4979), ("n1/3", 0.7966)], False, id="the slowest first"),
        pytest.param({**EVEN, "n1/3": 690.0}, 0.0, [], False, id="devices of one kind differ by some percent"),
        pytest.param({**EVEN, "n1/3": float("nan")}, 0.0, [("n1/3", 0.0)], False, id="one gives no answer"),
        pytest.param(dict.fromkeys(EVEN, 400.0), 750.0, [], True, id="all are slow"),
        pytest.param({"a": 700.0, "b": 400.0}, 750.0, [("b", 0.5333)], True, id="two against a plan"),
    ],
)
def test_who_multiplies_slowly(rates: dict[str, float], expected: float, named: list[tuple[str, float]], all_slow: bool) -> None:
    said = judge_multiplications(rates, expected=expected)
    assert [(one.id, one.share) for one in said.suspects] == named
    assert said.all_slow is all_slow


def test_two_devices_without_a_plan_are_not_compared() -> None:
    said = judge_multiplications({"a": 700.0, "b": 400.0})
    assert said.suspects == ()
    assert said.missing


def pairs(**thin: float) -> dict[tuple[str, str], float]:
    """All pairs of eight nodes at 48 GB/s, but those of a node (`n3`) or between two (`n1_n4`)."""
    found = dict.fromkeys(combinations(NODES, 2), 48.0)
    for name, share in thin.items():
        ends = set(name.split("_"))
        for pair in found:
            if ends <= set(pair):
                found[pair] *= share
    return found


@pytest.mark.parametrize(
    ("bandwidths", "named"),
    [
        pytest.param(pairs(), [], id="all alike"),
        pytest.param(pairs(n3=0.5), [("node", "n3")], id="a node that is bad with everybody"),
        pytest.param(pairs(n3=0.5, n6=0.25), [("node", "n6"), ("node", "n3")], id="two bad nodes"),
        pytest.param(pairs(n1_n4=0.3), [("link", "n1-n4")], id="two that are bad with one another only"),
        pytest.param(pairs(n3=0.5, n1_n4=0.3), [("node", "n3"), ("link", "n1-n4")], id="a node and a link"),
        pytest.param(pairs(n3=0.0), [("node", "n3")], id="a node that nobody reaches"),
        pytest.param({("a", "b"): 1.0, ("b", "a"): 48.0}, [], id="two nodes tell nothing"),
    ],
)
def test_which_node_the_bad_pairs_have_in_common(bandwidths: dict[tuple[str, str], float], named: list[tuple[str, str]]) -> None:
    assert [(one.kind, one.id) for one in judge_pairs(bandwidths).suspects] == named


def test_a_fabric_that_is_slow_everywhere_names_nobody() -> None:
    said = judge_pairs(pairs(), expected=100.0)
    assert (said.suspects, said.all_slow) == ((), True)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
def test_every_node_meets_every_other_once_and_one_at_a_time(count: int) -> None:
    nodes = NODES[:count]
    held = rounds(nodes)
    assert sorted(tuple(sorted(pair)) for pair in chain(*held)) == sorted(combinations(nodes, 2))
    assert all(len(set(chain(*one))) == 2 * len(one) for one in held)
