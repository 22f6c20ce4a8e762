"""A reading that is kept in the middle of a line, and gone on from, says what it would have said anyway."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.joblog import reading as joblog
from detectors.joblog import rules as joblog_rules
from detectors.joblog.marks import Memory
from detectors.npd import reading as npd
from detectors.npd import rules as npd_rules

OUTPUT = """\
[rank0]: step 1 loss 2.0
[rank1]: Traceback (most recent call last):
[rank0]:  iteration        3/     100 | consumed samples: 12 | lm loss: 2.0E+00 |
[rank1]:   File "/opt/job/train.py", line 12, in <module>
[rank1]:     main()
[rank1]: ValueError: label 7 out of range

[rank1]: During handling of the above exception, another exception occurred:

[rank1]: Traceback (most recent call last):
[rank1]:   File "/opt/job/train.py", line 14, in <module>
[rank1]:     close()
[rank1]: OSError: already closed
[rank0]: RuntimeError: NCCL error: remote process exited or there was a network error
""".splitlines()

KERNEL = """\
[    1.0] NVRM: The NVIDIA GPU 0000:b3:00.0
[    1.1] NVRM: (PCI ID: 10de:2330) installed in this system has
[    1.2] NVRM: fallen off the bus and is not responding to commands.
[    2.0] NVRM: Xid (PCI:0000:1b:00): 48, pid=1, name=python3, An uncorrectable double bit error (DBE)
[    2.1] NVRM: Xid (PCI:0000:1b:00): 48, pid=1, name=python3, An uncorrectable double bit error (DBE)
""".splitlines()

JOBLOG, NPD = joblog_rules.Rules.read(), npd_rules.Rules.read()


def block(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def through(memory: Memory) -> Memory:
    """A memory as it comes back from where it was kept."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(memory), type=Memory)


@given(st.lists(st.integers(1, len(OUTPUT) - 1), max_size=4, unique=True).map(sorted))
def test_a_jobs_output(cuts: list[int]) -> None:
    whole = joblog.Reading(JOBLOG)
    other = joblog.Reading(JOBLOG)
    for begin, end in zip([0, *cuts], [*cuts, len(OUTPUT)], strict=True):
        whole.feed("rank.log", begin + 1, block(OUTPUT[begin:end]))
        other.feed("rank.log", begin + 1, block(OUTPUT[begin:end]))
        kept = through(other.memory())
        other = joblog.Reading(JOBLOG)
        other.recall(kept)
    whole.close()
    other.close()
    assert through(other.memory()) == through(whole.memory())
    assert next(m.signature for m in whole.marks.values() if m.rank == 1) == "ValueError: label <n> out of range @ train.py:12"


@pytest.mark.parametrize("cut", range(1, len(KERNEL)))
def test_a_kernels_log(cut: int) -> None:
    reading = npd.Reading(NPD)
    reading.feed("kmsg", 1, block(KERNEL[:cut]))
    kept = msgspec.msgpack.encode(reading.memory())
    other = npd.Reading(NPD)
    other.recall(msgspec.msgpack.decode(kept, type=npd.Memory))
    other.feed("kmsg", cut + 1, block(KERNEL[cut:]))
    said = [(noted.code, noted.device, noted.line, noted.count) for noted in other.found.values()]
    assert said == [(79, "0000:b3:00", 1, 1), (48, "0000:1b:00", 4, 2)]
