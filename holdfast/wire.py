"""Events as bytes and text: MessagePack for the journal's inputs, canonical JSON for what the stages said."""

import math
from typing import Any

import msgspec
import numpy as np

from holdfast.events import Outcome, Said, Samples, Seen, Steps

Heard = Seen | Outcome

_NUMBERS = frozenset({"float64", "float32", "int64", "int32"})


def _pack(value: object) -> object:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "shape": list(value.shape), "data": value.tobytes()}
    raise TypeError(f"{type(value).__name__} cannot be written to the journal")


def _unpack(kind: type, value: Any) -> object:
    if kind is np.ndarray:
        if value["dtype"] not in _NUMBERS:
            raise ValueError(f"a column cannot be of type {value['dtype']!r}")
        return np.frombuffer(value["data"], dtype=value["dtype"]).reshape(value["shape"])
    raise TypeError(f"{kind.__name__} cannot be read from the journal")


_inputs_out = msgspec.msgpack.Encoder(enc_hook=_pack)
_inputs_in = msgspec.msgpack.Decoder(list[Heard], dec_hook=_unpack)
_said_in: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def inputs_to_bytes(inputs: list[Heard]) -> bytes:
    """Encode what a step was given."""
    return _inputs_out.encode(inputs)


def inputs_of_bytes(data: bytes) -> list[Heard]:
    """Decode what a step was given; raises msgspec.ValidationError on anything else."""
    return _inputs_in.decode(data)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _rounded(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value


def canonical(event: Said) -> str:
    """One line of JSON, keys sorted, floats rounded to 6 decimals: equal decisions give equal text."""
    return msgspec.json.encode(_rounded(msgspec.to_builtins(event)), order="sorted").decode()


def said_of_text(text: str) -> Said:
    """Decode a finding, transition, order or outcome from its canonical text."""
    return _said_in.decode(text)


def is_stream(event: Heard) -> bool:
    """Whether an observation is one of the streams that are too many to be kept."""
    return isinstance(event, Samples | Steps)
