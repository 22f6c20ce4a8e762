"""torch's own flight recorder analyser on simulated dumps: it loads them, and on simple hangs names whom it should."""

import gc
import logging
from pathlib import Path

import pytest

from simulator.evidence.acts import Model
from simulator.evidence.groups import Layout
from simulator.evidence.program import programs
from simulator.evidence.scene import Recording, Scene
from simulator.evidence.stall import Kind, Stall, places
from simulator.evidence.stand import Stand

pytest.importorskip("torch", reason="torch is not installed: requirements-train.lock holds it, for Python 3.11")

FLAT = Layout(dp=8)
RANK = 5


def analysed(stand: Stand, folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    """What the analyser says of a hang's dumps."""
    from torch.distributed.flight_recorder import fr_trace

    for rank in range(stand.scene.layout.world):
        (folder / f"trace_{rank}").write_bytes(stand.recorder(rank))
    caplog.set_level(logging.INFO, logger="Flight Recorder")
    fr_trace.main([str(folder), "--prefix", "trace_"])
    gc.enable()  # it has switched it off
    return caplog.text


def stand_of(kind: Kind, layout: Layout, model: Model, *, version: str = "2.10") -> Stand:
    found = places(programs(layout, model)[layout.stage(RANK)], kind)
    stalls = (Stall(RANK, kind, found[len(found) // 2]),)
    return Stand(Scene(layout=layout, model=model, stalls=stalls, step=3, recording=Recording(versions=(version,))))


@pytest.mark.parametrize("version", [pytest.param(v, id=f"version {v}") for v in ("2.4", "2.9", "2.10")])
def test_a_rank_that_never_entered_a_collective_is_named(
    version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = analysed(stand_of(Kind.LOOP, FLAT, Model(layers=1, micro_batches=2), version=version), tmp_path, caplog)
    assert "Not all ranks joining collective" in told
    assert f"missing ranks: {{{RANK}}}" in told


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        pytest.param(Kind.SIZE, "SIZE_OR_SYNTAX_MISMATCH", id="another size"),
        pytest.param(Kind.DTYPE, "COLLECTIVE_DTYPE_MISMATCH", id="another type"),
        pytest.param(Kind.OTHER_OP, "COLLECTIVE_TYPE_MISMATCH", id="another operation"),
        pytest.param(Kind.DEVICE_IN, "COLLECTIVE_STATE_MISMATCH", id="not finished by one device"),
    ],
)
def test_a_rank_whose_call_does_not_fit_is_named(
    kind: Kind, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = analysed(stand_of(kind, FLAT, Model(layers=1, micro_batches=2)), tmp_path, caplog)
    assert f"Culprit rank {RANK}; Error type: {says}" in told


@pytest.mark.parametrize(
    ("layout", "model"),
    [
        pytest.param(Layout(dp=2, tp=2, pp=2), Model(layers=1, micro_batches=3), id="a pipeline with single transfers"),
        pytest.param(
            Layout(dp=2, tp=2, pp=2),
            Model(layers=1, micro_batches=3, batched_transfers=True),
            id="with joint transfers",
        ),
        pytest.param(Layout(dp=4, tp=2, ep=4), Model(layers=1, micro_batches=2, experts=8), id="experts"),
    ],
)
def test_dumps_of_a_real_layout_load(
    layout: Layout, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if model.batched_transfers:
        pytest.importorskip(
            "tabulate", reason="the analyser draws joint launches with tabulate, which is not installed"
        )
    told = analysed(stand_of(Kind.LOOP, layout, model), tmp_path, caplog)
    assert f"{{{RANK}}}" in told
