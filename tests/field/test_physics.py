"""The network's times beside times that were measured."""

import re

import pytest

from simulator.physics.collectives import collective
from simulator.physics.devices import device_kind
from simulator.physics.fabric import Fabric, Group
from tests.field.where import data

_ROW = re.compile(r"^\s+(\d+)\s+\d+\s+float\s+(?:sum\s+)?(\d+(?:\.\d+)?)\s")


@pytest.mark.parametrize(
    ("file", "op", "most_off"),
    [
        pytest.param("nccl_allreduce.log", "all_reduce", 0.30, id="all_reduce of eight A100"),
        pytest.param("nccl_alltoall.log", "all_to_all", 0.30, id="all_to_all of eight A100"),
    ],
)
def test_collectives_take_as_long_as_was_measured(file: str, op: str, most_off: float) -> None:
    lines = data("hardware", "logs", file).read_text(encoding="utf-8").splitlines()
    measured = {int(row[1]): float(row[2]) * 1e-6 for line in lines if (row := _ROW.match(line)) and int(row[1]) >= 2**18}
    assert len(measured) > 5
    for size, seconds in measured.items():
        said = collective(op, size, Group(size=8, per_node=8), device_kind("a100"), Fabric()).seconds
        assert said == pytest.approx(seconds, rel=most_off), f"{size} bytes"
