"""What a training job reports of itself: a loss that is no number, a rank that works longer than the others."""

from collections.abc import Sequence

import pytest

from detectors.traceslow.online import Traceslow
from detectors.training.nan import NanLoss
from holdfast.events import Finding, Observation
from tests.unit.detectors.seen import answers, claims, job, steps

NAN = float("nan")
BAD, GOOD = "training.nan.loss job j", "-training.nan.loss job j"


def losses(first: int, told: str, *, node: str = "n0", rank: int = 0) -> list[Observation]:
    """One step per letter: o a number, x none, and - says nothing of a loss."""
    columns = {"o": (2.0, 0.0), "x": (NAN, 1.0), "-": (NAN, 0.0)}
    return [
        steps(100.0 + n, n, {"loss": [columns[letter][0]], "loss_nan": [columns[letter][1]]}, first=rank, node=node)
        for n, letter in enumerate(told, first)
    ]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(losses(1, "oooooooo"), [], id="numbers"),
        pytest.param(losses(1, "ooxxooxo"), [], id="a skipped batch or two"),
        pytest.param(losses(1, "ooxxx"), [BAD], id="three in a row"),
        pytest.param(losses(1, "ooxxxxxxxx"), [BAD], id="are claimed once"),
        pytest.param(losses(1, "xxxoo"), [BAD], id="two good ones do not heal it"),
        pytest.param(losses(1, "xxxooo"), [BAD, GOOD], id="three do"),
        pytest.param(losses(1, "xxxoooxxx"), [BAD, GOOD, BAD], id="and it may come back"),
        pytest.param([*losses(1, "xx"), *losses(1, "xx"), *losses(1, "xx")], [], id="a step told again counts once"),
        pytest.param([*losses(1, "xxx"), job(200, "started", attempt=1)], [BAD, GOOD], id="a new attempt withdraws it"),
        pytest.param(
            [*losses(50, "xxx"), job(200, "started", attempt=1), *losses(1, "xxx")],
            [BAD, GOOD, BAD],
            id="and counts its steps from where it begins",
        ),
        pytest.param([*losses(1, "xxx"), job(200, "finished")], [BAD, GOOD], id="a job that ends has no loss any more"),
    ],
)
def test_a_loss_that_is_no_number(stream: list[Observation], said: list[str]) -> None:
    assert claims(answers(NanLoss(), stream)) == said


@pytest.mark.parametrize("of_the_others", ["oooo", "----"], ids=["are well", "report no loss"])
def test_one_node_is_heard_though_the_others_are_earlier_and(of_the_others: str) -> None:
    pairs = zip(losses(1, of_the_others), losses(1, "xxxx", node="n1", rank=8), strict=True)
    said = answers(NanLoss(), [seen for pair in pairs for seen in pair])
    assert claims(said) == [BAD]
    assert "the first is rank 8" in said[0].evidence[0].text
    assert said[0].detail["step"] == 1


def test_a_loss_heals_when_it_has_on_every_node() -> None:
    both = [*losses(1, "xxx"), *losses(1, "xxx", node="n1", rank=8), *losses(4, "ooo")]
    assert claims(answers(NanLoss(), both)) == [BAD]
    assert claims(answers(NanLoss(), [*both, *losses(4, "ooo", node="n1", rank=8)])) == [BAD, GOOD]


def test_infinite_gradients_are_told_by_their_name() -> None:
    stream = [steps(100.0 + n, n, {"grad_norm": [NAN], "grad_norm_nan": [1.0]}) for n in range(3)]
    assert claims(answers(NanLoss(), stream)) == ["training.nan.grad_norm job j"]


# --- the slow rank


def work(
    count: int, forward_s: Sequence[float], *, data_s: Sequence[float] | None = None, first: int = 0
) -> list[Observation]:
    """So many steps of ranks that work as long as they say, with a little noise."""
    said: list[Observation] = []
    for n in range(first, first + count):
        noise = [1.0 + 0.004 * ((rank * 7 + n * 3) % 5 - 2) for rank in range(len(forward_s))]
        columns = {
            "phase.forward_s": [s * k for s, k in zip(forward_s, noise, strict=True)],
            "phase.backward_s": [2 * s * k for s, k in zip(forward_s, noise, strict=True)],
        }
        if data_s is not None:
            columns["phase.data_s"] = list(data_s)
        said.append(steps(100.0 + n, n, columns))
    return said


EVEN = [0.3] * 8
LATE = [*EVEN[:5], 0.4, *EVEN[6:]]
SLOW, QUICK = "traceslow.slow_worker rank 5", "-traceslow.slow_worker rank 5"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        pytest.param(work(200, EVEN), [], id="noise is nothing"),
        pytest.param(work(9, LATE), [], id="nine steps are no habit"),
        pytest.param(work(10, LATE), [SLOW], id="slow from the first step on"),
        pytest.param([*work(100, EVEN), *work(10, LATE, first=100)], [SLOW], id="slow after a good beginning"),
        pytest.param(work(100, LATE), [SLOW], id="it is claimed once"),
        pytest.param([*work(20, LATE), *work(10, EVEN, first=20)], [SLOW, QUICK], id="and withdrawn when it is over"),
        pytest.param(
            [*work(20, LATE), *work(9, EVEN, first=20), *work(5, LATE, first=29)], [SLOW], id="not by a few good steps"
        ),
        pytest.param(work(50, [0.3, 0.3, 0.5]), [], id="among three nobody is the odd one"),
        pytest.param(work(50, [0.3] * 4 + [0.5] * 4), [], id="half and half is an uneven job"),
        pytest.param(work(50, [*EVEN[:5], 0.31, *EVEN[6:]]), [], id="a few percent are no fault"),
        pytest.param(
            [*work(20, LATE), job(130, "started", attempt=1)],
            [SLOW, QUICK],
            id="a new attempt begins with nothing claimed",
        ),
    ],
)
def test_who_works_longer(stream: list[Observation], said: list[str]) -> None:
    assert claims(answers(Traceslow(), stream)) == said


def one_claim(stream: list[Observation]) -> Finding:
    [said] = answers(Traceslow(), stream)
    return said


def test_a_rank_that_waits_for_its_data_is_told_so() -> None:
    data = [*[0.01] * 5, 0.4, 0.01, 0.01]
    assert one_claim(work(10, EVEN, data_s=data)).cause == "data_loading"
    assert one_claim(work(10, LATE, data_s=[0.01] * 8)).cause == "slow_worker"


def test_its_share_is_what_the_job_would_save() -> None:
    said = one_claim(work(10, [*EVEN[:5], 0.6, *EVEN[6:]]))
    assert said.share == pytest.approx(0.5, abs=0.02)
    assert said.culprits[0].share == said.share


def test_who_is_claimed_is_not_even_because_another_nodes_ranks_are_heard() -> None:
    other = [
        steps(100.0 + n, n, {"phase.forward_s": EVEN, "phase.backward_s": EVEN}, first=8, node="n1") for n in range(40)
    ]
    assert claims(answers(Traceslow(), [*work(20, LATE), *other])) == [SLOW]
