"""The table of what to do: rows by their order, and mistakes in it named."""

from pathlib import Path
from typing import Any

import pytest

from holdfast.faults import Action, Fault, Judgement, Perception, Symptom
from holdfast.incident import Incident
from holdfast.verdict import Verdict
from remedier.playbook import Playbook, PlaybookError

SHIPPED = Playbook.read()


def incident(**known: Any) -> Incident:
    verdict: dict[str, Any] = {"verdict": Judgement.CULPRIT, "symptom": Symptom.CRASH, "fault": Fault.UNKNOWN}
    verdict |= {key: known.pop(key) for key in list(known) if key in ("verdict", "symptom", "fault", "action")}
    facts: dict[str, Any] = {"perception": Perception.PROCESS_ABNORMAL, "check": "c", "detail": {}, **known}
    return Incident(id="i1", at=1.0, job="j", verdict=Verdict(**verdict), **facts)


@pytest.mark.parametrize(
    ("known", "verb"),
    [
        pytest.param({}, "restart", id="a crash is tried again"),
        pytest.param({"fault": Fault.USER_CODE, "detail": {"repeated": True}}, "stop", id="a bug that comes back is stopped"),
        pytest.param({"fault": Fault.USER_CODE}, "restart", id="a bug seen once is tried again"),
        pytest.param({"fault": Fault.GPU_HW}, "replace", id="a sick device is left behind"),
        pytest.param({"fault": Fault.GPU_HW, "verdict": Judgement.UNDECIDED}, "restart", id="not without a culprit"),
        pytest.param({"symptom": Symptom.HANG}, "restart", id="a hang"),
        pytest.param({"symptom": Symptom.SLOW}, "replace", id="who slows the job"),
        pytest.param({"symptom": Symptom.SLOW, "verdict": Judgement.NOBODY}, "watch", id="slow without a culprit"),
        pytest.param(
            {"symptom": Symptom.SLOW, "fault": Fault.FABRIC, "perception": Perception.NODE_FAULT, "detail": {"cause": "switch_errors"}},
            "watch", id="a switch that loses packets is mended while its jobs go on",
        ),
        pytest.param(
            {"symptom": Symptom.HANG, "fault": Fault.FABRIC, "perception": Perception.NODE_FAULT, "detail": {"cause": "switch_errors"}},
            "resubmit", id="unless a job hangs",
        ),
        pytest.param(
            {"fault": Fault.FABRIC, "perception": Perception.NODE_FAULT, "detail": {"cause": "switch_down"}}, "resubmit",
            id="behind a switch that is gone no job goes on",
        ),
        pytest.param(
            {"fault": Fault.STORAGE, "perception": Perception.NODE_FAULT, "action": Action.REPLACE}, "replace",
            id="a node whose disk is gone is left behind",
        ),
        pytest.param(
            {"fault": Fault.STORAGE, "perception": Perception.NODE_FAULT, "action": Action.WATCH}, "restart",
            id="storage that all nodes share is not mended by another node",
        ),
        pytest.param({"perception": Perception.HEARTBEAT_LOST}, "watch", id="silence is no fault of the job"),
        pytest.param({"perception": Perception.POD_DELETED}, "resubmit", id="a worker taken away"),
        pytest.param(
            {"perception": Perception.LOSS_ANOMALY, "detail": {"cause": "nan"}}, "restart", id="a loss that is no number"
        ),
        pytest.param(
            {"perception": Perception.LOSS_ANOMALY, "detail": {"cause": "spike"}}, "watch", id="a spike may heal"
        ),
        pytest.param(
            {"perception": Perception.LOSS_ANOMALY, "detail": {"cause": "nan", "repeated": True}}, "stop",
            id="a loss that breaks at the same step again",
        ),
        pytest.param({"symptom": Symptom.NONE}, "watch", id="nothing is known"),
    ],
)  # fmt: skip
def test_what_is_done_about(known: dict[str, Any], verb: str) -> None:
    row = SHIPPED.decide(incident(**known))
    assert row.verb == verb
    assert row.why


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("judgement", list(Judgement))
def test_there_is_an_answer_to_everything_and_nobodys_fault_replaces_nothing(
    fault: Fault, judgement: Judgement
) -> None:
    for symptom in Symptom:
        row = SHIPPED.decide(incident(fault=fault, verdict=judgement, symptom=symptom))
        assert row.verb in list(Action)
        if judgement is not Judgement.CULPRIT:
            assert row.verb is not Action.REPLACE


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "own.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_rows_are_tried_in_their_order(tmp_path: Path) -> None:
    own = Playbook.read(written(tmp_path, '[[row]]\nfault = ["nic"]\nverb = "stop"\n[[row]]\nverb = "watch"\n'))
    assert [own.decide(incident(fault=fault)).verb for fault in (Fault.NIC, Fault.HOST)] == ["stop", "watch"]


def test_where_no_row_fits_it_is_watched(tmp_path: Path) -> None:
    own = Playbook.read(written(tmp_path, '[[row]]\nfault = ["nic"]\nverb = "stop"\n'))
    assert own.decide(incident()).verb is Action.WATCH


@pytest.mark.parametrize(
    ("text", "place"),
    [
        pytest.param("[[row", "end of document", id="not TOML"),
        pytest.param('[[row]]\nverb = "reboot it"', r"\$\.row\[0\]\.verb", id="a verb that is none"),
        pytest.param('[[row]]\nverb = "stop"\nfault = ["gpu"]', r"\$\.row\[0\]\.fault\[0\]", id="a fault that is none"),
        pytest.param('[[row]]\nverb = "stop"\ncolour = "red"', "colour", id="a condition nobody knows"),
        pytest.param('[[row]]\nwhy = "x"', "verb", id="a row without a verb"),
        pytest.param('[[row]]\nverb = "stop"\nrepeated = true', "repeated", id="one that is no list"),
        pytest.param("", "row", id="no rows"),
        pytest.param(b"\xff\xfe", "decode", id="no text"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_place(tmp_path: Path, text: str | bytes, place: str) -> None:
    with pytest.raises(PlaybookError, match=place) as said:
        Playbook.read(written(tmp_path, text))
    assert "own.toml" in str(said.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlaybookError, match="gone"):
        Playbook.read(str(tmp_path / "gone"))
