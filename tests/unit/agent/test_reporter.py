"""`step` and `phase`: what a training script says reaches the agent, and nothing it says can hurt the training."""

import ast
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from ftagent.device import Timer
from ftagent.reporter import Reporter, Silent, current
from ftagent.ring import COLUMNS, PHASE_NAMES, SIZE, SLOTS, W_MAGIC, Ring, RingError
from hypothesis import given, settings
from hypothesis import strategies as st

SOURCES = sorted((Path(__file__).resolve().parents[3] / "ftagent" / "src").rglob("*.py"))


class Tensor:
    """Whatever asks it for its value would wait for the device."""

    def __float__(self) -> float:
        raise AssertionError("a tensor was read")

    __bool__ = __int__ = __index__ = __len__ = __float__


class Secretive:
    """Not even what it is may be asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("what I am is not your business")


class Loud(float):
    """A number whose own words run anybody's code."""

    def __float__(self) -> float:
        raise RuntimeError("no")


class Whole(int):
    def __int__(self) -> int:
        raise RuntimeError("no")

    __index__ = __float__ = __int__


def reporter(folder: Path, rank: int = 0) -> Any:
    one = Reporter(str(folder), rank, 8)
    one._column("step_s")
    return one


def rows(folder: Path, rank: int = 0, after: int = 0) -> Any:
    ring = Ring(str(folder / f"rank{rank}.ring"))
    found = ring.records(after)
    ring.close()
    return found


def test_a_step_is_read_with_its_numbers(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    one.step(7, loss=1.5, tokens=4096)
    [[(step, ended_at, values)], written, lost] = rows(tmp_path)
    assert (step, values["loss"], values["tokens"], written, lost) == (7, 1.5, 4096.0, 1, 0)
    assert 0.0 <= values["step_s"] < 60.0
    assert ended_at > 0.0


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        pytest.param(True, 1.0, id="a truth value is a number"),
        pytest.param(10**400, None, id="a number too large for any float is left out"),
        pytest.param(float("inf"), math.inf, id="infinity is told as it is"),
        pytest.param(Loud(2.5), 2.5, id="a float of another class is read without asking it"),
        pytest.param(Whole(3), 3.0, id="an integer of another class is read without asking it"),
    ],
)
def test_what_counts_as_a_number(tmp_path: Path, given_: Any, read: float | None) -> None:
    one = reporter(tmp_path)
    one.step(0, x=given_)
    assert rows(tmp_path)[0][0][2].get("x") == read


def test_a_nan_is_told_as_it_is(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    one.step(0, loss=float("nan"))
    assert math.isnan(rows(tmp_path)[0][0][2]["loss"])


@pytest.mark.parametrize(
    "value", [None, "1.0", b"1", [1.0], Tensor(), 1j], ids=["None", "text", "bytes", "a list", "a tensor", "complex"]
)
def test_what_is_no_number_is_left_out_with_one_warning(tmp_path: Path, value: Any) -> None:
    one = reporter(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for n in range(3):
            one.step(n, loss=value, lr=0.1)
    assert [re.sub("is .*,", "is X,", str(one.message)) for one in said] == [
        "ftagent: loss is X, not a number: not reported"
    ]
    assert [set(row[2]) for row in rows(tmp_path)[0]] == [{"step_s", "lr"}] * 3


def test_what_does_not_say_what_it_is_is_not_asked(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    with pytest.warns(RuntimeWarning):
        one.step(1, loss=Secretive())
    with pytest.warns(RuntimeWarning):
        one.step(Secretive())
    with one.phase(Secretive()), one.phase("forward", device=Secretive()):
        pass
    assert rows(tmp_path)[1] == 1


def test_the_warning_points_at_the_script(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    with pytest.warns(RuntimeWarning) as said:
        one.step(0, loss="x")
    assert said[0].filename == __file__


def test_warnings_that_are_errors_stop_no_training(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.step(0, loss="x")
    assert rows(tmp_path)[1] == 1


def test_a_number_may_have_any_name(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    one.step(1, self=2.0, n=3.0, **{"": 4.0, "ü\ud800": 5.0, "x" * 500: 6.0})
    assert sorted(rows(tmp_path)[0][0][2].values())[1:] == [2.0, 3.0, 4.0, 5.0, 6.0]


def test_the_step_may_be_given_by_name(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    one.step(n=7, loss=1.0)
    assert rows(tmp_path)[0][0][0] == 7


@pytest.mark.parametrize("n", [None, 1.5, "7", Tensor(), 1 << 63, -(1 << 70)])
def test_a_step_that_is_no_whole_number_of_64_bits_is_left_out(tmp_path: Path, n: Any) -> None:
    one = reporter(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one.step(n)
    assert rows(tmp_path)[0] == []


def test_names_past_the_last_column_are_left_out_and_not_remembered(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for n in range(500):
            one.step(n, **{f"loss_{n}": 1.0})
    assert len(one._columns) == COLUMNS
    assert len(said) == 64
    assert "one number too many" in str(said[0].message)


def test_the_ring_holds_the_last_steps_and_counts_what_was_overwritten(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    for n in range(SLOTS + 100):
        one.step(n)
    found, written, lost = rows(tmp_path)
    assert [row[0] for row in found] == list(range(101, SLOTS + 100))
    assert (written, lost) == (SLOTS + 100, 101)
    assert rows(tmp_path, after=written) == ([], written, 0)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_every_step_is_read_once_or_counted(bursts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one = reporter(Path(folder))
        ring = Ring(f"{folder}/rank0.ring")
        after = n = counted = 0
        seen: list[int] = []
        for burst in bursts:
            for _ in range(burst):
                one.step(n)
                n += 1
            found, after, lost = ring.records(after)
            seen.extend(row[0] for row in found)
            counted += lost
        assert seen == sorted(set(seen))
        assert len(seen) + counted == n
        ring.close()


_ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()),
    st.builds(Tensor), st.builds(object),
)  # fmt: skip


@given(_ANYTHING, st.dictionaries(st.text(), _ANYTHING, max_size=4), _ANYTHING, _ANYTHING)
@settings(max_examples=60, deadline=None)
def test_no_argument_raises(n: Any, numbers: dict[str, Any], name: Any, device: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in (reporter(Path(folder)), Silent()):
            with one.phase(name, device=device), one.phase(name):
                one.step(n, **numbers)


# --- phases


def test_a_phase_is_open_within_its_block_and_its_time_goes_with_the_next_step(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    ring = Ring(str(tmp_path / "rank0.ring"))
    with one.phase("evaluation"):
        assert ring.phase()[0] == "evaluation"
        with one.phase("forward"):
            assert ring.phase()[0] == "forward"
        assert ring.phase()[0] == "evaluation"
    assert ring.phase() == ("", 0.0)
    one.step(1)
    one.step(2)
    first, second = (row[2] for row in ring.records(0)[0])
    assert set(first) == {"step_s", "phase.evaluation_s", "phase.forward_s"}
    assert set(second) == {"step_s"}
    ring.close()


def test_a_phase_ends_with_an_error_in_its_block_and_lets_it_pass(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    with pytest.raises(KeyError), one.phase("forward"):
        raise KeyError("the script's own")
    assert one._ring.phase() == ("", 0.0)


def test_phases_past_the_last_name_are_silent(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    for n in range(PHASE_NAMES + 20):
        with one.phase(f"p{n}"):
            pass
    assert one._ring.phase() == ("", 0.0)
    assert len(one._phases) == PHASE_NAMES


class Event:
    """A CUDA event; `breaks` names the calls that fail."""

    breaks: frozenset[str] = frozenset()

    def __init__(self, enable_timing: bool) -> None:
        self._fail("new")

    def _fail(self, call: str) -> None:
        if call in self.breaks:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def record(self) -> None:
        self._fail("record")

    def query(self) -> bool:
        self._fail("query")
        return True

    def elapsed_time(self, end: "Event") -> float:
        self._fail("elapsed")
        return 250.0


@pytest.mark.parametrize("call", ["", "new", "record", "query", "elapsed"])
def test_a_block_is_timed_on_the_device_and_a_broken_device_raises_nothing(tmp_path: Path, call: str) -> None:
    one = reporter(tmp_path)
    kind = type("Broken", (Event,), {"breaks": frozenset({call})})
    one._devices["forward"] = Timer("forward", one, type("Cuda", (), {"Event": kind}))
    with one.phase("forward", device=True):
        pass
    one._devices["forward"].read()  # the side thread does
    one.step(0)
    assert rows(tmp_path)[0][0][2].get("phase.forward.device_s") == (None if call else 0.25)


# --- which process speaks for a rank


def test_without_an_agent_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FTAGENT_DIR", raising=False)
    assert isinstance(current(), Silent)
    monkeypatch.setenv("FTAGENT_DIR", str(tmp_path / "gone"))
    assert isinstance(current(), Silent)


@pytest.mark.parametrize(("size", "told"), [("", [1]), ("eight", [1]), (str(1 << 80), None)])
def test_an_environment_of_nonsense_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: str, told: list[int] | None
) -> None:
    monkeypatch.setenv("FTAGENT_DIR", str(tmp_path))
    monkeypatch.setenv("RANK", "zero")
    monkeypatch.setenv("WORLD_SIZE", size)
    one = current()
    one.step(1)
    assert isinstance(one, Silent) == (told is None)
    if told is not None:
        assert [row[0] for row in rows(tmp_path)[0]] == told


def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    one.step(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests have threads, the child does not use them
        child = os.fork()
    if not child:
        one.step(2)
        with one.phase("data"):
            pass
        os._exit(0)
    os.waitpid(child, 0)
    one.step(3)
    assert [row[0] for row in rows(tmp_path)[0]] == [1, 3]


_SPAWNED = "import ftagent; ftagent.step(99); print(type(ftagent._reporter).__name__)"


def test_a_process_that_a_rank_starts_anew_leaves_the_ranks_ring_alone(tmp_path: Path) -> None:
    one = reporter(tmp_path)
    one.step(1)
    environment = {**os.environ, "FTAGENT_DIR": str(tmp_path), "RANK": "0"}
    done = subprocess.run([sys.executable, "-c", _SPAWNED], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "Silent", done.stderr
    one.step(2)
    assert [row[0] for row in rows(tmp_path)[0]] == [1, 2]


def test_a_rank_that_is_started_anew_gets_a_new_ring_and_who_reads_the_old_one_is_not_hurt(tmp_path: Path) -> None:
    environment = {**os.environ, "FTAGENT_DIR": str(tmp_path), "RANK": "0"}
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", _SPAWNED], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "Reporter", done.stderr
        old = Ring(str(tmp_path / "rank0.ring"))
        assert [row[0] for row in old.records(0)[0]] == [99]
    new = reporter(tmp_path)
    assert old.records(0)[1] == 1  # cut short under us it would have been a SIGBUS
    assert new._ring.inode != old.inode
    old.close()


# --- the ring as a file


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * SIZE, b"\xff" * SIZE])
def test_a_file_that_is_no_ring_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rank0.ring"
    path.write_bytes(content)
    with pytest.raises(RingError, match=r"rank0\.ring"):
        Ring(str(path))


@given(st.lists(st.tuples(st.integers(0, SIZE // 8 - 1), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_a_ring_full_of_nonsense_is_read_within_bounds(words: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one = reporter(Path(folder))
        one.step(1)
        for at, word in words:
            if at != W_MAGIC:
                one.q[at] = word
        ring = Ring(f"{folder}/rank0.ring")
        assert len(ring.records(0)[0]) <= SLOTS
        assert isinstance(ring.phase()[0], str)
        ring.close()


@pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])
def test_the_agent_is_python_3_8_with_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {node.module if isinstance(node, ast.ImportFrom) else alias.name for node in ast.walk(tree)
             if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}  # fmt: skip
    assert {str(name).split(".")[0] for name in names} <= {*sys.stdlib_module_names, "ftagent"}
