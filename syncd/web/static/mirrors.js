// The mirrors: one card each, the worst first.

import { arrange, byId, figures, make, mark, say, sayHint, setTime, show, timeOf } from "./dom.js";
import { ago, bytes, count, duration, instant, isNumber, plural, secondsSince, text, UNKNOWN } from "./format.js";
import { levelOf, listOf, roomOf, worstFirst } from "./judge.js";

const CARDS_MAX = 40;
const PROBLEM_ROWS = 160; // on the whole page
const PER_CARD = [2, 25];
const FOREIGN_SHOWN = 3;
const ROOM_TONE = { full: "bad", low: "warn" };

export function showMirrors(mirrors) {
  const shown = worstFirst(mirrors).slice(0, CARDS_MAX);
  const share = Math.floor(PROBLEM_ROWS / 2 / Math.max(shown.length, 1));
  const rows = Math.min(Math.max(share, PER_CARD[0]), PER_CARD[1]);
  arrange(byId("cards"), shown, {
    key: (mirror) => text(mirror.name),
    build: card,
    fill: (node, mirror) => fill(node, mirror, rows),
  });
  const left = mirrors.length - shown.length;
  say(byId("cards-more"), `${plural(left, "more mirror")} not shown, none of them worse. All: syncd status`);
  show(byId("cards-more"), left > 0);
}

let cardsMade = 0;

function card(mirror) {
  cardsMade += 1;
  const title = make("h3", { id: `mirror-${cardsMade}` }, text(mirror.name));
  return make(
    "article",
    { class: "card", "aria-labelledby": title.id },
    make("header", {}, title, make("p", { class: "state" })),
    make("div", { class: "why" }, make("p", { class: "message" }), make("p", { class: "next" }, "Next: ", make("span", { class: "hint" }))),
    running(),
    make("dl", { class: "figures" }),
    problemList("failures", { open: "" }),
    problemList("refused"),
    make("details", { class: "more" }, make("summary", {}, "More"), make("dl", { class: "figures" })),
  );
}

function running() {
  return make(
    "div",
    { class: "running" },
    make("p", { class: "doing" }),
    make("progress", { max: "1", "aria-label": "Progress of this run" }),
    make("p", { class: "far" }),
  );
}

function problemList(name, more = {}) {
  return make(
    "details",
    { class: name, ...more },
    make("summary"),
    make("ul", { class: "rows problems" }),
    make("p", { class: "note" }),
  );
}

function fill(node, mirror, rows) {
  const find = (selector) => node.querySelector(selector);
  mark(node, "data-level", levelOf(mirror));
  say(find(".state"), (text(mirror.state) || "unknown").toUpperCase());
  fillWhy(find(".why"), mirror);
  fillRunning(find(".running"), mirror.current);
  figures(find(".card > dl"), entries(mirror));
  figures(find(".more > dl"), moreEntries(mirror));
  fillProblems(find(".failures"), listOf(mirror.failures), "failed", rows);
  fillProblems(find(".refused"), listOf(mirror.refused), "refused for its name or kind", rows);
}

function fillWhy(node, mirror) {
  const message = text(mirror.message);
  const hint = text(mirror.hint);
  say(node.querySelector(".message"), message);
  sayHint(node.querySelector(".hint"), hint);
  show(node.querySelector(".next"), hint !== "");
  show(node, message !== "" || hint !== "");
}

function fillRunning(node, current) {
  show(node, Boolean(current));
  if (!current) return;
  const kind = text(current.kind);
  say(node.querySelector(".doing"), `Running${kind ? ` (${kind})` : ""} for ${duration(secondsSince(current.started_at))}`);
  fillProgress(node.querySelector("progress"), current);
  say(node.querySelector(".far"), farness(current));
}

function fillProgress(bar, current) {
  const [done, known] = current.bytes_known > 0
    ? [current.bytes_done, current.bytes_known]
    : [current.files_done, current.files_known];
  if (isNumber(done) && isNumber(known) && known > 0) bar.value = Math.min(done / known, 1);
  else bar.removeAttribute("value");
}

function farness(current) {
  const rate = current.bytes_per_s;
  const parts = [
    `${count(current.files_done)} of ${count(current.files_known)} files`,
    `${bytes(current.bytes_done)} of ${bytes(current.bytes_known)}`,
    isNumber(rate) ? `${bytes(rate)}/s` : `rate ${UNKNOWN}`,
  ];
  const left = current.bytes_known - current.bytes_done;
  if (rate > 0 && left > 0) parts.push(`${duration(Math.max(left / rate, 1))} left`);
  return parts.join(", ");
}

function entries(mirror) {
  const pending = mirror.pending ?? {};
  const owing = pending.fetch > 0 || pending.announce > 0;
  return [
    ["Held", `${plural(mirror.files, "file")}, ${bytes(mirror.bytes)}`],
    ["Behind by", behind(mirror), levelOf(mirror) === "warn" ? "warn" : ""],
    ["Last run", lastRun(mirror.last_run)],
    ["Next run", mirror.state === "paused" ? pausedUntil(mirror) : whenOr(mirror.next_run, "until", UNKNOWN)],
    ["Pending", waiting(pending), owing ? "warn" : ""],
    ["Disk", disk(mirror.disk), ROOM_TONE[roomOf(mirror.disk)]],
    ["Verified", verification(mirror.verification), mirror.verification?.damaged > 0 ? "warn" : ""],
  ];
}

function moreEntries(mirror) {
  const watching = mirror.watching ?? {};
  return [
    ["Last full look", whenOr(mirror.last_success, "ago", "never")],
    ["Every", isNumber(mirror.every_s) ? duration(mirror.every_s) : UNKNOWN],
    ["Watching source", text(watching.source) || UNKNOWN],
    ["Watching mirror", text(watching.mirror) || UNKNOWN],
    ["Foreign files", foreign(mirror)],
    ["Trash", bytes(mirror.disk?.trash_bytes)],
    ["From", text(mirror.source) || UNKNOWN],
    ["To", text(mirror.target) || UNKNOWN],
  ];
}

function waiting({ fetch, retire, announce }) {
  if (fetch === 0 && retire === 0 && announce === 0) return "nothing";
  return `${count(fetch)} to fetch, ${count(retire)} to retire, ${count(announce)} to announce`;
}

function behind(mirror) {
  if (!isNumber(mirror.lag_s) && instant(mirror.last_success) === null) return "never scanned";
  return duration(isNumber(mirror.lag_s) ? mirror.lag_s : secondsSince(mirror.last_success));
}

function whenOr(iso, form, otherwise) {
  return instant(iso) === null ? otherwise : timeOf(iso, form);
}

function pausedUntil(mirror) {
  if (instant(mirror.paused_until) === null) return "paused until syncd resume";
  return make("span", {}, "paused, resumes ", timeOf(mirror.paused_until, "until"));
}

function lastRun(run) {
  if (!run) return "none yet";
  const said = [
    text(run.state) || UNKNOWN,
    isNumber(run.duration_s) ? `took ${duration(run.duration_s)}` : "",
    run.fetched > 0 ? `${count(run.fetched)} fetched` : "",
    run.retired > 0 ? `${count(run.retired)} retired` : "",
    run.failed > 0 ? `${count(run.failed)} failed` : "",
  ].filter(Boolean);
  return make("span", {}, timeOf(run.finished_at, "ago"), `: ${said.join(", ")}`);
}

/** How many files lie in the mirror that syncd did not put there, and the first few. */
function foreign({ foreign: found, foreign_files: names }) {
  const shown = Array.isArray(names) ? names.slice(0, FOREIGN_SHOWN).map(text) : [];
  const more = found > shown.length ? ", ..." : "";
  return shown.length ? `${count(found)}: ${shown.join(", ")}${more}` : count(found);
}

function disk(found) {
  if (!found) return UNKNOWN;
  return `${bytes(found.free_bytes)} free, floor ${bytes(found.floor_bytes)}`;
}

function verification(found) {
  if (!found) return UNKNOWN;
  const share = isNumber(found.cursor_fraction) ? `${Math.floor(found.cursor_fraction * 100)} % of this cycle` : "";
  const damaged = found.damaged > 0 ? `${count(found.damaged)} damaged` : "nothing damaged";
  const last = found.damaged > 0 && found.last_found ? `, the last ${lastFound(found.last_found)}` : "";
  return [share, `${count(found.checked)} checked`, `${damaged}${last}`].filter(Boolean).join(", ");
}

/** A time, or what was found. */
function lastFound(found) {
  if (instant(found) !== null) return ago(found);
  return text(found.path) || text(found);
}

function fillProblems(node, problems, what, rows) {
  show(node, problems.length > 0);
  say(node.querySelector("summary"), `${count(problems.length)} ${what}`);
  arrange(node.querySelector("ul"), problems.slice(0, rows), {
    key: (problem) => text(problem.path),
    build: problemRow,
    fill: fillProblem,
  });
  const left = problems.length - rows;
  say(node.querySelector(".note"), `${count(left)} more: syncd status --json`);
  show(node.querySelector(".note"), left > 0);
}

function problemRow(problem) {
  return make(
    "li",
    {},
    make("span", { class: "path" }, text(problem.path)),
    make("span", { class: "reason" }),
    make("span", { class: "since" }, make("span"), make("time")),
    make("span", { class: "hint" }),
  );
}

function fillProblem(row, problem) {
  const [words, time] = row.querySelector(".since").children;
  say(row.querySelector(".reason"), text(problem.reason) || UNKNOWN);
  sayHint(row.querySelector(".hint"), text(problem.hint));
  show(row.querySelector(".since"), instant(problem.since) !== null);
  setTime(time, problem.since, "ago");
  say(words, isNumber(problem.attempts) ? `${plural(problem.attempts, "attempt")}, since ` : "since ");
}
