"""Kernel records: what is one, what is lost, and a device that comes and goes."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kmsg import Device, Kmsg, KmsgError, Read, Trouble, parse_record
from holdfast.events import Lines, Observation, Samples


@pytest.mark.parametrize(
    ("data", "level", "facility", "sequence", "text"),
    [
        pytest.param(b"3,12,340,-;NVRM: Xid\n", 3, 0, 12, "3,12,340,-;NVRM: Xid", id="a record of the kernel"),
        pytest.param(b"30,0,5,-;systemd[1]: up\n", 6, 3, 0, "30,0,5,-;systemd[1]: up", id="a record of a daemon"),
        pytest.param(
            b"6,7,9,-;mlx5_core 0000:14:00.0: Link down\n SUBSYSTEM=pci\n DEVICE=+pci:0000:14:00.0\n", 6, 0, 7,
            "6,7,9,-;mlx5_core 0000:14:00.0: Link down", id="the dictionary is dropped",
        ),
        pytest.param(b"4,1,2,c,caller=T1;half\n", 4, 0, 1, "4,1,2,c,caller=T1;half", id="further fields are passed over"),
        pytest.param(b"4,1,2,-;a;b,c", 4, 0, 1, "4,1,2,-;a;b,c", id="a message may hold what parts the head"),
        pytest.param(b"4,1,2,-;\xff\n", 4, 0, 1, "4,1,2,-;\ufffd", id="bytes that are no text are replaced"),
        pytest.param(b"4,1,2,-;", 4, 0, 1, "4,1,2,-;", id="an empty message"),
    ],
)  # fmt: skip
def test_a_record(data: bytes, level: int, facility: int, sequence: int, text: str) -> None:
    record = parse_record(data)
    assert (record.level, record.facility, record.sequence, record.text) == (level, facility, sequence, text)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"NVRM: Xid 79", id="a bare message"),
        pytest.param(b"3,12;text", id="too few fields"),
        pytest.param(b"3,-1,0,-;text", id="a number below nothing"),
        pytest.param(b"3,x,0,-;text", id="no number"),
        pytest.param(b"3,1,0," + b"-" * 500 + b";text", id="a head without end"),
    ],
)
def test_what_is_no_record_is_refused_and_shown(data: bytes) -> None:
    with pytest.raises(KmsgError, match="no record of /dev/kmsg"):
        parse_record(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        record = parse_record(data)
    except KmsgError:
        return
    assert 0 <= record.level <= 7
    assert "\n" not in record.text


def kmsg(*given: Iterable[tuple[str, bytes | Trouble, str]]) -> list[Observation]:
    """What is observed of polls that read these."""
    polls = iter(given)
    collector = Kmsg(read=lambda now: next(polls))
    return [seen for n in range(len(given)) for seen in collector.poll(float(n))]


def record(sequence: int, message: str = "x") -> bytes:
    return f"3,{sequence},{sequence * 10},-;{message}\n".encode()


def readings(seen: list[Observation], signal: str) -> list[float]:
    tables = [one for one in seen if isinstance(one, Samples) and signal in one.signals]
    return [float(one.values[0, one.signals.index(signal)]) for one in tables]


def test_records_of_a_node_travel_together_with_their_numbers_and_job() -> None:
    seen = kmsg([("n1", record(0), "j"), ("n2", record(8), ""), ("n1", record(1), "j")])
    lines = [one for one in seen if isinstance(one, Lines)]
    assert [(one.source, one.job, one.node, one.first, len(one.lines)) for one in lines] == [
        ("kmsg:n1", "j", "n1", 1, 2),
        ("kmsg:n2", "", "n2", 9, 1),
    ]
    assert readings(seen, "source.up") == [1.0, 1.0]


@pytest.mark.parametrize(
    ("numbers", "lost", "runs"),
    [
        pytest.param([5, 6, 7], [], [6], id="the first number seen is no gap"),
        pytest.param([5, 9], [3.0], [6, 10], id="a gap is counted and parts the lines"),
        pytest.param([5, 9, 12], [3.0, 5.0], [6, 10, 13], id="gaps add up"),
        pytest.param([5, 0, 1], [], [6, 1], id="a node that has booted anew begins again"),
    ],
)
def test_gaps(numbers: list[int], lost: list[float], runs: list[int]) -> None:
    seen = kmsg([("n", record(number), "") for number in numbers])
    assert readings(seen, "source.lost_total") == lost
    assert [one.first for one in seen if isinstance(one, Lines)] == runs


def test_an_overrun_and_a_malformed_record_are_counted_and_stop_nothing() -> None:
    seen = kmsg([("n", record(1), ""), ("n", Trouble.OVERRUN, ""), ("n", b"junk", ""), ("n", record(4), "")])
    assert readings(seen, "source.overruns_total")[-1] == 1.0
    assert readings(seen, "source.malformed_total")[-1] == 1.0
    assert readings(seen, "source.lost_total")[-1] == 2.0
    assert sum(len(one.lines) for one in seen if isinstance(one, Lines)) == 2


class Ring:
    """What a device gives, read by read: a record, or the error it raises."""

    def __init__(self, *given: bytes | OSError) -> None:
        self.given = list(given)

    def take(self, fd: int, most: int) -> bytes:
        if not self.given:
            raise BlockingIOError
        next_one = self.given.pop(0)
        if isinstance(next_one, OSError):
            raise next_one
        return next_one


def device(ring: Ring, *, path: str = "/dev/null", lookback_s: float = 1e9) -> Device:
    return Device(node="n", job="", path=path, lookback_s=lookback_s, retry_s=10.0, take=ring.take)


def test_a_device_is_read_until_it_would_wait() -> None:
    ring = Ring(record(1), BrokenPipeError(), record(5))
    read = list(device(ring).read(0.0))
    assert read == [Read("n", record(1)), Read("n", Trouble.OVERRUN), Read("n", record(5))]


def test_what_was_written_long_before_the_start_is_passed_over() -> None:
    ring = Ring(b"3,1,1,-;old\n", b"3,2,99999999999999999,-;new\n")
    assert [one.record for one in device(ring, lookback_s=0.0).read(0.0)] == [b"3,2,99999999999999999,-;new\n"]


def test_a_device_that_goes_is_opened_again_later_and_nothing_is_read_twice() -> None:
    ring = Ring(record(1), OSError("gone"), record(1), record(2))
    one = device(ring)
    assert [read.record for read in one.read(0.0)] == [record(1), Trouble.DOWN]
    assert list(one.read(5.0)) == []
    assert [read.record for read in one.read(10.0)] == [record(2)]
    one.close()


def test_a_device_that_is_not_there_is_down_at_each_try(tmp_path: object) -> None:
    collector = Kmsg(node="n", path=f"{tmp_path}/none", retry_s=10.0)
    said = [readings(list(collector.poll(now)), "source.up") for now in (0.0, 5.0, 10.0)]
    assert said == [[0.0], [], [0.0]]
