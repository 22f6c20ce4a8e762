"""The process groups of a simulated job, and the programs of its stages."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.evidence.acts import Model, Op
from simulator.evidence.groups import EXPERT, PIPELINE, TENSOR, Layout, LayoutError
from simulator.evidence.program import programs

SMALL = st.sampled_from([1, 2, 3, 4])
LAYOUTS = st.builds(Layout, dp=SMALL, tp=SMALL, pp=SMALL, cp=st.sampled_from([1, 2]))


@settings(max_examples=15, deadline=None)
@given(LAYOUTS)
def test_the_groups_of_a_kind_divide_the_ranks_among_them(layout: Layout) -> None:
    for kind in (TENSOR, PIPELINE, EXPERT):
        ranks = [rank for group in layout.groups.values() if group.desc == kind for rank in group.ranks]
        assert sorted(ranks) == list(range(layout.world))
    assert [layout.own[rank][0].desc for rank in range(layout.world)] == ["default_pg"] * layout.world


@pytest.mark.parametrize(
    ("order", "tensor", "pipeline"),
    [
        pytest.param("tp-cp-ep-dp-pp", (0, 1), (0, 4, 8), id="stages lie farthest apart by default"),
        pytest.param("tp-cp-ep-pp-dp", (0, 1), (0, 2, 4), id="an order with stages next to tensor groups is followed"),
        pytest.param("dp-tp-cp-ep-pp", (0, 2), (0, 4, 8), id="replicas may run fastest"),
    ],
)
def test_order(order: str, tensor: tuple[int, ...], pipeline: tuple[int, ...]) -> None:
    layout = Layout(dp=2, tp=2, pp=3, order=order)
    found = (layout.group(0, TENSOR), layout.group(0, PIPELINE))
    assert [group.ranks for group in found if group] == [tensor, pipeline]


def test_experts_are_carved_out_of_the_replicas_of_a_stage() -> None:
    layout = Layout(dp=4, tp=2, pp=2, ep=4)
    group = layout.group(9, EXPERT)
    assert group is not None
    assert group.ranks == (9, 11, 13, 15)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        pytest.param({"dp": 3, "ep": 2}, "do not divide", id="experts that do not divide the replicas are refused"),
        pytest.param({"dp": 2, "order": "tp-dp"}, "once each", id="an order that leaves an axis out is refused"),
        pytest.param(
            {"dp": 4, "tp": 2, "pp": 2, "ep": 2, "order": "tp-cp-ep-pp-dp"},
            "other pipelines",
            id="experts across stages are refused",
        ),
        pytest.param({"dp": 0}, "at least one", id="a size of nothing is refused"),
    ],
)
def test_refused(sizes: dict[str, int], says: str) -> None:
    with pytest.raises(LayoutError, match=says):
        Layout(**sizes)  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(LAYOUTS, st.integers(1, 6), st.booleans())
def test_every_transfer_of_a_stage_has_its_other_end(layout: Layout, batches: int, batched: bool) -> None:
    stages = programs(layout, Model(layers=1, micro_batches=batches, batched_transfers=batched))
    ends: Counter[tuple[int, int, bool]] = Counter()
    for stage, acts in enumerate(stages):
        for act in acts:
            for part in act.parts:
                ends[(stage, part.peer, True) if part.sends else (part.peer, stage, False)] += 1
    assert all(ends[sender, taker, True] == ends[sender, taker, False] for sender, taker, _ in ends)


def test_a_group_of_one_is_never_called() -> None:
    acts = programs(Layout(dp=4), Model(layers=2))[0]
    assert {act.group for act in acts if act.talks} == {
        "DATA_PARALLEL_GROUP_WITH_CP",
        "INTRA_DISTRIBUTED_OPTIMIZER_INSTANCE_GROUP",
    }
    assert sum(act.op is Op.LOAD for act in acts) == Model().micro_batches
