"""The pages the simulator writes lint as those it imitates: the same metrics, the same complaints."""

import subprocess
from shutil import which

import pytest

from simulator.readings import NIC_METRICS, NODE_METRICS
from simulator.scenario import JobRow, Scenario, make
from simulator.sweep import SWEEP_S, Sweep
from tests.field.where import data

pytestmark = pytest.mark.skipif(which("promtool") is None, reason="promtool is not installed")


def complaints(page: str) -> set[str]:
    """What promtool says of a page, line by line."""
    said = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False)
    return {line.strip() for line in (said.stdout + said.stderr).splitlines() if line.strip()}


def types_of(page: str) -> dict[str, str]:
    return {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE ")}


def test_a_simulated_node_exporter_page_lints_as_a_real_one() -> None:
    world = make(Scenario(nodes=1, job=(JobRow(name="a", nodes=1),)))
    world.advance(world.cluster.now + SWEEP_S)
    (ours,) = (page.text or "" for page in Sweep(world).now()[0] if page.source.startswith("node:"))
    original = data("hardware", "node_exporter", "e2e-output.txt").read_text(encoding="utf-8")
    known = set(types_of(original)) & {*NIC_METRICS, *NODE_METRICS}
    assert len(known) >= 15
    assert {name: kind for name, kind in types_of(ours).items() if name in known} == {name: types_of(original)[name] for name in known}
    of_known = {line for line in complaints(original) if line.split()[0] in known}
    assert {line for line in complaints(ours) if line.split()[0] in known} == of_known
