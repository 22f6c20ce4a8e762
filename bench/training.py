"""Lines per second of one core's processor time out of which step lines are read: of output that holds none, and of each form.

python -m bench.training
"""

import time

from detectors.training.finite import Seen
from detectors.training.health import Health
from detectors.training.pace import Pace
from detectors.training.steplines import Steplines

NONE = (
    "[rank{r}]:[I1124 10:00:{s:02d}.123456 ProcessGroupNCCL.cpp:934] [PG 0 Rank {r}] Broadcast of unique id took {n} us",
    "node{r:02d}: 2026-11-24 10:00:{s:02d},123 INFO data.py:88 shard {n} of 4096 opened in 0.12 s",
    "NCCL INFO Channel {r:02d}/24 : {r}[{r}] -> {s}[{s}] via P2P/IPC/read",
    "  {n}%|####      | warming the cache of shard {s}",
)
FORMS = {
    "Megatron": " [2026-11-24 10:00:{s:02d}.123456] iteration {n:8d}/  500000 | consumed samples: {n:12d} | "
    "elapsed time per iteration (ms): 1234.5 | throughput per GPU (TFLOP/s/GPU): 412.3 | learning rate: 1.500000E-04 | "
    "global batch size:  1024 | lm loss: 2.3{s:02d}000E+00 | loss scale: 1.0 | grad norm: 0.2{s:02d} | "
    "number of skipped iterations:   0 | number of nan iterations:   0 |",
    "dict": "{{'loss': 2.3{s:02d}, 'grad_norm': 0.2{s:02d}, 'learning_rate': 0.00012, 'epoch': {n}.5}}",
    "JSON": '{{"current_steps": {n}, "total_steps": 999999, "loss": 2.3{s:02d}, "lr": 1e-05, "epoch": 0.99, '
    '"elapsed_time": "5:13:{s:02d}"}}',
    "key:value": "step:{n}/500000 train_loss:2.3{s:02d} train_time:{n}ms step_avg:174.05ms",
}


def block(forms: tuple[str, ...], lines: int) -> bytes:
    """Made up output, `lines` lines of it."""
    rows = (forms[n % len(forms)].format(n=n, r=n % 8, s=n % 60) for n in range(1, lines + 1))
    return "".join(f"{row}\n" for row in rows).encode()


def per_second(forms: tuple[str, ...], lines: int) -> tuple[float, int]:
    """Lines read a second of processor time, and records found in them."""
    data, parser = block(forms, lines), Steplines()
    begun = time.process_time()
    found = sum(1 for _ in parser.feed(1, data)) + sum(1 for _ in parser.close())
    return lines / (time.process_time() - begun), found


def main() -> None:
    """Print the rates of reading, and of judging what was read."""
    rate, found = per_second(NONE, 400_000)
    print(f"lines that are none: {rate:,.0f} a second, {found} records")
    for name, form in FORMS.items():
        rate, found = per_second((form,), 60_000)
        print(f"step lines, {name}: {rate:,.0f} a second, {found:,} records")
    health, pace, begun = Health(), Pace(), time.process_time()
    for n in range(20_000):
        for _ in health.take(Seen(n, loss=2.3 + n % 60 * 0.001, grad_norm=0.2 + n % 60 * 0.001)):
            pass
        for _ in pace.take(n, 1.2 + n % 7 * 0.001):
            pass
    print(f"judged by loss and by pace: {20_000 / (time.process_time() - begun):,.0f} steps a second")


if __name__ == "__main__":
    main()
