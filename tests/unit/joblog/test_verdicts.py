"""Why a job died: root, victim and tear-down told apart, from files after the fact and while it runs."""

from pathlib import Path
from typing import Any

import pytest

from detectors.joblog.offline import Job
from detectors.joblog.online import JobLog
from holdfast.events import Finding, Observation
from holdfast.faults import Fault, Judgement, Symptom
from holdfast.ports import Input
from holdfast.verdict import Verdict
from tests.unit.detectors.seen import answers, claims, job, lines, rank, steps

TRACE = (
    "Traceback (most recent call last):",
    '  File "/opt/app/train.py", line 88, in main',
    "    step(batch)",
    "ValueError: bad sample 77",
)
TIMEOUT = (
    "[rank{0}]:[E1124 16:10:00.000000000 ProcessGroupNCCL.cpp:683] [Rank {0}] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=78, OpType=ALLREDUCE, NumelIn=80, NumelOut=80, Timeout(ms)=600000) ran for 600096 milliseconds "
    "before timing out."
)
RESET = "[rank5]: torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error"
SIGTERM = "W1124 16:00:01.000000 77 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 78 closing signal SIGTERM"


def verdict(folder: Path, **files: str | tuple[str, ...]) -> Verdict:
    inputs = []
    for name, content in files.items():
        path = folder / f"{name}.log"
        path.write_text(content if isinstance(content, str) else "\n".join(content) + "\n")
        inputs.append(Input(name=path.name, path=path))
    return Job().diagnose(inputs, {})


@pytest.mark.parametrize(
    ("files", "judgement", "fault", "domain"),
    [
        pytest.param({"rank0": TRACE}, Judgement.NOBODY, Fault.USER_CODE, "user", id="the user's own error"),
        pytest.param(
            {"rank0": [TIMEOUT.format(0)], "rank1": [TIMEOUT.format(1)], "rank3": TRACE},
            Judgement.NOBODY, Fault.USER_CODE, "user", id="whoever waits for a rank that failed is a victim",
        ),
        pytest.param(
            {"rank5": [RESET, SIGTERM], "rank3": TRACE}, Judgement.NOBODY, Fault.USER_CODE, "user",
            id="a lost connection follows from what was lost",
        ),
        pytest.param(
            {"rank2": ["RuntimeError: CUDA error: uncorrectable ECC error encountered"], "rank1": [TIMEOUT.format(1)]},
            Judgement.CULPRIT, Fault.GPU_MEM, "hardware", id="a device's memory",
        ),
        pytest.param(
            {"rank0": ["OSError: [Errno 116] Stale file handle: '/data/x'"]}, Judgement.NOBODY, Fault.STORAGE, "storage",
            id="a stale file handle",
        ),
        pytest.param(
            {"rank0": ["OSError: [Errno 28] No space left on device"]}, Judgement.NOBODY, Fault.HOST_RESOURCE, "storage",
            id="a full disk",
        ),
        pytest.param(
            {"slurm": ["slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2025-11-24T16:00:00 DUE TO TIME LIMIT ***"]},
            Judgement.NOBODY, Fault.SCHEDULER, "scheduler", id="the time is up",
        ),
        pytest.param(
            {"rank0": ["ModuleNotFoundError: No module named 'flash_attn'"]}, Judgement.NOBODY, Fault.USER_CODE, "user",
            id="a module that is missing",
        ),
    ],
)  # fmt: skip
def test_why_a_job_died(tmp_path: Path, files: dict[str, Any], judgement: Judgement, fault: Fault, domain: str) -> None:
    told = verdict(tmp_path, **{name: tuple(content) for name, content in files.items()})
    assert (told.verdict, told.fault, told.detail["domain"]) == (judgement, fault, domain)


def test_the_root_is_shown_with_its_place(tmp_path: Path) -> None:
    told = verdict(tmp_path, rank3=("iteration 1", *TRACE), rank1=(TIMEOUT.format(1),))
    assert told.detail["root"] == {"file": "rank3.log", "line": 5, "text": "ValueError: bad sample 77"}
    assert told.detail["rank"] == 3
    assert told.evidence[0].line == 5


def test_what_the_job_survived_is_not_its_end(tmp_path: Path) -> None:
    steps_ = tuple(f" iteration {n} | lm loss: 2.0" for n in range(20))
    told = verdict(tmp_path, rank0=(*TRACE, *steps_, "[after training is done]"))
    assert told.verdict is Judgement.HEALTHY


def test_nothing_that_says_how_it_ended_is_undecided(tmp_path: Path) -> None:
    told = verdict(tmp_path, rank0=("hello", "world"))
    assert (told.verdict, told.detail["missing"]) == (Judgement.UNDECIDED, ["a line that says how the job ended"])


def test_bad_files_among_good_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"PK\x03\x04\0\0")
    (tmp_path / "empty.log").write_bytes(b"")
    (tmp_path / "rank0.log").write_text("\n".join(TRACE))
    inputs = [Input(name=path.name, path=path) for path in sorted(tmp_path.iterdir())]
    inputs.append(Input(name="gone", path=tmp_path / "gone"))
    told = Job().diagnose(inputs, {})
    assert told.fault is Fault.USER_CODE
    assert [(one.file, one.reason) for one in told.skipped] == [
        ("empty.log", "empty"),
        ("weights.bin", "not text"),
        ("gone", "No such file or directory"),
    ]


# --- while it runs

STARTED = job(100.0, "started")
FAILED: list[Observation | float] = [rank(110.0, 3, "exited", exit_code=1), 110.6]


def told(*stream: Observation | float) -> list[Finding]:
    return answers(JobLog(), [STARTED, *stream])


ROOT = "joblog.python.error job j"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([lines(109, *TRACE, rank=3), 200.0], [], id="an error that ends nothing is none"),
        pytest.param([lines(109, *TRACE, rank=3), *FAILED], [ROOT], id="an error that ends the job"),
        pytest.param(
            [rank(110.0, 3, "exited", exit_code=1), 110.1, lines(110.2, *TRACE, rank=3), 110.6], [ROOT],
            id="its last lines may come a moment later",
        ),
        pytest.param([lines(109, *TRACE, rank=3), *FAILED, job(111, "failed", exit_code=1), 115.0], [ROOT], id="is said once"),
        pytest.param(
            [lines(109, *TRACE, rank=3), *FAILED, job(120, "started", attempt=1), steps(130.0, 1, {"step_s": [1.0]})],
            [ROOT, f"-{ROOT}"],
            id="a new attempt that steps withdraws it",
        ),
        pytest.param(
            [lines(109, *TRACE, rank=3), *FAILED, job(120, "stopped")], [ROOT, f"-{ROOT}"], id="so does an end on purpose"
        ),
        pytest.param([*FAILED], [], id="a job that said nothing"),
        pytest.param(
            [lines(109, *TRACE, rank=3), job(7000.0, "failed", exit_code=1), 110.6, 111.2], [ROOT],
            id="a clock that is ahead does not put it off",
        ),
    ],
)  # fmt: skip
def test_an_end_with_its_reason(stream: list[Observation | float], said: list[str]) -> None:
    assert claims(told(*stream)) == said


def test_who_waited_in_vain_is_no_culprit() -> None:
    [said] = told(lines(109, TIMEOUT.format(1), rank=1), *FAILED)
    assert (said.judgement, said.symptom, said.culprits) == (Judgement.UNDECIDED, Symptom.HANG, ())


def test_the_victims_of_a_failure_do_not_hide_it() -> None:
    victims = [lines(108.0 + n, TIMEOUT.format(n), rank=n, file=f"rank{n}.log") for n in range(3)]
    [said] = told(*victims, lines(109, *TRACE, rank=3, file="rank3.log"), *FAILED)
    assert (said.detail["rank"], said.fault, said.judgement) == (3, Fault.USER_CODE, Judgement.NOBODY)


def test_the_same_failure_has_the_same_signature_at_every_attempt() -> None:
    again = tuple(line.replace("77", "1234") for line in TRACE)
    said = told(
        lines(109, *TRACE, rank=3), *FAILED, job(120, "started", attempt=1), lines(139, *again, rank=3),
        rank(140.0, 3, "exited", exit_code=1, attempt=1), 141.0,
    )  # fmt: skip
    assert len({finding.detail["signature"] for finding in said}) == 1
    assert [finding.detail["attempt"] for finding in said if not finding.cleared] == [0, 1]
