"""Understands one step line: the shapes in which training frameworks print step, loss, norms, rates and times.

Numbers are taken out by pattern and table; nothing of a line is ever evaluated.
"""

import math
import re
from itertools import islice
from typing import NamedTuple

import msgspec

MOST_PAIRS = 64
MOST_CHARACTERS = 8192
LEAST_WIDTH = 60  # of a terminal that wraps lines


class Told(msgspec.Struct, gc=False):
    """What one line says of one step.

    step: -1 where the form has none; loss and grad_norm: NaN and infinity as they are printed, None where nothing is said
    lr: learning rate; step_s: seconds a step; tokens_per_s, samples_per_s: of this step, not of the run so far
    clock_s: seconds of training so far, where the form gives a running clock instead of a step's time
    skipped, nan_iterations: so many since the line before; skipped_so_far: the same as a running count
    rank: as printed inside the line, -1 unknown; start: where in the line it begins, after its writer's prefix
    plain: of the form `key value`
    """

    step: int = -1
    loss: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    step_s: float | None = None
    tokens_per_s: float | None = None
    samples_per_s: float | None = None
    loss_scale: float | None = None
    skipped: int = 0
    nan_iterations: int = 0
    clock_s: float | None = None
    skipped_so_far: int | None = None
    epoch: float | None = None
    rank: int = -1
    start: int = 0
    plain: bool = False


class Value(NamedTuple):
    """Where in a line one of its numbers stands, and what it is. field: of `Told`; factor: to its unit; whole: a count"""

    field: str
    factor: float
    start: int
    end: int
    whole: bool
    is_clock: bool = False


class Overflow(NamedTuple):
    """A step thrown away because its gradients overflowed. scale: the next one, None if unchanged; fatal: none is left."""

    scale: float | None
    fatal: bool = False


# field, factor to its unit, and the names under which frameworks print it
_NAMES: tuple[tuple[str, float, str], ...] = (
    ("step", 1.0, "step|steps|iter|iters|iteration|iterations|global_step|current_steps|current_step|train_step|trainer/global_step"
     "|train/step|train/global_step|num_updates|_step|iter(train)"),
    ("loss", 1.0, "loss|train_loss|training_loss|train loss|training loss|lm loss|lm_loss|train/loss|loss/train|total_loss|total loss"
     "|nll_loss|loss_avg|avg_loss|reduced_train_loss"),
    ("grad_norm", 1.0, "grad norm|grad_norm|gradnorm|gnorm|norm|train/grad_norm|global_grad_norm|gradient_norm"),
    ("lr", 1.0, "lr|learning rate|learning_rate|train/learning_rate|train/lr|last_lr"),
    ("loss_scale", 1.0, "loss scale|loss_scale"),
    ("skipped", 1.0, "number of skipped iterations"),
    ("nan_iterations", 1.0, "number of nan iterations"),
    ("step_s", 1e-3, "elapsed time per iteration (ms)|step_time_ms|iter_time_ms|step_ms|dt_ms"),
    ("step_s", 1.0, "elapsed time per iteration (s)|step_time|step_time_s|step_s|iter_time|iter time (s)|time_per_step|dt"
     "|time_per_iteration|seconds_per_step|train_step_timing in s|per_step_time"),
    ("clock_s", 1.0, "train_time|elapsed_s|_runtime"),
    ("tokens_per_s", 1.0, "throughput (token/sec/GPU)|tokens_per_sec|tokens_per_second|tokens/s|tokens/sec|tok/s|tok/sec|tps|tgs"
     "|tokens_per_s|tokens per second"),
    ("samples_per_s", 1.0, "samples per second|samples/sec|samples_per_second|throughput (samples/sec/per_device)"),
    ("epoch", 1.0, "epoch|train/epoch"),
    ("rank", 1.0, "rank"),
)  # fmt: skip
_KEYS = {name: (field, factor) for field, factor, names in _NAMES for name in names.split("|")}
_COUNTS = frozenset({"step", "skipped", "nan_iterations", "rank"})
_UNITS = {"ms": 1e-3, "us": 1e-6, "s": 1.0, "": 1.0}
_MOST_COUNT = 1e12

_NUMBER = r"(?:[-+]?(?:\d[\d,]{0,24}(?:\.\d{0,32})?|\.\d{1,32})(?:[eE][-+]?\d{1,4})?|[-+]?(?:nan|NaN|NAN|inf|Inf|Infinity)(?![b-ln-rt-z]))"
_MEGATRON = re.compile(r"iteration\s{1,12}(\d{1,12})\s{0,12}/\s{0,12}\d{1,12} \|")
_PART = re.compile(r"\| {0,4}([A-Za-z][^|:]{1,48}): {0,16}([^ |\r\n]{1,32})")
_QUOTED = re.compile(rf"""['"]([\w/ .()-]{{1,64}})['"]\s{{0,4}}:\s{{0,4}}['"]?({_NUMBER})['"]?(?=\s{{0,4}}[,}}\]])""")
_PLAIN = re.compile(
    rf"(?<![\w/])([A-Za-z_][\w/]{{0,40}}(?: [A-Za-z][\w/]{{0,20}}){{0,2}}(?: \((?:s|ms)\)|\(train\))?)"
    rf"\s{{0,8}}[:=]?\s{{0,12}}(?:\[\s{{0,8}})?({_NUMBER})(ms|us|s|)(?![A-Za-z\d])"
)
_CLOCK = re.compile(r"""['"]elapsed_time['"]: ?['"]((?:\d{1,5} days?, )?\d{1,5}:\d\d:\d\d)['"]""")
_BAR = re.compile(r"(\d{1,12})/\d{1,12} \[")
_TIMER = re.compile(r"global_step=(\d{1,12}),.{0,80}?CurrSamplesPerSec=([\d.]{1,32})")
_OLD_TIMER = re.compile(r"(?:^|[ :])(\d{1,12})/\d{1,12}, SamplesPerSec=([\d.]{1,32})")
_OPTIMISER = re.compile(rf"\bstep=(\d{{1,12}}), skipped=(\d{{1,12}}), lr=\[({_NUMBER})")
_OVERFLOW = re.compile(r"OVERFLOW!.{0,80}?Attempted loss scale: ([\d.eE+]{1,32})(?:, reducing to ([\d.eE+]{1,32}))?")
_AT_MINIMUM = "loss scale already at minimum"
_BESIDE = re.compile(r"\bval(?:id(?:ation)?)?[_ /]|\beval_|evaluat|[Ss]aving (?:model )?checkpoint|saved checkpoint")


def overflow(text: str) -> Overflow | None:
    """What a line says of a thrown away step, None if it says nothing of one."""
    if _AT_MINIMUM in text:
        return Overflow(None, fatal=True)
    said = _OVERFLOW.search(text) if "OVERFLOW!" in text else None
    return Overflow(_number(said.group(2)) if said.group(2) else None) if said else None


def tells_a_pause(text: str) -> bool:
    """Whether a line tells of an evaluation or a checkpoint, after which a step takes longer and nothing is wrong."""
    return _BESIDE.search(text) is not None


def told(text: str) -> Told | None:
    """What a line says of a step; None if it is no step line, or not enough of one."""
    text = text[:MOST_CHARACTERS]
    if begun := _MEGATRON.search(text):
        return _megatron(text[begun.start() :], int(begun.group(1)), begun.start())
    if "SamplesPerSec=" in text or "skipped=" in text:
        return _deepspeed(text)
    if "{" in text and ("':" in text or '":' in text):
        return _quoted(text) or _plain(text[: text.find("{")])  # a dictionary may be one of the values of a line
    return _plain(text)


def values_of(text: str) -> list[Value]:
    """Where the numbers stand that `told` takes out of a line, of the forms whose lines are many; [] for others."""
    if begun := _MEGATRON.search(text):
        step = Value("step", 1.0, *begun.span(1), whole=True)
        return [step, *(v for v in _values(_PART, text, begun.start()) if v.field != "step")]
    if "SamplesPerSec=" in text or "skipped=" in text:
        return []
    if "{" in text and ("':" in text or '":' in text):
        clock = _CLOCK.search(text)
        bar = _BAR.search(text[: text.find("{")])
        found = _values(_QUOTED, text, 0)
        known = {value.field for value in found}
        found += [Value("clock_s", 1.0, *clock.span(1), whole=False, is_clock=True)] if clock and "clock_s" not in known else []
        return found if bar is None else []
    return _values(_PLAIN, text, 0)


def _values(form: re.Pattern[str], text: str, start: int) -> list[Value]:
    found: dict[str, Value] = {}
    for pair in islice(form.finditer(text, start), MOST_PAIRS):
        unit = pair.group(3) if form.groups > 2 else ""
        name = "step_time" if unit and pair.group(1) == "time" else pair.group(1)
        field, factor = _KEYS.get(name) or (_key(name) if form is _PLAIN else ("", 1.0))
        number = _number(pair.group(2))
        if field and field not in found and number is not None and not (field in _COUNTS and not 0.0 <= number <= _MOST_COUNT):
            found[field] = Value(field, factor * _UNITS[unit], *pair.span(2), whole=field in _COUNTS)
    return list(found.values())


def clock_s(text: str) -> float:
    """`1 day, 5:13:22` in seconds.

    raises ValueError: it is none
    """
    days, comma, rest = text.rpartition(", ")
    hours, minutes, seconds = rest.split(":")
    return ((int(days.split(" ")[0]) if comma else 0) * 24.0 + int(hours)) * 3600.0 + int(minutes) * 60.0 + int(seconds)


def is_cut(text: str, row: Told | None) -> bool:
    """Whether a record begins in this line and does not end in it: a terminal has wrapped it. row: what `told` made of it."""
    if row is not None and (row.plain or (row.loss is not None and text.endswith(("|", "}")))):
        return False
    if _MEGATRON.search(text):
        return not text.rstrip().endswith("|") or "number of nan iterations" not in text
    brace = text.find("{")
    if brace >= 0 and text[brace + 1 : brace + 2] in ("'", '"'):
        return "}" not in text[brace:]
    first = _PLAIN.search(text) if len(text) >= LEAST_WIDTH and row is None else None
    return first is not None and _key(first.group(1))[0] == "step"


def goes_on(front: str, text: str) -> bool:
    """Whether this line may be more of the record that `front` has begun."""
    if not text or told(text) is not None or _MEGATRON.search(text):
        return False
    if _MEGATRON.search(front):
        return "|" in text
    return "{" in front or told(front + text) is not None


def _megatron(text: str, step: int, start: int) -> Told:
    row = _row(_pick(_PART.findall(text)), start)
    row.step = step
    broken = row.grad_norm is not None and not math.isfinite(row.grad_norm) and not row.skipped
    if row.loss is None and (row.nan_iterations or broken):
        row.loss = math.nan  # Megatron leaves the loss out where there was no number to print
    return row


def _deepspeed(text: str) -> Told | None:
    if said := _TIMER.search(text) or _OLD_TIMER.search(text):
        return Told(step=int(said.group(1)), samples_per_s=_number(said.group(2)), start=said.start())
    if said := _OPTIMISER.search(text):
        skipped, lr = int(said.group(2)), _number(said.group(3))
        return Told(step=int(said.group(1)), skipped_so_far=skipped, lr=lr, start=said.start())
    return None


def _quoted(text: str) -> Told | None:
    """A Python dict or a JSON object, by its pairs alone: the first is no JSON, and neither is evaluated."""
    if "train_runtime" in text:
        return None  # the summary of a run
    row = _row(_pick(_QUOTED.findall(text)), text.find("{"))
    if clock := _CLOCK.search(text):
        row.clock_s = clock_s(clock.group(1))
    if row.step < 0 and (bar := _BAR.search(text[: row.start])):
        row.step = int(bar.group(1))
    by_loss = row.loss is not None or (row.grad_norm is not None and row.lr is not None)
    return row if by_loss or (row.step >= 0 and row.step_s is not None) else None


def _plain(text: str) -> Told | None:
    said: dict[str, float] = {}
    start = -1
    for pair in islice(_PLAIN.finditer(text), MOST_PAIRS):
        name, value, unit = pair.groups()
        # a bare `time` may be of day: with a unit it is how long something took
        is_ours = _put(said, "step_time" if unit and name == "time" else name, value, unit)
        if is_ours and start < 0:
            start = pair.start()
    if "step" not in said and (bar := _BAR.search(text)):
        said["step"], start = int(bar.group(1)), 0
    if "step" not in said or ("loss" not in said and "step_s" not in said) or " val loss" in text:
        return None
    row = _row(said, start)
    row.plain = True
    return row


def _pick(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Field -> number, of whole names. As `_put`, by hand: most names are none of ours, and logs of these forms are large."""
    said: dict[str, float] = {}
    for name, value in pairs[:MOST_PAIRS]:
        if name in _KEYS:
            field, factor = _KEYS[name]
            try:
                number = float(value)
            except ValueError:
                continue
            if field not in said and (field not in _COUNTS or 0.0 <= number <= _MOST_COUNT):
                said[field] = number * factor
    return said


def _row(said: dict[str, float], start: int) -> Told:
    for name in _COUNTS:
        if name in said:
            said[name] = int(said[name])
    return Told(**said, start=start)  # type: ignore[arg-type]  # counts are whole numbers now


def _put(said: dict[str, float], name: str, value: str, unit: str = "") -> bool:
    """Keep a value under its field's name, and say whether it is one of ours.

    The first of a name counts: what follows are losses of parts.
    """
    field, factor = _KEYS.get(name) or _key(name)
    if not field:
        return False
    number = _number(value)
    if number is None or field in said or (field in _COUNTS and not 0.0 <= number <= _MOST_COUNT):
        return False
    said[field] = number * factor * _UNITS[unit] if unit else number * factor
    return True


def _key(name: str) -> tuple[str, float]:
    """The field of a printed name; of a phrase, of its last words. ("", 1.0): none of ours."""
    name = name.lower()
    while name not in _KEYS:
        _, space, name = name.partition(" ")
        if not space:
            return "", 1.0
    return _KEYS[name]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None
