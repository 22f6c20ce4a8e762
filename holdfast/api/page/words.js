// How figures, times and names are written.

export const NOTHING = "–";

/** A number in at most four places; nothing for what is no finite number. */
export function number(value, digits = 2) {
  if (!Number.isFinite(value)) return NOTHING;
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return Number.isInteger(value) ? String(value) : value.toFixed(size >= 100 ? 0 : digits);
}

export const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)} %` : NOTHING);
export const seconds = (value) => (Number.isFinite(value) ? `${number(value)} s` : NOTHING);
export const milliseconds = (value) => (Number.isFinite(value) ? `${number(1000 * value, 1)} ms` : NOTHING);

/** How long something took: "8 s", "4 min 05 s", "3 h 12 min". */
export function span(value) {
  if (!Number.isFinite(value)) return NOTHING;
  const whole = Math.max(0, Math.round(value));
  const two = (part) => String(part).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** Unix seconds as UTC. */
export function clock(at) {
  return Number.isFinite(at) ? `${new Date(1000 * at).toISOString().slice(0, 19).replace("T", " ")} UTC` : NOTHING;
}

/** `gpu_hw` -> `gpu hw`. */
export const plain = (word) => String(word ?? "").replaceAll("_", " ");

/** Names as people count: node9 before node10. */
export const inOrder = new Intl.Collator("en", { numeric: true }).compare;

/** What a target is called: "rank 5", "device 0000:1b:00 on node0003". */
export function target({ kind, id, node }) {
  return node && node !== id ? `${kind} ${id} on ${node}` : `${kind} ${id}`;
}
