"""node-problem-detector's files: read as they are, matched as it matches, refused by name."""

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.npd.matching import CounterWatch, LogWatch, Match, judge
from detectors.npd.monitors import LogMonitor, MonitorError, PluginMonitor, duration_s, parse, read
from detectors.npd.online import KernelLog
from tests.unit.detectors.seen import answers, claims, lines


def written(**known: Any) -> str:
    """A log monitor's file in its shipped form."""
    base: dict[str, Any] = {
        "plugin": "kmsg", "logPath": "/dev/kmsg", "lookback": "5m", "bufferSize": 10, "source": "site-monitor",
        "metricsReporting": True, "conditions": [{"type": "DeadStore", "reason": "StoreIsWell", "message": "the store is well"}],
        "rules": [
            {"type": "temporary", "reason": "SlowStore", "pattern": "store \\S+ is slow"},
            {"type": "permanent", "condition": "DeadStore", "reason": "StoreIsGone", "pattern": "store \\S+ is gone"},
        ],
    }  # fmt: skip
    return json.dumps(base | known)


def watched(*texts: str, **known: Any) -> list[tuple[str, int]]:
    """(reason, line) of each match."""
    monitor = parse("site.json", written(**known))
    assert isinstance(monitor, LogMonitor)
    watch = LogWatch(monitor)
    return [(match.reason, match.line) for number, text in enumerate(texts, 1) for match in watch.feed(number, text)]


@pytest.mark.parametrize(
    ("texts", "matches"),
    [
        pytest.param(["store a is slow"], [("SlowStore", 1)], id="a pattern that matches to the end of the line"),
        pytest.param(["store a is slow now"], [], id="and none that only stands in it"),
        pytest.param(
            ["store a is slow"] * 3, [("SlowStore", 1), ("SlowStore", 2), ("SlowStore", 3)], id="an event each time"
        ),
        pytest.param(["store a is gone"] * 3, [("StoreIsGone", 1)], id="a condition when it changes"),
        pytest.param(["6,1,2,-;store a is slow"], [("SlowStore", 1)], id="as /dev/kmsg writes it"),
        pytest.param(
            ["Nov 24 16:00:00 n7 kernel: [ 1.000000] store a is slow"], [("SlowStore", 1)], id="as syslog writes it"
        ),
        pytest.param(
            ["Nov 24 16:00:00 n7 app[7]: store a is slow"], [], id="what another program says is no kernel's word"
        ),
        pytest.param([""], [], id="an empty line"),
    ],
)
def test_a_log_monitor(texts: list[str], matches: list[tuple[str, int]]) -> None:
    assert watched(*texts) == matches


TWO = [{"type": "temporary", "reason": "Pair", "pattern": "begins here\\n.*\\nends here"}]
EITHER = [{"type": "temporary", "reason": "Either", "pattern": "stands alone|ends here"}]


@pytest.mark.parametrize(
    ("texts", "known", "matches"),
    [
        pytest.param(["begins here", "between", "ends here"], {"rules": TWO}, [("Pair", 1)], id="lines that belong together"),
        pytest.param(["begins here", "a", "b", "ends here"], {"rules": TWO}, [], id="not over other lines"),
        pytest.param(["begins here", "x", "ends here"], {"rules": TWO, "bufferSize": 2}, [], id="not over more than the buffer"),
        pytest.param(["begins here", "x", "ends here"], {"rules": TWO, "bufferSize": 3}, [("Pair", 1)], id="all of the buffer"),
        pytest.param(
            ["it stands alone here", "x", "y"], {"rules": EITHER, "bufferSize": 2}, [("Either", 1), ("Either", 1)],
            id="only the last choice is held to the end, as there",
        ),
        pytest.param(
            ["one"], {"rules": [{"type": "temporary", "reason": "Digits", "pattern": "\\w+"}]}, [("Digits", 1)],
            id="a pattern without any words",
        ),
    ],
)  # fmt: skip
def test_the_buffer_of_lines(texts: list[str], known: dict[str, Any], matches: list[tuple[str, int]]) -> None:
    assert watched(*texts, **known) == matches


FILE = {
    "plugin": "filelog",
    "logPath": "/var/log/site.log",
    "pluginConfig": {"timestamp": "^.{15}", "message": "site: \\[.*\\] (.*)", "timestampFormat": "Jan _2 15:04:05"},
    "skipList": [" audit:"],
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("Nov 24 16:00:00 n7 site: [7] store a is slow", True, id="the message of the file's own form"),
        pytest.param("Nov 24 16:00:00 n7 other: [7] store a is slow", False, id="a line of another form"),
        pytest.param("short", False, id="a line without the date"),
        pytest.param("Nov 24 16:00:00 n7 audit: site: [7] store a is slow", False, id="a line to be passed over"),
    ],
)
def test_a_file_has_a_form_of_its_own(text: str, found: bool) -> None:
    assert bool(watched(text, **FILE)) is found


def test_a_journals_monitor_hears_one_program() -> None:
    known = {"plugin": "journald", "pluginConfig": {"source": "dockerd"}}
    assert watched("Nov 24 16:00:00 n7 dockerd[7]: store a is slow", **known) == [("SlowStore", 1)]
    assert watched("Nov 24 16:00:00 n7 kubelet[7]: store a is slow", **known) == []
    assert watched('{"MESSAGE": "store a is slow", "SYSLOG_IDENTIFIER": "dockerd"}', **known) == [("SlowStore", 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("{", "site.json", id="no JSON"),
        pytest.param("[" * 5000, "site.json", id="JSON without a bottom"),
        pytest.param(written(plugin="telepathy"), "telepathy", id="a plugin nobody knows"),
        pytest.param(
            written(rules=[{"type": "temporary", "reason": "Bad", "pattern": "(?=x)"}]),
            "'Bad'",
            id="what RE2 cannot run",
        ),
        pytest.param(
            written(rules=[{"type": "temporary", "reason": "Bad", "pattern": "(a)\\1"}]), "'Bad'", id="nor this"
        ),
        pytest.param(
            written(rules=[{"type": "permanent", "condition": "Other", "reason": "R", "pattern": "x"}]),
            "Other",
            id="no such condition",
        ),
        pytest.param(written(bufferSize=0), "bufferSize", id="no buffer"),
        pytest.param(written(lookback="soon"), "soon", id="no duration"),
        pytest.param(written(plugin="filelog"), "timestamp", id="a file without its form"),
        pytest.param(
            written(rules=[{"type": "sometimes", "reason": "R", "pattern": "x"}]), "sometimes", id="a type nobody knows"
        ),
    ],
)
def test_what_is_no_monitor_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(MonitorError, match=reason.replace("(", r"\(")) as said:
        parse("site.json", text)
    assert "site.json" in str(said.value)


def test_a_comma_too_many_is_forgiven() -> None:
    assert isinstance(parse("site.json", written().replace("]}", ",]}").replace('"}', '",}')), LogMonitor)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300.0), ("1h30m", 5400.0), ("0", 0.0), ("500ms", 0.5), ("1.5h", 5400.0)]
)
def test_durations_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration_s("x", text) == seconds


def counted(**options: Any) -> str:
    settings_ = {
        "journald-source": "systemd",
        "log-path": "/var/log/journal",
        "lookback": "20m",
        "count": 3,
        "pattern": "Started store.",
    }
    args = [f"--{key}={value}" for key, value in (settings_ | options).items()]
    return json.dumps({
        "plugin": "custom", "source": "restarts", "pluginConfig": {"invoke_interval": "5m", "timeout": "1m", "max_output_length": 20},
        "conditions": [{"type": "FrequentRestart", "reason": "NoFrequentRestart", "message": "the store runs"}],
        "rules": [
            {"type": "permanent", "condition": "FrequentRestart", "reason": "StoreRestarts", "path": "/opt/bin/log-counter", "args": args},
            {"type": "temporary", "reason": "StoreSlow", "path": "/opt/bin/check", "timeout": "3s"},
        ],
    })  # fmt: skip


def counter(**options: Any) -> CounterWatch:
    monitor = parse("counter.json", counted(**options))
    assert isinstance(monitor, PluginMonitor)
    rule = monitor.rules[0]
    assert rule.counter is not None
    return CounterWatch(monitor, rule, rule.counter)


STARTED = "Nov 24 16:00:00 n7 systemd[1]: Started store."


def test_a_counter_of_a_log_is_a_condition_while_it_was_said_often_enough() -> None:
    watch = counter()
    watch.feed(STARTED, 0.0)
    watch.feed(STARTED, 60.0)
    watch.feed(STARTED.replace("systemd[1]", "other[1]"), 60.0)
    assert list(watch.tick(61.0)) == []
    watch.feed(STARTED, 120.0)
    [on] = watch.tick(121.0)
    assert (on.problem, on.condition) == (True, "FrequentRestart")
    [off] = watch.tick(1300.0)
    assert (off.problem, off.text) == (False, "the store runs")


def test_a_counter_waits_after_a_boot_and_takes_back_what_was_reverted() -> None:
    watch = counter(delay="5m", **{"revert-pattern": "Stopped store."}, count=1)
    watch.feed(STARTED, 100.0, boot_at=0.0)
    assert list(watch.tick(101.0)) == []
    watch.feed(STARTED, 400.0, boot_at=0.0)
    watch.feed(STARTED.replace("Started", "Stopped"), 401.0, boot_at=0.0)
    assert list(watch.tick(402.0)) == []


def test_a_counter_is_kept() -> None:
    watch, other = counter(count=2), counter(count=2)
    watch.feed(STARTED, 10.0)
    other.recall(json.loads(json.dumps(watch.memory())))
    other.feed(STARTED, 20.0)
    assert [match.problem for match in other.tick(21.0)] == [True]


@pytest.mark.parametrize(
    ("rule", "status", "problem"),
    [
        pytest.param(0, 0, False, id="0 is well"),
        pytest.param(0, 1, True, id="1 is a problem"),
        pytest.param(0, 2, None, id="2 nobody knows"),
        pytest.param(0, 127, None, id="nor anything else"),
        pytest.param(0, None, None, id="nor one that was stopped for its time"),
        pytest.param(1, 1, True, id="an event is told where it is a problem"),
    ],
)
def test_a_plugins_exit(rule: int, status: int | None, problem: bool | None) -> None:
    monitor = parse("counter.json", counted())
    assert isinstance(monitor, PluginMonitor)
    said = judge(monitor, monitor.rules[rule], status, "a text much longer than twenty characters")
    assert isinstance(said, Match)
    assert said.problem is problem
    assert len(said.text) <= 20


@pytest.mark.parametrize("status", [0, 2, None])
def test_an_event_that_is_none_is_not_told(status: int | None) -> None:
    monitor = parse("counter.json", counted())
    assert isinstance(monitor, PluginMonitor)
    assert judge(monitor, monitor.rules[1], status, "") is None


def test_a_rule_may_not_take_longer_than_all() -> None:
    with pytest.raises(MonitorError, match="StoreSlow"):
        parse("counter.json", counted().replace('"3s"', '"3m"'))


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_monitor_or_refused(text: str) -> None:
    with suppress(MonitorError):  # anything else is a crash
        assert parse("x", text)


@given(
    st.lists(
        st.sampled_from(
            ["store a is slow", "store a is gone", "begins here", "x", "ends here", "", "\x00", "{", "6,1,1,-;x"]
        )
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_matched_does_not_hang_on_how_lines_are_found(texts: list[str]) -> None:
    """Against the plain way: join the last lines, look whether the pattern fits to the end."""
    import re2

    rules = [*TWO, {"type": "temporary", "reason": "Slow", "pattern": "store \\S+ is slow"}]
    plain, buffer = [], [""] * 3
    for text in texts:
        message = text.removeprefix("6,1,1,-;").strip()
        if not message:
            continue
        buffer = [*buffer[1:], message]
        plain += [rule["reason"] for rule in rules if re2.search(rule["pattern"] + r"\z", "\n".join(buffer))]
    assert [reason for reason, _ in watched(*texts, rules=rules, bufferSize=3)] == plain


def test_a_monitor_in_the_live_line_claims_and_takes_back(tmp_path: Path) -> None:
    (tmp_path / "site.json").write_text(written())
    detector = KernelLog(npd=[str(tmp_path / "site.json")])
    kmsg = partial(lines, file="kmsg", source="kmsg:n0")
    said = answers(
        detector,
        [
            kmsg(1, "store a is slow"),
            kmsg(2, "store a is slow", first=2),
            kmsg(3, "store a is gone", first=3),
            4000.0,
            kmsg(5000, "Linux version 6.8.0", first=4),
        ],
    )
    slow, gone = "npd.site-monitor.SlowStore node n0", "npd.site-monitor.StoreIsGone node n0"
    assert claims(said) == [slow, gone, f"-{slow}", f"-{gone}"]


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match=r"missing\.json"):
        read(str(tmp_path / "missing.json"))
