"""The agent of a node: what it tells and keeps, the check that answers from it, the drain, and the service that takes its claims over."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from detectors.nodecheck.online import NodeChecks
from detectors.nodeclaims import NodeClaims
from holdfast.api.records import RecordError, batch_of, observations_of
from holdfast.events import Claims, Finding, Observation, Samples
from holdfast.node import check, state
from holdfast.node.agent import Agent, AgentTable, make_agent, read
from holdfast.node.sender import Sender
from holdfast.plugins import ConfigError
from tests.unit.detectors.seen import answers, claims, samples

HEAVY = ("opentelemetry", "sqlalchemy", "pandas", "sklearn", "aiohttp", "rich", "typer", "pyarrow")


class Given:
    """A collector that gives what it is told to."""

    durable = False

    def __init__(self, *looks: list[Observation]) -> None:
        self.looks = list(looks)

    def poll(self, now: float) -> Iterator[Observation]:
        yield from self.looks.pop(0) if self.looks else []


def agent(tmp_path: Path, *looks: list[Observation], sender: Sender | None = None, mode: str = "observe") -> Agent:
    table = AgentTable(node="n0", state=str(tmp_path / "state.json"), mode=mode)
    detectors: dict[str, Any] = {"node_checks": NodeChecks()}
    return Agent(table, {"given": Given(*looks)}, detectors, sender)


def bad(at: float, value: float = 1.0) -> list[Observation]:
    return [samples(at, {"gpu.row_remap_failed": [value], "gpu.temp_c": [50.0]})]


def test_the_state_holds_what_stands(tmp_path: Path) -> None:
    one = agent(tmp_path, bad(1.0), bad(2.0, 0.0))
    one.step(1000.0)
    known = state.load(tmp_path / "state.json")
    assert [(s.check, s.severity, s.target) for s in known.standing] == [
        ("gpu.row_remap_failed", "fatal", "device 0 (n0)")
    ]
    one.step(1001.0)
    assert state.load(tmp_path / "state.json").standing == ()


@pytest.mark.parametrize(
    ("severity", "node_action", "status"),
    [("fatal", "reboot", 2), ("error", "none", 2), ("warning", "none", 1), ("", "", 0)],
)
def test_the_worst_claim_is_the_status(severity: str, node_action: str, status: int) -> None:
    one = state.Standing(
        check="x.y", severity=severity, fault="nic", target="t", since=1.0, text="broken", node_action=node_action
    )
    known = state.NodeState(node="n0", at=1000.0, mode="auto", standing=(one,) if severity else ())
    assert check.answer_of(known, 1010.0).status == status


def test_nobody_who_looks_is_a_warning(tmp_path: Path) -> None:
    assert check.check(tmp_path / "gone.json", 1.0).status == check.WARNING
    (tmp_path / "broken.json").write_text("{")
    assert check.check(tmp_path / "broken.json", 1.0).status == check.WARNING
    state.save(tmp_path / "old.json", state.NodeState(node="n0", at=1000.0, mode="auto"))
    assert "for 500 s" in check.check(tmp_path / "old.json", 1500.0).text


SCONTROL = """#!/bin/sh
echo "$@" >> {log}
case "$1" in --oneliner) echo "NodeName=n0 State={state} Reason=x" ;; esac
exit {status}
"""


@pytest.mark.parametrize(
    ("mode", "slurm", "status", "said", "asked"),
    [
        pytest.param("observe", "IDLE", 0, "not drained: the mode is observe", 0, id="observe changes nothing"),
        pytest.param("auto", "IDLE", 0, "drained: holdfast: [node_problem] gpu_row_remap_failed", 2, id="auto drains"),
        pytest.param("auto", "MIXED+DRAIN", 0, "not drained: it is already", 1, id="another's drain is left alone"),
        pytest.param("auto", "IDLE", 1, "not drained: scontrol does not answer", 1, id="a controller that is away"),
    ],
)
def test_a_sick_node_is_drained_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, slurm: str, status: int, said: str, asked: int
) -> None:
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    agent(tmp_path, bad(1.0), mode=mode).step(1000.0)
    script, log = tmp_path / "scontrol", tmp_path / "log"
    script.write_text(SCONTROL.format(log=log, state=slurm, status=status))
    script.chmod(0o755)
    assert check.drain(tmp_path / "state.json", 1001.0, scontrol=str(script)) == said
    assert len(log.read_text().splitlines() if log.exists() else []) == asked


class Door(BaseHTTPRequestHandler):
    """A service that keeps what it gets."""

    got: list[dict[str, Any]]
    statuses: list[int]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.got.append(body)
        answer = json.dumps({"acknowledged": body["sequence"]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("statuses", [[], [500, 503], [401]], ids=["at once", "after errors", "after a wrong token"])
def test_what_is_found_reaches_the_service_once_and_in_order(tmp_path: Path, statuses: list[int]) -> None:
    handler: Any = type("Kept", (Door,), {"got": [], "statuses": list(statuses)})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "token").write_text("t")
    sender = Sender(f"http://127.0.0.1:{server.server_port}", str(tmp_path / "token"), node="n0", boot="b1")
    one = agent(tmp_path, bad(1.0), bad(2.0, 0.0), sender=sender)
    one.step(1000.0)
    one.step(1001.0)
    sender.close(20.0)
    server.shutdown()
    server.server_close()
    assert [body["sequence"] for body in handler.got] == [1, 2]
    heard = [seen for body in handler.got for seen in observations_of(batch_of(json.dumps(body).encode()))]
    assert claims(answers(NodeClaims(), [seen for seen in heard if isinstance(seen, Claims)])) == CLAIMED
    sent = [seen for seen in heard if isinstance(seen, Samples)]
    assert [(s.signals, s.targets[0].node, s.source) for s in sent] == [(("gpu.temp_c",), "n0", "agent:node:n0")]
    assert sender.dropped == 0


CLAIMED = ["gpu.row_remap_failed device 0", "-gpu.row_remap_failed device 0"]


def finding() -> Finding:
    return next(f for f in answers(NodeChecks(), bad(1.0)))


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param([(True, 1), (True, 1)], CLAIMED[:1], id="what is said again is claimed once"),
        pytest.param([(False, 1), (True, 0)], CLAIMED, id="what is left out of the whole is over"),
        pytest.param([(False, 1), (False, 0)], CLAIMED[:1], id="what is not spoken of stands"),
        pytest.param([(False, 1), (False, -1)], CLAIMED, id="what is said to be over is"),
    ],
)
def test_the_service_takes_claims_over(stream: list[tuple[bool, int]], said: list[str]) -> None:
    seen = []
    for n, (whole, what) in enumerate(stream):
        told = [msgspec.structs.replace(finding(), cleared=what < 0)] if what else []
        seen.append(Claims(at=float(n), source="agent:node:n0", node="n0", findings=tuple(told), whole=whole))  # type: ignore[arg-type]
    assert claims(answers(NodeClaims(), seen)) == said


def test_an_agent_speaks_for_its_own_node_only() -> None:
    record = {"type": "claims", "at": 1.0, "findings": [msgspec.to_builtins(finding())]}
    batch = {"agent": "node:other", "boot": "b", "sequence": 1, "node": "other", "records": [record]}
    with pytest.raises(RecordError, match="from an agent of 'other'"):
        observations_of(batch_of(msgspec.json.encode(batch)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[agent]\nmodus = 1\n", "modus"),
        ('[agent]\nmode = "yes"\n', "none of observe"),
        ('[agent]\nurl = "ftp://x"\n', "no address of HTTP"),
        ("[detectors.gone]\n", "gone"),
        ("[detectors.node_checks]\nno = 1\n", "no"),
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        make_agent(read(path))


def test_the_agent_is_made_without_the_heavy_libraries(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("")
    made = "from holdfast.node.agent import *; a = make_agent(read(Path(sys.argv[1]))); a.step(1.0); a.close()"
    told = f"{made}; print([name for name in {HEAVY!r} if name in sys.modules])"
    path = str(tmp_path / "agent.toml")
    done = subprocess.run([sys.executable, "-c", told, path], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr
