// Elements, made and kept. All text goes in as text: a log line is hostile until proved otherwise.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. attributes: null and false are left out; children: elements, or anything else as text. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) attribute(element, name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** Set an attribute where it differs: what has not changed is not drawn again. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** Set the text where it differs. */
export function text(element, words) {
  if (element.textContent !== String(words)) element.textContent = String(words);
}

export const byId = (id) => document.getElementById(id);

/** Children of `root` for `rows`, one each, in that order; an element stays with its key. */
export class Keyed {
  constructor(root, { key, create, update }) {
    this.root = root;
    this.kept = new Map();
    Object.assign(this, { key, create, update });
  }

  show(rows) {
    const wanted = new Set(rows.map(this.key));
    for (const [key, element] of this.kept) {
      if (wanted.has(key)) continue;
      element.remove();
      this.kept.delete(key);
    }
    rows.forEach((row, place) => {
      const key = this.key(row);
      if (!this.kept.has(key)) this.kept.set(key, this.create(row));
      const element = this.kept.get(key);
      if (this.root.children[place] !== element) this.root.insertBefore(element, this.root.children[place] ?? null);
      this.update(element, row);
    });
  }
}
