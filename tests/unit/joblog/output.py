"""Output of jobs in few words: step lines, tracebacks, timeouts, and what launchers print when a worker has gone."""

from pathlib import Path

from detectors.joblog.offline import Job
from holdfast.ports import Input
from holdfast.verdict import Verdict

FRAMES = (
    "Traceback (most recent call last):",
    '  File "/opt/app/train.py", line 88, in main',
    "    out = model(batch)",
    '  File "/usr/lib/python3/site-packages/torch/nn/modules/module.py", line 1500, in _call_impl',
    "    return forward_call(*args)",
)
DONE = "[after training is done] datetime: 2024-03-02 12:00:00"
DAY = "2024-03-02"


def clock(second: int) -> str:
    """A time of day, so many seconds after ten."""
    return f"{10 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"


def steps(count: int = 20, *, first: int = 0, every_s: int = 60, ahead_s: int = 0) -> str:
    """Step lines; ahead_s: by how much their clock is ahead."""
    return "".join(
        f" [{DAY} {clock(ahead_s + n * every_s)}.000000] iteration {n:8d}/  500000 | consumed samples: {n * 8:12d} | "
        f"elapsed time per iteration (ms): 1234.5 | lm loss: 2.3E+00 | grad norm: 0.2 |\n"
        for n in range(first, first + count)
    )


def trace(message: str, prefix: str = "", *, at: int | None = None) -> str:
    """A traceback, each line behind the prefix of its writer; at: seconds after ten, in a line before it."""
    front = f"{DAY} {clock(at)},000 ERROR train.py failed\n" if at is not None else ""
    return front + "".join(f"{prefix}{line}\n" for line in (*FRAMES, *message.split("\n")))


def timeout(
    rank: int,
    *,
    work: int = 78,
    enqueued: int = 79,
    op: str = "ALLREDUCE",
    group: str = "0(default_pg)",
    at: int = 2400,
) -> str:
    """What a rank prints that has waited for its peers in vain."""
    front = f"[rank{rank}]:[E302 {clock(at)}.000000000 ProcessGroupNCCL.cpp:683]"
    late = (
        f"Watchdog caught collective operation timeout: WorkNCCL(SeqNum={work}, OpType={op}, NumelIn=80, NumelOut=80, "
        "Timeout(ms)=600000) ran for 600096 milliseconds before timing out."
    )
    return (
        f"{front} [Rank {rank}] {late}\n"
        f"{front} [PG ID 0 PG GUID {group} Rank {rank}]  failure detected by watchdog at work sequence id: {work} "
        f"PG status: last enqueued work: {enqueued}, last completed work: {work - 1}\n"
        f"{front} [Rank {rank}] To avoid data inconsistency, we are taking the entire process down.\n"
        f"{front} [PG ID 0 PG GUID {group} Rank {rank}] Process group watchdog thread terminated with exception: [Rank {rank}] {late}\n"
        f"terminate called after throwing an instance of 'c10::DistBackendError'\n"
    )


def observed(rank: int, *, work: int = 77, of: int = 1) -> str:
    """What a rank prints that was outside a collective when another gave up."""
    return (
        f"[rank{rank}]:[E302 {clock(2401)}.000000000 ProcessGroupNCCL.cpp:1744] [PG ID 0 PG GUID 0(default_pg) Rank {rank}] "
        f"Received a dump signal due to a collective timeout from  rank {of} and we will try our best to dump the debug info. "
        f"Last enqueued NCCL work: {work}, last completed NCCL work: {work}.\n"
    )


def failed(code: int, *, rank: int = 3, host: str = "gpu-12", said: str = "To enable traceback see") -> str:
    """torchrun's last words."""
    return (
        f"W0302 {clock(2402)}.000000 140 torch/distributed/elastic/multiprocessing/api.py:900] Sending process 17 closing signal SIGTERM\n"
        f"E0302 {clock(2402)}.000000 140 torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: {code}) "
        f"local_rank: {rank} (pid: 16) of binary: /opt/conda/bin/python\n"
        "train.py FAILED\nFailures:\n  <NO_OTHER_FAILURES>\nRoot Cause (first observed failure):\n[0]:\n"
        f"  time      : {DAY}_{clock(2402)}\n  host      : {host}\n  rank      : {rank} (local_rank: {rank})\n"
        f"  exitcode  : {code} (pid: 16)\n  error_file: <N/A>\n  traceback : {said}\n"
    )


def diagnose(folder: Path, files: dict[str, str]) -> Verdict:
    """The verdict on files of these names and texts."""
    inputs = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        inputs.append(Input(name=name, path=path))
    return Job().diagnose(inputs, {})
