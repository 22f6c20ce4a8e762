"""Whole stories of jobs in several files: thousands of lines that follow from one, clocks that differ, kernels' words, memory of nodes."""

from pathlib import Path

import pytest

from detectors.joblog.online import JobLog
from holdfast.events import Lines, Observation
from holdfast.faults import Fault, Judgement, Symptom
from holdfast.topology import JobId, NodeId
from tests.unit.detectors.seen import answers, job, rank
from tests.unit.joblog.output import DONE, clock, diagnose, failed, observed, steps, timeout, trace

REMOTE = (
    "torch.distributed.DistBackendError: NCCL error in: /x.cpp:1, remote process exited or there was a network error"
)
UNIQUE = (
    "torch.distributed.DistBackendError: [4] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store "
    "by key '0', but store->get('0') got error: Socket Timeout"
)
OUT = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


def kernel(text: str, second: int, *, day: str = "Sat Mar  2") -> str:
    return f"[{day} {clock(second)} 2024] {text}\n"


XID = "NVRM: Xid (PCI:0000:1f:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
MMU = "NVRM: Xid (PCI:0000:1f:00): 31, pid=1, name=python, Ch 00000008, intr 10000000. MMU Fault: ENGINE GRAPHICS"
DBE = "NVRM: Xid (PCI:0000:1f:00): 48, pid=1, name=python, DBE (double bit error) ECC Error"
INIT = "".join(
    f"node{n // 8}:100:20{n} [{n % 8}] NCCL INFO comm 0x55 rank {n} nranks 16 cudaDev {n % 8} busId {0x1B + n % 8:x}000 - Init COMPLETE\n"
    for n in range(16)
)
WAITING = "".join(timeout(n) for n in range(3))


@pytest.mark.parametrize(
    ("files", "judgement", "fault", "named"),
    [
        pytest.param(
            {"a.log": "\r".join(f"Running tokenizer on dataset: {n}%|#|" for n in range(47)) + "\n" + WAITING},
            "nobody", "user_code", [], id="a wait for data that is still being prepared",
        ),
        pytest.param(
            {"a.log": "\r".join(f"Running tokenizer on dataset: {n}%|#|" for n in range(101)) + "\n" + WAITING},
            "undecided", "unknown", [], id="a wait after it was prepared",
        ),
        pytest.param({"a.log": steps() + WAITING}, "undecided", "unknown", [], id="who waits is a victim"),
        pytest.param({"a.log": steps() + WAITING + observed(3)}, "culprit", "unknown", ["3"], id="who had nothing to wait for is not"),
        pytest.param({"a.log": steps() + WAITING + timeout(3, work=76, enqueued=76)}, "culprit", "unknown", ["3"], id="nor who is behind"),
        pytest.param(
            {"a.log": steps() + WAITING + timeout(3, op="BROADCAST")}, "culprit", "unknown", ["3"], id="nor who does another thing"
        ),
        pytest.param(
            {"a.log": steps() + WAITING + timeout(3, work=9, enqueued=9, group="17(tp)")},
            "undecided", "unknown", [], id="numbers of another group say nothing",
        ),
        pytest.param({"a.log": steps() + WAITING, "rank7.log": trace("KeyError: 'a'", "[rank7]: ", at=1800)},
                     "nobody", "user_code", [], id="an error before the wait explains it"),
        pytest.param(
            {"attempt_0/0/stderr.log": trace("OSError: [Errno 116] Stale file handle"), "attempt_1/0/stderr.log": trace("KeyError: 'a'")},
            "nobody", "user_code", [], id="the last attempt ended it",
        ),
        pytest.param({"a.log": steps() + failed(-9) + WAITING}, "undecided", "unknown", [], id="so does a kill, whoever did it"),
        pytest.param(
            {"a.log": "".join(trace(UNIQUE, f"[rank{n}]: ") for n in (1, 2, 3))},
            "culprit", "unknown", ["0"], id="whom all wait for at the start",
        ),
        pytest.param(
            {"n1/dmesg.log": kernel("mlx5_core 0000:5e:00.0 ibs1: Link is Down", 900), "a.log": steps() + trace("KeyError: 'a'", at=1200)},
            "nobody", "user_code", [], id="a link that the job went on without ended nothing",
        ),
        pytest.param({"n1/dmesg.log": kernel(XID, 1790), "a.log": steps() + WAITING}, "culprit", "gpu_hw", ["n1"], id="so does a device"),
        pytest.param({"n1/dmesg.log": kernel(XID, 1790, day="Fri Mar  1"), "a.log": steps() + WAITING},
                     "undecided", "unknown", [], id="but not one of the day before"),
        pytest.param({"n1/dmesg.log": kernel("nfs: server 192.0.2.9 not responding, still trying", 1790), "a.log": steps() + WAITING},
                     "culprit", "storage", ["n1"], id="or storage that does not answer"),
        pytest.param({"dmesg": kernel("Out of memory: Killed process 16 (python) total-vm:1kB", 2400), "a.log": steps() + failed(-9)},
                     "nobody", "host_resource", [], id="the kernel's word makes a kill an out-of-memory"),
        pytest.param({"dmesg": kernel("Out of memory: Killed process 9 (cc1)", 60, day="Thu Feb 29"), "a.log": steps() + failed(-9)},
                     "undecided", "unknown", [], id="its word of another day does not"),
        pytest.param({"n1/a.log": trace(OUT, "[rank9]: ", at=60), "n1/dmesg.log": kernel(DBE, 60, day="Fri Mar  1"), "n2/a.log": WAITING},
                     "culprit", "gpu_mem", ["n1"], id="no memory at the start, and an ECC error yesterday, are one device"),
        pytest.param({"n1/a.log": steps() + trace(OUT, "[rank9]: ", at=1300), "n1/dmesg.log": kernel(DBE, 60, day="Fri Mar  1")},
                     "nobody", "user_code", [], id="no memory after steps is the job's own"),
        pytest.param({"n1/a.log": trace(OUT, "[rank9]: ", at=60), "n2/a.log": trace(OUT, "[rank1]: ", at=60),
                      "n1/dmesg.log": kernel(DBE, 60, day="Fri Mar  1")}, "nobody", "user_code", [], id="and so it is on every node"),
        pytest.param({"n1/a.log": steps() + trace("OSError: [Errno 5] Input/output error: '/d'", "[rank1]: ", at=1300),
                      "n2/a.log": steps() + WAITING}, "culprit", "storage", ["n1"], id="storage that one node alone has lost"),
        pytest.param({f"n{n}/a.log": steps() + trace("OSError: [Errno 5] Input/output error", f"[rank{n}]: ", at=1300) for n in (1, 2)},
                     "nobody", "storage", [], id="storage that all have lost"),
        pytest.param({"rank0.log": steps() + trace(REMOTE, at=1310), "rank5.log": steps() + trace(OUT, at=1300)},
                     "nobody", "user_code", [], id="whoever was first"),
        pytest.param({"a.log": steps() + trace("KeyError: 'x'", "3: ") + "srun: error: node-12: task 3: Exited with exit code 1\n"
                      "slurmstepd: error: *** STEP 77.0 ON node-12 CANCELLED AT 2024-03-02T11:00:00 ***\n"},
                     "nobody", "user_code", [], id="a step is cancelled because one of its tasks failed"),
        pytest.param({"a.log": steps() + "slurmstepd: error: *** JOB 77 ON node-12 CANCELLED AT 2024-03-02T11:00:00 ***\n"
                      + trace("AttributeError: 'NoneType' object has no attribute 'x'")}, "nobody", "scheduler", [],
                     id="what follows a cancellation follows from it"),
        pytest.param({"a.log": steps() + DONE + "\n" + failed(-15)}, "healthy", "none", [], id="done, and torn down"),
    ],
)  # fmt: skip
def test_what_explains_the_rest(
    tmp_path: Path, files: dict[str, str], judgement: str, fault: str, named: list[str]
) -> None:
    told = diagnose(tmp_path, files)
    assert (told.verdict, told.fault, [one.id for one in told.culprits]) == (judgement, fault, named)


def test_one_error_among_a_thousand_ranks_that_follow(tmp_path: Path) -> None:
    writers = [trace("KeyError: 'a'" if n == 517 else REMOTE, f"[rank{n}]: ").splitlines() for n in range(1000)]
    mixed = "\n".join(lines[n] for n in range(len(writers[0])) for lines in writers)
    told = diagnose(tmp_path, {"a.log": steps() + mixed + "\n"})
    assert (told.verdict, told.fault, told.detail["rank"]) == (Judgement.NOBODY, Fault.USER_CODE, 517)


@pytest.mark.parametrize(
    ("ahead_s", "at", "fault"),
    [
        pytest.param(0, 1850, "storage", id="later"),
        pytest.param(0, 1250, "user_code", id="earlier"),
        pytest.param(600, 1850, "user_code", id="later by a clock that is ahead, and earlier by that of all"),
    ],
)
def test_the_first_root_by_one_clock(tmp_path: Path, ahead_s: int, at: int, fault: str) -> None:
    first = steps(ahead_s=ahead_s) + trace("KeyError: 'a'", at=at)
    other = steps() + trace("OSError: [Errno 116] Stale file handle", at=1300)
    assert diagnose(tmp_path, {"n1/rank0.log": first, "n2/rank8.log": other}).fault == fault


def test_a_rank_is_placed_by_its_communicator(tmp_path: Path) -> None:
    told = diagnose(
        tmp_path,
        {
            "a.log": INIT
            + steps()
            + trace("RuntimeError: CUDA error: uncorrectable ECC error encountered", "[rank12]: ")
        },
    )
    assert (told.culprits[0].id, told.culprits[0].node) == ("12", "node1")
    assert told.detail["node"] == "node1"


def test_a_device_that_the_kernel_names_has_its_rank(tmp_path: Path) -> None:
    told = diagnose(tmp_path, {"a.log": INIT + steps() + WAITING, "node1/dmesg.log": kernel(XID, 1790)})
    assert (told.symptom, told.detail["node"], told.detail["rank"]) == (Symptom.HANG, "node1", 12)


def test_what_no_rule_knows_is_shown(tmp_path: Path) -> None:
    told = diagnose(tmp_path, {"rank0.log": steps(200) + "flux capacitor of lane 7 is empty\n" + failed(1)})
    assert told.verdict is Judgement.UNDECIDED
    novel = told.detail["novel"]
    assert isinstance(novel, list)
    assert "rank0.log:201: flux capacitor of lane 7 is empty" in novel


def test_what_one_node_alone_says_is_shown(tmp_path: Path) -> None:
    quiet = steps(200)
    odd = quiet.replace("\n", "\nretransmit queue of port 3 is slow: 17 ms\n", 30)
    told = diagnose(tmp_path, {f"node-{n}.log": (odd if n == 2 else quiet) + timeout(n) for n in range(4)})
    alone = told.detail["alone"]
    assert isinstance(alone, list)
    assert [(row["node"], row["count"]) for row in alone if isinstance(row, dict) and "port 3" in str(row["text"])] == [
        ("node-2", 30)
    ]


def test_rules_of_ones_own_come_first(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[rule]]\nid = "flux"\nany = ["flux capacitor"]\nrole = "root"\ndomain = "hardware"\nfault = "host"\naction = "replace"\n'
        'depth = 90\nblame = "node"\n'
    )
    from detectors.joblog.offline import Job
    from holdfast.ports import Input

    log = tmp_path / "node-3.log"
    log.write_text(steps() + "flux capacitor of lane 7 is empty\n")
    told = Job().diagnose([Input(name="node-3.log", path=log)], {"rules": str(own)})
    assert (told.verdict, told.fault, told.culprits[0].id) == (Judgement.CULPRIT, Fault.HOST, "node-3")


# --- while it runs


def lines(
    at: float, *texts: str, node: str, file: str = "rank0.log", name: str = "j", rank: int | None = None
) -> Lines:
    return Lines(
        at=at, source=f"agent:{node}", job=JobId(name), node=NodeId(node), file=file, first=1, lines=texts, rank=rank
    )


@pytest.mark.parametrize(
    ("before", "fault"),
    [
        pytest.param(
            [lines(100.0, DBE, node="n7", file="kmsg", name="")], Fault.GPU_MEM, id="told while the node was idle"
        ),
        pytest.param(
            [lines(100.0, DBE, node="n7", file="kmsg", name="other")], Fault.GPU_MEM, id="told to another job"
        ),
        pytest.param([lines(100.0, DBE, node="n8", file="kmsg", name="other")], Fault.USER_CODE, id="of another node"),
        pytest.param(
            [lines(100.0, MMU, node="n7", file="kmsg", name="other")],
            Fault.USER_CODE,
            id="the other job's own fault",
        ),
        pytest.param([], Fault.USER_CODE, id="nothing is known"),
    ],
)
def test_a_node_is_remembered_from_job_to_job(before: list[Observation], fault: Fault) -> None:
    start = 90_000.0
    stream: list[Observation | float] = [
        *before, job(start, "started", node="n7"), lines(start + 5, *trace(OUT).splitlines(), node="n7", rank=3),
        rank(start + 6, 3, "exited", exit_code=1, node="n7"), start + 8,
    ]  # fmt: skip
    [said] = answers(JobLog(), stream)
    assert said.fault is fault


def test_memory_of_nodes_outlives_a_restart() -> None:
    first, second = JobLog(), JobLog()
    assert answers(first, [lines(100.0, DBE, node="n7", file="kmsg", name="")]) == []
    second.restore(first.snapshot())
    start = 90_000.0
    [said] = answers(
        second,
        [job(start, "started", node="n7"), lines(start + 5, *trace(OUT).splitlines(), node="n7", rank=3),
         rank(start + 6, 3, "exited", exit_code=1, node="n7"), start + 8],
    )  # fmt: skip
    assert (said.fault, said.culprits[0].id) == (Fault.GPU_MEM, "n7")
