// What stands beside the mirrors: connections, announcements and leases, workers, events.

import { arrange, byId, figures, make, mark, say, setTime, show, timeOf } from "./dom.js";
import { bytes, count, duration, instant, isNumber, plural, text, UNKNOWN } from "./format.js";
import { listOf } from "./judge.js";

const HOPS_MAX = 40;
const WORKERS_MAX = 40;
const EVENTS_SHOWN = 40;
const HOP_LEVEL = { ok: "ok", down: "bad", off: "off" };
const WORKER_LEVEL = {
  starting: "ok", idle: "ok", ok: "ok", busy: "ok", working: "ok", waiting: "ok", paused: "ok", stopping: "ok",
  lost: "bad", gone: "bad", dead: "bad", failing: "bad",
};

export function showHops(hops) {
  const down = (hop) => (hop.state === "down" ? 0 : 1);
  const sorted = [...listOf(hops)].sort((one, other) => down(one) - down(other));
  showRows(byId("hops"), bounded(sorted, HOPS_MAX, "connection"), (hop) => text(hop.name), fillHop);
}

export function showWorkers(workers) {
  showRows(byId("workers"), bounded(listOf(workers), WORKERS_MAX, "worker"), (worker) => text(worker.id), fillWorker);
}

function showRows(list, items, name, fill) {
  arrange(list, items, {
    key: (item) => (item.words ? " " : name(item)),
    build: (item) => (item.words ? make("li", { class: "note" }) : row(name(item))),
    fill: (node, item) => (item.words ? say(node, item.words) : fill(node, item)),
  });
}

/** As many items as are shown, and a line in words for those that are not, or that there are none. */
function bounded(items, most, what) {
  if (!items.length) return [{ words: `No ${what} is known.` }];
  const left = items.length - most;
  return left > 0 ? [...items.slice(0, most), { words: `${plural(left, `more ${what}`)} not shown.` }] : items;
}

/** A line: name, state, since when, and a detail below. */
function row(name) {
  return make(
    "li",
    {},
    make("span", { class: "name" }, name),
    make("span", { class: "badge" }),
    make("span", { class: "since" }, "since ", make("time")),
    make("span", { class: "detail" }),
  );
}

function fillRow(node, { level, state, since, detail }) {
  mark(node, "data-level", level);
  say(node.querySelector(".badge"), state);
  show(node.querySelector(".since"), instant(since) !== null);
  setTime(node.querySelector("time"), since, "clock");
  say(node.querySelector(".detail"), detail);
  show(node.querySelector(".detail"), detail !== "");
}

function fillHop(node, hop) {
  const state = text(hop.state) || "unknown";
  const latency = isNumber(hop.latency_ms) ? duration(hop.latency_ms / 1000) : "";
  fillRow(node, {
    level: HOP_LEVEL[state] ?? "unknown",
    state: state === "ok" ? `ok ${latency}`.trim() : state === "unknown" ? UNKNOWN : state === "down" ? "DOWN" : state,
    since: hop.since,
    detail: text(hop.detail),
  });
}

function fillWorker(node, worker) {
  const state = text(worker.state) || "unknown";
  fillRow(node, {
    level: WORKER_LEVEL[state] ?? "unknown",
    state: state === "unknown" ? UNKNOWN : state,
    since: worker.since,
    detail: text(worker.task),
  });
}

export function showOwed(announcing, leases) {
  const sent = announcing ?? {};
  const late = sent.owed > 0;
  figures(byId("owed"), [
    ["Announced on", { nsq: "NSQ", local: "the embedded spool", off: "off" }[sent.mode] ?? (text(sent.mode) || UNKNOWN)],
    ["State", text(sent.state) || UNKNOWN],
    ["Owed", count(sent.owed), late ? "warn" : ""],
    ["Oldest", instant(sent.oldest) === null ? (sent.owed === 0 ? "none" : UNKNOWN) : timeOf(sent.oldest, "ago"), late ? "warn" : ""],
    ["Leases", leases ? `${count(leases.count)} held, ${pins(leases.pins)}` : UNKNOWN],
  ]);
  const problem = [text(sent.error), text(sent.warning)].filter(Boolean).join(" ");
  say(byId("owed-problem"), problem);
  show(byId("owed-problem"), problem !== "");
}

function pins(found) {
  const number = Array.isArray(found) ? found.length : found;
  return isNumber(number) ? `${plural(number, "version")} pinned` : `pins ${UNKNOWN}`;
}

let recent = [];

/** Put new events on top; only the last few stay. */
export function showEvents(events, gap) {
  recent = [...listOf(events).reverse(), ...recent].slice(0, EVENTS_SHOWN);
  arrange(byId("events"), recent, {
    key: (event) => text(event.seq ?? event.id),
    build: eventRow,
    fill: () => {},
  });
  if (gap) say(byId("events-note"), "Some events between are not kept any more. All that is held: syncd manifest");
  else if (recent.length) say(byId("events-note"), "The newest first.");
}

function eventRow(event) {
  const size = event.event === "removed" ? "" : bytes(event.size);
  const path = text(event.server_path) || `${text(event.mirror)}/${text(event.path)}`;
  return make(
    "li",
    { "data-event": text(event.event) },
    make("span", { class: "badge" }, text(event.event)),
    make("span", { class: "path" }, path),
    make("span", { class: "since" }, timeOf(event.at, "clock"), size ? `, ${size}` : ""),
  );
}
