"""A million mutated kernel lines, and what they cost: `python -m bench.fuzz_lines [LINES] [SEED]`.

Lines that rules know, lines of a healthy node and pieces of both are cut, joined, repeated and filled with any bytes, then read
by words and, where the extra `[fast]` is there, by expressions. Printed: lines, findings, the slowest block against the usual
one, memory at its highest, and whether both ways say the same. A crash ends the run.
"""

import json
import resource
import sys
import time

from numpy.random import Generator, Philox

from bench.lines import NEAR, TRUE, USUAL
from detectors.npd.noted import MOST_FINDINGS
from detectors.npd.prefilter import is_installed
from detectors.npd.reading import Reading
from detectors.npd.rules import Rules

_BLOCK_LINES = 10_000
STAMPS = (
    "", "[   12.345678] ", "<3>[   12.345678] ", "kern  :err   : [   12.345678] ", "3,1021,12345678,-;", "[Mon Nov 24 16:00:00 2025] ",
    "Nov 24 16:00:00 n7 kernel: ", "2025-11-24T16:00:00,000000+00:00 ", '{"MESSAGE": "', '{"MESSAGE":[', "1764000000.1 n7 kernel: ",
)  # fmt: skip


def seeds_of(rules: Rules) -> list[bytes]:
    """What is mutated: known lines, and the words of every rule."""
    forms = [form.format(a=1234, b=567890, c=11).encode() for form in (*USUAL, *NEAR, *TRUE)]
    return forms + [f"{word}0000:3b:00.0 7 {word}".encode() for words in rules.words for word in words]


def mutated(draw: Generator, seeds: list[bytes]) -> bytes:
    """One line: a seed with some of its bytes gone, doubled or changed, behind some stamp."""
    line = bytearray(seeds[int(draw.integers(len(seeds)))])
    for _ in range(int(draw.integers(0, 5))):
        at, kind = int(draw.integers(len(line) + 1)), int(draw.integers(5))
        if kind == 0:
            del line[at : at + int(draw.integers(1, 20))]
        elif kind == 1:
            line[at:at] = draw.bytes(int(draw.integers(1, 12)))
        elif kind == 2:
            line[at:at] = line[max(0, at - 10) : at] * int(draw.integers(1, 40))
        elif kind == 3:
            line[at:at] = seeds[int(draw.integers(len(seeds)))]
        else:
            line[at:at] = b"()[]*+?{}\\^$|\"'\x00\xff: "[int(draw.integers(20)) :]
    stamp = STAMPS[int(draw.integers(len(STAMPS)))].encode() if draw.random() < 0.7 else b""
    return stamp + bytes(line)


def block_of(draw: Generator, seeds: list[bytes], lines: int) -> bytes:
    """So many lines; a newline that came in by chance makes more of them."""
    return b"\n".join(mutated(draw, seeds) for _ in range(lines)) + b"\n"


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    draw = Generator(Philox(key=int(sys.argv[2]) if len(sys.argv) > 2 else 7))
    rules = Rules.read()
    seeds = seeds_of(rules)
    ways = {fast: Reading(rules, fast=fast) for fast in ((False, True) if is_installed() else (False,))}
    took: list[float] = []
    first = 1
    while first <= lines:
        block = block_of(draw, seeds, min(_BLOCK_LINES, lines + 1 - first))
        for fast, reading in ways.items():
            began = time.process_time()
            reading.feed("kern.log", first, block)
            if not fast:
                took.append(time.process_time() - began)
        first += block.count(b"\n")
    base = ways[False]
    same = all(reading.memory() == base.memory() for reading in ways.values())
    print(
        json.dumps(
            {
                "lines": base.lines, "findings": len(base.found), "over_the_bound": base.dropped, "bound": MOST_FINDINGS,
                "block_cpu_s": {"median": round(sorted(took)[len(took) // 2], 3), "worst": round(max(took), 3)},
                "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), "both_ways_the_same": same,
            }
        )
    )  # fmt: skip
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
