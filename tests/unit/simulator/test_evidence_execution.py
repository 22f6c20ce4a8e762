"""Who waits for whom once something in a simulated job goes wrong."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.faults import HangCause, Judgement
from simulator.evidence.acts import Model, Op
from simulator.evidence.groups import TENSOR, Layout
from simulator.evidence.program import programs
from simulator.evidence.scene import Muddle, Scene
from simulator.evidence.stall import HOST, MISMATCH, UNPAIRED, Kind, Stall, places
from simulator.evidence.stand import Stand

LAYOUT = Layout(dp=3, tp=4, pp=2)
MODEL = Model(layers=1, micro_batches=4)
RANK = 6


def stand_of(kind: Kind, *, more: int = 0) -> Stand:
    found = places(programs(LAYOUT, MODEL)[0], kind)
    stalls = tuple(Stall(RANK + LAYOUT.tp * n, kind, found[len(found) // 2]) for n in range(more + 1))
    return Stand(Scene(layout=LAYOUT, model=MODEL, stalls=stalls, seed=3))


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"{kind} holds the whole job up") for kind in Kind])
def test_all_ranks_end_up_waiting(kind: Kind) -> None:
    stand = stand_of(kind)
    assert all(line.at < len(line.acts) for line in stand.course.run.lines)
    assert list(stand.truth.causes) == [RANK]


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        Layout,
        dp=st.sampled_from([2, 4]),
        tp=st.sampled_from([1, 2]),
        pp=st.integers(1, 4),
        cp=st.sampled_from([1, 2]),
        ep=st.sampled_from([1, 2]),
    ),
    st.builds(
        Model,
        layers=st.integers(1, 3),
        micro_batches=st.integers(1, 6),
        experts=st.sampled_from([0, 8]),
        batched_transfers=st.booleans(),
        overlapped_gradients=st.booleans(),
    ),
)
def test_without_trouble_every_rank_ends_its_step(layout: Layout, model: Model) -> None:
    course = Stand(Scene(layout=layout, model=model, step=19)).course
    assert all(line.at == len(line.acts) for line in course.run.lines)
    assert not course.has_hung
    assert all(line.done(at) for line in course.run.lines for at in range(len(line.acts)))


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"{kind}: nothing of it is launched") for kind in sorted(HOST)])
def test_a_stuck_host_has_not_launched_what_its_peers_wait_in(kind: Kind) -> None:
    line = stand_of(kind).course.line(RANK)
    assert line.stall is not None
    assert line.entered == line.stall.at == line.at


def test_a_stuck_device_lags_behind_its_peers_in_an_operation_that_all_have_entered() -> None:
    course = stand_of(Kind.DEVICE_IN).course
    at = course.line(RANK).at
    group = course.layout.group(RANK, TENSOR)
    assert group is not None
    assert [course.line(rank).done(at) for rank in group.ranks] == [rank != RANK for rank in group.ranks]


def test_a_device_that_stalls_before_an_operation_leaves_equal_traces() -> None:
    course = stand_of(Kind.DEVICE_BEFORE).course
    group = course.layout.group(RANK, TENSOR)
    assert group is not None
    assert len({(course.line(rank).at, course.line(rank).entered) for rank in group.ranks}) == 1


@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"{kind}: nobody finishes") for kind in sorted(MISMATCH)])
def test_calls_that_do_not_fit_never_end(kind: Kind) -> None:
    course = stand_of(kind).course
    group = course.layout.group(RANK, TENSOR)
    assert group is not None
    assert {course.line(rank).at for rank in group.ranks} == {course.stalls[RANK].at}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=f"{kind}: the peer is left waiting") for kind in sorted(UNPAIRED)]
)
def test_a_transfer_without_its_other_end(kind: Kind) -> None:
    stand = stand_of(kind)
    assert set(stand.truth.causes.values()) == {
        HangCause.MISSING_SEND if kind is Kind.NO_SEND else HangCause.MISSING_RECV
    }


def test_culprits_in_different_groups_are_all_to_blame() -> None:
    assert list(stand_of(Kind.LOOP, more=1).truth.causes) == [RANK, RANK + LAYOUT.tp]


def test_who_has_not_come_to_its_trouble_is_not_to_blame() -> None:
    acts = programs(LAYOUT, MODEL)[0]
    early, late = places(acts, Kind.LOOP)[3], places(acts, Kind.LOOP)[-1]
    stand = Stand(Scene(layout=LAYOUT, model=MODEL, stalls=(Stall(1, Kind.LOOP, early), Stall(7, Kind.LOOP, late))))
    assert list(stand.truth.causes) == [1]


@pytest.mark.parametrize("muddle", [pytest.param(m, id=f"{m}: nobody is to blame") for m in Muddle])
def test_a_muddled_program_hangs_by_itself(muddle: Muddle) -> None:
    acts = programs(LAYOUT, MODEL)[0]
    if muddle is Muddle.CROSSED:
        at = next(n for n, act in enumerate(acts) if any(part.sends for part in act.parts))
    else:
        at = next(n for n, act in enumerate(acts) if act.op is Op.REDUCE_SCATTER)
    stand = Stand(Scene(layout=LAYOUT, model=MODEL, muddle=(muddle, 0, at), step=0))
    assert stand.course.has_hung
    assert stand.truth.verdict is Judgement.NOBODY


def test_hosts_run_ahead_of_their_devices_only_so_far() -> None:
    course = stand_of(Kind.LOOP).course
    assert all(line.entered - line.at <= course.scene.depth for line in course.run.lines)
    assert any(line.entered - line.at > 1 for line in course.run.lines)


def test_a_further_replica_changes_no_other_ranks_chance() -> None:
    few, many = (Stand(Scene(layout=Layout(dp=dp, tp=4), model=MODEL, seed=9, skew_s=1.0)) for dp in (2, 5))
    for rank in range(few.scene.layout.world):
        one, other = few.course.line(rank), many.course.line(rank)
        first = next(n for n, act in enumerate(one.acts) if act.talks and act.group != TENSOR)
        assert one.issued[:first] == other.issued[:first]
        assert few.scene.skew(rank) == many.scene.skew(rank)
        assert few.device_load(rank) == many.device_load(rank)
