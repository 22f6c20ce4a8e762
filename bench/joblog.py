"""Lines a second in which job output is read by rules, lines looked at for novelty, and memory: processor time of one core.

python -m bench.joblog
"""

import resource
import time

from detectors.joblog.novelty import Novelty
from detectors.joblog.reading import Reading
from detectors.joblog.rules import Rules

LINES, ALL, EVERY = 400_000, 4_000_000, 100
BLOCK = 1 << 22

USUAL = (
    "[rank{r}]:[I1124 10:00:{s:02d}.123456 ProcessGroupNCCL.cpp:934] [PG 0 Rank {r}] Broadcast of unique id took {n} us",
    "node{r:02d}: 2026-11-24 10:00:{s:02d},123 INFO data.py:88 shard {n} of 4096 opened in 0.12 s",
    " [2026-11-24 10:00:{s:02d}.123456] iteration {n:8d}/  500000 | consumed samples: {n:12d} | "
    "elapsed time per iteration (ms): 1234.5 | throughput per GPU (TFLOP/s/GPU): 412.3 | learning rate: 1.500000E-04 | "
    "global batch size:  1024 | lm loss: 2.3{s:02d}000E+00 | loss scale: 1.0 | grad norm: 0.2{s:02d} | "
    "number of skipped iterations:   0 | number of nan iterations:   0 |",
    "node{r:02d}:{n}:812 [{r}] NCCL INFO Channel {r:02d}/24 : {r}[{r}] -> {s}[{s}] via P2P/IPC/read",
    "  {n}%|####      | warming the cache of shard {s}",
)
HITS = (
    "[rank{r}]: OSError: [Errno 116] Stale file handle: '/data/shard-{n}'",
    "node{r:02d}:{n}:812 [{r}] transport/net_ib.cc:95 NCCL WARN NET/IB : Got completion from peer 192.0.2.{r}<{n}> with status=12",
    "W1124 10:00:{s:02d}.000000 77 torch/distributed/elastic/multiprocessing/api.py:900] Sending process {n} closing signal SIGTERM",
    "[rank{r}]:[E1124 10:00:{s:02d}.123456 ProcessGroupNCCL.cpp:683] [Rank {r}] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum={n}, OpType=ALLREDUCE, NumelIn=80, NumelOut=80, Timeout(ms)=600000) ran for 600096 milliseconds",
)
VARIED = (
    "loader {r} of shard {n} read {s} files of set-{letter} from /data/{letter}/{n} at 0x7f{n:06x}",
    "tokenizer {letter}{letter} merged {n} pairs, {s} of them new, kept in cache {letter}-{s}",
    "{letter} observer of block {n}: moved weights of layer {s} from stage {r} to stage {s}",
)


def text(forms: tuple[str, ...], lines: int, *, hits: tuple[str, ...] = ()) -> bytes:
    """Made up output; every `EVERY`th line one of `hits`."""
    rows = []
    for n in range(1, lines + 1):
        form = hits[n // EVERY % len(hits)] if hits and n % EVERY == 0 else forms[n % len(forms)]
        rows.append(form.format(n=n, r=n % 8, s=n % 60, letter=chr(97 + n % 26)))
    return ("\n".join(rows) + "\n").encode()


def by_rules(data: bytes, rules: Rules, *, times: int = 1) -> tuple[float, int]:
    """Lines a second, and how many that mean something were kept; the data is read over and over."""
    reading, number = Reading(rules), 1
    begun = time.process_time()
    for _ in range(times):
        at = 0
        while at < len(data):
            end = data.rfind(b"\n", at, at + BLOCK) + 1 or len(data)
            reading.feed("rank0.log", number, data[at:end])
            number += data.count(b"\n", at, end)
            at = end
    return (number - 1) / (time.process_time() - begun), len(reading.marks)


def by_novelty(data: bytes) -> tuple[float, int]:
    """Lines a second, and how many templates they have."""
    told, lines = Novelty(most_lines=1 << 30), data.count(b"\n")
    begun = time.process_time()
    told.healthy("rank0.log", 1, data, "node00")
    return lines / (time.process_time() - begun), len(told.known)


def memory_mb() -> float:
    """The most this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the figures."""
    rules = Rules.read()
    by_rules(b"\n", rules)  # the scanner is made once
    data = text(USUAL, LINES, hits=HITS)
    size = len(data) / LINES
    rate, marks = by_rules(data, rules)
    print(f"by rules, 1 in {EVERY} lines a hit: {rate:,.0f} lines a second of {size:.0f} bytes, {marks:,} marks")
    before = memory_mb()
    rate, marks = by_rules(data, rules, times=ALL // LINES)
    print(f"{ALL:,} lines: {rate:,.0f} a second, {marks:,} marks, {memory_mb() - before:.0f} MB more than before")
    rate, templates = by_novelty(text(USUAL, LINES))
    print(f"novelty, the usual lines: {rate:,.0f} lines a second, {templates:,} templates")
    rate, templates = by_novelty(text(VARIED, LINES // 4))
    print(f"novelty, lines that vary: {rate:,.0f} lines a second, {templates:,} templates")


if __name__ == "__main__":
    main()
