"""Active checks: run within their time, judged like recorded outputs, and pairs that tell which node is slow."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from collectors.node import outputs
from collectors.node.notes import Notes
from detectors.nodecheck.checks import Checks
from holdfast.node.active.pairs import judge, rounds
from holdfast.node.active.plugins import Command, Disk, Loopback, Memory
from holdfast.node.active.runner import ActiveCheck, chosen, run
from holdfast.node.active.session import session
from holdfast.node.offline import judged
from holdfast.plugins import ConfigError

NCCL = """# nThread 1 nGpus 8 minBytes 8 maxBytes 134217728
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
           8             2     float     sum      -1    34.84    0.00    0.00      0    34.66    0.00    0.00      0
   134217728      33554432     float     sum      -1   1162.2  115.49  {busbw}      0   1162.5  115.46  202.05      {wrong}
# Out of bounds values : {end}
# Avg bus bandwidth    : 68.4048
"""
_RATES = "10 ({0} Gflop/s) - 10 (17000 Gflop/s) - 10 (16990 Gflop/s) - 10 (17010 Gflop/s)"
BURN = f"""GPU 0: NVIDIA A100 (UUID: GPU-0)
100.0%  proc'd: {_RATES}   errors: {{1}} - 0 - 0 - 0   temps: 59 C - 56 C - 55 C - 57 C
Tested 4 GPUs:
\tGPU 0: {{2}}
\tGPU 1: OK
"""
RDMA = """                    RDMA_Write BW Test
 Dual-port       : OFF\t\tDevice         : mlx5_0
 #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 65536      1000             {0}             {0}               0.7
"""


class Script:
    """A check that runs a line of Python."""

    kind = "holdfast check"

    def __init__(self, code: str, *, limit_s: float = 20.0, why: str = "") -> None:
        self.code, self.limit_s, self.why = code, limit_s, why

    def missing(self) -> str:
        return self.why

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self.code]


def found(notes: Notes) -> list[tuple[str, str]]:
    return [(claim.check.severity.value, claim.check.id) for claim, _ in judged(notes, Checks.read())]


SAYS = 'print(\'{"kind":"holdfast.check","check":"x","signal":"test.disk_wrong","value":1,"of":"part","target":"/d","text":"t"}\')'


@pytest.mark.parametrize(
    ("check", "said"),
    [
        pytest.param(Script("print(1)"), [], id="a check that finds nothing"),
        pytest.param(Script(SAYS), [("error", "test.disk_wrong")], id="one that finds something"),
        pytest.param(Script("import sys; sys.exit(3)"), [("error", "test.failed")], id="one that fails"),
        pytest.param(
            Script("import time; time.sleep(60)", limit_s=0.3),
            [("error", "test.timed_out")],
            id="one that does not end",
        ),
        pytest.param(
            Script(f"{SAYS}; 1/0"),
            [("error", "test.failed"), ("error", "test.disk_wrong")],
            id="what it said before counts",
        ),
    ],
)
def test_a_check_runs_within_its_time(check: ActiveCheck, said: list[tuple[str, str]]) -> None:
    notes = Notes()
    assert run("x", check, notes) == ""
    assert sorted(found(notes)) == sorted(said)


def test_a_check_that_cannot_run_here_says_why() -> None:
    assert run("x", Script("", why="no GPU is here"), Notes()) == "no GPU is here"
    assert Command().missing() == "no command is set"
    assert Command(words=("/no/such/test",)).missing() == "/no/such/test is not installed"


@pytest.mark.parametrize(
    "check", [Disk(size_mb=2), Memory(size_mb=4), Loopback(size_mb=4)], ids=["disk", "memory", "loopback"]
)
def test_the_hosts_own_checks_measure_and_find_nothing_wrong(tmp_path: Path, check: Any) -> None:
    check.folder = str(tmp_path)
    notes = Notes()
    assert run("x", check, notes) == ""
    assert [row for row in found(notes) if row[0] in ("fatal", "error")] == []
    assert any(signal.startswith("test.") and "_per_s" in signal for _, signal in notes.places)


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        pytest.param("nccl-tests", NCCL.format(busbw="202.11", wrong=0, end="0 OK"), [], id="collectives are right"),
        pytest.param(
            "nccl-tests",
            NCCL.format(busbw="202.11", wrong=4, end="4 FAILED"),
            [("error", "test.wrong_collective")],
            id="wrong",
        ),
        pytest.param(
            "nccl-tests",
            NCCL.split("# Out")[0].format(busbw="1.0", wrong=0),
            [("warning", "test.unfinished")],
            id="cut short",
        ),
        pytest.param("gpu-burn", BURN.format("17020", 0, "OK"), [], id="devices compute alike"),
        pytest.param("gpu-burn", BURN.format("12000", 0, "OK"), [("error", "test.burn_slow")], id="one is slow"),
        pytest.param(
            "gpu-burn",
            BURN.format("17020", "7 (WARNING!)", "FAULTY"),
            [("error", "test.burn_faulty")],
            id="one is wrong",
        ),
        pytest.param("perftest", RDMA.format("392.1"), [], id="a port carries"),
        pytest.param("perftest", RDMA.split(" 65536")[0], [("error", "test.port_failed")], id="a port carries nothing"),
    ],
)
def test_recorded_outputs_are_judged_alike(kind: str, text: str, said: list[tuple[str, str]]) -> None:
    assert outputs.kind_of(text.encode()) == kind
    notes = Notes()
    outputs.read_text(kind, "recorded", text, notes)
    assert sorted(set(found(notes))) == said


def test_a_machine_of_a_type_has_to_reach_what_its_type_does(tmp_path: Path) -> None:
    (tmp_path / "nccl").write_text(NCCL.format(busbw="202.11", wrong=0, end="0 OK"))
    (tmp_path / "smi").write_text("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)\n\t Link 0: 26.562 GB/s\n")
    machines = tmp_path / "machines.toml"
    machines.write_text('[[machine]]\ntype = "h"\ndevice = "H100"\n[machine.tests]\n"test.nccl_gbytes_per_s" = 400.0\n')
    rows = list(session([], [str(tmp_path / "smi"), str(tmp_path / "nccl")], machines=str(machines)))
    assert [row["check"] for row in rows] == ["test.below_least"]
    assert "202.11, at least 400 is expected" in rows[0]["text"]


def test_what_is_no_output_of_a_test_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello\n")
    assert [row["skipped"] for row in session([], [str(tmp_path / "x")])] == ["no output of a known test"]


def test_unknown_checks_and_keys_are_named() -> None:
    with pytest.raises(ConfigError, match="gone"):
        chosen(["gone"], {})
    with pytest.raises(ConfigError, match="colour"):
        chosen(["disk"], {"disk": {"colour": 1}})


@pytest.mark.parametrize("count", [2, 5, 8])
def test_every_pair_meets_once_and_nobody_twice_in_a_round(count: int) -> None:
    nodes = [f"n{n}" for n in range(count)]
    plan = list(rounds(nodes))
    assert sorted(tuple(sorted(pair)) for one in plan for pair in one) == [
        (a, b) for n, a in enumerate(nodes) for b in nodes[n + 1 :]
    ]
    assert all(len({node for pair in one for node in pair}) == 2 * len(one) for one in plan)


@pytest.mark.parametrize(
    ("slow", "dead", "said"),
    [
        pytest.param(set(), set(), [], id="all are well"),
        pytest.param({"n3"}, set(), [("test.pair_slow", "n3")], id="one is slow with all"),
        pytest.param({"n1", "n3"}, set(), [("test.pair_slow", "n1"), ("test.pair_slow", "n3")], id="two are"),
        pytest.param(set(), {"n2"}, [("test.pair_failed", "n2")], id="one reaches nobody"),
    ],
)
def test_pairs_tell_which_node_is_slow(slow: set[str], dead: set[str], said: list[tuple[str, str]]) -> None:
    nodes = [f"n{n}" for n in range(6)]
    rates: dict[tuple[str, str], float | None] = {}
    for n, a in enumerate(nodes):
        for b in nodes[n + 1 :]:
            rates[a, b] = None if {a, b} & dead else 90.0 if {a, b} & slow else 190.0
    notes = Notes()
    judge(rates, notes)
    assert sorted((claim.check.id, claim.target.id) for claim, _ in judged(notes, Checks.read())) == said
