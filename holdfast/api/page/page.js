// The page: asks the service again and again, and shows what it says.

import { attribute, byId, text } from "./dom.js";
import { ofJobs, ofServices, parsePage } from "./figures.js";
import { Incidents, isEnded, isResolved, needsPerson } from "./incidents.js";
import { Jobs, ettr } from "./jobs.js";
import { ClusterMap, Colours } from "./map.js";
import { Refused, ask, askFigures, forgetToken, hasToken, keepToken, takeToken } from "./service.js";
import { clock, number, percent, span } from "./words.js";

const PAUSE_MS = 1_000;
const PAUSE_HIDDEN_MS = 10_000;
const SILENCE_S = 4;

const colours = new Colours();
const incidents = new Incidents(byId("incidents"));
const jobs = new Jobs(byId("jobs"), { colours });
const map = new ClusterMap({
  root: byId("map"), told: byId("told"), legend: byId("legend"), colours, onOpen: (id) => incidents.openDetail(id),
});

let heardAt = performance.now();
let asking = false;

/** One question after the other, never two at once; again after a pause. */
async function rounds() {
  if (asking) return;
  asking = true;
  while (hasToken()) {
    try {
      await round();
      heardAt = performance.now();
    } catch (error) {
      if (error instanceof Refused) {
        refuse(error.message);
        break;
      }
      // away or in trouble: the banner says since when, what was last heard stays
    }
    await new Promise((resolve) => setTimeout(resolve, document.hidden ? PAUSE_HIDDEN_MS : PAUSE_MS));
  }
  asking = false;
}

async function round() {
  const [about, nodes, listed, known, page] = await Promise.all([
    ask("api/v1/about"), ask("api/v1/nodes"), ask("api/v1/jobs"), ask("api/v1/incidents"), askFigures(),
  ]);
  const samples = parsePage(page);
  const figures = { ofJobs: ofJobs(samples), ofServices: ofServices(samples) };
  showMain();
  showAbout(about);
  const open = known.incidents.filter((incident) => !isResolved(incident));
  const there = nodes.nodes.filter((node) => node.state !== "deleted");
  map.show(there, { open: new Set(open.map((incident) => incident.id)), now: about.now });
  jobs.remember(figures);
  jobs.show(listed.jobs, figures);
  incidents.show(known.incidents, about.now);
  showTotals(there, listed.jobs, known.incidents, ettr(listed.jobs, figures.ofJobs));
}

function showAbout({ now, simulated, mode, speed, lag_s: lag, seed }) {
  byId("simulated").hidden = !simulated;
  text(byId("mode"), { observe: "observe: nothing is changed", approve: "approve: a person decides", auto: "auto: the loop acts" }[mode] ?? "");
  const facts = [];
  if (Number.isFinite(speed) && speed > 0) facts.push(`${number(speed, 0)} times real time`);
  if (Number.isFinite(lag)) facts.push(`lag ${lag.toFixed(1)} s`);
  if (Number.isFinite(seed)) facts.push(`seed ${seed}`);
  text(byId("facts"), facts.join(" · "));
  text(byId("clock"), clock(now));
}

function showTotals(nodes, listed, known, ratio) {
  const ended = new Set(["finished", "failed", "stopped"]);
  const live = known.filter((incident) => !isEnded(incident)).length;
  const human = known.filter(needsPerson).length;
  text(byId("total-nodes"), `${nodes.filter((node) => node.state === "ready").length} / ${nodes.length}`);
  text(byId("total-devices"), nodes.reduce((sum, node) => sum + (node.devices || 0), 0).toLocaleString("en"));
  text(byId("total-jobs"), `${listed.filter((job) => !ended.has(job.state)).length} / ${listed.length}`);
  text(byId("total-live"), live);
  text(byId("total-human"), human);
  text(byId("total-resolved"), known.filter(isResolved).length);
  text(byId("total-ettr"), percent(ratio));
  attribute(byId("total-live-box"), "data-alert", live > 0 ? "yes" : null);
  attribute(byId("total-human-box"), "data-alert", human > 0 ? "yes" : null);
  document.title = live > 0 ? `(${live}) Holdfast` : "Holdfast";
}

function showMain() {
  byId("main").hidden = false;
  byId("door").hidden = true;
}

function refuse(why) {
  forgetToken();
  byId("main").hidden = true;
  byId("detail").close();
  byId("door").hidden = false;
  if (why) text(byId("door-why"), why);
  byId("token").focus();
}

/** The banner: shown while the service is away. */
function tellSilence() {
  const silence = (performance.now() - heardAt) / 1000;
  const away = hasToken() && silence > SILENCE_S && !document.hidden;
  byId("banner").hidden = !away;
  document.body.classList.toggle("away", away);
  if (away) text(byId("banner"), `The service was not heard for ${span(silence)}; what is shown is from before.`);
}

function begin() {
  takeToken();
  heardAt = performance.now();
  if (hasToken()) rounds();
  else refuse("");
}

byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value);
  byId("token").value = "";
  heardAt = performance.now();
  rounds();
});
addEventListener("hashchange", begin);
// a page that nobody looked at asked seldom: that is no silence of the service
document.addEventListener("visibilitychange", () => (heardAt = performance.now()));
setInterval(tellSilence, 1_000);
begin();
