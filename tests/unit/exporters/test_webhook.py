"""Signed webhooks, by a real server: what is said at each stage, how it is signed, one id however often it is tried."""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporters.webhook import STAGES, Webhook, signature, stage_of
from holdfast.events import Transition
from holdfast.incident import State, Trigger
from tests.servers import free_port
from tests.unit.exporters.receiver import ACTED, CALLED, CLOSED, REFUSED, REPAIRED, Told, move, receiver

PAGE = Path(__file__).resolve().parents[3] / "docs" / "webhooks.md"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("s3cret\n")
    return str(tmp_path / "secret")


def documented() -> Callable[..., bool]:
    """The function that the page gives to receivers."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    known: dict[str, Any] = {}
    exec(code, known)
    return partial(known["is_from_holdfast"], b"s3cret")


def titled(told: Told) -> dict[str, str]:
    return {name: told.headers[name.lower()] for name in ("Holdfast-Delivery", "Holdfast-Timestamp", "Holdfast-Signature")}


def told_of(secret: str, moves: Sequence[Transition], **settings: Any) -> list[Told]:
    with receiver() as there:
        webhook = Webhook(url=there.url + "/hook", secret_file=secret, **settings)
        for moved in moves:
            webhook.export(moved)
        webhook.close(20)
        assert webhook.delivery.sent == len(there.told)
        return there.told


@pytest.mark.parametrize(
    ("moves", "stages", "heard"),
    [
        pytest.param(
            REPAIRED, STAGES, ["detected i7/1", "diagnosed i7/3", "decided i7/4", "acted i7/5", "resolved i7/6"],
            id="an incident that is repaired has five stages, in order",
        ),
        pytest.param(
            CALLED, STAGES, ["detected i7/1", "diagnosed i7/3", "decided i7/4", "needs_human i7/5"],
            id="an order that is refused ends with a person",
        ),
        pytest.param(CLOSED, ("needs_human", "resolved"), ["needs_human i7/5", "resolved i7/6"], id="only the stages asked for"),
        pytest.param(
            [move(5, msgspec.structs.replace(REFUSED, acted_at=1004.5), State.RECOVERING, Trigger.STOPPED, 1005.0)], STAGES,
            ["needs_human i7/5"], id="a job that was stopped for good needs a person, which stands above that it was done",
        ),
        pytest.param([move(9, ACTED, State.VERIFYING, Trigger.DECIDED, 1.0)], ("acted",), [], id="another stage is not told"),
    ],
)  # fmt: skip
def test_what_is_told(secret: str, moves: Sequence[Transition], stages: Sequence[str], heard: list[str]) -> None:
    told = [json.loads(request.body) for request in told_of(secret, moves, stages=stages)]
    assert [f"{body['stage']} {body['delivery']}" for body in told] == heard
    assert {body["id"] for body in told} <= {"i7"}


def test_the_body_holds_the_whole_incident(secret: str) -> None:
    (request,) = told_of(secret, REPAIRED, stages=["resolved"])
    assert json.loads(request.body) == {
        "id": "i7", "delivery": "i7/6", "stage": "resolved", "at": 1090.0,
        "incident": json.loads(msgspec.json.encode(REPAIRED[-1].incident)),
    }  # fmt: skip
    assert (request.method, request.path, request.headers["content-type"]) == ("POST", "/hook", "application/json")


def test_what_is_simulated_says_so(secret: str) -> None:
    told = told_of(secret, REPAIRED, simulated=True)
    assert [json.loads(request.body)["simulated"] for request in told] == [True] * 5


def test_the_documented_check_takes_what_is_sent_and_nothing_else(secret: str) -> None:
    check = documented()
    for request in told_of(secret, REPAIRED):
        headers = titled(request)
        sent_at = float(headers["Holdfast-Timestamp"])
        assert check(headers, request.body)
        assert not check(headers, request.body + b" ")
        assert not check({**headers, "Holdfast-Timestamp": str(int(sent_at) - 1)}, request.body)
        assert not check(headers, request.body, now=sent_at + 301)
        assert not check({**headers, "Holdfast-Signature": signature(b"other", timestamp=str(sent_at), body=request.body)}, request.body)


def test_the_signature_is_as_it_was_written_down() -> None:
    """Computed once with `openssl dgst -sha256 -hmac`, so that the form never changes unseen."""
    said = signature(b"s3cret", timestamp="1795560004", body=b'{"id":"i7"}')
    assert said == "v1=a359ed3dc9ce6534a4f9db64824947d7122726a6e74bb2d56a27098af14a4ec2"


def test_a_server_in_trouble_is_told_again_under_the_same_id(secret: str) -> None:
    with receiver() as there:
        there.script = [(503, b"", {}), (503, b"", {})]
        webhook = Webhook(url=there.url, secret_file=secret, stages=["detected"])
        webhook.export(REPAIRED[0])
        told = there.wait_for(3)
        webhook.close(20)
    assert {request.headers["holdfast-delivery"] for request in told} == {"i7/1"}
    assert len({request.body for request in told}) == 1
    assert all(documented()(titled(request), request.body) for request in told)
    assert (webhook.delivery.sent, webhook.delivery.failed, webhook.delivery.dropped) == (1, 0, 0)


def test_a_dead_server_holds_nothing_up_and_is_counted(secret: str) -> None:
    webhook = Webhook(url=f"http://127.0.0.1:{free_port()}/", secret_file=secret)
    for _ in range(400):
        for moved in REPAIRED:
            webhook.export(moved)
    webhook.close(20)
    delivery = webhook.delivery
    assert (delivery.sent, delivery.waiting, delivery.alive) == (0, 0, False)
    assert delivery.failed + delivery.dropped == 400 * 5
    assert delivery.dropped >= 400 * 5 - delivery.most - 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"stages": ["solved"]}, "no stage called 'solved'", id="a stage that is none"),
        pytest.param({"url": "nowhere"}, "url", id="a URL that is none"),
        pytest.param({"secret_file": "/nowhere"}, "secret_file /nowhere", id="a secret that is not there"),
    ],
)
def test_settings_are_refused_for(secret: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Webhook(**{"url": "http://127.0.0.1:1/", "secret_file": secret, **settings})


def test_every_stage_can_come() -> None:
    assert {stage_of(moved) for moved in (*REPAIRED, *CALLED)} == {*STAGES, ""}
