// Elements from values. Text only ever goes in as text: names on a share are written by strangers.

import { ago, clock, instant, until, utc, UNKNOWN } from "./format.js";

const TIMES = { ago, clock, until };

export function byId(id) {
  return document.getElementById(id);
}

/** Make an element. `children` are nodes or texts; null is left out. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Set a node's text, if it is another: so that a selection and a screen reader are left alone. */
export function say(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

export function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function show(node, wanted) {
  if (node.hidden === wanted) node.hidden = !wanted;
}

/** Say what to do next; what is to be typed looks like it. */
export function sayHint(node, hint) {
  say(node, hint);
  mark(node, "data-command", String(hint.startsWith("syncd ")));
  show(node, hint !== "");
}

/** A <time> that tick() keeps true; form: ago, until or clock. */
export function timeOf(iso, form) {
  const node = make("time");
  setTime(node, iso, form);
  return node;
}

export function setTime(node, iso, form) {
  if (instant(iso) === null) {
    node.removeAttribute("datetime");
    node.removeAttribute("title");
    say(node, UNKNOWN);
    return;
  }
  mark(node, "datetime", iso);
  mark(node, "data-form", form);
  mark(node, "title", utc(iso));
  say(node, TIMES[form](iso));
}

/** Write all relative times anew. */
export function tick() {
  for (const node of document.querySelectorAll("time[datetime]")) {
    say(node, TIMES[node.dataset.form](node.dateTime));
  }
}

/**
 * Make the children of `parent` those of `items`, in their order. Nodes are kept by key, so that what is open, focused
 * or selected stays so. key(item) is a string; build(item) makes a node; fill(node, item) writes the values into it.
 */
export function arrange(parent, items, { key, build, fill }) {
  const kept = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const node = kept.get(name) ?? build(item);
    kept.delete(name);
    node.dataset.key = name;
    fill(node, item);
    if (node === place) place = place.nextElementSibling;
    else put(parent, node, place);
  }
  for (const node of kept.values()) node.remove();
}

/** Move a node without taking the focus from what is in it; newer browsers can do that themselves. */
function put(parent, node, place) {
  if (node.isConnected && parent.moveBefore) {
    parent.moveBefore(node, place);
    return;
  }
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, place);
  focused?.focus({ preventScroll: true });
}

/** Fill a <dl> of figures: [label, words or node, tone?]. A node is put in as it is, words only if they are others. */
export function figures(list, entries) {
  arrange(list, entries, {
    key: ([label]) => label,
    build: ([label]) => make("div", {}, make("dt", {}, label), make("dd")),
    fill: (row, [, value, tone]) => {
      const cell = row.lastElementChild;
      mark(row, "data-tone", tone ?? "");
      if (value instanceof Node) cell.replaceChildren(value);
      else say(cell, value);
    },
  });
}
