"""Verdicts on the output and kernel lines of real jobs."""

import pytest

from detectors.joblog.offline import Job
from holdfast.ports import Input
from tests.field.where import data


@pytest.mark.parametrize(
    ("name", "judgement", "fault"),
    [
        pytest.param("039_failure.txt", "culprit", "gpu_mem", id="a row that is to be remapped"),
        pytest.param("047_failure.txt", "nobody", "user_code", id="a device out of memory"),
        pytest.param("049_failure.txt", "nobody", "user_code", id="the same behind a warning with a traceback"),
        pytest.param("051_failure.txt", "nobody", "user_code", id="the same in a message of two lines"),
        pytest.param("055_failure.txt", "nobody", "user_code", id="tensors on two devices"),
        pytest.param("057_failure.txt", "nobody", "user_code", id="an assertion without a traceback"),
        pytest.param("megatron_deepspeed.log", "healthy", "none", id="a run to its end"),
    ],
)
def test_real_output(name: str, judgement: str, fault: str) -> None:
    path = data("training", "logs", name)
    told = Job().diagnose([Input(name=name, path=path)], {})
    assert (told.verdict, told.fault) == (judgement, fault)


@pytest.mark.parametrize("n", range(1, 11))
def test_a_healthy_run_is_healthy(n: int) -> None:
    path = data("training", "nanogpt", f"run_{n:02d}.txt")
    assert Job().diagnose([Input(name=path.name, path=path)], {}).verdict == "healthy"


def test_a_kernel_log_beside_a_job_names_its_device() -> None:
    path = data("hardware", "logs", "dmesg-with-xid-119.log")
    told = Job().diagnose([Input(name=path.name, path=path)], {})
    assert (told.verdict, told.fault) == ("culprit", "gpu_hw")
