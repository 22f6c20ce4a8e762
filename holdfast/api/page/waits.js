// Who waits for whom in a hang, drawn from the boxes and arrows of a verdict: the culprits at the right, who waits for them at the left.

import { draw, make } from "./dom.js";

const MOST_BOXES = 60;
const MOST_ARROWS = 200;
const WIDE = 212;
const HIGH = 42;
const ACROSS = 60;
const DOWN = 10;
const ROLES = new Set(["culprit", "walk", "other", "free"]);

/** A section with the drawing; null where the verdict has none, or one that is not as it should be. */
export function waits({ verdict }) {
  const boxes = known(verdict.detail?.graph?.boxes, MOST_BOXES, isBox);
  if (boxes.length === 0) return null;
  const arrows = known(verdict.detail.graph.arrows, MOST_ARROWS, ([from, to]) => boxes[from] && boxes[to]);
  const width = Math.max(...boxes.map((box) => left(box))) + WIDE + 2;
  const height = Math.max(...boxes.map((box) => top(box))) + HIGH + 2;
  const picture = draw("svg", { class: "waits", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": "who waits for whom" });
  picture.append(...arrows.map(([from, to, strong]) => arrow(boxes[from], boxes[to], strong === 1)), ...boxes.map(drawn));
  return make("section", {}, make("h3", {}, "Drawn"), make("div", { class: "scroll" }, picture));
}

const known = (rows, most, good) => (Array.isArray(rows) ? rows.filter((row) => Array.isArray(row) && good(row)).slice(0, most) : []);
const isBox = ([column, row]) => [column, row].every((n) => Number.isInteger(n) && n >= 0 && n < 1000);
const left = ([column]) => 1 + column * (WIDE + ACROSS);
const top = ([, row]) => 1 + row * (HIGH + DOWN);
const short = (words, most) => (String(words).length > most ? `${String(words).slice(0, most - 1)}…` : String(words));

function drawn(box) {
  const [, , role, title, words] = box;
  return draw(
    "g",
    { class: ROLES.has(role) ? role : "other" },
    draw("title", {}, `${title}: ${words}`),
    draw("rect", { x: left(box), y: top(box), width: WIDE, height: HIGH, rx: 4 }),
    draw("text", { x: left(box) + 8, y: top(box) + 17, class: "who" }, short(title, 26)),
    draw("text", { x: left(box) + 8, y: top(box) + 33 }, short(words, 32)),
  );
}

/** A line, thick at its end: there is who is waited for. */
function arrow(from, to, strong) {
  const [x1, x2] = left(from) < left(to) ? [left(from) + WIDE, left(to)] : [left(from) + WIDE, left(to) + WIDE];
  const [y1, y2] = [top(from) + HIGH / 2, top(to) + HIGH / 2];
  const kind = strong ? "walked" : "waits-for";
  return draw("g", { class: kind }, draw("line", { x1, y1, x2, y2 }), draw("circle", { cx: x2, cy: y2, r: 3 }));
}
