"""How often the verdict on a hang is right: simulated hangs of every cause, written to disk and judged by the offline diagnoser.

python -m bench.hang_verdicts [--hangs 64] [--first 0] [--only SEED] [--most-ranks 1024] [--processes 1] [--json]
    [--keep FOLDER]
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bench.hangs import CASES, Hang, describe, draw, write
from holdfast.faults import Judgement
from holdfast.offline import walk
from holdfast.plugins import load
from holdfast.ports import Input
from holdfast.verdict import Verdict

_SURE = 0.8


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One hang's result. exact: just the culprits, or a right answer without one; wrong: victims named with confidence over 0.8"""

    seed: int
    case: str
    ranks: int
    exact: bool
    cause: bool
    wrong: tuple[int, ...]
    culprits: tuple[int, ...]
    verdict: str
    named: tuple[tuple[int, str, float], ...]
    about: str
    megabytes: float
    made_s: float
    judged_s: float


def _cpu_s() -> float:
    """Processor time of this process and of those that it had read files."""
    return sum(os.times()[:4])


def judge(hang: Hang, folder: Path, made_s: float, size: int) -> Judged:
    """Judge what lies in a folder as `holdfast diagnose hang FOLDER` does."""
    begun = _cpu_s()
    inputs = [Input(name=name, path=path) for name, path in walk([str(folder)])]
    verdict: Verdict = load("diagnosers", "hang")().diagnose(inputs, {})
    took_s = _cpu_s() - begun
    named = tuple((int(c.id), c.cause, c.confidence) for c in verdict.culprits)
    truth, ids = hang.stand.truth, {rank for rank, _, _ in named}
    without = verdict.verdict in hang.verdicts - {Judgement.CULPRIT}
    within = hang.needed <= ids <= set(truth.causes) and (bool(ids) or not truth.causes)
    exact = without or (truth.verdict is verdict.verdict and within)
    cause = without or (exact and all(cause in {c.value for c in hang.causes(rank)} for rank, cause, _ in named))
    wrong = tuple(rank for rank, _, sure in named if rank not in truth.causes and sure > _SURE)
    return Judged(
        seed=hang.seed, case=hang.case.value, ranks=hang.stand.scene.layout.world, exact=exact, cause=cause, wrong=wrong,
        culprits=tuple(truth.causes), verdict=verdict.verdict.value, named=named[:8], about=describe(hang), megabytes=size / 1e6,
        made_s=made_s, judged_s=took_s,
    )  # fmt: skip


def run(seed: int, *, most_ranks: int, keep: Path | None) -> Judged:
    """Draw, write and judge one hang; `keep` leaves the files in a folder by seed."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep / str(seed) if keep else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        begun = _cpu_s()
        hang = draw(seed, most_ranks)
        size = write(hang, folder)
        return judge(hang, folder, _cpu_s() - begun, size)


def table(results: Sequence[Judged]) -> str:
    """The results by cause, as Markdown."""
    lines = [
        "| cause (simulated) | hangs | culprits exact | cause right | wrong rank over 0.8 |",
        "|---|---|---|---|---|",
    ]
    for case in (*dict.fromkeys(c.value for c in CASES), "all"):
        own = [r for r in results if case in (r.case, "all")]
        if own:
            shares = (
                f"{sum(flags)} ({sum(flags) / len(own):.0%})"
                for flags in ([r.exact for r in own], [r.cause for r in own])
            )
            lines.append(f"| {case} | {len(own)} | {' | '.join(shares)} | {sum(bool(r.wrong) for r in own)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and a line that repeats each hang that was judged wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hangs", type=int, default=64)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", default=[])
    parser.add_argument("--most-ranks", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    seeds = asked.only or range(asked.first, asked.first + asked.hangs)
    one = partial(run, most_ranks=asked.most_ranks, keep=asked.keep)
    if asked.processes > 1:
        with ProcessPoolExecutor(asked.processes) as pool:
            results = list(pool.map(one, seeds))
    else:
        results = [one(seed) for seed in seeds]
    if asked.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
        return
    print(table(results))
    made, judged = (sum(values) for values in ([r.made_s for r in results], [r.judged_s for r in results]))
    size = sum(r.megabytes for r in results)
    print(
        f"\n{len(results)} hangs, {size:.0f} MB of evidence: made in {made:.0f} s, judged in {judged:.0f} s of processor time"
    )
    for r in results:
        if asked.only or not (r.exact and r.cause) or r.wrong:
            said = ", ".join(f"{rank} {cause} {sure:.2f}" for rank, cause, sure in r.named) or "none"
            print(f"\npython -m bench.hang_verdicts --only {r.seed}{_bound(asked.most_ranks)}  # {r.about}")
            print(f"  truth: {', '.join(map(str, r.culprits)) or 'nobody'}; verdict {r.verdict}: {said}")


def _bound(most_ranks: int) -> str:
    return f" --most-ranks {most_ranks}" if most_ranks != 1024 else ""


if __name__ == "__main__":
    main()
