"""Step lines in the forms in which frameworks print them, and in what launchers, terminals and restarts make of them."""

import io
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.training.steplines import Record, Steplines

MEGATRON = (
    " [2026-03-01 10:00:00.123456] iteration       12/    5000 | consumed samples:        12288 | elapsed time per iteration (ms): 812.5 | "
    "throughput per GPU (TFLOP/s/GPU): 401.2 | learning rate: 1.250000E-05 | global batch size:  1024 | lm loss: 9.125000E+00 | "
    "loss scale: 65536.0 | grad norm: 1.750 | num zeros: 0 | number of skipped iterations:   1 | number of nan iterations:   0 |"
)
SECONDS = (
    "[default7]: iteration    2200/   9000 | consumed samples:      4505600 | consumed tokens:   9227468800 | "
    "elapsed time per iteration (s): 81.25 | learning rate: 5.5E-05 | global batch size:  2048 | lm loss: 2.5E+00 | grad norm: 0.25 | "
    "number of skipped iterations:   0 | number of nan iterations:   0 | samples per second: 25.206 | TFLOPs: 140.11 |"
)
TOKENS = (
    "[2026-03-01 10:00:00] iteration       40/     900 | consumed samples: 640 | elapsed time per iteration (ms): 500.0 | "
    "throughput (token/sec/GPU): 4096.5 | flop throughput (TFLOP/sec/GPU): 310.0 | learning rate: 1.0E-05 | global batch size: 16 | "
    "lm loss: 1.5E+00 | loss scale: 1.0 | grad norm: 0.5 | number of skipped iterations: 0 | number of nan iterations: 0 |"
)
NO_LOSS = (
    " iteration       13/    5000 | consumed samples: 13312 | elapsed time per iteration (ms): 800.0 | learning rate: 1.25E-05 | "
    "global batch size:  1024 | loss scale: 1.0 | grad norm: nan | number of skipped iterations:   0 | number of nan iterations:   1 |"
)


def read(text: str, *, held: int = 4096) -> list[Record]:
    return list(Steplines(held=held).read(io.BytesIO(text.encode())))


def told(record: Record, names: str) -> list[Any]:
    return [None if (v := getattr(record, name)) is None else pytest.approx(v, nan_ok=True) for name in names.split()]


@pytest.mark.parametrize(
    ("line", "names", "values"),
    [
        pytest.param(
            MEGATRON,
            "step loss grad_norm lr step_s loss_scale skipped", [12, 9.125, 1.75, 1.25e-5, 0.8125, 65536.0, 1], id="Megatron, in ms",
        ),
        pytest.param(
            SECONDS,
            "step loss grad_norm step_s samples_per_s", [2200, 2.5, 0.25, 81.25, 25.206], id="Megatron-DeepSpeed, in s",
        ),
        pytest.param(TOKENS, "step loss step_s tokens_per_s", [40, 1.5, 0.5, 4096.5], id="tokens a second and GPU"),
        pytest.param(
            NO_LOSS,
            "step loss grad_norm nan_iterations", [13, math.nan, math.nan, 1], id="a loss left out because it is none is NaN",
        ),
        pytest.param(
            "[2026-03-01 10:00:01,100] [INFO] [timer.py:215:stop] epoch=0/micro_step=68/global_step=34, RunningAvgSamplesPerSec=7.5, "
            "CurrSamplesPerSec=8.25, MemAllocated=50.1GB, MaxMemAllocated=60.2GB",
            "step samples_per_s loss", [34, 8.25, None], id="DeepSpeed's timer",
        ),
        pytest.param(
            "[2026-03-01 10:00:01,100] [INFO] [logging.py:96:log_dist] [Rank 0] step=35, skipped=2, lr=[2.5e-07, 2.5e-07], mom=[[0.9]]",
            "step lr skipped", [35, 2.5e-7, 0], id="DeepSpeed's optimiser, whose count is a running one",
        ),
        pytest.param(
            "192.0.2.1: steps: 260 loss: 2.25 iter time (s): 1.5 samples/sec: 12.5",
            "step loss step_s samples_per_s", [260, 2.25, 1.5, 12.5], id="DeepSpeed's pipeline",
        ),
        pytest.param(
            "{'loss': 1.25, 'grad_norm': nan, 'learning_rate': 0.0001, 'epoch': 0.5}",
            "step loss grad_norm lr", [1, 1.25, math.nan, 1e-4], id="a Python dict with nan",
        ),
        pytest.param(
            "{'loss': '1.25', 'grad_norm': '0.5', 'learning_rate': '1e-04', 'epoch': '0.5'}",
            "loss grad_norm lr", [1.25, 0.5, 1e-4], id="a dict of quoted numbers",
        ),
        pytest.param(
            "  3%|3    | 30/1000 [00:10<05:00,  3.2it/s]{'loss': 1.25, 'epoch': 0.5}",
            "step loss", [30, 1.25], id="a dict after a progress bar has its step",
        ),
        pytest.param(
            '{"current_steps": 30, "total_steps": 90, "loss": 4.5, "lr": 1e-05, "epoch": 0.3, "elapsed_time": "0:01:00", '
            '"remaining_time": "0:02:00", "throughput": 900.5, "total_tokens": 54000}',
            "step loss lr tokens_per_s", [30, 4.5, 1e-5, None], id="LLaMA-Factory; its throughput is that of the run so far",
        ),
        pytest.param(
            '{"current_steps": 30, "total_steps": 90, "loss": 4.5, "eval_loss": null, "predict_loss": null, "reward": null, '
            '"learning_rate": 1e-05, "epoch": 0.3}',
            "step loss lr", [30, 4.5, 1e-5], id="LLaMA-Factory of old, with nulls",
        ),
        pytest.param(
            "step:7/1530 train_loss:9.25 train_time:31724ms step_avg:nanms",
            "step loss step_s", [7, 9.25, None], id="key:value",
        ),
        pytest.param(
            "iter 100: loss 2.5000, time 250.00ms, mfu 3.10%",
            "step loss step_s", [100, 2.5, 0.25], id="nanoGPT",
        ),
        pytest.param(
            "step   11/19560 | loss 10.5 (+nanz)| norm 15.5 (+nanz)| lr 7.5e-07 | 1234.56 ms | 30.1% bf16 MFU",
            "step loss grad_norm lr", [11, 10.5, 15.5, 7.5e-7], id="llm.c",
        ),
        pytest.param(
            "\x1b[31m[rank0]:step:  5  \x1b[32mloss:  8.25  \x1b[33mgrad_norm:  1.5  \x1b[34mtps: 1,250  \x1b[0m",
            "step loss grad_norm tokens_per_s", [5, 8.25, 1.5, 1250.0], id="torchtitan in colours",
        ),
        pytest.param(
            "INFO Epoch 1, Step: 300, Loss: 2.5, LR: 0.001",
            "step loss lr", [300, 2.5, 1e-3], id="a script of one's own",
        ),
        pytest.param(
            '{"step": 9, "train/loss": 2.5, "train/grad_norm": 0.5, "step_time": 0.75}',
            "step loss grad_norm step_s", [9, 2.5, 0.5, 0.75], id="JSON of one's own",
        ),
    ],
)  # fmt: skip
def test_a_step_line(line: str, names: str, values: list[Any]) -> None:
    (record,) = read(f"starting\n{line}\ndone\n")
    assert values == told(record, names)
    assert record.line == 2


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("{'train_runtime': '2219', 'train_loss': '1.5', 'epoch': '3'}", id="the summary of a run"),
        pytest.param("step:125/1530 val_loss:4.4025 train_time:18466ms step_avg:160.58ms", id="an evaluation"),
        pytest.param("step 250: train loss 2.1, val loss 2.2", id="an evaluation that tells of both losses"),
        pytest.param("{'eval_loss': 1.5, 'eval_runtime': 12.5, 'epoch': 1.0}", id="an evaluation in a dict"),
        pytest.param('{"current_steps": 90, "total_steps": 90, "epoch": 1.0, "elapsed_time": "0:03:00"}', id="LLaMA-Factory's last line"),
        pytest.param("loss of precision in step 4 of the plan", id="prose"),
        pytest.param("{'loss': __import__('os').getcwd()}", id="code"),
        pytest.param("saving checkpoint at iteration    3000 to ckpt", id="a checkpoint"),
        pytest.param("{" * 4000 + "'loss':", id="braces without end"),
    ],
)  # fmt: skip
def test_no_step_line(line: str) -> None:
    assert read(f"{line}\n") == []


@pytest.mark.parametrize("width", [60, 80, 100, 132])
def test_a_record_that_a_terminal_has_wrapped_is_whole(width: int) -> None:
    wrapped = "\n".join(MEGATRON[n : n + width] for n in range(0, len(MEGATRON), width))
    first, second = read(f"{wrapped}\nsome words\n{MEGATRON.replace('   12/', '   13/')}\n")
    assert (first.line, first.step, first.loss, first.skipped) == (1, 12, 9.125, 1)
    assert (second.step, second.loss, second.grad_norm) == (13, 9.125, 1.75)


def test_a_wrapped_dict_and_a_wrapped_row_are_whole() -> None:
    text = (
        "{'loss': 1.25, 'grad_norm': 0.5, 'learn\ning_rate': 0.0001, 'epoch': 0.5}\nnothing\n"
        "INFO train.py: a long front so that it is as wide as a terminal step: 7 loss:\n 2.5\n"
    )
    first, second = read(text)
    assert (first.loss, first.lr, first.line) == (1.25, 1e-4, 1)
    assert (second.step, second.line) == (7, 4)


def test_a_clock_that_runs_on_gives_the_time_of_each_step_and_none_where_it_is_set_back() -> None:
    text = "".join(
        f"step:{n}/90 train_loss:3.0 train_time:{t}ms step_avg:1.0ms\n"
        for n, t in [(1, 9000), (2, 9100), (3, 150), (4, 350), (6, 950)]
    )
    assert [record.step_s for record in read(text)] == [
        None, pytest.approx(0.1), None, pytest.approx(0.2), pytest.approx(0.3),
    ]  # fmt: skip


def test_ranks_that_tell_of_the_same_step_make_one_record() -> None:
    text = "".join(
        f"[rank{rank}]: step: {step} loss: {3.0 - step / 100:.2f}\n"
        for step in range(1, 9)
        for rank in (step % 3, 0, 1, 2)
    )
    assert [record.step for record in read(text)] == list(range(1, 9))


def test_ranks_whose_output_came_in_chunks_make_one_record_too() -> None:
    own = {rank: "".join(f"[rank{rank}]: step: {n} loss: 3.{n:02d}\n" for n in range(50)) for rank in range(3)}
    nameless = "".join(f"step: {n} loss: 3.{n:02d}\n" for n in range(50))
    assert [record.step for record in read("".join(own.values()))] == list(range(50))
    records = read(nameless * 3)
    assert [(record.step, record.attempt) for record in records] == [(n, 0) for n in range(50)]


def test_two_lines_of_one_step_add_to_each_other() -> None:
    text = (
        "[2026-03-01 10:00:01,100] [INFO] [logging.py:96:log_dist] [Rank 0] step=12, skipped=0, lr=[2.5e-07], mom=[[0.9, 0.95]]\n"
        f"vm-07-14: {MEGATRON}\n"
    )
    (record,) = read(text)
    assert (record.loss, record.lr, record.line) == (9.125, 2.5e-7, 1)


@pytest.mark.parametrize(
    "prefix",
    ["", "[rank3]: ", "0: [2026-03-01 10:00:00] ", "worker-1: ", "[pod/train-0/main] "],
    ids=lambda p: p or "bare",
)
def test_a_step_that_goes_back_begins_another_attempt(prefix: str) -> None:
    rows = [*range(10, 31), *range(20, 26), *range(20, 31)]
    records = read("".join(f"{prefix}step: {n} loss: {3 + m / 1000}\n" for m, n in enumerate(rows)))
    assert [(r.attempt, r.step) for r in records] == [
        *((0, n) for n in range(10, 31)), *((1, n) for n in range(20, 26)), *((2, n) for n in range(20, 31)),
    ]  # fmt: skip


def test_records_without_a_step_are_counted_and_go_back_with_their_epoch() -> None:
    rows = [(1.0 + n / 100, n / 10) for n in range(1, 11)] + [(2.0 + n / 100, n / 10) for n in range(5, 9)]
    records = read("".join(f"{{'loss': {loss}, 'grad_norm': 1.0, 'epoch': {epoch}}}\n" for loss, epoch in rows))
    assert [(r.attempt, r.step) for r in records] == [*((0, n) for n in range(1, 11)), *((1, n) for n in range(4, 8))]


def test_a_thrown_away_step_is_told_with_the_next() -> None:
    text = (
        "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768\n"
        "step: 3 loss: 2.5\n"
        "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 32768, but hysteresis is 2. Reducing hysteresis to 1\n"
        "Exception: Current loss scale already at minimum - cannot decrease scale anymore. Exiting run.\n"
    )
    (record,) = read(text)
    assert (record.skipped, record.loss_scale, record.scale_gone) == (2, 32768.0, True)


def test_a_checkpoint_and_an_evaluation_are_told_with_the_step_after_them() -> None:
    text = "step: 1 loss: 2.5\n  successfully saved checkpoint at iteration 1\nstep: 2 loss: 2.5\nstep: 3 loss: 2.5\n"
    assert [record.paused for record in read(text)] == [False, True, False]


def test_what_is_held_back_is_bounded_and_what_comes_too_late_is_counted() -> None:
    parser = Steplines(held=64)
    text = "".join(f"[rank0]: step: {n} loss: 2.5\n" for n in range(1000)) + "[rank1]: step: 1 loss: 2.5\n"
    records = list(parser.read(io.BytesIO(text.encode())))
    assert [record.step for record in records] == list(range(1000))
    assert (parser.records, parser.late) == (1000, 1)


LINES = [
    MEGATRON, SECONDS, NO_LOSS, "{'loss': 1.25, 'grad_norm': nan, 'epoch': 0.5}", '{"current_steps": 30, "loss": 4.5}', "step:7/9 loss:1.5",
    "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 65536, reducing to 32768", "\x1b[31mstep: 1 loss: 2\x1b[0m",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(LINES), st.integers(0, 400), st.integers(0, 60), st.text(max_size=8)), max_size=12
    ),
    split=st.integers(0, 3000),
)
def test_mutated_lines_give_ordered_records_whatever_is_in_them(
    rows: list[tuple[str, int, int, str]], split: int
) -> None:
    text = "\n".join(line[:at] + put + line[at + cut :] for line, at, cut, put in rows).encode("utf-8", "replace")
    parser = Steplines(held=8)
    cut = text.rfind(b"\n", 0, split) + 1
    records = [*parser.feed(1, text[:cut]), *parser.feed(1 + text[:cut].count(b"\n"), text[cut:]), *parser.close()]
    places = [(record.attempt, record.step) for record in records]
    assert places == sorted(set(places))
    assert all(1 <= record.line <= text.count(b"\n") + 1 for record in records)


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=400), word=st.sampled_from([b"loss", b"iteration 1/2 | lm loss: ", b"{'loss': ", b"step:"])
)
def test_any_bytes_are_read(data: bytes, word: bytes) -> None:
    records = list(Steplines().read(io.BytesIO(word + data)))
    assert all(record.step >= 0 for record in records)
