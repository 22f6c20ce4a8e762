"""PromQL that the dashboards share: what it returns is finite, or nothing at all."""

from collections.abc import Mapping

from dashboards.panels import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, Words

JOB_STATES: Words = {
    1: ("starting", BLUE),
    2: ("running", GREEN),
    3: ("restarting", YELLOW),
    4: ("hanging", RED),
    5: ("failed", "dark-red"),
    6: ("stopped", GREY),
    7: ("finished", PURPLE),
}
ENGINE_STATES: Words = {1: ("healthy", GREEN), 2: ("stalled", RED)}
NODE_COLOURS: Mapping[str, str] = {"ready": GREEN, "not_ready": RED, "cordoned": ORANGE, "silent": GREY}
INCIDENT_COLOURS: Mapping[str, str] = {
    "open": ORANGE,
    "diagnosing": YELLOW,
    "awaiting_approval": PURPLE,
    "recovering": BLUE,
    "verifying": GREEN,
    "needs_human": RED,
}


def or_zero(expr: str) -> str:
    """0 where there is no such series, but only while the monitor is heard: a dead one must not look like none broken."""
    return f"{expr} or 0 * max(holdfast_simulated)"


def finite(expr: str) -> str:
    """Without what is not a number: a loss may be NaN, and then there is a gap."""
    return f"({expr} > -Inf) < +Inf"


def coded(metric: str, words: Words, *, by: str, matchers: str = "") -> str:
    """One number for the one `state` that is 1, the key of `words`."""
    parts = [f"{value} * ({metric}{{{_and(matchers, state)}}} == 1)" for value, (state, _) in words.items()]
    return f"max by ({by}) ({' or '.join(parts)})"


def _and(matchers: str, state: str) -> str:
    return ", ".join(part for part in (matchers, f'state="{state}"') if part)


def quantile(share: float, histogram: str, *, by: str = "") -> str:
    """A quantile of all that was observed since the service started; nothing where nothing was observed.

    Faults are rare and a series is born with its first observation, which `rate` and `increase` never see.
    """
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) ({histogram}_bucket)) >= 0"


def growth(counter: str, *, by: str, window: str) -> str:
    """By how much a rare counter grew in the window, exactly; a series born within it counts whole, a restart counts 0."""
    before = f"({counter} offset {window} or 0 * {counter})"
    return f"sum by ({by}) (clamp_min({counter} - {before}, 0))" if by else f"sum(clamp_min({counter} - {before}, 0))"
