// Incidents as a table, and one of them in full: who, why, and when each thing happened.

import { Keyed, attribute, byId, make, text } from "./dom.js";
import { act, freshKey } from "./service.js";
import { waits } from "./waits.js";
import { clock, inOrder, number, plain, span, target } from "./words.js";

const ROWS_MOST = 100;
const EVIDENCE_MOST = 60;
const TARGETS_MOST = 3;
const STAGES = [
  ["perceived", "at"],
  ["diagnosed", "diagnosed_at"],
  ["decided", "decided_at"],
  ["acted", "acted_at"],
  ["verified", "ended_at"],
];

export const isResolved = (incident) => incident.state === "resolved";
export const needsPerson = (incident) => incident.state === "needs_human" || incident.state === "awaiting_approval";
export const isEnded = (incident) => incident.state === "resolved" || incident.state === "needs_human";

/** The table and the detail. */
export class Incidents {
  constructor(root) {
    this.now = NaN;
    this.known = new Map();
    this.open = "";
    this.keys = new Map();
    this.rows = new Keyed(root, {
      key: (incident) => incident.id,
      create: (incident) => this.create(incident),
      update: (row, incident) => this.update(row, incident),
    });
    byId("detail-close").addEventListener("click", () => byId("detail").close());
    byId("detail").addEventListener("close", () => (this.open = ""));
    byId("detail").addEventListener("click", (event) => event.target === byId("detail") && byId("detail").close());
  }

  /** incidents: as the service has them; now: its time. */
  show(incidents, now) {
    this.now = now;
    this.known = new Map(incidents.map((incident) => [incident.id, incident]));
    const latest = [...incidents].sort((a, b) => urgency(a) - urgency(b) || b.at - a.at || inOrder(b.id, a.id));
    this.rows.show(latest.slice(0, ROWS_MOST));
    const left = latest.length - ROWS_MOST;
    text(byId("incidents-note"), latest.length === 0 ? "None so far." : left > 0 ? `The ${left} oldest are not shown.` : "");
    if (this.known.has(this.open)) this.showDetail(this.known.get(this.open));
  }

  /** Show one in full. */
  openDetail(id) {
    const incident = this.known.get(id);
    if (!incident) return;
    this.open = id;
    this.shownAs = "";
    this.showDetail(incident);
    if (!byId("detail").open) byId("detail").showModal();
  }

  create({ id }) {
    const button = make("button", { type: "button", class: "open", "aria-label": `open incident ${id}` }, "›");
    const cells = ["", "what", "where", "why", "verb", "number", ""].map((name) => make("td", { class: name }));
    cells[0].append(make("span", { class: "pill" }));
    cells[3].append(make("span", {}));
    cells[6].append(button);
    const row = make("tr", { "data-incident": id }, ...cells);
    row.addEventListener("click", () => this.openDetail(id));
    return row;
  }

  update(row, incident) {
    const [state, what, where, why, verb, took] = row.children;
    attribute(row, "data-state", incident.state);
    attribute(state.firstChild, "data-state", incident.state);
    text(state.firstChild, plain(incident.state));
    text(what, whatOf(incident));
    text(where, whereOf(incident));
    text(why.firstChild, whyOf(incident));
    attribute(why, "title", whyOf(incident));
    text(verb, verbOf(incident));
    text(took, span((incident.ended_at ?? this.now) - incident.at));
  }

  showDetail(incident) {
    // drawn anew only when it has changed, so that a selection and a scroll position stay
    const shownAs = JSON.stringify([incident.id, incident.state, incident.verdict, incident.note, incident.orders, STAGES.map(([, key]) => incident[key])]);
    if (this.shownAs === shownAs) return;
    this.shownAs = shownAs;
    text(byId("detail-title"), `${incident.id}: ${whatOf(incident)}`);
    const parts = [this.summary(incident), this.approval(incident), timeline(incident), culprits(incident), chain(incident), waits(incident), evidence(incident)];
    byId("detail-body").replaceChildren(...parts.filter(Boolean));
  }

  summary(incident) {
    const pill = make("span", { class: "pill", "data-state": incident.state }, plain(incident.state));
    const told = [whereOf(incident), `action: ${verbOf(incident)}`, incident.note].filter(Boolean).join(" · ");
    return make("p", { class: "summary" }, pill, " ", told);
  }

  approval(incident) {
    if (incident.state !== "awaiting_approval") return null;
    const said = make("p", { role: "status" });
    const buttons = ["approve", "reject"].map((verb) => make("button", { type: "button", class: verb, "data-verb": verb }, verb));
    for (const button of buttons) button.addEventListener("click", () => this.decide(button, buttons, said, incident.id));
    const asks = `It waits for a person: ${verbOf(incident)}?`;
    return make("section", { class: "approval" }, make("p", {}, asks), ...buttons, said);
  }

  async decide(button, buttons, said, incident) {
    const verb = button.dataset.verb;
    const name = `${verb} ${incident}`;
    // a repeat of a press that got no answer carries the same key, so that it cannot act twice
    if (!this.keys.has(name)) this.keys.set(name, freshKey());
    buttons.forEach((each) => (each.disabled = true));
    const { done, words } = await act(verb, incident, this.keys.get(name));
    text(said, words);
    if (done) this.keys.delete(name);
    else buttons.forEach((each) => (each.disabled = false));
  }
}

/** 0 for what waits for a person's word, 1 for what is under way, 2 for what was left to a person, 3 for what is over. */
function urgency({ state }) {
  return { awaiting_approval: 0, needs_human: 2, resolved: 3 }[state] ?? 1;
}

function whatOf({ verdict, perception }) {
  const fault = verdict.fault && verdict.fault !== "none" ? plain(verdict.fault) : "not known yet";
  const seen = verdict.symptom && verdict.symptom !== "none" ? verdict.symptom : plain(perception);
  return `${seen}: ${fault}`;
}

function whereOf({ job, targets, verdict }) {
  const blamed = (verdict.culprits ?? []).map(target);
  const named = blamed.length ? blamed : (targets ?? []).filter((one) => one.id !== job).map(target);
  const nodes = [...new Set((targets ?? []).map((one) => one.node).filter(Boolean))].filter((node) => !named.some((name) => name.includes(node)));
  const few = (names) => names.slice(0, TARGETS_MOST).join(", ") + (names.length > TARGETS_MOST ? ` and ${names.length - TARGETS_MOST} more` : "");
  return [few(named), few(nodes), job].filter(Boolean).join(" · ");
}

function whyOf({ verdict, note }) {
  const cause = verdict.culprits?.[0]?.cause;
  const first = verdict.culprits?.[0]?.evidence?.[0] ?? verdict.evidence?.[0]?.text ?? note ?? "";
  const blame = { nobody: "nobody to blame", undecided: "undecided", healthy: "nothing is wrong" }[verdict.verdict];
  return [cause ? plain(cause) : blame, first].filter(Boolean).join(": ");
}

function verbOf({ verb, verdict, state }) {
  const advised = verdict.action && verdict.action !== "none" ? verdict.action : "watch";
  return plain(verb ?? (state === "open" || state === "diagnosing" ? "not yet" : advised));
}

function timeline(incident) {
  const stages = STAGES.map(([word, key]) => ({ word, at: incident[key] })).filter(({ at }) => Number.isFinite(at)).sort((a, b) => a.at - b.at);
  const rows = stages.map(({ word, at }, n) => {
    const since = n === 0 ? clock(at) : `+${number(at - stages[n - 1].at, 1)} s`;
    return make("li", {}, make("b", {}, word === "verified" && incident.state === "needs_human" ? "left to a person" : word), make("span", {}, since));
  });
  const whole = Number.isFinite(incident.ended_at) ? ` in ${span(incident.ended_at - incident.at)}` : "";
  return make("section", {}, make("h3", {}, `Timeline${whole}`), make("ol", { class: "timeline" }, ...rows));
}

function culprits({ verdict }) {
  if (!verdict.culprits?.length) return null;
  const rows = verdict.culprits.map(({ kind, id, cause, confidence, share, evidence: because = [] }) => {
    const sure = [`confidence ${number(confidence)}`, Number.isFinite(share) ? `${number(100 * share, 0)} % of the lost time` : ""].filter(Boolean).join(", ");
    return make("li", {}, make("b", {}, `${kind} ${id}: ${plain(cause)}`), ` (${sure})`, make("ul", {}, ...because.map((line) => make("li", {}, line))));
  });
  return make("section", {}, make("h3", {}, "Who is to blame"), make("ul", { class: "culprits" }, ...rows));
}

function chain({ verdict }) {
  const links = verdict.detail?.chain;
  if (!Array.isArray(links) || links.length === 0) return null;
  return make("section", {}, make("h3", {}, "Who waits for whom"), make("ol", {}, ...links.slice(0, EVIDENCE_MOST).map((link) => make("li", {}, link))));
}

function evidence({ verdict }) {
  if (!verdict.evidence?.length) return null;
  const lines = verdict.evidence.slice(0, EVIDENCE_MOST).map(({ file, line, text: words }) => {
    const place = file ? make("span", { class: "place" }, line ? `${file}:${line}` : file) : "";
    return make("li", {}, place, make("code", {}, words));
  });
  return make("section", {}, make("h3", {}, "Evidence"), make("ul", { class: "evidence" }, ...lines));
}
