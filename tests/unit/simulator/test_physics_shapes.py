"""Device kinds, model shapes and layouts: counted right, refused where they cannot be."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.physics.devices import DeviceKind, device_kind, device_kinds
from simulator.physics.layout import Layout
from simulator.physics.models import Model, model_shape, models
from simulator.physics.tables import PhysicsError, rows_of


@pytest.mark.parametrize("name", models())
def test_a_shape_has_as_many_parameters_as_its_makers_say(name: str) -> None:
    model = model_shape(name)
    assert model.parameters == pytest.approx(model.parameters_published, rel=0.005)
    if model.active_published:
        assert model.active_parameters == pytest.approx(model.active_published, rel=0.02)


def test_the_shape_of_the_reference_is_counted_to_the_parameter() -> None:
    assert model_shape("qwen2.5-72b").parameters == 72_706_203_648


@pytest.mark.parametrize(
    ("sequence", "causal", "recompute", "flops"),
    [
        pytest.param(1, False, "none", 6 * (72.706e9 - 1.246e9), id="six per weight where nothing is attended to, the embedding apart"),
        pytest.param(4096, False, "none", 460.98e9, id="all scores count for utilisation"),
        pytest.param(4096, True, "none", 444.87e9, id="a causal mask leaves half of the scores"),
        pytest.param(4096, False, "full", 460.98e9 * 4 / 3 - 2.49e9, id="recomputing all is a third more, the head apart"),
    ],
)
def test_arithmetic_per_token(sequence: int, causal: bool, recompute: str, flops: float) -> None:
    assert model_shape("qwen2.5-72b").flops_per_token(sequence, causal=causal, recompute=recompute) == pytest.approx(flops, rel=1e-3)


def test_recomputing_keeps_less() -> None:
    kept = [model_shape("qwen2.5-72b").activation_bytes(0, recompute=mode) for mode in ("none", "selective", "full")]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == pytest.approx(34 * 8192, rel=0.02)  # the figure of Korthikanti et al. for a layer of this proportion


@pytest.mark.parametrize("name", device_kinds())
def test_a_kind_holds_together(name: str) -> None:
    kind = device_kind(name)
    assert kind.peak("bf16") > kind.memory_bytes_per_s > kind.scale_up_bytes_per_s > kind.network_bytes_per_s > 0
    assert kind.power_w_max > kind.power_w_idle > 0
    assert kind.scale_up_bytes_per_s > kind.pcie_bytes_per_s


def test_a_device_that_waits_draws_little() -> None:
    kind = device_kind("h100")
    idle, hung, usual, busy = (kind.power_w(*shares) for shares in ((0.0, 0.0), (0.0, 1.0), (0.8, 0.2), (1.0, 0.0)))
    assert kind.power_w_idle == idle < hung < 0.25 * kind.power_w_max < 0.7 * kind.power_w_max < usual < busy < kind.power_w_max


def test_what_is_public_of_the_reference_device_and_what_is_not() -> None:
    kind = device_kind("kunlun-p800")
    assert (kind.memory_bytes, kind.power_w_max, kind.peak("bf16")) == (98_304 * 2**20, 400.0, 345e12)
    assert {"scale_up_bytes_per_s", "nic_bytes_per_s", "peak_flops"} <= set(kind.assumed)
    assert "memory_bytes" not in kind.assumed


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        pytest.param(lambda: device_kind("h999"), "no device kind called 'h999'; known: a100", id="an unknown device"),
        pytest.param(lambda: model_shape("gpt-9"), "no model called 'gpt-9'", id="an unknown model"),
        pytest.param(lambda: device_kind("a100").peak("fp4"), "known: bf16", id="a dtype without a peak"),
        pytest.param(lambda: model_shape("llama3-8b").flops_per_token(1, recompute="some"), "recompute mode", id="an unknown mode"),
        pytest.param(lambda: rows_of("devices.toml", Model), "devices.toml: ", id="rows of another kind"),
        pytest.param(lambda: rows_of("models.toml", DeviceKind), "models.toml: ", id="rows that lack a key"),
    ],
)
def test_what_is_not_known_is_refused(ask: Any, says: str) -> None:
    with pytest.raises(PhysicsError, match=says):
        ask()


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        pytest.param({"tp": 0}, "below 1", id="no ranks"),
        pytest.param({"dp": 3, "global_batch": 4}, "no multiple of dp 3", id="a batch that does not divide"),
        pytest.param({"dp": 4, "ep": 3, "global_batch": 4}, "no multiple of ep 3", id="experts that do not divide"),
        pytest.param({"pp": 4, "chunks": 2, "global_batch": 6}, "chunks need", id="interleaving without enough micro-batches"),
        pytest.param({"chunks": 2, "global_batch": 6}, "chunks need", id="interleaving of one stage"),
        pytest.param({"order": ("tp", "pp")}, "no order", id="an order that leaves one out"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(sizes: dict[str, Any], says: str) -> None:
    with pytest.raises(PhysicsError, match=says):
        Layout(**sizes)


def test_layers_are_divided_in_the_order_a_token_passes_them() -> None:
    assert Layout(pp=4).layers_of(80).tolist() == [0, 20, 40, 60, 80]
    assert Layout(pp=2, chunk_layers=(41, 39)).layers_of(80).tolist() == [0, 41, 80]
    with pytest.raises(PhysicsError, match="do not divide"):
        Layout(pp=3).layers_of(80)
    with pytest.raises(PhysicsError, match="not 2 parts of 80"):
        Layout(pp=2, chunk_layers=(40, 41)).layers_of(80)


def test_tensor_ranks_share_a_node_and_stages_stand_apart() -> None:
    layout = Layout(tp=8, pp=4, dp=64, global_batch=64)
    assert layout.groups("tp")[0].tolist() == list(range(8))
    assert layout.groups("dp")[0].tolist() == list(range(0, 512, 8))
    assert layout.groups("pp")[0].tolist() == [0, 512, 1024, 1536]
    near = Layout(tp=8, pp=4, dp=64, global_batch=64, order=("tp", "cp", "pp", "dp"))
    assert near.groups("pp")[0].tolist() == [0, 8, 16, 24]


@given(st.permutations(("tp", "cp", "dp", "pp")), *(st.integers(1, 4) for _ in range(4)), st.sampled_from((1, 2)))
def test_every_rank_is_in_one_group_of_each_kind(order: list[str], tp: int, cp: int, dp: int, pp: int, ep: int) -> None:
    layout = Layout(tp=tp, cp=cp, dp=dp * ep, pp=pp, ep=ep, global_batch=dp * ep, order=tuple(order))
    for kind, size in (("tp", tp), ("cp", cp), ("pp", pp), ("ep", ep), ("dp", dp * ep * cp)):
        groups = layout.groups(kind)
        assert groups.shape == (layout.world // size, size)
        assert np.sort(groups, axis=None).tolist() == list(range(layout.world))
