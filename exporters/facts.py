"""What must be known of a job to judge its speed: from the job itself, and from the site's settings where it is silent."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be known of a job to judge its speed; None and "" where it is not known.

    tokens_per_s_reference: measured on devices_reference devices; model, role: of an inference service
    """

    devices: float | None = None
    peak_flops_per_device: float | None = None
    flops_per_token: float | None = None
    tokens_per_step: float | None = None
    tokens_per_s_reference: float | None = None
    devices_reference: float | None = None
    model: str = ""
    role: str = ""


def facts_of(settings: Mapping[str, Any]) -> Facts:
    """A site's facts of one job.

    raises ValueError: an unknown key, or a number that is not above 0
    """
    try:
        facts = msgspec.convert(dict(settings), Facts)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    for key, value in msgspec.structs.asdict(facts).items():
        if isinstance(value, float) and not 0.0 < value < math.inf:
            raise ValueError(f"{key} must be above 0, not {value}")
    return facts


def said(detail: Mapping[str, Any], site: Facts) -> Facts:
    """What the job says of itself, and the site's facts where it is silent or talks nonsense."""
    known = msgspec.structs.asdict(site)
    for key, default in msgspec.structs.asdict(Facts()).items():
        value = detail.get(key)
        if isinstance(default, str):
            known[key] = value if isinstance(value, str) and value else known[key]
        elif isinstance(value, int | float) and 0.0 < value < math.inf:
            known[key] = float(value)
    size = detail.get("world_size")
    if known["devices"] is None and isinstance(size, int) and size > 0:
        known["devices"] = float(size)
    return Facts(**known)
