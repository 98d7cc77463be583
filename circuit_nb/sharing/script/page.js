// The state of the page, what changes it, and the fragment of the address that opens a state.

const TABS = {
  connections: ["Connections", connections], paths: ["Paths", paths], feature: ["Feature", feature],
  attention: ["Attention", attentionTab], evidence: ["Evidence", evidenceTab], about: ["About", aboutPage],
};
const start = {
  selected: numberOf.get(view.selected) ?? null,
  tab: TABS[view.tab] ? view.tab : "connections",
  settings: outcomes ? Switches.parse(outcomes.start) : [],
  level: Math.max(view.levels.indexOf(view.kept), 0),
  errors: view.errors, links: "both", paths: view.paths.filter((p) => !p.nodes.includes(null)), ends: view.ends,
};
let state = { ...start, ...fromFragment() };
let past = [], walk = null;

// `#select=feature-0-9-276&switches=1,off,1,1&tab=feature&kept=0.8`; what does not exist is left out.
function fromFragment() {
  const asked = new URLSearchParams(location.hash.slice(1)), found = {};
  if (numberOf.has(asked.get("select"))) found.selected = numberOf.get(asked.get("select"));
  if (TABS[asked.get("tab")]) found.tab = asked.get("tab");
  const level = view.levels.indexOf(Number(asked.get("kept")));
  if (asked.has("kept") && level >= 0) found.level = level;
  const settings = (asked.get("switches") || "").split(",").map((s) => (s === "off" ? null : Number(s)));
  const legal = settings.every((s) => s === null || (Number.isFinite(s) && Math.abs(s) <= 5));
  if (asked.has("switches") && legal && settings.length === Switches.rows.length) found.settings = settings;
  return found;
}

function toFragment() {
  const parts = [];
  if (state.selected !== null) parts.push(`select=${nodes[state.selected].id}`);
  const settings = Switches.key(state.settings);
  if (outcomes && settings !== outcomes.start) parts.push(`switches=${settings.replaceAll(" ", ",")}`);
  if (state.tab !== "connections") parts.push(`tab=${state.tab}`);
  if (state.level !== start.level) parts.push(`kept=${view.levels[state.level]}`);
  try {
    history.replaceState(null, "", `#${parts.join("&")}`);
  } catch { /* a frame without an address of its own keeps none */ }
}

function update(change) {
  state = { ...state, ...change };
  show();
  toFragment();
}

const select = (number) => update({ selected: number });
const chooseBox = (number) => circuit.boxes[number].nodes.length && select(circuit.boxes[number].nodes[0]);

function flip(row, setting) {
  past.push(state.settings);
  update({ settings: state.settings.map((s, i) => (i === row ? setting : s)) });
}

function show() {
  state.switched = Switches.rows.flatMap((row, i) => (row.added || state.settings[i] === 1 ? [] : circuit.boxes[row.box].nodes));
  drawPrompt();
  drawCircuit(state);
  drawAnswer(state);
  byId("reset").disabled = !Switches.changed(state.settings);
  byId("undo").disabled = !past.length;
  byId("level").value = state.level;
  byId("level-told").textContent = percent(view.levels[state.level]);
  byId("errors").checked = state.errors;
  byId("links").value = state.links;
  Picture.lay(state);
  Picture.select(state);
  const node = nodes[state.selected];
  const missing = Picture.has(state.selected) ? "" : ", not in the picture: raise the share of influence";
  byId("said").textContent = node ? node.title + missing : "";
  drawPanel();
}

function drawPrompt() {
  const chip = (node, text, told) => make("span", {
    class: `cnb-chip${numberOf.get(node.id) === state.selected ? " cnb-on" : ""}`, "data-node": node.id,
    tabindex: 0, role: "button", title: told,
  }, text);
  byId("prompt").replaceChildren(...nodes.filter((n) => n.kind === "token").map((n) =>
    chip(n, tokenText(n.token), `token ${n.position}, exactly: ${n.token}`)));
}

function drawPanel() {
  byId("tabs").replaceChildren(...Object.entries(TABS).map(([name, [title]]) => make("span", {
    role: "tab", tabindex: name === state.tab ? 0 : -1, "data-tab": name, "aria-selected": String(name === state.tab),
  }, title)));
  const panel = byId("panel"), focused = document.activeElement?.dataset?.node, inside = panel.contains(document.activeElement);
  panel.replaceChildren(...TABS[state.tab][1](state));
  const again = [...panel.querySelectorAll("[data-node]")].find((e) => e.dataset.node === focused);
  if (inside) (again || panel).focus({ preventScroll: true });
}

// Nodes whose name, title, or promoted tokens hold every word; the most influential first.
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const place = /^l?(\d+)\s*[/:#,. -]\s*#?(\d+)$/i.exec(text.trim());
  if (!words.length) return [];
  const promoted = (node) => (cards[`${node.layer}-${node.index}`]?.promotes || []).map(([token]) => token);
  const told = (node) => [node.name, node.title, ...promoted(node)].join(" ").toLowerCase();
  const isAt = (node) => node.layer === Number(place[1]) && node.index === Number(place[2]);
  const fits = (node) => (place ? isAt(node) : words.every((w) => told(node).includes(w)));
  const rank = (node) => (words.every((w) => node.name.toLowerCase().includes(w)) ? 1 : 0);
  return nodes.map((node, number) => [node, number]).filter(([node]) => fits(node))
    .sort(([a], [b]) => rank(b) - rank(a) || b.influence - a.influence).slice(0, 12).map(([, number]) => number);
}

function drawFound() {
  const found = find(byId("find").value), list = byId("found");
  list.replaceChildren(...found.map((n) => make("div", { "data-node": nodes[n].id, "data-key": "", role: "option", tabindex: -1, title: nodes[n].title },
    nodes[n].name, " ", make("span", { class: "cnb-faint" }, nodes[n].place))));
  if (!found.length) list.append(empty("nothing fits"));
  list.hidden = !byId("find").value.trim();
  byId("find").setAttribute("aria-expanded", String(!list.hidden));
}

// Up leads to the node that the selected one drives most, down to the one that drives it most; left
// and right to the next stronger or weaker of the same kind.
function go(way) {
  if (state.selected === null) { select(numberOf.get("target-0") ?? 0); return; }
  const drawn = (edges) => edges.map(([n]) => n).filter(Picture.has);
  if (way === "up" || way === "down") {
    const ends = drawn((way === "up" ? outputs : inputs)[state.selected]);
    if (ends.length) { walk = ends; select(ends[0]); }
    return;
  }
  if (!walk || !walk.includes(state.selected)) {
    const here = Picture.places().get(state.selected);
    const row = [...Picture.places().values()].filter((p) => here && Math.abs(p[2] - here[2]) < 8);
    walk = row.sort((a, b) => a[1] - b[1]).map((p) => p[0]);
  }
  const next = walk[walk.indexOf(state.selected) + (way === "right" ? 1 : -1)];
  if (next !== undefined) select(next);
}

// Arrows go to the neighbour in a list, Enter and blank do what a click does.
function onKey(event) {
  const ways = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };
  const way = ways[event.key], from = event.target;
  if (event.altKey || event.ctrlKey || event.metaKey || /^(SELECT|TEXTAREA)$/.test(from.tagName)) return;
  if (from.id === "graph") {
    const zoom = { "+": 1.25, "=": 1.25, "-": 0.8, "0": 0 }[event.key];
    if (way) go(way);
    else if (zoom !== undefined) Picture.zoom(zoom);
    else return;
    event.preventDefault();
  } else if (from.id === "find") {
    if (event.key === "Enter") byId("found").querySelector("[data-node]")?.click();
    else if (event.key === "ArrowDown") byId("found").querySelector("[data-node]")?.focus();
    else if (event.key === "Escape") byId("found").hidden = true;
    else return;
    event.preventDefault();
  } else if (["Enter", " "].includes(event.key) && from.matches("[data-node], [data-tab], [data-path]")) {
    event.preventDefault();
    from.click();
  } else if (way && from.matches("[data-node], [data-tab], [data-path]")) {
    const list = [...from.parentElement.children];
    const next = list[list.indexOf(from) + (way === "up" || way === "left" ? -1 : 1)];
    if (next) { event.preventDefault(); next.focus(); }
  }
}

document.addEventListener("click", (event) => {
  const hit = event.target.closest("[data-node], [data-tab], [data-mark]");
  if (!event.target.closest(".cnb-find")) byId("found").hidden = true;
  if (!hit) return;
  if (hit.dataset.tab) { update({ tab: hit.dataset.tab }); byId("tabs").querySelector('[tabindex="0"]').focus(); return; }
  if (hit.dataset.mark !== undefined) {
    const rows = hit.dataset.mark.split(" ").map((n) =>
      make("tr", { "data-node": nodes[n].id, tabindex: 0, role: "option" }, make("td", {}, nodes[n].title)));
    byId("panel").replaceChildren(head("nodes in this mark"),
      make("table", { role: "listbox" }, make("tbody", {}, ...rows)));
    return;
  }
  byId("found").hidden = true;
  walk = null;
  select(numberOf.get(hit.dataset.node));
});
document.addEventListener("keydown", onKey);
byId("find").addEventListener("input", drawFound);
byId("find").addEventListener("focus", drawFound);
byId("reset").addEventListener("click", () => { past.push(state.settings); update({ settings: Switches.neutral() }); });
byId("undo").addEventListener("click", () => past.length && update({ settings: past.pop() }));
byId("level").max = view.levels.length - 1;
byId("level").addEventListener("input", (event) => update({ level: Number(event.target.value) }));
byId("errors").addEventListener("change", (event) => update({ errors: event.target.checked }));
byId("links").addEventListener("change", (event) => update({ links: event.target.value }));
[["closer", 1.25], ["further", 0.8], ["whole", 0]].forEach(([id, factor]) =>
  byId(id).addEventListener("click", () => Picture.zoom(factor)));
window.addEventListener("hashchange", () => update({ ...start, ...fromFragment() }));
new ResizeObserver(() => show()).observe(byId("graph").parentElement);
const [held, all, edgesHeld, edgesAll] = graph.held;
const { replacement, completeness } = about.scores;
byId("circuit-note").textContent = `replacement score ${percent(replacement)} · completeness ${percent(completeness)} · ` +
  "on arrows: share of the input" + (evidence?.verified ? " · in boxes: what the answer's logit gains when the box is switched off" : "");
byId("footer").textContent = `${held} of ${all} nodes and ${edgesHeld} of ${edgesAll} edges of the graph are in this page. ` +
  `● feature  ◇ error  ■ token, output · edges of the selected node: blue raises, orange lowers. circuit-nb ${about.version}`;
byId("reset").hidden = byId("undo").hidden = !outcomes;
show();
