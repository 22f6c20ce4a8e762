"""One verdict of several answers: what explains what, who is the same, what contradicts, and in which order it is told."""

from typing import Any

import pytest

from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.joining import EXPLAINS, join
from holdfast.topology import Kind
from holdfast.verdict import Culprit, Evidence, Skipped, Verdict


def named(kind: str, id: str, confidence: float = 0.8, **known: Any) -> Culprit:
    return Culprit(kind=Kind(kind), id=id, cause=known.pop("cause", "x"), confidence=confidence, **known)


def said(
    judgement: str,
    symptom: str = "none",
    fault: str = "unknown",
    *culprits: Culprit,
    action: str = "restart",
    **detail: Any,
) -> Verdict:
    return Verdict(
        verdict=Judgement(judgement), symptom=Symptom(symptom), fault=Fault(fault), culprits=culprits, action=Action(action), detail=detail,
        evidence=(Evidence(f"{symptom} of {fault}", 1, "told"),),
    )  # fmt: skip


def healthy() -> Verdict:
    return Verdict(verdict=Judgement.HEALTHY)


def gpu(device: str = "0000:1b:00", *, fault: str = "gpu_hw", host: str = "n1") -> Verdict:
    """A kernel log of `host` that tells of a device."""
    rows = [{"device": device, "host": host, "file": f"{host}/dmesg", "fault": fault}]
    return said("culprit", "none", fault, named("device", device, 0.9), action="replace", findings=rows)


def hang(*ranks: str, cause: str = "device_stuck", fault: str = "gpu_hw") -> Verdict:
    return said("culprit", "hang", fault, *(named("rank", rank, 0.7, cause=cause) for rank in ranks))


PLACES = {"3": ["n1", "0000:1b:00"], "4": ["n1", "0000:1c:00"], "12": ["n2", "0000:1b:00"]}


def job(
    judgement: str = "undecided", fault: str = "unknown", *culprits: Culprit, symptom: str = "crash", **detail: Any
) -> Verdict:
    return said(judgement, symptom, fault, *culprits, places=PLACES, check=detail.pop("check", "some.rule"), **detail)


CASES = [
    pytest.param({}, "undecided", "none", "none", [], id="nothing was told"),
    pytest.param({"job": healthy(), "logs": healthy()}, "healthy", "none", "none", [], id="all is well"),
    pytest.param(
        {"job": said("undecided"), "training": healthy()},
        "healthy",
        "none",
        "none",
        [],
        id="a run that is well, and has no end",
    ),
    pytest.param(
        {"logs": said("nobody", fault="user_code"), "node": healthy()},
        "nobody",
        "none",
        "user_code",
        [],
        id="an application's own fault",
    ),
    pytest.param(
        {"logs": said("nobody", fault="user_code"), "job": healthy()},
        "healthy",
        "none",
        "none",
        [],
        id="and an application that is well",
    ),
    pytest.param({"logs": gpu()}, "culprit", "none", "gpu_hw", ["0000:1b:00"], id="a device, and no job"),
    pytest.param(
        {"logs": gpu(), "job": healthy()},
        "culprit",
        "none",
        "gpu_hw",
        ["0000:1b:00"],
        id="a device, and a job that did not mind",
    ),
    pytest.param(
        {"job": job("nobody", "user_code"), "logs": healthy()},
        "nobody",
        "crash",
        "user_code",
        [],
        id="the user's error",
    ),
    pytest.param(
        {"logs": gpu(fault="nvlink"), "hang": hang("3"), "job": job()},
        "culprit",
        "hang",
        "nvlink",
        ["3", "0000:1b:00"],
        id="a device explains the rank that holds up its peers",
    ),
    pytest.param(
        {"logs": gpu(), "hang": hang("3")},
        "culprit",
        "hang",
        "gpu_hw",
        ["3", "0000:1b:00"],
        id="where nobody says which rank sits where too",
    ),
    pytest.param(
        {"logs": gpu(host="n2"), "hang": hang("3"), "job": job()},
        "culprit",
        "hang",
        "gpu_hw",
        ["3"],
        id="a device of another node explains nothing",
    ),
    pytest.param(
        {"logs": gpu(host="n1"), "hang": hang("3", cause="host_stuck", fault="software"), "job": job()},
        "culprit",
        "hang",
        "gpu_hw",
        ["3", "0000:1b:00"],
        id="a host that is stuck is stuck in its device",
    ),
    pytest.param(
        {
            "logs": said("culprit", "none", "storage", named("node", "n2", 0.9)),
            "hang": hang("3", cause="host_stuck", fault="software"),
            "job": job(),
        },
        "culprit",
        "hang",
        "storage",
        ["3", "n2"],
        id="storage reaches ranks of other nodes",
    ),
    pytest.param(
        {"logs": gpu(), "hang": said("undecided", "hang")},
        "culprit",
        "hang",
        "gpu_hw",
        ["0000:1b:00"],
        id="dumps that are all equal, and a device",
    ),
    pytest.param(
        {"logs": gpu(), "hang": said("nobody", "hang", "software")},
        "nobody",
        "hang",
        "software",
        [],
        id="a choreography is no device's doing",
    ),
    pytest.param(
        {"logs": gpu(), "hang": hang("3", cause="mismatch", fault="user_code"), "job": job()},
        "culprit",
        "hang",
        "user_code",
        ["3"],
        id="neither is a collective of another size",
    ),
    pytest.param(
        {"hang": hang("3", cause="exited", fault="software"), "job": job("nobody", "user_code")},
        "nobody",
        "crash",
        "user_code",
        [],
        id="an error explains the exit, and the exit the hang",
    ),
    pytest.param(
        {"hang": hang("3"), "job": job("nobody", "scheduler", check="slurm.cancelled")},
        "culprit",
        "hang",
        "gpu_hw",
        ["3"],
        id="a job that hung was cancelled for that",
    ),
    pytest.param(
        {"hang": hang("3"), "job": job("nobody", "scheduler", check="slurm.time_limit")},
        "culprit",
        "hang",
        "gpu_hw",
        ["3"],
        id="a job that hung until its time was up",
    ),
    pytest.param(
        {"slow": said("nobody", "slow", "workload"), "job": job("nobody", "scheduler", check="slurm.preempted")},
        "nobody",
        "crash",
        "scheduler",
        [],
        id="a preemption has nothing to do with a pace",
    ),
    pytest.param(
        {"logs": gpu(fault="gpu_thermal_power"), "slow": said("culprit", "slow", "unknown", named("rank", "3"))},
        "culprit",
        "slow",
        "gpu_thermal_power",
        ["3", "0000:1b:00"],
        id="heat explains a slow rank",
    ),
    pytest.param(
        {"logs": gpu(fault="gpu_thermal_power"), "job": job()}, "undecided", "crash", "unknown", [], id="but not an end"
    ),
    pytest.param(
        {"logs": gpu(), "slow": said("nobody", "slow", "workload")},
        "nobody",
        "slow",
        "workload",
        [],
        id="an uneven workload is no device's",
    ),
    pytest.param(
        {"logs": gpu(fault="gpu_mem"), "training": said("undecided", "loss")},
        "culprit",
        "loss",
        "gpu_mem",
        ["0000:1b:00"],
        id="wrong memory explains a loss that is no number",
    ),
    pytest.param(
        {"logs": gpu(fault="nvlink"), "training": said("undecided", "loss")},
        "undecided",
        "loss",
        "unknown",
        [],
        id="a link that reports its errors does not",
    ),
    pytest.param(
        {"job": job("nobody", "user_code"), "training": said("undecided", "loss")},
        "nobody",
        "crash",
        "user_code",
        [],
        id="an error that ended it beats a loss that was odd",
    ),
    pytest.param(
        {"job": healthy(), "training": said("undecided", "loss")},
        "undecided",
        "loss",
        "unknown",
        [],
        id="a job that ended and learned nothing",
    ),
    pytest.param(
        {
            "job": job("culprit", "gpu_hw", named("node", "n1", 0.9), check="kernel.xid.79"),
            "logs": gpu(),
            "hang": hang("3"),
        },
        "culprit",
        "hang",
        "gpu_hw",
        ["3", "0000:1b:00", "n1"],
        id="the kernel's word in a job's answer is a machine's",
    ),
    pytest.param(
        {"job": job("culprit", "gpu_hw", named("node", "n1", 0.9), check="kernel.xid.79"), "logs": gpu()},
        "culprit",
        "crash",
        "gpu_hw",
        ["0000:1b:00", "n1"],
        id="and where nothing else is told of the job it stands",
    ),
    pytest.param(
        {"job": job("culprit", "gpu_mem", named("rank", "3", 0.9)), "logs": gpu(fault="gpu_mem")},
        "culprit",
        "crash",
        "gpu_mem",
        ["3", "0000:1b:00"],
        id="both say the same",
    ),
    pytest.param(
        {"job": job("culprit", "gpu_mem", named("rank", "3", 0.9)), "logs": gpu(fault="nic")},
        "culprit",
        "crash",
        "gpu_mem",
        ["3"],
        id="a machine does not overrule what the job knows",
    ),
    pytest.param(
        {"metrics": said("culprit", "none", "nic", named("nic", "mlx5_0", 0.7, node="n1")), "job": job()},
        "culprit",
        "crash",
        "nic",
        ["mlx5_0"],
        id="a page of metrics explains an end without a reason",
    ),
    pytest.param(
        {"hang": hang("3"), "job": job("culprit", "unknown", named("rank", "3"), symptom="hang")},
        "culprit",
        "hang",
        "gpu_hw",
        ["3"],
        id="counters in the output agree with the dumps",
    ),
]


@pytest.mark.parametrize(("answers", "judgement", "symptom", "fault", "ids"), CASES)
def test_several_answers_are_one(
    answers: dict[str, Verdict], judgement: str, symptom: str, fault: str, ids: list[str]
) -> None:
    told = join(answers)
    assert (told.verdict, told.fault, [one.id for one in told.culprits]) == (judgement, fault, ids)
    assert told.symptom == symptom
    assert all(0.0 <= one.confidence <= 1.0 for one in told.culprits)


@pytest.mark.parametrize(("answers", "judgement", "symptom", "fault", "ids"), CASES)
def test_the_order_of_the_answers_changes_nothing(
    answers: dict[str, Verdict], judgement: str, symptom: str, fault: str, ids: list[str]
) -> None:
    turned = join(dict(reversed(answers.items())))
    assert (turned.verdict, turned.fault, {one.id for one in turned.culprits}) == (judgement, fault, set(ids))


def test_who_is_named_by_two_is_surer_and_placed() -> None:
    told = join({"logs": gpu(), "hang": hang("3"), "job": job()})
    assert told.culprits[0].node == "n1"
    assert told.culprits[0].confidence == pytest.approx(0.97)
    assert (told.detail["decided_by"], told.detail["explained_by"], told.action) == ("logs", ["logs"], Action.REPLACE)


def test_a_machine_that_explains_nothing_is_told_apart() -> None:
    told = join({"logs": gpu(host="n2"), "hang": hang("3"), "job": job()})
    assert told.detail["apart"] == ["logs: gpu_hw of 0000:1b:00"]
    assert told.culprits[0].confidence <= 0.7


def test_two_who_name_others_are_less_sure() -> None:
    alone, together = (
        join({"hang": hang("3"), **more}).culprits[0].confidence
        for more in ({}, {"job": job("culprit", "unknown", named("rank", "9"), symptom="hang")})
    )
    assert together < alone


def test_evidence_of_the_root_comes_first_and_once() -> None:
    told = join({"job": job(), "hang": hang("3"), "logs": gpu()})
    assert [line.file for line in told.evidence] == ["none of gpu_hw", "hang of gpu_hw", "crash of unknown"]


def test_what_was_skipped_is_told_once() -> None:
    bad = Skipped("x.bin", "not text")
    skipped = [Verdict(verdict=Judgement.HEALTHY, skipped=(bad,)) for _ in range(2)]
    assert join({"job": skipped[0], "training": skipped[1]}).skipped == (bad,)


def test_what_would_help_is_asked_for_only_where_it_is_undecided() -> None:
    unsure = job(missing=["a kernel log"])
    assert join({"job": unsure}).detail["missing"] == ["a kernel log"]
    assert "missing" not in join({"job": unsure, "logs": gpu()}).detail


def test_only_machines_explain() -> None:
    assert (
        not {Fault.USER_CODE, Fault.WORKLOAD, Fault.SCHEDULER, Fault.SOFTWARE, Fault.UNKNOWN, Fault.NONE}
        & EXPLAINS.keys()
    )
