"""One annotation for each incident, by a real server whose requests are compared with recorded ones."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporters.grafana import Grafana, text_of
from holdfast.events import Transition
from holdfast.incident import State, Trigger
from holdfast.verdict import Evidence
from tests.servers import free_port
from tests.unit.exporters.receiver import CALLED, CLOSED, DIAGNOSED, OPENED, REPAIRED, Receiver, move, receiver

GOLDEN = Path(__file__).with_name("grafana.json")
Script = tuple[int, bytes, dict[str, str]]
MADE: Script = (200, b'{"id": 12, "message": "Annotation added"}', {})
NONE: Script = (200, b"[]", {})
FOUND: Script = (200, b'[{"id": 12}]', {})
PATCHED: Script = (200, b'{"message": "Annotation patched"}', {})


@pytest.fixture
def token(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("s3cret\n")
    return str(tmp_path / "token")


def tell(there: Receiver, token: str, moves: Sequence[Transition], **settings: Any) -> Grafana:
    grafana = Grafana(url=there.url + "/grafana/", token_file=token, **settings)
    for moved in moves:
        grafana.export(moved)
    grafana.close(20)
    return grafana


def requests_of(there: Receiver) -> list[dict[str, Any]]:
    return [{"method": t.method, "path": t.path, "body": json.loads(t.body) if t.body else None} for t in there.told]


def test_the_requests_are_those_that_were_recorded(token: str) -> None:
    with receiver() as there:
        there.script = [NONE, MADE, PATCHED]
        tell(there, token, REPAIRED, dashboard_uid="holdfast-fleet")
        seen = requests_of(there)
        assert {told.headers["authorization"] for told in there.told} == {"Bearer s3cret"}
    if os.environ.get("HOLDFAST_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
    assert seen == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("moves", "script", "asked"),
    [
        pytest.param(REPAIRED, [NONE, MADE, PATCHED], "GET POST PATCH", id="opened at detection, closed at the end"),
        pytest.param(CALLED, [NONE, MADE, PATCHED], "GET POST PATCH", id="a call for a person is an end"),
        pytest.param(CLOSED, [NONE, MADE, PATCHED, PATCHED], "GET POST PATCH PATCH", id="closed later: the region grows"),
        pytest.param(REPAIRED[-1:], [FOUND, PATCHED], "GET PATCH", id="one made before a restart is found by its tag"),
        pytest.param(REPAIRED[-1:], [NONE, MADE], "GET POST", id="one that is not there is made whole at the end"),
        pytest.param(REPAIRED[1:4], [], "", id="what happens between is not told"),
    ],
)
def test_what_is_asked_of_grafana(token: str, moves: Sequence[Transition], script: list[Script], asked: str) -> None:
    with receiver() as there:
        there.script = list(script)
        grafana = tell(there, token, moves)
        assert " ".join(told.method for told in there.told) == asked
    assert (grafana.delivery.failed, grafana.delivery.dropped) == (0, 0)


def test_an_answer_that_was_lost_does_not_make_a_second_annotation(token: str) -> None:
    with receiver() as there:
        there.script = [NONE, (503, b"", {}), FOUND, PATCHED]
        grafana = Grafana(url=there.url, token_file=token)
        grafana.export(REPAIRED[0])
        assert [told.method for told in there.wait_for(4)] == ["GET", "POST", "GET", "PATCH"]
        grafana.close(20)
    assert (grafana.delivery.sent, grafana.delivery.failed) == (1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((403, b'{"message": "no"}', {}), id="a token that may not"),
        pytest.param((200, b"<html>", {}), id="a page that is no JSON"),
        pytest.param((200, b'{"what": 1}', {}), id="JSON of somebody else"),
        pytest.param((302, b"", {"Location": "http://127.0.0.1:1/"}), id="a redirect to a login"),
    ],
)
def test_an_answer_that_cannot_be_used_is_counted_and_the_next_incident_is_told(token: str, answer: Script) -> None:
    later = msgspec.structs.replace(OPENED, id="i8")
    with receiver() as there:
        there.script = [answer, NONE, MADE]
        grafana = tell(there, token, [REPAIRED[0], move(1, later, State.OPEN, Trigger.CLAIMED, 1001.0)])
        assert [told.method for told in there.told] == ["GET", "GET", "POST"]
    assert (grafana.delivery.failed, grafana.delivery.sent) == (1, 1)


def test_log_lines_are_shown_and_not_obeyed() -> None:
    trap = Evidence("log", 1, "<script>alert(1)</script>" + "x" * 5000)
    verdict = msgspec.structs.replace(DIAGNOSED.verdict, evidence=(trap,))
    text = text_of(msgspec.structs.replace(DIAGNOSED, verdict=verdict))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert len(text) < 4000


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1.0], ids=str)
def test_times_that_are_none_harm_nothing(token: str, at: float) -> None:
    with receiver() as there:
        there.script = [NONE, MADE]
        broken = msgspec.structs.replace(OPENED, at=at)
        grafana = tell(there, token, [move(1, broken, State.OPEN, Trigger.CLAIMED, 1.0)])
        assert json.loads(there.told[-1].body)["time"] == 0
    assert grafana.delivery.sent == 1


def test_a_dead_server_holds_nothing_up_and_is_counted(token: str) -> None:
    grafana = Grafana(url=f"http://127.0.0.1:{free_port()}", token_file=token)
    for moved in REPAIRED * 100:
        grafana.export(moved)
    grafana.close(20)
    assert (grafana.delivery.sent, grafana.delivery.alive) == (0, False)
    assert grafana.delivery.failed + grafana.delivery.dropped == 200
