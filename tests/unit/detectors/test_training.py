"""What a training job reports of itself: a loss that is no number."""


import pytest

from detectors.training.nan import NanLoss
from holdfast.events import Observation
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
