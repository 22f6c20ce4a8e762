"""Lines of job output: what launchers put before them, tracebacks of any writer, error files, and any bytes at all."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.joblog.errorfile import error_file, failures
from detectors.joblog.judge import Case, judge
from detectors.joblog.marks import Whose, whose
from detectors.joblog.prefix import Bare, bare, rank_in
from detectors.joblog.reading import MOST_MARKS, Reading
from detectors.joblog.rules import Rules
from detectors.joblog.tracebacks import Reader, normalised, signature

RULES = Rules.read()
AT = 1764000000.0


def known(line: Bare) -> dict[str, Any]:
    """What a line's prefixes say, without what they do not."""
    said = {name: getattr(line, name) for name in ("rank", "local", "label", "node", "at")}
    return {name: value for name, value in said.items() if value not in (-1, "", 0.0)}


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        pytest.param("words", "words", {}, id="bare"),
        pytest.param("[rank3]: words", "words", {"rank": 3}, id="torch"),
        pytest.param("[default5]:words", "words", {"local": 5}, id="torchrun with --tee"),
        pytest.param("12: words", "words", {"label": 12}, id="srun --label"),
        pytest.param("[2025-11-24 16:00:00,000] words", "words", {"at": AT}, id="a logger"),
        pytest.param("2025-11-24T16:00:00Z stderr F words", "words", {"at": AT}, id="a container runtime"),
        pytest.param("[pod/train-worker-1/main] words", "words", {"node": "train-worker-1"}, id="kubectl logs --prefix"),
        pytest.param("(RayTrainWorker pid=77, ip=192.0.2.7) words", "words", {"node": "192.0.2.7"}, id="ray"),
        pytest.param("gpu-node-07: words", "words", {"node": "gpu-node-07"}, id="pdsh"),
        pytest.param("worker1  | words", "words", {"node": "worker1"}, id="docker compose"),
        pytest.param("\x1b[31m[rank3]: words\x1b[0m", "words", {"rank": 3}, id="colours"),
        pytest.param("7: [rank3]: words", "words", {"rank": 3, "label": 7}, id="one within the other"),
        pytest.param('{"log": "[rank3]: words\\n", "time": "2025-11-24T16:00:00Z"}', "words", {"rank": 3, "at": AT}, id="docker"),
        pytest.param('{"message": "words", "rank": 4}', "words", {"rank": 4}, id="a JSON logger"),
        pytest.param("{'loss': 2.0}", "{'loss': 2.0}", {}, id="a dictionary is no JSON line"),
        pytest.param("ValueError: x", "ValueError: x", {}, id="an exception is no prefix"),
    ],
)  # fmt: skip
def test_prefixes_are_taken_off(line: str, text: str, said: dict[str, Any]) -> None:
    assert (bare(line).text, known(bare(line))) == (text, said)


@given(st.text(max_size=300))
def test_any_line_is_taken_apart(text: str) -> None:
    told = bare(text)
    assert len(told.text) <= 16_384
    assert math.isfinite(told.at)


@pytest.mark.parametrize(
    ("text", "rank"), [("on [Rank 7] x", 7), ("rank 7 failed", 7), ("rank=12, x", 12), ("ranks 7", -1), ("", -1)]
)
def test_the_rank_a_line_speaks_of(text: str, rank: int) -> None:
    assert rank_in(text) == rank


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("logs/rank12.log", Whose(rank=12)),
        ("node-3/rank_4.txt", Whose(rank=4, node="node-3")),
        ("attempt_0/5/stderr.log", Whose(local=5)),
        ("train.log", Whose()),
        ("slurm-1234.out", Whose()),
    ],
)
def test_whose_output_a_file_is(name: str, said: Whose) -> None:
    assert whose(name) == said


# --- tracebacks

PLAIN = """Traceback (most recent call last):
  File "/opt/app/train.py", line 88, in main
    step(batch)
  File "/usr/lib/python3/site-packages/torch/nn/modules/module.py", line 1500, in _call_impl
    return forward_call(*args)
ValueError: bad sample 77 in /data/shard-3
"""
CHAINED = (
    PLAIN
    + """
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/app/train.py", line 99, in main
    save()
RuntimeError: could not save
"""
)
TIMED_OUT = (
    PLAIN.replace("ValueError: bad sample 77 in /data/shard-3", "queue.Empty")
    + """
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/app/train.py", line 99, in main
    raise
RuntimeError: DataLoader worker (pid 5) exited unexpectedly
"""
)


def read(text: str) -> Reader:
    reader = Reader(1)
    for number, line in enumerate(text.splitlines(), 1):
        if not reader.take(number, line):
            break
    return reader


@pytest.mark.parametrize(
    ("text", "root"),
    [
        pytest.param(PLAIN, "ValueError: bad sample 77 in /data/shard-3", id="one"),
        pytest.param(CHAINED, "ValueError: bad sample 77 in /data/shard-3", id="of a chain the first"),
        pytest.param(TIMED_OUT, "RuntimeError: DataLoader worker (pid 5) exited unexpectedly", id="the end of a wait is no news"),
        pytest.param("Traceback (most recent call last):\nKeyboardInterrupt\n", "KeyboardInterrupt", id="without frames"),
    ],
)  # fmt: skip
def test_the_exception_that_was_first(text: str, root: str) -> None:
    raised = read(text).root()
    assert raised is not None
    assert raised.text == root


def test_a_traceback_cut_short_raised_nothing() -> None:
    assert read(PLAIN.rsplit("\n", 2)[0]).root() is None


def test_a_signature_is_the_same_where_only_numbers_and_paths_differ() -> None:
    first, second = (read(text).root() for text in (PLAIN, PLAIN.replace("77", "9").replace("shard-3", "shard-12")))
    assert first is not None
    assert second is not None
    assert signature(first) == signature(second)
    assert signature(first).endswith("@ train.py:88")
    assert normalised("at 0xdeadbeef of 12.5e-3") == "at <x> of <n>"


@pytest.mark.parametrize("prefix", ["", "[rank3]: ", "12: ", "[default3]:", "2025-11-24 16:00:00 "])
def test_tracebacks_of_writers_that_interleave_are_kept_apart(prefix: str) -> None:
    others = "[rank9]: step 5\n"
    block = "".join(f"{prefix}{line}\n{others}" for line in PLAIN.splitlines())
    reading = Reading(RULES)
    reading.feed("log", 1, block.encode())
    reading.close()
    [mark] = reading.marks.values()
    assert (mark.text, mark.place) == ("ValueError: bad sample 77 in /data/shard-3", "train.py:88")
    assert mark.line == 2 * len(PLAIN.splitlines()) - 1


# --- torchrun's own reports


def report(**known: Any) -> bytes:
    inner = {"message": "ValueError: x", "extraInfo": {"py_callstack": PLAIN, "timestamp": "1764000000"}, **known}
    return json.dumps({"message": inner}).encode()


def test_an_error_file_is_read_with_its_traceback() -> None:
    said = error_file(report(errorCode=3))
    assert (said.text, said.at, said.code) == ("ValueError: x", AT, 3)
    assert said.reader is not None
    assert said.reader.root() is not None


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"message": 5}', b"[" * 100_000, b"\xff", b'{"message": null}'],
    ids=["empty", "cut", "a list", "no message", "a number", "nested without end", "no text", "nothing"],
)
def test_an_error_file_that_is_none_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a torchrun error file"):
        error_file(data)


@pytest.mark.parametrize(
    "known",
    [{"extraInfo": []}, {"extraInfo": {"timestamp": {}}}, {"extraInfo": {"py_callstack": 5}}, {"errorCode": "x"}],
)
def test_oddities_in_an_error_file_are_left_out(known: dict[str, Any]) -> None:
    said = error_file(report(**known))
    assert said.text == "ValueError: x"


CONSOLE = """Failures:
[1]:
  time      : 2025-11-24_16:00:02
  host      : node-2
  rank      : 9 (local_rank: 1)
  exitcode  : 1 (pid: 77)
  error_file: <N/A>
Root Cause (first observed failure):
[0]:
  time      : 2025-11-24_16:00:00
  host      : node-1
  rank      : 3 (local_rank: 3)
  exitcode  : -9 (pid: 78)
  traceback : Signal 9 (SIGKILL) received by PID 78
"""


def test_the_launchers_list_names_the_first() -> None:
    said = failures(list(enumerate(CONSOLE.splitlines(), 1)))
    assert [(one.rank, one.host, one.exitcode, one.at, one.first) for one in said] == [
        (9, "node-2", 1, AT + 2, False),
        (3, "node-1", -9, AT, True),
    ]


# --- anything

_FRAME = '  File "a.py", line 1, in x\n'
_WORDS = st.sampled_from(
    [*RULES.words, "Traceback (most recent call last):\n", _FRAME, "[rank3]: ", "\n", "iteration 5"]
)


@given(st.lists(st.one_of(_WORDS, st.text(max_size=20)), max_size=40), st.binary(max_size=200), st.integers(1, 400))
@settings(max_examples=150, deadline=None)
def test_any_bytes_in_any_portions_end_in_a_judgement(words: list[str], rest: bytes, size: int) -> None:
    data = "".join(words).encode("utf-8", "surrogatepass") + rest
    whole = data.splitlines(keepends=True)
    reading, first = Reading(RULES), 1
    for n in range(0, len(whole), size):
        block = b"".join(whole[n : n + size])
        reading.feed("rank0.log", first, block)
        first += block.count(b"\n")
    reading.close()
    told = judge(list(reading.marks.values()), Case(steps=reading.steps))
    assert 0.0 <= told.confidence <= 1.0
    assert all(mark.line >= 1 for mark in reading.marks.values())
    assert reading._open == {}


def test_an_error_behind_hours_of_a_progress_bar_is_seen() -> None:
    bar = b"\r".join(b"  1%%|# | %d/300000 [1:00:00<9:00:00, 1.26it/s]" % n for n in range(20_000))
    reading = Reading(RULES)
    reading.feed("log", 1, bar + b"\rRuntimeError: CUDA error: uncorrectable ECC error encountered\n")
    assert [mark.meaning.id for mark in reading.marks.values()] == ["cuda.ecc"]


def test_marks_are_bounded() -> None:
    reading = Reading(RULES)
    for n in range(0, MOST_MARKS + 500, 100):
        block = "".join(
            f"[rank{k}]: RuntimeError: CUDA error: an illegal memory access was encountered\n"
            for k in range(n, n + 100)
        )
        reading.feed("log", n + 1, block.encode())
    assert len(reading.marks) <= MOST_MARKS
