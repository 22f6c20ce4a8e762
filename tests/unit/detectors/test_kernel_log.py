"""The kernel's word in the live line: storms collapse, worse is said anew, a boot clears, nothing comes back by itself."""

import pytest

from detectors.npd.online import KernelLog
from holdfast.events import Change, Changes, Finding, Lines, Observation
from holdfast.faults import Fault, Severity
from holdfast.topology import Kind, Target
from tests.unit.detectors.seen import answers, claims, lines

XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=4121, name=python, GPU has fallen off the bus."
PCIE = "pcieport 0000:00:1c.0: AER: Uncorrected (Non-Fatal) error received: 0000:3b:00.0"
OTHER = "usb 1-1: new high-speed USB device"
PAGE = "NVRM: Xid (PCI:0000:3b:00): 31, pid=4121, name=python, Ch 00000010, intr 00000000. MMU Fault"
FAULT, DONE = "xid.31 device 0000:3b:00", "-xid.31 device 0000:3b:00"
BUS, GONE = "xid.79 device 0000:3b:00", "-xid.79 device 0000:3b:00"


def kmsg(at: float, *texts: str, first: int = 1, source: str = "kmsg:n0") -> Lines:
    return lines(at, *texts, first=first, file="kmsg", source=source)


def told(*stream: Observation | float) -> list[Finding]:
    return answers(KernelLog(), stream)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([kmsg(1, OTHER)], [], id="what is no fault"),
        pytest.param([kmsg(1, XID)], [BUS], id="a fault"),
        pytest.param([kmsg(1, *[XID] * 500), kmsg(2, *[XID] * 500, first=501)], [BUS], id="a storm is one"),
        pytest.param([kmsg(1, XID, source="agent:n0")], [], id="a job's output is no kernel log"),
        pytest.param([kmsg(1, XID), kmsg(2, "Linux version 6.1.0 (gcc)", first=2)], [BUS, GONE], id="a boot clears it"),
        pytest.param(
            [kmsg(1, OTHER, XID, "[    0.000000] Linux version 6.1.0", OTHER)],
            [BUS, GONE],
            id="the old kernel's last words are over with the boot that follows",
        ),
        pytest.param(
            [kmsg(1, XID), kmsg(2, "ansible: Linux version check passed", first=2)],
            [BUS],
            id="words about a boot are none",
        ),
        pytest.param([kmsg(1, PAGE), 3000.0, 3602.0], [FAULT, DONE], id="what nothing repeats expires"),
        pytest.param(
            [kmsg(1, PAGE), 3602.0, kmsg(3603, OTHER, first=2)],
            [FAULT, DONE],
            id="and does not come back with other lines",
        ),
        pytest.param([kmsg(1, PAGE), 3602.0, kmsg(3603, PAGE, first=2)], [FAULT, DONE, FAULT], id="but with its own"),
        pytest.param(
            [kmsg(1, PAGE), kmsg(3000, PAGE, first=2), 3602.0], [FAULT], id="what is repeated does not expire"
        ),
        pytest.param([kmsg(1, XID), 3602.0, 86_400.0], [BUS], id="a device off the bus does not come back by silence"),
        pytest.param([kmsg(1, XID), 604_900.0], [BUS, GONE], id="but after a week somebody has reset it"),
        pytest.param(
            [
                kmsg(1, XID),
                Changes(at=2.0, source="k8s", changes=(Change(target=Target(Kind.NODE, "n0"), state="ready", at=2.0),)),
            ],
            [BUS, GONE],
            id="a node that returned to service is clean",
        ),
    ],
)
def test_the_kernels_word(stream: list[Observation | float], said: list[str]) -> None:
    assert claims(told(*stream)) == said


def test_a_storm_is_counted() -> None:
    detector = KernelLog()
    answers(detector, [kmsg(1, *[XID] * 500)])
    [claim] = detector._claims["n0"].values()
    assert detector._readings["n0"].found.popitem()[1].count == 500
    assert claim.finding.severity is Severity.FATAL


def test_what_becomes_worse_is_said_anew() -> None:
    mild = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Non-fatal, Link 28 LTSSM Fault Up"
    worse = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 28 LTSSM Fault Up"
    said = told(kmsg(1, mild), kmsg(2, worse, first=2), kmsg(3, worse, first=3), kmsg(4, mild, first=4))
    assert [(f.severity, f.cleared) for f in said] == [
        (Severity.WARNING, False),
        (Severity.WARNING, True),
        (Severity.FATAL, False),
    ]


def test_an_out_of_memory_that_names_its_victim_takes_the_place_of_its_first_line() -> None:
    invoked = "python invoked oom-killer: gfp_mask=0x1100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0"
    killed = "Out of memory: Killed process 4121 (python) total-vm:92432kB, anon-rss:4332kB"
    first, then = "npd.oom_invoked node n0", "npd.oom node n0"
    assert claims(told(kmsg(1, invoked, killed))) == [then]
    assert claims(told(kmsg(1, invoked), kmsg(2, killed, first=2))) == [first, f"-{first}", then]


def test_a_device_that_falls_off_the_bus_in_several_batches_is_one_fault() -> None:
    said = told(
        kmsg(1, "NVRM: The NVIDIA GPU 0000:3b:00.0"),
        kmsg(2, "NVRM: (PCI ID: 10de:2330) installed in this system has", first=2),
        kmsg(3, "NVRM: fallen off the bus and is not responding to commands.", first=3),
        kmsg(4, OTHER, first=4),
    )
    assert claims(said) == [BUS]


def test_a_server_that_answers_again_withdraws_its_silence() -> None:
    said = told(kmsg(1, "nfs: server store1 not responding, still trying"), kmsg(2, "nfs: server store1 OK", first=2))
    assert [(f.fault, f.cleared) for f in said] == [(Fault.STORAGE, False), (Fault.STORAGE, True)]


def test_two_devices_are_two_faults() -> None:
    assert len(told(kmsg(1, XID, XID.replace("3b", "9c"), PCIE))) == 3
