"""`holdfast diagnose node` on a machine in a folder: healthy, and with one thing broken at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.node.offline import Node
from tests.unit.nodecheck.machine import BUSES, device, links, machine, port, process, smi, table, write

SMART = """{"json_format_version": [1, 0], "smartctl": {"exit_status": 8}, "device": {"name": "/dev/sda"},
 "smart_status": {"passed": false}}"""
FULL = """Filesystem     1K-blocks      Used Available Use% Mounted on
/dev/sda1       1000000    990000     10000  99% /var
tmpfs 10 10 0 100% /run"""
IBSTAT = """CA 'mlx5_0'
\tCA type: MT4129
\tPort 1:
\t\tState: Down
\t\tPhysical state: Polling
\t\tRate: 10
\t\tLink layer: InfiniBand"""
IBSTATUS = """Infiniband device 'mlx5_1' port 1 status:
\tstate:\t\t 1: DOWN
\tphys state:\t 2: Polling
\trate:\t\t 400 Gb/sec (4X NDR)
\tlink_layer:\t InfiniBand"""
LOST = "Unable to determine the device handle for GPU 0000:43:00.0: GPU is lost.  Reboot the system to recover this GPU"
LIBRARIES = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so."
SERIOUS = ("fatal", "error")


def said(root: Path, **options: str) -> list[tuple[str, str, str | None]]:
    """(severity, check, device) of every finding."""
    return [(row["severity"], row["check"], row["device"]) for row in rows(root, **options)]


def rows(root: Path, **options: str) -> list[dict[str, Any]]:
    return list(Node().findings(str(root), options))


def test_a_healthy_machine_has_nothing(tmp_path: Path) -> None:
    assert said(machine(tmp_path)) == []


Break = Callable[[Path], None]


def files(**known: str) -> Break:
    """Write files of the tree, "/" for "__"."""

    def broken(root: Path) -> None:
        for path, text in known.items():
            write(root / path.replace("__", "/"), text)

    return broken


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        pytest.param(
            lambda r: port(r, "mlx5_3", state="1: DOWN", phys_state="3: Disabled"),
            ("error", "nic.down", "mlx5_3"),
            id="a port is down",
        ),
        pytest.param(
            lambda r: port(r, "mlx5_3", state="2: INIT"),
            ("error", "nic.not_configured", "mlx5_3"),
            id="a port waits for a subnet manager",
        ),
        pytest.param(
            lambda r: port(r, "mlx5_3", rate="200 Gb/sec (2X NDR)"),
            ("error", "nic.degraded_rate", "mlx5_3"),
            id="a port at half its like's rate",
        ),
        pytest.param(
            lambda r: port(r, "mlx5_9", rate="200 Gb/sec (2X NDR)", board="X", link_layer="Ethernet"),
            None,
            id="a slower card of another kind",
        ),
        pytest.param(
            lambda r: port(r, "mlx5_9", state="1: DOWN", board="X", link_layer="Ethernet"),
            ("warning", "nic.unused", "mlx5_9"),
            id="an Ethernet port that nobody cabled",
        ),
        pytest.param(
            lambda r: port(r, "mlx5_3", counters__link_downed="255"),
            ("warning", "nic.counter_at_end", "mlx5_3"),
            id="a counter at its end",
        ),
        pytest.param(
            lambda r: port(r, "mlx5_3", counters__port_rcv_data="99999999999"), None, id="traffic is no fault"
        ),
        pytest.param(
            lambda r: device(r, "0000:52:00.0", current_link_width="8"),
            ("error", "pcie.width", "0000:52:00.0"),
            id="half of the lanes",
        ),
        pytest.param(
            lambda r: device(r, "0000:e1:00.0", kind="0x010802", current_link_width="4", slot__max_link_width="4"),
            None,
            id="a narrow slot is no narrow link",
        ),
        pytest.param(
            lambda r: device(r, "0000:52:00.0", current_link_speed="16.0 GT/s PCIe"),
            ("error", "pcie.speed", "0000:52:00.0"),
            id="half the speed",
        ),
        pytest.param(
            lambda r: device(r, "0000:52:00.0", current_link_width="63", current_link_speed="Unknown"),
            ("fatal", "gpu.off_the_bus", "0000:52:00.0"),
            id="a device that has left the bus",
        ),
        pytest.param(
            lambda r: device(r, "0000:52:00.0", aer_dev_fatal="DLP 2\nTOTAL_ERR_FATAL 2"),
            ("error", "pcie.fatal_errors", "0000:52:00.0"),
            id="fatal errors of a link",
        ),
        pytest.param(
            files(proc__meminfo="MemTotal: 1000000 kB\nMemAvailable: 10000 kB"),
            ("error", "memory.exhausted", None),
            id="no memory left",
        ),
        pytest.param(
            files(sys__devices__system__edac__mc__mc0__ue_count="1"),
            ("error", "memory.uncorrected", "mc0"),
            id="a bad module",
        ),
        pytest.param(files(sys__class__nvme__nvme0__state="dead"), ("error", "disk.failed", "nvme0"), id="a dead disk"),
        pytest.param(
            files(proc__mounts="/dev/md0 / ext4 ro,relatime,errors=remount-ro 0 0"),
            ("error", "fs.gone_readonly", "/"),
            id="a file system that gave up",
        ),
        pytest.param(
            files(proc__mounts="/dev/sdb /data xfs ro,relatime 0 0"),
            ("warning", "fs.readonly", "/data"),
            id="one that is read-only",
        ),
        pytest.param(
            files(proc__sys__net__netfilter__nf_conntrack_count="262000"),
            ("error", "table.conntrack_full", None),
            id="a full table",
        ),
        pytest.param(
            files(proc__77__stat=process(77, "python (x) y", "D")),
            ("warning", "process.uninterruptible", None),
            id="a process in state D",
        ),
        pytest.param(files(proc__77__stat=process(77, "kworker", "D", size=0)), None, id="the kernel's own may wait"),
        pytest.param(files(proc__77__stat=process(77, "python", "Z")), ("info", "process.zombie", None), id="a zombie"),
        pytest.param(
            files(sys__class__hwmon__hwmon0__temp1_input="101000"),
            ("error", "sensor.critical", "coretemp/hwmon0 temp1"),
            id="a hot processor",
        ),
        pytest.param(
            files(sys__devices__system__cpu__online="0-190"), ("warning", "cpu.offline", None), id="a processor is off"
        ),
        pytest.param(
            files(sys__devices__system__clocksource__clocksource0__current_clocksource="hpet"),
            ("warning", "clock.slow_source", None),
            id="a clock that was left",
        ),
        pytest.param(
            files(
                proc__mdstat="Personalities : [raid1]\nmd0 : active raid1 sda1[0] sdb1[1](F)\n      10 blocks [2/1] [U_]"
            ),
            ("error", "raid.degraded", "md0"),
            id="an array without a disk",
        ),
        pytest.param(
            lambda r: (r / f"{LIBRARIES}550.54.15").rename(r / f"{LIBRARIES}535.104.05"),
            ("error", "node.driver_mismatch", None),
            id="a library of another version",
        ),
        pytest.param(
            files(
                **{
                    f"proc__driver__nvidia__gpus__0000:{BUSES[1]}:00.0__information": "GPU UUID: \t GPU-????????-????-????"
                }
            ),
            ("fatal", "gpu.lost", "0000:43:00.0"),
            id="a device without an identity",
        ),
        pytest.param(files(smi_q=smi(8)), None, id="healthy GPUs"),
        pytest.param(
            files(smi_q=smi(8, failed="Yes")),
            ("fatal", "gpu.row_remap_failed", "0000:df:00"),
            id="a row that could not be replaced",
        ),
        pytest.param(
            files(smi_q=smi(8, pending="Yes")), ("error", "gpu.row_remap_pending", "0000:df:00"), id="a row that waits"
        ),
        pytest.param(
            files(smi_q=smi(8, uncorrected="3")),
            ("error", "gpu.ecc_uncorrected", "0000:df:00"),
            id="uncorrected errors",
        ),
        pytest.param(
            files(smi_q=smi(8, exceeded="Yes")),
            ("fatal", "gpu.sram_errors", "0000:df:00"),
            id="too many errors of the chip",
        ),
        pytest.param(files(smi_q=smi(8, temp="88 C")), ("error", "gpu.too_hot", "0000:df:00"), id="at its limit"),
        pytest.param(
            files(smi_q=smi(8, hw="Active", brake="Active")), ("error", "gpu.power_brake", "0000:df:00"), id="braked"
        ),
        pytest.param(
            files(smi_q=smi(8, hw="Active", thermal="Active")),
            ("error", "gpu.thermal_slowdown", "0000:df:00"),
            id="slow for heat",
        ),
        pytest.param(
            files(smi_q=smi(8, width="8x")),
            ("error", "pcie.width", "0000:df:00"),
            id="half of the lanes, says the driver",
        ),
        pytest.param(
            files(smi_q=smi(8, generation="4", util="97 %")),
            ("error", "pcie.speed", "0000:df:00"),
            id="a slow link, says the driver",
        ),
        pytest.param(
            files(smi_q=smi(8, fabric="In Progress")),
            ("warning", "gpu.fabric_joining", "0000:df:00"),
            id="still joining its fabric",
        ),
        pytest.param(
            files(smi_q=smi(8, fabric="Not Started")),
            ("error", "gpu.fabric_not_joined", "0000:df:00"),
            id="not in its fabric",
        ),
        pytest.param(
            files(smi_q=smi(8, vbios="96.00.89.00.01")),
            ("warning", "node.vbios_mismatch", None),
            id="two firmware versions",
        ),
        pytest.param(
            files(smi_q=smi(8, recovery="Drain and Reset")),
            ("error", "gpu.recovery_wanted", "0000:df:00"),
            id="the driver wants a reset",
        ),
        pytest.param(
            files(smi_q=smi(8, power="[GPU requires reset]")),
            ("fatal", "gpu.lost", "0000:df:00"),
            id="a field that says it is lost",
        ),
        pytest.param(
            files(smi_q=smi(8, temp="300 C")),
            ("warning", "source.implausible", "0000:df:00"),
            id="a temperature that cannot be",
        ),
        pytest.param(files(smi=table()), None, id="the table of healthy GPUs"),
        pytest.param(files(smi=table(temp="ERR!")), ("fatal", "gpu.lost", "0000:DF:00"), id="a field that cannot be read"),
        pytest.param(files(smi=table(ecc="2")), ("error", "gpu.ecc_uncorrected", "0000:DF:00"), id="errors in the table"),
        pytest.param(files(nvlink=links()), None, id="all links up"),
        pytest.param(files(nvlink=links(((2, 5),))), ("error", "gpu.nvlink_down", "2"), id="a link is inactive"),
        pytest.param(
            files(smi="Failed to initialize NVML: Driver/library version mismatch"),
            ("error", "node.driver_mismatch", None),
            id="a refusal",
        ),
        pytest.param(
            files(smi=LOST),
            ("fatal", "gpu.lost", "0000:43:00.0"),
            id="a device that nvidia-smi has lost",
        ),
        pytest.param(
            files(
                csv="index, pci.bus_id, temperature.gpu, remapped_rows.failure\n0, 00000000:1B:00.0, 40, No\n1, 00000000:43:00.0, 41, Yes"
            ),
            ("fatal", "gpu.row_remap_failed", "00000000:43:00.0"),
            id="a row of a query",
        ),
        pytest.param(
            files(smart=SMART),
            ("error", "disk.smart_failed", "/dev/sda"),
            id="a disk that says it fails",
        ),
        pytest.param(
            files(df=FULL),
            ("error", "fs.full", "/var"),
            id="a full file system",
        ),
        pytest.param(
            files(ibstat=IBSTAT),
            ("error", "nic.down", "mlx5_0"),
            id="a port that ibstat finds down",
        ),
        pytest.param(
            files(ibstatus=IBSTATUS),
            ("error", "nic.down", "mlx5_1"),
            id="and ibstatus",
        ),
        pytest.param(
            files(chrony="Reference ID    : 00000000 ()\nLeap status     : Not synchronised"),
            ("warning", "clock.unsynchronised", None),
            id="a clock that follows nobody",
        ),
    ],
)
def test_one_thing_is_broken(tmp_path: Path, broken: Break, expected: tuple[str, str, str | None] | None) -> None:
    machine(tmp_path)
    broken(tmp_path)
    found = said(tmp_path)
    if expected is None:
        assert found == []
    else:
        assert expected in found
        assert [row for row in found if row[0] in SERIOUS and row != expected] == []


def test_a_device_that_the_driver_does_not_hold_is_missing(tmp_path: Path) -> None:
    (machine(tmp_path) / f"proc/driver/nvidia/gpus/0000:{BUSES[0]}:00.0/information").unlink()
    (tmp_path / f"proc/driver/nvidia/gpus/0000:{BUSES[0]}:00.0").rmdir()
    assert ("error", "node.devices_missing", None) in said(tmp_path)
