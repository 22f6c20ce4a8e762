"""The side thread of a rank and who asks it: answers, errors, and neither side believes the other."""

import contextlib
import json
import os
import socket
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ftagent.reporter import Reporter
from ftagent.side import ask, start


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """A rank 0 that answers; its folder's path is longer than a unix socket's may be."""
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    reporter = Reporter(str(deep), 0, 1)
    start(reporter)
    yield str(deep)
    reporter.alive = False


class Group:
    group_desc = "default_pg"


def torch(monkeypatch: pytest.MonkeyPatch, **dumps: Any) -> None:
    """What the side thread looks at of a framework that is loaded."""
    group = Group()
    world = types.SimpleNamespace(
        pg_names={group: "0"}, pg_group_ranks={group: {10: 1, 4: 0}}, pg_map={group: ("gloo", None)}
    )
    native = types.SimpleNamespace(**dumps)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(_C=types.SimpleNamespace(_distributed_c10d=native)))
    monkeypatch.setitem(sys.modules, "torch.distributed.distributed_c10d", types.SimpleNamespace(_world=world))


def test_without_a_framework_there_are_no_groups_and_no_recorder(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    assert json.loads(ask(folder, 0, {"ask": "groups"}, 5.0)[1]) == {"groups": {}, "backend": ""}
    head, data = ask(folder, 0, {"ask": "flight_recorder"}, 5.0)
    assert (head["error"], data) == ("no flight recorder in this process", b"")
    assert "torch" not in sys.modules


def test_groups_are_told_by_name_with_their_members_in_order(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch(monkeypatch)
    answer = json.loads(ask(folder, 0, {"ask": "groups"}, 5.0)[1])
    assert answer == {
        "groups": {"0": {"local_id": "0", "desc": "default_pg", "ranks": [4, 10], "backend": "gloo"}},
        "backend": "gloo",
    }


def test_the_recorder_of_the_backend_in_use_is_asked(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def dump(*arguments: Any) -> bytes:
        asked.append(arguments)
        return b"\x80\x02}."

    torch(monkeypatch, _dump_fr_trace=dump, _dump_nccl_trace=lambda *a: b"")
    assert ask(folder, 0, {"ask": "flight_recorder"}, 5.0)[1] == b"\x80\x02}."
    assert asked == [(True, False, False)]


def test_a_recorder_that_fails_says_why_and_the_thread_lives(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def dump(*arguments: Any) -> bytes:
        raise RuntimeError("not initialised")

    torch(monkeypatch, _dump_fr_trace=dump)
    assert ask(folder, 0, {"ask": "flight_recorder"}, 5.0)[0]["error"] == "RuntimeError: not initialised"
    assert ask(folder, 0, {"ask": "stacks"}, 5.0)[1]


def test_stacks_name_every_thread_the_innermost_frame_first(folder: str) -> None:
    text = ask(folder, 0, {"ask": "stacks"}, 5.0)[1].decode()
    assert "Thread 0x" in text
    [own] = [part for part in text.split("\n\n") if '"ftagent"' in part and "_stacks" in part]
    frames = [line.rsplit(" in ", 1)[1] for line in own.splitlines()[1:]]
    assert frames[:2] == ["_stacks", "_answer"]


def test_a_deep_stack_is_cut(folder: str) -> None:
    ready, leave = threading.Event(), threading.Event()

    def dive(depth: int) -> None:
        if depth:
            dive(depth - 1)
        else:
            ready.set()
            leave.wait(10.0)

    thread = threading.Thread(target=dive, args=(700,))
    thread.start()
    ready.wait(10.0)
    text = ask(folder, 0, {"ask": "stacks"}, 5.0)[1].decode()
    leave.set()
    thread.join()
    assert text.count("in dive") <= 512


@pytest.mark.parametrize("question", [b"", b"{", b"\xff", b"[" * 4096, b"7", b'{"ask": "everything"}', b'{"ask": 3}'])
def test_nonsense_is_answered_shortly_and_the_next_question_too(folder: str, question: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as line, contextlib.suppress(ConnectionError):
        fd = os.open(folder, os.O_RDONLY)
        line.settimeout(5.0)
        line.connect(f"/proc/self/fd/{fd}/rank0.sock")
        os.close(fd)
        line.sendall(question)
        line.shutdown(socket.SHUT_WR)
        assert len(line.recv(4096)) < 100
    assert ask(folder, 0, {"ask": "stacks"}, 5.0)[1]


def test_who_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"rank0\.sock|No such file"):
        ask(str(tmp_path), 0, {"ask": "groups"}, 5.0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"", ValueError, id="nothing"),
        pytest.param(b"[]\n", ValueError, id="a list"),
        pytest.param(b'{"bytes": -1}\n', ValueError, id="less than nothing"),
        pytest.param(b'{"bytes": 1e99}\n', ValueError, id="a number of bytes that is none"),
        pytest.param(b'{"bytes": 99999999999}\n', ValueError, id="more than is taken"),
        pytest.param(b'{"bytes": 10}\nshort', ValueError, id="less than announced"),
        pytest.param(None, socket.timeout, id="no word at all"),
    ],
)
def test_an_answer_is_not_believed(tmp_path: Path, answer: bytes | None, error: type[Exception]) -> None:
    server = socket.socket(socket.AF_UNIX)
    fd = os.open(tmp_path, os.O_RDONLY)
    server.bind(f"/proc/self/fd/{fd}/rank0.sock")
    os.close(fd)
    server.listen(1)
    done = threading.Event()

    def serve() -> None:
        line, _ = server.accept()
        line.recv(4096)
        if answer is None:
            done.wait(10.0)
        else:
            line.sendall(answer)
        line.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(error):
        ask(str(tmp_path), 0, {"ask": "groups"}, 0.3)
    done.set()
    thread.join()
    server.close()
