// Jobs and services as cards: state, step, and each figure with its recent past.

import { Keyed, attribute, make, text } from "./dom.js";
import { Past, STATE, redraw, sparkline } from "./figures.js";
import { NOTHING, inOrder, milliseconds, number, percent, plain, seconds } from "./words.js";

// the board knows that a job was started; that it steps is told by its figures
const STATES = { started: "running" };

// figure -> name on the card, how it is written, what it is
const OF_JOB = [
  ["holdfast_job_loss", "loss", (value) => number(value, 3), "Loss as the job reports it"],
  ["holdfast_job_tokens_per_second", "tokens/s", number, "Training throughput of the job"],
  ["holdfast_job_step_seconds", "s/step", number, "Seconds of a step, the median of the latest ones"],
  ["holdfast_job_mfu_ratio", "MFU", percent, "Model FLOP/s achieved over the peak of the devices"],
  ["holdfast_job_linearity_ratio", "linearity", percent, "Throughput over the reference scaled to this many devices"],
  ["holdfast_job_effective_training_ratio", "eff. training", percent, "1 - fault time / wall clock"],
  ["holdfast_job_effective_training_time_ratio", "ETTR", percent, "The same with checkpoint stalls counted as lost"],
  ["holdfast_job_gradient_norm", "grad. norm", (value) => number(value, 3), "As the job reports it"],
];
const OF_SERVICE = [
  ["holdfast_serving_time_to_first_token_seconds", "TTFT", milliseconds, "Time to first token, slowest instance"],
  ["holdfast_serving_time_per_output_token_seconds", "TPOT", milliseconds, "Time per output token, slowest instance"],
  ["holdfast_serving_inter_token_latency_seconds", "ITL", milliseconds, "Inter-token latency, slowest instance"],
  ["holdfast_serving_requests_waiting", "queue", (value) => number(Math.round(value)), "Requests waiting, all instances"],
  ["holdfast_serving_requests_running", "running", (value) => number(Math.round(value)), "Requests being served, all instances"],
  ["holdfast_serving_tokens_per_second", "tokens/s", number, "Tokens generated per second, all instances"],
  ["holdfast_serving_requests_per_second", "requests/s", number, "Requests finished per second, all instances"],
  ["holdfast_serving_kv_cache_use_ratio", "KV cache", percent, "Share in use, fullest instance"],
];

/** The cards. colours: Colours of map.js, so that a job looks the same everywhere. */
export class Jobs {
  constructor(root, { colours }) {
    this.colours = colours;
    this.past = new Past();
    this.cards = new Keyed(root, {
      key: (card) => card.id,
      create: (card) => this.create(card),
      update: (element, card) => this.update(element, card),
    });
  }

  /** jobs: rows of the service; ofJobs, ofServices: figures by job and by service. */
  show(jobs, { ofJobs, ofServices }) {
    const known = new Map(jobs.map((job) => [job.id, job]));
    const ids = [...new Set([...known.keys(), ...ofServices.keys()])].sort(inOrder);
    this.cards.show(
      ids.map((id) => ({ id, job: known.get(id), figures: ofServices.get(id) ?? ofJobs.get(id) ?? new Map(), serves: ofServices.has(id) })),
    );
  }

  /** Keep figures for the drawings; called once for each page of figures. */
  remember({ ofJobs, ofServices }) {
    for (const [id, figures] of [...ofJobs, ...ofServices]) {
      for (const [name, value] of figures) this.past.add(`${name} ${id}`, value);
    }
  }

  create({ id }) {
    const head = make("div", { class: "card-head" }, make("span", { class: "swatch" }), make("h3", {}, id), make("span", { class: "pill" }));
    return make("article", { class: "card", "data-job": id, "aria-label": `job ${id}` }, head, make("p", { class: "card-facts" }), make("dl", {}));
  }

  update(element, { id, job, figures, serves }) {
    const [swatch, , pill] = element.firstChild.children;
    const state = figures.get(STATE) ?? STATES[job?.state] ?? job?.state ?? "running";
    attribute(swatch, "data-colour", this.colours.of(id));
    attribute(pill, "data-state", state);
    text(pill, plain(state));
    text(element.children[1], facts(job, serves));
    this.showFigures(element.children[2], id, serves ? OF_SERVICE : OF_JOB, figures);
  }

  showFigures(list, id, wanted, figures) {
    if (list.dataset.kind !== wanted[0][0]) {
      list.dataset.kind = wanted[0][0];
      list.replaceChildren(...wanted.map(([name, label, , title]) => figure(name, label, title)));
    }
    wanted.forEach(([name, , write], n) => {
      const value = figures.get(name);
      const [, shown, spark] = list.children[n].children;
      attribute(shown, "data-value", value);
      text(shown, value === undefined ? NOTHING : write(value));
      redraw(spark, this.past.of(`${name} ${id}`));
    });
  }
}

function figure(name, label, title) {
  return make("div", { "data-figure": name, title }, make("dt", {}, label), make("dd", {}, NOTHING), sparkline());
}

function facts(job, serves) {
  if (!job) return serves ? "inference service" : "";
  const words = [serves ? "inference service" : job.step >= 0 ? `step ${job.step}` : "no step yet"];
  if (Array.isArray(job.nodes) && job.nodes.length) words.push(`${job.nodes.length} nodes`);
  if (job.devices) words.push(`${job.devices} devices`);
  if (job.attempt > 0) words.push(`attempt ${job.attempt + 1}`);
  return words.join(" · ");
}

/** ETTR over all jobs, each as heavy as its devices; NaN where none is known. */
export function ettr(jobs, ofJobs) {
  let sum = 0;
  let weight = 0;
  for (const { id, devices } of jobs) {
    const value = ofJobs.get(id)?.get("holdfast_job_effective_training_time_ratio");
    if (!Number.isFinite(value)) continue;
    sum += value * (devices || 1);
    weight += devices || 1;
  }
  return sum / weight;
}
