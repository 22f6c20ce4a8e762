// The cluster as a map: one tile a node, always at the same place; its colour is its job, its pattern its state.

import { Keyed, attribute, make, text } from "./dom.js";
import { inOrder, plain, span } from "./words.js";

const COLOURS = 8;
const JOBS_MOST = 4_000;
const STATES = ["ready", "cordoned", "not_ready", "silent"];
const MARKS = { cordoned: "–", not_ready: "×", silent: "?" };

/** A colour for each job, the same for as long as the page is open. */
export class Colours {
  constructor() {
    this.given = new Map();
  }

  of(job) {
    if (!job) return "idle";
    if (this.given.size > JOBS_MOST) this.given.clear();
    if (!this.given.has(job)) this.given.set(job, this.given.size % COLOURS);
    return this.given.get(job);
  }
}

/** The tiles. onOpen(id): a node's incident was asked for. */
export class ClusterMap {
  constructor({ root, told, legend, colours, onOpen }) {
    Object.assign(this, { root, told, legend, colours, onOpen });
    this.now = NaN;
    this.at = null;
    this.nodes = new Map();
    this.tiles = new Keyed(root, {
      key: (node) => node.id,
      create: (node) => this.create(node),
      update: (tile, node) => this.update(tile, node),
    });
    root.addEventListener("keydown", (event) => this.onKey(event));
    for (const word of ["mouseover", "focusin"]) root.addEventListener(word, (event) => this.tell(event.target.closest("button")));
  }

  /** nodes: rows of the service; open: ids of incidents that are not resolved; now: the service's time. */
  show(nodes, { open, now }) {
    this.now = now;
    const rows = [...nodes].sort((a, b) => inOrder(a.id, b.id)).map((node) => ({ ...node, open: (node.incidents ?? []).filter((id) => open.has(id)) }));
    for (const job of [...new Set(rows.map((node) => node.job))].sort(inOrder)) this.colours.of(job);
    this.nodes = new Map(rows.map((node) => [node.id, node]));
    attribute(this.root, "data-size", rows.length <= 160 ? "large" : rows.length <= 640 ? "medium" : "small");
    this.tiles.show(rows);
    this.reachable(this.nodes.has(this.at) ? this.at : rows[0]?.id);
    this.tellLegend(rows);
    if (this.shown) this.tell(this.shown);
  }

  create({ id }) {
    const short = /\d{1,4}$/.exec(id)?.[0].replace(/^0+(?=\d)/, "") ?? id.slice(-3);
    const tile = make("button", { type: "button", class: "tile", "data-node": id, tabindex: "-1" }, make("span", {}, short), make("i", {}));
    tile.addEventListener("click", () => this.nodes.get(id)?.open.forEach((incident, n) => n === 0 && this.onOpen(incident)));
    return tile;
  }

  update(tile, node) {
    attribute(tile, "data-state", node.state);
    attribute(tile, "data-colour", this.colours.of(node.job));
    attribute(tile, "data-open", node.open.length > 0 ? "yes" : null);
    attribute(tile, "aria-label", this.words(node));
    text(tile.lastChild, node.open.length > 0 ? "!" : (MARKS[node.state] ?? ""));
  }

  words(node) {
    const words = [node.id, plain(node.state), node.job ? `job ${node.job}` : "idle"];
    if (node.open.length) words.push(`incident ${node.open.join(", ")}`);
    if (node.reason) words.push(node.reason);
    return words.join(", ");
  }

  tell(tile) {
    const node = tile && this.nodes.get(tile.dataset.node);
    if (!node) return;
    this.shown = tile;
    const heard = Number.isFinite(node.heard_at) && node.heard_at > 0 ? `, heard ${span(this.now - node.heard_at)} ago` : "";
    text(this.told, `${this.words(node)}, ${node.devices ?? 0} devices${heard}`);
  }

  /** One tile is in the order of the tab key; the arrow keys move from it. */
  reachable(id) {
    if (id === undefined) return;
    const before = this.tiles.kept.get(this.at);
    if (before) attribute(before, "tabindex", "-1");
    this.at = id;
    attribute(this.tiles.kept.get(id), "tabindex", "0");
  }

  onKey(event) {
    const tiles = [...this.root.children];
    const here = tiles.indexOf(event.target.closest("button"));
    if (here < 0) return;
    const across = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -here, End: tiles.length - 1 - here };
    const next = tiles[here + (moves[event.key] ?? NaN)];
    if (!next) return;
    event.preventDefault();
    this.reachable(next.dataset.node);
    next.focus();
  }

  tellLegend(rows) {
    const jobs = count(rows, (node) => node.job);
    const states = count(rows, (node) => node.state);
    const entries = [
      ...[...jobs.keys()].sort((a, b) => !a - !b || inOrder(a, b)).map((job) => ({ "data-colour": this.colours.of(job), words: `${job || "idle"} ${jobs.get(job)}` })),
      ...STATES.slice(1).filter((state) => states.has(state)).map((state) => ({ "data-state": state, mark: MARKS[state], words: `${plain(state)} ${states.get(state)}` })),
      { "data-open": "yes", mark: "!", words: "open incident" },
    ];
    const key = JSON.stringify(entries);
    if (this.legend.dataset.key === key) return;
    this.legend.dataset.key = key;
    this.legend.replaceChildren(
      ...entries.map(({ words, mark = "", ...look }) => make("li", {}, make("span", { class: "swatch", ...look }, make("i", {}, mark)), words)),
    );
  }
}

function count(rows, of) {
  const counts = new Map();
  for (const row of rows) counts.set(of(row), (counts.get(of(row)) ?? 0) + 1);
  return counts;
}
