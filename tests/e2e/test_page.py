"""The page in a real browser: what it shows of a running demo, who may see it, and that nothing in it can be run."""

import asyncio
import math
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from holdfast.api.app import application
from holdfast.api.routes import Route
from holdfast.api.tokens import Role, Tokens
from holdfast.board import Board, Job, Node
from holdfast.config import Token
from holdfast.demo import HOST, Demo
from holdfast.faults import Action, Fault, Judgement, Perception, Symptom, Verb
from holdfast.incident import Incident, State
from holdfast.topology import Kind, Target, rank_of
from holdfast.verdict import Culprit, Evidence, Json, Verdict
from simulator.scenario import FaultRow, JobRow, Scenario, ServiceRow

CHROMIUM = shutil.which("chromium") or ""
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
HOSTILE = "<img src=x onerror=\"document.title='run'\">"
NOW = 1_800_000_000.0

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="Debian's chromium is not installed"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        await browser.close()


@dataclass
class Visit:
    """A page that is open, and everything it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def foreign(self) -> list[str]:
        """Requests to any other host."""
        return [url for url in self.asked if not url.startswith((f"http://{HOST}:", "data:"))]

    async def texts(self, selector: str) -> list[str]:
        return await self.page.locator(selector).all_text_contents()


async def visit(browser: Browser, url: str) -> Visit:
    seen = Visit(await browser.new_page())
    # a refusal is shown in words by the page; the browser's own note of it is no fault of the page
    refusal = re.compile(r"status of (401|403) ")
    seen.page.on("console", lambda m: seen.complaints.append(m.text) if m.type == "error" and not refusal.search(m.text) else None)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", lambda request: seen.asked.append(request.url))
    await seen.page.goto(url)
    return seen


def tokens(folder: Path) -> list[Token]:
    for role in ("read", "act", "agent"):
        (folder / role).write_text(f"{role}-token")
    return [Token(file=str(folder / role), role=role) for role in ("read", "act", "agent")]


# --- a running demo


@pytest_asyncio.fixture(loop_scope="module")
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    """A small cluster, running; one process crashes after three real seconds."""
    scenario = Scenario(
        nodes=6, lasting_s=3600.0, job=(JobRow(name="tiny", nodes=2, step_s=4.0), JobRow(name="other", nodes=2, step_s=3.0)),
        service=(ServiceRow(name="chat", model="m"),), fault=(FaultRow(kind="process_crash", at_s=120.0, job="tiny"),),
    )  # fmt: skip
    demo = Demo(scenario, folder=tmp_path, tokens=tokens(tmp_path), speed=40.0, endless=True, clock=time.monotonic)
    await demo.open(0)
    playing = asyncio.create_task(demo.play())
    yield demo
    demo.stop()
    await playing
    await demo.close()


async def test_a_running_demo_is_shown(browser: Browser, demo: Demo) -> None:
    seen = await visit(browser, f"http://{HOST}:{demo.port}/#token=read-token")
    page = seen.page
    await expect(page.locator(".tile")).to_have_count(6, timeout=20_000)
    await expect(page.locator("#simulated")).to_be_visible()
    assert "token" not in page.url
    row = page.locator("tr[data-incident=i1]")
    await expect(row).to_be_visible(timeout=30_000)
    states = {await row.get_attribute("data-state")}
    await expect(row).to_have_attribute("data-state", "resolved", timeout=30_000)
    assert states < set(State) | {"resolved"}
    assert "rank" in await row.locator(".where").inner_text()
    assert await row.locator(".verb").inner_text() == "restart"

    await row.click()
    detail = page.locator("#detail")
    await expect(detail).to_be_visible()
    assert await seen.texts(".timeline b") == ["perceived", "diagnosed", "decided", "acted", "verified"]
    await page.keyboard.press("Escape")
    await expect(detail).to_be_hidden()

    for job in ("tiny", "other"):
        for figure in ("loss", "tokens_per_second", "step_seconds", "mfu_ratio", "effective_training_time_ratio"):
            assert math.isfinite(await value_of(page, job, f"holdfast_job_{figure}")), (job, figure)
    assert math.isfinite(await value_of(page, "chat", "holdfast_serving_time_to_first_token_seconds"))
    assert await page.locator("[data-job=tiny] polyline").first.get_attribute("points")
    assert seen.complaints == []
    assert seen.foreign() == []


async def value_of(page: Page, job: str, figure: str) -> float:
    cell = page.locator(f"[data-job='{job}'] [data-figure='{figure}'] dd[data-value]")
    return float(await cell.get_attribute("data-value", timeout=20_000) or "nan")


# --- a board made by hand


@dataclass
class Service:
    """The API over a board that a test has filled. asked: the actions that came, with their keys."""

    board: Board
    tokens: Tokens
    figures: bytes = b""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: list[int] = field(default_factory=lambda: [202])
    port: int = 0
    runner: web.AppRunner | None = None

    async def open(self) -> str:
        acting = Route(method="POST", path="/api/v1/actions", handler=self.act, summary="act", role=Role.ACT)
        app = application(
            tokens=self.tokens, board=self.board, about=lambda: {"now": NOW, "simulated": False, "mode": "approve"},
            metrics=lambda: self.figures, more=[acting],
        )  # fmt: skip
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, HOST, self.port).start()
        self.port = self.runner.addresses[0][1]
        return f"http://{HOST}:{self.port}/"

    async def act(self, request: web.Request) -> web.Response:
        self.asked.append((request.headers["Idempotency-Key"], await request.json()))
        status = self.answers.pop(0)
        return web.json_response({"error": "over budget"} if status >= 400 else {}, status=status)

    async def close(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
        self.runner = None


@pytest_asyncio.fixture(loop_scope="module")
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(Board(), Tokens(tokens(tmp_path)))
    yield service
    await service.close()


def incident(
    id: str, state: State = State.RECOVERING, *, job: str = "j", text: str = "it hangs", nodes: Iterable[str] = ("n1",)
) -> Incident:  # fmt: skip
    boxes: list[Json] = [[0, 0, "other", text, text], [1, 0, text, text, text], [text, 0, "free", text, text]]
    verdict = Verdict(
        verdict=Judgement.CULPRIT, symptom=Symptom.HANG, fault=Fault.GPU_HW, action=Action.REPLACE,
        culprits=(Culprit(kind=Kind.RANK, id=text, cause=text, confidence=0.9, evidence=(text,)),),
        evidence=(Evidence(text, 3, text),), detail={"chain": [text], "graph": {"boxes": boxes, "arrows": [[0, 1, 1], [0, 9, 0]]}},
    )  # fmt: skip
    return Incident(
        id=id, at=NOW - 60.0, job=job, targets=tuple(rank_of(job, 1, node=node) for node in nodes), state=state,
        perception=Perception.HANG, check="tracehang", verdict=verdict, verb=Verb.REPLACE, note=text,
    )  # fmt: skip


async def test_hostile_words_are_shown_as_text(browser: Browser, service: Service) -> None:
    service.board.jobs[HOSTILE] = Job(id=HOSTILE, step=3)
    service.board.nodes[HOSTILE] = Node(id=HOSTILE, job=HOSTILE, reason=HOSTILE, state="not_ready")
    service.board.incidents["i1"] = incident("i1", job=HOSTILE, text=HOSTILE, nodes=[HOSTILE])
    quoted = HOSTILE.replace('"', '\\"')
    service.figures = f'holdfast_job_loss{{job="{quoted}"}} 2.5\nholdfast_serving_requests_waiting{{service="{quoted}"}} 1\n'.encode()
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    await seen.page.locator("tr[data-incident=i1]").click()
    await expect(seen.page.locator("#detail")).to_be_visible()
    await seen.page.keyboard.press("Escape")
    await seen.page.locator(".tile").hover()
    assert await seen.page.locator("img").count() == 0
    assert await seen.page.title() != "run"
    assert [await seen.page.locator(f".waits {what}").count() for what in ("rect", "line")] == [2, 1]
    for place in (".card h3", ".where", ".why", "#told", "#legend", ".evidence code", ".culprits", "#detail-body ol", ".waits title"):
        assert any(HOSTILE in words for words in await seen.texts(place)), place
    assert seen.complaints == []
    assert seen.foreign() == []


async def test_what_gets_in_as_markup_is_still_not_run(browser: Browser, service: Service) -> None:
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    await expect(seen.page.locator("#main")).to_be_visible()
    await seen.page.evaluate("markup => { document.body.insertAdjacentHTML('beforeend', markup) }", HOSTILE)
    await seen.page.wait_for_timeout(300)
    assert await seen.page.title() != "run"
    assert any("Content Security Policy" in words for words in seen.complaints)


async def test_figures_are_those_of_each_job_and_service(browser: Browser, service: Service) -> None:
    service.board.jobs["a"] = Job(id="a", step=3, devices=8)
    service.figures = (
        b"# HELP holdfast_job_loss Loss\n"
        b'holdfast_job_loss{job="a"} 2.5\nholdfast_job_state{job="a",state="hanging"} 1\nholdfast_job_state{job="a",state="running"} 0\n'
        b'holdfast_job_effective_training_time_ratio{job="a"} 0.5\nholdfast_job_mfu_ratio{job="a"} NaN\n'
        b'holdfast_job_tokens_per_second{job="\\\\"} 1\nnonsense{\n'
        b'holdfast_serving_requests_waiting{service="s",instance="0"} 2\nholdfast_serving_requests_waiting{service="s",instance="1"} 3\n'
        b'holdfast_serving_time_to_first_token_seconds{service="s",instance="0"} 0.1\n'
        b'holdfast_serving_time_to_first_token_seconds{service="s",instance="1"} 0.4\n'
    )
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    assert await value_of(seen.page, "a", "holdfast_job_loss") == 2.5
    assert await value_of(seen.page, "s", "holdfast_serving_requests_waiting") == 5
    assert await value_of(seen.page, "s", "holdfast_serving_time_to_first_token_seconds") == 0.4
    assert await seen.texts("[data-job=a] .pill") == ["hanging"]
    assert await seen.texts("[data-job=a] [data-figure=holdfast_job_mfu_ratio] dd") == ["–"]
    assert await seen.texts("#total-ettr") == ["50.0 %"]
    assert seen.complaints == []


async def test_what_waits_for_a_person_stands_first_and_what_is_over_last(browser: Browser, service: Service) -> None:
    states = (State.RESOLVED, State.AWAITING_APPROVAL, State.NEEDS_HUMAN, State.RECOVERING, State.RESOLVED)
    for n, state in enumerate(states):
        service.board.incidents[f"i{n}"] = incident(f"i{n}", state)
    service.board.nodes["gone"] = Node(id="gone", state="deleted")
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    await expect(seen.page.locator("tbody tr")).to_have_count(5)
    order = [await row.get_attribute("data-incident") for row in await seen.page.locator("tbody tr").all()]
    assert order == ["i1", "i3", "i2", "i4", "i0"]
    assert await seen.texts("#total-live, #total-human, #total-resolved") == ["2", "2", "2"]
    await expect(seen.page.locator(".tile")).to_have_count(0)
    assert seen.complaints == []


async def test_a_wrong_token_is_told_in_words_and_a_right_one_opens(browser: Browser, service: Service) -> None:
    seen = await visit(browser, f"{await service.open()}#token=wrong")
    form = seen.page.locator("#door")
    await expect(form).to_contain_text("does not know this token")
    await expect(seen.page.locator("#main")).to_be_hidden()
    await seen.page.locator("#token").fill("agent-token")
    await seen.page.keyboard.press("Enter")
    await expect(form).to_contain_text("may not look at the cluster")
    await seen.page.locator("#token").fill("read-token")
    await seen.page.keyboard.press("Enter")
    await expect(seen.page.locator("#main")).to_be_visible()
    await expect(form).to_be_hidden()
    assert not any("token" in url.partition("?")[2] for url in seen.asked)
    assert "read-token" not in await seen.page.content()
    assert seen.complaints == []


async def test_without_a_token_one_is_asked_for(browser: Browser, service: Service) -> None:
    seen = await visit(browser, await service.open())
    await expect(seen.page.locator("#door")).to_contain_text("A token is needed")
    assert [url for url in seen.asked if "/api/" in url] == []


async def test_a_reader_who_approves_is_told_that_he_may_not(browser: Browser, service: Service) -> None:
    service.board.incidents["i3"] = incident("i3", State.AWAITING_APPROVAL)
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    await seen.page.locator("tr[data-incident=i3]").click()
    await seen.page.locator("button.approve").click()
    await expect(seen.page.locator("#detail [role=status]")).to_contain_text("role act is needed")
    assert service.asked == []


async def test_an_approval_goes_out_with_a_key_and_again_with_the_same_one(browser: Browser, service: Service) -> None:
    service.board.incidents["i3"] = incident("i3", State.AWAITING_APPROVAL)
    service.answers = [422, 202]
    seen = await visit(browser, f"{await service.open()}#token=act-token")
    await seen.page.locator("tr[data-incident=i3]").click()
    said = seen.page.locator("#detail [role=status]")
    await seen.page.locator("button.approve").click()
    await expect(said).to_contain_text("over budget")
    await seen.page.locator("button.approve").click()
    await expect(said).to_contain_text("taken down")
    (first, body), (second, _) = service.asked
    assert body == {"verb": "approve", "incident": "i3"}
    assert first == second
    assert len(first) >= 16


async def test_a_service_that_is_away_is_told_and_what_was_shown_stays(browser: Browser, service: Service) -> None:
    service.board.nodes["n1"] = Node(id="n1")
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    await expect(seen.page.locator(".tile")).to_have_count(1)
    banner = seen.page.locator("#banner")
    await expect(banner).to_be_hidden()
    await service.close()
    await expect(banner).to_contain_text(re.compile(r"not heard for \d+ s"), timeout=15_000)
    await expect(seen.page.locator(".tile")).to_have_count(1)
    await service.open()
    await expect(banner).to_be_hidden(timeout=15_000)


async def test_two_thousand_nodes_are_walked_by_keyboard(browser: Browser, service: Service) -> None:
    states = {7: "cordoned", 8: "not_ready", 9: "silent"}
    for n in range(2000):
        service.board.nodes[f"n{n}"] = Node(id=f"n{n}", job=f"j{n // 250}", devices=8, state=states.get(n, "ready"), heard_at=NOW - 3)
    service.board.incidents["i1"] = incident("i1", nodes=["n1"])
    service.board.incidents["i2"] = incident("i2", State.RESOLVED, nodes=["n2"])
    service.board.incidents["i4"] = on_node("i4", "n4")
    seen = await visit(browser, f"{await service.open()}#token=read-token")
    page = seen.page
    await expect(page.locator(".tile")).to_have_count(2000)
    assert [await node.get_attribute("data-node") for node in await page.locator(".tile[data-open]").all()] == ["n1", "n4"]
    assert await page.locator(".tile[tabindex='0']").count() == 1
    await page.locator(".tile").first.focus()
    await page.keyboard.press("ArrowRight")
    focused = page.locator(".tile:focus")
    await expect(focused).to_have_attribute("aria-label", "n1, ready, job j0, incident i1")
    await expect(page.locator("#told")).to_contain_text("n1, ready, job j0, incident i1, 8 devices, heard 3 s ago")
    await page.keyboard.press("Enter")
    await expect(page.locator("#detail-title")).to_contain_text("i1")
    await page.keyboard.press("Escape")
    await page.keyboard.press("End")
    await expect(focused).to_have_attribute("data-node", "n1999")
    await page.keyboard.press("Home")
    await page.keyboard.press("ArrowDown")
    below = int((await focused.get_attribute("data-node") or "n0")[1:])
    assert below > 1
    await page.keyboard.press("ArrowUp")
    await expect(focused).to_have_attribute("data-node", "n0")
    assert (await seen.texts("#legend li"))[-4:] == ["–cordoned 1", "×not ready 1", "?silent 1", "!open incident"]
    assert seen.complaints == []


def on_node(id: str, node: str) -> Incident:
    """An incident about a node itself."""
    made = incident(id)
    return Incident(
        id=id, at=made.at, targets=(Target(Kind.NODE, node),), state=State.NEEDS_HUMAN, perception=made.perception, check="c",
        verdict=made.verdict,
    )  # fmt: skip


async def test_the_files_carry_headers_that_keep_others_out(browser: Browser, service: Service) -> None:
    seen = await visit(browser, await service.open())
    answer = await seen.page.request.get(f"http://{HOST}:{service.port}/page/page.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert (await seen.page.request.get(f"http://{HOST}:{service.port}/page/..%2fapp.py")).status == 404
