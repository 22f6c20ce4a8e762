"""`holdfast diagnose metrics`: one page, several over time, sources that lie, and pages that are none."""

from pathlib import Path
from typing import Any

import pytest

from holdfast.faults import Judgement
from holdfast.node.pages import Metrics
from holdfast.ports import Input


def dcgm(gpus: int = 8, *, host: str = "n3", **known: float | str) -> str:
    """dcgm-exporter's page; known: metrics of GPU 3 instead of the usual, "DCGM_" left out."""
    usual: dict[str, float | str] = {
        "FI_DEV_GPU_TEMP": 55, "FI_DEV_POWER_USAGE": 640.5, "FI_DEV_GPU_UTIL": 99, "FI_PROF_GR_ENGINE_ACTIVE": 0.98,
        "FI_DEV_SM_CLOCK": 1980, "FI_DEV_ROW_REMAP_FAILURE": 0, "FI_DEV_XID_ERRORS": 0, "FI_DEV_ECC_DBE_VOL_TOTAL": 0,
        "FI_DEV_PCIE_REPLAY_COUNTER": 0, "FI_DEV_THERMAL_VIOLATION": 0,
    }  # fmt: skip
    rows = ["# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature (in C).", "# TYPE DCGM_FI_DEV_GPU_TEMP gauge"]
    for gpu in range(gpus):
        label = f'gpu="{gpu}",UUID="GPU-{gpu}",pci_bus_id="00000000:{gpu + 16:02X}:00.0",modelName="NVIDIA H100",Hostname="{host}"'
        for name, value in (usual | (known if gpu == 3 else {})).items():
            rows.append(f"DCGM_{name}{{{label}}} {value}")
    return "\n".join(rows) + "\n"


def found(tmp_path: Path, *pages: str, names: str = "page{}.prom") -> list[dict[str, Any]]:
    paths = [tmp_path / names.format(n) for n in range(len(pages))]
    for path, page in zip(paths, pages, strict=True):
        path.write_text(page)
    return list(Metrics().findings([Input(name=path.name, path=path) for path in paths], {}))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        pytest.param({}, None, id="all is well"),
        pytest.param({"FI_DEV_ROW_REMAP_FAILURE": 1}, ("fatal", "gpu.row_remap_failed"), id="a row that could not be replaced"),
        pytest.param({"FI_DEV_XID_ERRORS": 79}, ("fatal", "xid.79"), id="an XID by its catalogue"),
        pytest.param({"FI_DEV_GPU_TEMP": 93}, ("error", "gpu.too_hot"), id="hot"),
        pytest.param({"FI_DEV_ECC_DBE_VOL_TOTAL": 2}, ("error", "gpu.ecc_uncorrected"), id="uncorrected errors"),
        pytest.param({"FI_DEV_SM_CLOCK": 1200}, ("warning", "gpu.clock_below_peers"), id="a clock below its peers'"),
        pytest.param({"FI_PROF_GR_ENGINE_ACTIVE": 0}, ("warning", "source.contradicts"), id="full use with resting engines"),
        pytest.param({"FI_DEV_GPU_TEMP": 9223372036854775794}, ("warning", "source.blank_values"), id="the number for none"),
        pytest.param({"FI_DEV_POWER_USAGE": "NaN"}, ("warning", "source.not_numbers"), id="a reading that is no number"),
        pytest.param({"FI_DEV_PCIE_REPLAY_COUNTER": -4}, ("warning", "source.negative_counters"), id="a counter below zero"),
        pytest.param({"FI_DEV_GPU_UTIL": 700}, ("warning", "source.implausible"), id="more than all"),
    ],
)
def test_one_page(tmp_path: Path, known: dict[str, Any], expected: tuple[str, str] | None) -> None:
    rows = found(tmp_path, dcgm(**known))
    assert [(row["severity"], row["check"]) for row in rows] == ([expected] if expected else [])
    for row in rows:
        assert row["line"] > 2
        assert row["device"] in ("0000:13:00", None)


@pytest.mark.parametrize(
    ("replays", "said"),
    [
        pytest.param([0, 3, 5], [], id="a few replays"),
        pytest.param([0, 3, 900], ["pcie.replays"], id="many"),
        pytest.param([900, 0, 1], [], id="a counter that begins anew"),
    ],
)
def test_counters_are_compared_over_pages_of_one_source(tmp_path: Path, replays: list[int], said: list[str]) -> None:
    pages = [dcgm(FI_DEV_PCIE_REPLAY_COUNTER=count, FI_DEV_POWER_USAGE=600 + n) for n, count in enumerate(replays)]
    assert [row["check"] for row in found(tmp_path, *pages)] == said


def test_pages_of_two_nodes_are_not_compared(tmp_path: Path) -> None:
    pages = [dcgm(host="a", FI_DEV_PCIE_REPLAY_COUNTER=0), dcgm(host="b", FI_DEV_PCIE_REPLAY_COUNTER=900)]
    assert found(tmp_path, *pages) == []


def test_the_order_is_that_of_the_numbers_in_the_names(tmp_path: Path) -> None:
    pages = [dcgm(FI_DEV_PCIE_REPLAY_COUNTER=100 * n).replace("640.5", f"{640 + n}") for n in range(12)]
    rows = found(tmp_path, *pages, names="dcgm-{}.prom")
    assert [(row["check"], row["file"]) for row in rows] == [("pcie.replays", "dcgm-1.prom")]


def test_a_page_that_never_changes_is_told(tmp_path: Path) -> None:
    assert [row["check"] for row in found(tmp_path, *[dcgm()] * 12)] == ["source.frozen"]


def test_a_device_whose_power_is_stuck_is_told(tmp_path: Path) -> None:
    pages = [dcgm(FI_DEV_POWER_USAGE=123.4).replace("640.5", f"{640 + n / 7:.3f}") for n in range(24)]
    rows = found(tmp_path, *pages)
    assert [(row["check"], row["device"]) for row in rows] == [("source.stuck", "0000:13:00")]


def test_readings_have_the_time_that_stands_behind_them(tmp_path: Path) -> None:
    label = 'id="0",model_name="910B",pcie_bus_info="0000:C1:00.0"'
    page = f"npu_chip_info_health_status{{{label}}} 0 1723621883587\nnpu_chip_info_temperature{{{label}}} 45 1723621883587\n"
    rows = found(tmp_path, page)
    assert [(row["check"], row["device"], row["at"]) for row in rows] == [("gpu.unhealthy", "0000:c1:00", 1723621883.587)]


def test_an_engine_that_makes_no_token_is_stalled(tmp_path: Path) -> None:
    form = 'vllm:num_requests_running{{model_name="m",engine="0"}} 4\nvllm:generation_tokens_total{{model_name="m",engine="0"}} {}\n'
    assert [row["check"] for row in found(tmp_path, *[form.format(n) for n in (10, 20, 20, 20, 20)])] == ["serving.stalled"]
    assert found(tmp_path, *[form.format(n) for n in (10, 20, 30, 40, 50)]) == []


def test_a_cluster_tells_of_a_node_that_is_not_ready(tmp_path: Path) -> None:
    page = "".join(
        f'kube_node_status_condition{{node="{node}",condition="Ready",status="{status}"}} {int(value)}\n'
        for node, status, value in [("a", "true", True), ("a", "false", False), ("b", "true", False), ("b", "unknown", True)]
    )
    assert [(row["check"], row["host"]) for row in found(tmp_path, page)] == [("node.not_ready", "b")]


def test_a_page_of_something_else_is_skipped_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    path.write_text("node_load1 1\n<html>\n")
    verdict = Metrics().diagnose([Input(name="x.prom", path=path)], {})
    assert [(one.file, one.reason) for one in verdict.skipped] == [("x.prom", "line 2: no number where the value stands")]
    assert verdict.verdict is Judgement.HEALTHY


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param(dcgm(), "metrics_page", id="a page"),
        pytest.param("node_load1 0.3\n", "metrics_page", id="one sample"),
        pytest.param("step,rank,step_s\n1,0,2.0\n", "", id="a table"),
        pytest.param("[    1.0] NVRM: Xid (PCI:0000:1b:00): 79, x\n", "", id="a kernel log"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_a_page_is_told_by_its_lines(text: str, kind: str) -> None:
    assert Metrics().recognise("x", text.encode()) == kind
