"""What is said of real machines: an H100 node's ports, its listing of devices, an A100 node's links, a whole exporter page."""

from collectors.node.notes import Notes
from collectors.node.survey import survey
from collectors.node.tree import Tree
from holdfast.node.active.session import session
from holdfast.node.offline import Node
from holdfast.node.pages import Metrics
from holdfast.ports import Input
from holdfast.topology import Kind
from tests.field.where import data


def test_all_ports_of_a_real_node_are_read_with_their_counters() -> None:
    notes = Notes()
    survey(Tree(str(data("hardware", "sys-class-infiniband-h100.0"))), notes)
    ports = {target.id: row for target, row in notes.values.items() if target.kind is Kind.NIC}
    assert sorted(ports) == [*(f"mlx5_{n}:1" for n in (0, 1, 4, 5, 6, 7, 8, 9)), "mlx5_bond_0:1"]
    assert {row["nic.rate_bps"] for row in ports.values()} == {4e11, 2e11}
    assert {row["nic.state_id"] for row in ports.values()} == {4.0}
    assert {len(row) for row in ports.values()} == {29}
    assert ports["mlx5_0:1"]["nic.rx_bytes_total"] == 4 * 230539874932483


def test_a_real_node_has_a_counter_at_its_end_and_nothing_else() -> None:
    rows = list(Node().findings(str(data("hardware", "sys-class-infiniband-h100.0")), {}))
    assert [(row["severity"], row["check"], row["device"]) for row in rows] == [
        ("warning", "nic.counter_at_end", "mlx5_1")
    ]


def test_a_real_listing_and_real_links_are_those_of_a_healthy_machine() -> None:
    folder = data("hardware", "logs")
    inputs = [Input(name=name, path=folder / name) for name in ("lspci-vvv", "nvidia-smi.nvlink.status.a100")]
    assert [Node().recognise(one.name, one.path.read_bytes()[:65_536]) for one in inputs] == [
        "lspci",
        "nvidia-smi nvlink",
    ]
    verdict = Node().diagnose(inputs, {})
    assert verdict.detail["findings"] == []


def test_what_was_edited_into_a_real_page_is_found() -> None:
    path = data("hardware", "node_exporter", "e2e-output.txt")
    rows = list(Metrics().findings([Input(name="page", path=path)], {}))
    found = {(row["severity"], row["check"], row["device"]) for row in rows}
    assert found == {
        ("error", "memory.uncorrected", "0"),
        ("error", "sensor.fan_stopped", "platform_applesmc_768 fan1"),
        ("error", "raid.degraded", "md5"),
        ("error", "raid.degraded", "md6"),
        ("error", "raid.degraded", "md7"),
        ("error", "raid.inactive", "md4"),
        ("warning", "bond.leg_down", "int"),
        ("warning", "kernel.hung_tasks", None),
        ("warning", "raid.failed_disk", "md11"),
        ("warning", "raid.failed_disk", "md9"),
        ("info", "sensor.alarm", "nct6779 in1"),
    }


def test_recorded_tests_of_real_machines_are_well() -> None:
    folder = data("hardware", "logs")
    names = [str(folder / name) for name in ("gpu_burn.log", "nccl_allreduce.log", "nccl_alltoall.log", "ib_loopback_all_sizes.log")]
    assert list(session([], names)) == []
