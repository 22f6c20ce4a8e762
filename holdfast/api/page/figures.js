// Figures of jobs and services from the Prometheus page, and their recent past as small drawings.

import { draw, attribute } from "./dom.js";

const LINES_MOST = 200_000;
const SERIES_MOST = 4_000;
const POINTS_MOST = 120;
export const STATE = "holdfast_job_state";
const LINE = /^(holdfast_(?:job|serving)_\w+)\{(.*)\}\s+(\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED = { n: "\n", "\\": "\\", '"': '"' };

/** The samples of jobs and services: [{name, labels, value}]; lines of any other kind are passed over. */
export function parsePage(page) {
  const found = [];
  for (const line of page.split("\n", LINES_MOST)) {
    const match = LINE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of match[2].matchAll(LABEL)) labels[name] = value.replace(/\\(.)/g, (_, c) => ESCAPED[c] ?? c);
    found.push({ name: match[1], labels, value: match[3] === "+Inf" ? Infinity : Number(match[3]) });
  }
  return found;
}

/** Samples by job: Map(job -> Map(name -> value)), those that carry no label but the job, and the state it is in. */
export function ofJobs(samples) {
  const jobs = new Map();
  for (const { name, labels, value } of samples) {
    const plain = labels.job !== undefined && Object.keys(labels).length === 1;
    const state = name === STATE && value === 1;
    if (!name.startsWith("holdfast_job_") || !(plain || state)) continue;
    if (!jobs.has(labels.job)) jobs.set(labels.job, new Map());
    jobs.get(labels.job).set(name, state ? labels.state : value);
  }
  return jobs;
}

/** Samples by service, over its instances: times are those of the slowest one, counts and rates are summed. */
export function ofServices(samples) {
  const services = new Map();
  for (const { name, labels, value } of samples) {
    if (!name.startsWith("holdfast_serving_") || labels.service === undefined || !Number.isFinite(value)) continue;
    if (labels.kind === "prompt" || labels.state !== undefined) continue;
    if (!services.has(labels.service)) services.set(labels.service, new Map());
    const figures = services.get(labels.service);
    const before = figures.get(name);
    const worst = name.endsWith("_seconds") || name.endsWith("_ratio");
    figures.set(name, before === undefined ? value : worst ? Math.max(before, value) : before + value);
  }
  return services;
}

/** The recent past of each figure; bounded in points and in figures. */
export class Past {
  constructor() {
    this.series = new Map();
  }

  add(key, value) {
    if (!Number.isFinite(value)) return;
    const points = this.series.get(key) ?? [];
    points.push(value);
    if (points.length > POINTS_MOST) points.shift();
    // what was touched last stands last, so the first is the one that has been silent for longest
    this.series.delete(key);
    this.series.set(key, points);
    if (this.series.size > SERIES_MOST) this.series.delete(this.series.keys().next().value);
  }

  of(key) {
    return this.series.get(key) ?? [];
  }
}

/** An empty small drawing. */
export function sparkline() {
  const line = draw("polyline", { "vector-effect": "non-scaling-stroke" });
  return draw("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, line);
}

/** Draw points into it, oldest left, the least at the bottom. */
export function redraw(spark, points) {
  const most = Math.max(...points);
  // less than a fiftieth is noise, and is drawn as such
  const range = Math.max(most - Math.min(...points), Math.abs(most) / 50);
  const least = (most + Math.min(...points) - range) / 2;
  const across = (n) => ((100 * n) / Math.max(1, points.length - 1)).toFixed(1);
  const down = (value) => (range > 0 ? (18.5 - (17 * (value - least)) / range).toFixed(1) : "10");
  attribute(spark.firstChild, "points", points.map((value, n) => `${across(n)},${down(value)}`).join(" "));
}
