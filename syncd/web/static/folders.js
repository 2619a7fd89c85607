// The folders of a mirror: what is held, and what is missing and why. One folder at a time, a page of rows at a time.

import { arrange, byId, make, mark, say, show } from "./dom.js";
import { bytes, count, plural, text } from "./format.js";
import { get, Unanswered } from "./connect.js";
import { listOf } from "./judge.js";

const PAGE_ROWS = 100;
const SETTLE_MS = 1500;
const MORE = "The folder has more than is listed here (at most 1,000 of each kind): syncd manifest";

let mirror = "";
let path = "";
let page = 0;
let rows = [];
let found = null;
let asked = 0; // an answer to an older question is dropped
let again = 0;

export function startFolders() {
  byId("folder-mirror").addEventListener("change", (event) => open(event.target.value, ""));
  byId("folder-filter").addEventListener("input", () => turn(0));
  byId("folder-again").addEventListener("click", load);
  byId("folder-form").addEventListener("submit", (event) => event.preventDefault());
  byId("page-back").addEventListener("click", () => turn(page - 1));
  byId("page-on").addEventListener("click", () => turn(page + 1));
}

/** Offer these mirrors; look at the first one at the beginning, and again where the one shown has gone. */
export function offerMirrors(names) {
  const choice = byId("folder-mirror");
  arrange(choice, names, {
    key: (name) => name,
    build: (name) => make("option", {}, name),
    fill: (node, name) => mark(node, "value", name),
  });
  if (names.length && !names.includes(mirror)) open(names[0], "");
}

/** Something changed in this mirror: look again, soon. */
export function changedIn(names) {
  if (names.has(mirror) && !again) {
    again = setTimeout(load, SETTLE_MS);
  }
}

function open(name, folder) {
  mirror = name;
  path = folder;
  page = 0;
  byId("folder-filter").value = "";
  if (byId("folder-mirror").value !== name) byId("folder-mirror").value = name;
  showCrumbs();
  load();
}

async function load() {
  clearTimeout(again);
  again = 0;
  asked += 1;
  const question = asked;
  const query = new URLSearchParams({ mirror, path });
  try {
    const answer = await get(`/api/v1/folder?${query}`);
    if (question !== asked) return;
    found = answer;
    rows = rowsOf(answer);
    turn(page);
  } catch (error) {
    if (question !== asked) return;
    if (!(error instanceof Unanswered)) throw error;
    found = null;
    rows = [];
    turn(0);
    say(byId("folder-note"), `Cannot be shown: ${error.message}`);
  }
}

/** What is missing comes first. */
function rowsOf(answer) {
  return [
    ...listOf(answer.missing).map((each) => ({ ...each, kind: "missing" })),
    ...listOf(answer.folders).map((each) => ({ ...each, kind: "folder" })),
    ...listOf(answer.files).map((each) => ({ ...each, kind: "held" })),
  ];
}

function turn(wanted) {
  const part = byId("folder-filter").value.toLowerCase();
  const matching = part ? rows.filter((each) => text(each.name).toLowerCase().includes(part)) : rows;
  const pages = Math.max(Math.ceil(matching.length / PAGE_ROWS), 1);
  page = Math.min(Math.max(wanted, 0), pages - 1);
  arrange(byId("folder-rows"), matching.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS), {
    key: (each) => `${each.kind} ${text(each.name)}`,
    build: rowOf,
    fill: fillRow,
  });
  show(byId("folder"), matching.length > 0);
  show(byId("pager"), pages > 1);
  byId("page-back").disabled = page === 0;
  byId("page-on").disabled = page === pages - 1;
  say(byId("page-of"), `${count(page + 1)} of ${count(pages)}`);
  say(byId("folder-note"), note(matching.length));
}

function note(matching) {
  if (!found) return "";
  const held = rows.filter((each) => each.kind === "held").length;
  const folders = rows.filter((each) => each.kind === "folder").length;
  const missing = rows.length - held - folders;
  const said = rows.length
    ? `${plural(folders, "folder")}, ${plural(held, "file")} held, ${count(missing)} missing.`
    : "Nothing is known in this folder.";
  const filtered = matching < rows.length ? ` ${count(matching)} shown.` : "";
  return `${said}${filtered}${found.more ? ` ${MORE}` : ""}`;
}

function rowOf(each) {
  const name = text(each.name);
  const shown = each.kind === "folder"
    ? make("button", { type: "button", class: "folder" }, `${name}/`)
    : make("span", { class: "path" }, name);
  if (each.kind === "folder") shown.addEventListener("click", () => enter(name));
  return make(
    "tr",
    { "data-kind": each.kind },
    make("th", { scope: "row" }, shown),
    make("td", {}, make("span", { class: "badge" }), make("span", { class: "detail" })),
    make("td", { class: "number" }),
  );
}

function fillRow(node, each) {
  const [badge, detail] = node.children[1].children;
  const missing = each.kind === "missing";
  say(badge, missing ? "missing" : each.kind === "folder" ? "folder" : "held");
  say(detail, missing ? [text(each.reason), text(each.hint)].filter(Boolean).join(": ") : folderDetail(each));
  say(node.children[2], missing ? "" : bytes(each.kind === "folder" ? each.bytes : each.size));
  if (each.sha256) mark(node.children[1], "title", `SHA-256 ${text(each.sha256)}`);
}

function folderDetail(each) {
  return each.kind === "folder" ? plural(each.files, "file") : "";
}

function enter(name) {
  open(mirror, path ? `${path}/${name}` : name);
  byId("crumbs").lastElementChild.firstElementChild.focus();
}

function showCrumbs() {
  const parts = path ? path.split("/") : [];
  const trail = [mirror, ...parts].map((name, depth) => ({ name, to: parts.slice(0, depth).join("/"), depth }));
  byId("crumbs").replaceChildren(...trail.map((each) => crumb(each, each.depth === parts.length)));
}

function crumb({ name, to }, here) {
  const button = make("button", { type: "button" }, name);
  if (here) button.setAttribute("aria-current", "page");
  button.addEventListener("click", () => {
    open(mirror, to);
    byId("crumbs").lastElementChild.firstElementChild.focus();
  });
  return make("li", {}, button);
}
