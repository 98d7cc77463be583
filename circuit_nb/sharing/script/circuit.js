// The circuit: boxes with their switches over the arrows between them, and what the switches do.

const MENU = [-5, -4, -3, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 5];

const Switches = {
  rows: outcomes ? outcomes.rows : [],
  parse: (key) => key.split(" ").map((s) => (s === "off" ? null : Number(s))),
  key: (settings) => settings.map((s) => (s === null ? "off" : String(s))).join(" "),
  neutral: () => Switches.rows.map((row) => (row.added ? null : 1)),
  run: (settings) => (outcomes ? outcomes.runs[Switches.key(settings)] : undefined),
  changed: (settings) => settings.some((s, i) => s !== Switches.neutral()[i]),
  badge(row, setting) {
    if (row.added) return setting === null ? "off" : setting === 1 ? "added" : `×${minus(String(setting))}`;
    return setting === null ? "off" : setting === 1 ? "" : `×${minus(String(setting))}`;
  },
};

function layoutFor(width) {
  const fitting = circuit.layouts.filter((layout) => layout.width <= width + 1);
  return fitting.pop() || circuit.layouts[0];
}

// What is written under a box: its setting, what is left of it, or its probability.
function toldOf(box, number, state, run) {
  const row = Switches.rows.findIndex((r) => r.box === number);
  const badge = row < 0 ? "" : Switches.badge(Switches.rows[row], state.settings[row]);
  if (badge) return badge;
  const own = nodes[circuit.boxes[number].nodes[0]];
  if (box.kind === "output" && own) {
    const before = own.token_id >= 0 && outcomes ? shareOf(outcomes.before.top, own.token_id) : own.probability;
    if (!Switches.changed(state.settings) || own.token_id < 0) return percent(before);
    const after = run ? percent(shareOf(run.top, own.token_id)) : "not computed";
    return `${percent(before).replace(" %", "")} → ${after}`;
  }
  if (!Switches.changed(state.settings)) return evidence?.parts.find((part) => part.box === number)?.badge ?? "";
  if (box.kind === "token" || box.kind === "error") return "";
  const left = run && run.left[number];
  return left === null || left === undefined ? "" : percent(Math.round(100 * left) / 100);
}

const shareOf = (top, id) => {
  const found = top.find(([token]) => token === id);
  return found ? found[1] : null;
};

function drawCircuit(state) {
  const place = byId("circuit"), layout = layoutFor(place.clientWidth);
  if (!layout) {
    place.replaceChildren(make("div", { class: "cnb-empty" }, "Nothing was pinned when this page was made."));
    return;
  }
  const focused = document.activeElement?.dataset?.key;
  const run = Switches.run(state.settings);
  const less = (number) => run && Switches.changed(state.settings) && run.left[number] !== null && run.left[number] <= 0.25;
  const lines = draw("svg", { "aria-hidden": "true", width: layout.width, height: layout.height });
  [...layout.arrows].reverse().forEach((arrow) => lines.append(draw("path", {
    d: arrow.path, fill: "none", "stroke-width": arrow.width, opacity: less(arrow.ends[0]) ? 0.25 : 0.7,
    stroke: arrow.share > 0 ? view.style.raises : view.style.lowers,
  })));
  layout.arrows.filter((arrow) => arrow.told).forEach((arrow) => lines.append(
    draw("text", { x: arrow.told[0], y: arrow.told[1] + 4, "text-anchor": "middle" }, arrow.text)));
  const boxes = layout.boxes.map((box, number) => drawBox(box, number, state, run, layout));
  place.replaceChildren(make("div", {
    class: "cnb-circuit", role: "group", "aria-label": "Circuit",
    // A phone shows it all, a little smaller, as long as it can be read.
    style: { width: `${layout.width}px`, height: `${layout.height}px`, zoom: Math.max(0.75, Math.min(1, place.clientWidth / layout.width)) },
  }, lines, ...boxes));
  if (focused) [...place.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused)?.focus({ preventScroll: true });
}

function drawBox(box, number, state, run, layout) {
  const [x, y, width, height] = box.place;
  const row = Switches.rows.findIndex((r) => r.box === number);
  const setting = row < 0 ? undefined : state.settings[row];
  const told = toldOf(box, number, state, run);
  const left = run && Switches.changed(state.settings) ? run.left[number] : null;
  const chosen = circuit.boxes[number].nodes.includes(state.selected);
  const classes = ["cnb-box", `cnb-box-${box.kind}`, chosen ? "cnb-on" : "", setting === null ? "cnb-off" : "",
    left !== null && left !== undefined && left <= 0.25 ? "cnb-less" : ""];
  const fed = layout.arrows.filter((a) => a.ends[0] === number).map((a) => `${layout.boxes[a.ends[1]].title} ${a.text}`);
  const spoken = [box.title, told, fed.length ? `feeds ${fed.slice(0, 3).join(", ")}` : ""].filter(Boolean).join("; ");
  const name = make("button", {
    type: "button", class: "cnb-name", "data-key": `g${number}`, "aria-pressed": String(chosen),
    "aria-label": spoken, title: box.title, onclick: () => chooseBox(number),
  });
  box.name.forEach((line, i) => name.append(...(i ? [make("br")] : []), line));
  const foot = make("div", { class: "cnb-foot" });
  if (row >= 0) foot.append(drawSwitch(box, row, setting));
  if (told) foot.append(make("span", { class: "cnb-told" }, told));
  if (row >= 0) foot.append(drawMenu(box, row, setting));
  return make("div", {
    class: classes.filter(Boolean).join(" "), style: {
      left: `${x - width / 2}px`, top: `${y - height / 2}px`, width: `${width}px`, height: `${height}px`, "--hue": box.colour,
    },
  }, name, ...(foot.childNodes.length ? [foot] : []));
}

function drawSwitch(box, row, setting) {
  const on = setting !== null, said = `${box.name.join(" ")}: ${on ? "on" : "off"}`;
  return make("button", {
    type: "button", class: "cnb-switch", role: "switch", "data-key": `switch${row}`, "aria-checked": String(on),
    "aria-label": said, title: `${said}; click to switch ${on ? "off" : "on"}`,
    onclick: () => flip(row, on ? null : (Switches.parse(outcomes.start)[row] ?? 1)),
  }, make("i"));
}

function drawMenu(box, row, setting) {
  const label = `${box.name.join(" ")}: multiplier`;
  const offered = [...new Set([...MENU, setting ?? 1])].sort((a, b) => a - b);
  const options = offered.map((m) => {
    const settings = [...state.settings];
    settings[row] = m;
    const missing = Switches.run(settings) ? "" : " · not computed";
    return make("option", { value: m, ...(m === (setting ?? 1) ? { selected: "" } : {}) }, `×${minus(String(m))}${missing}`);
  });
  return make("span", { class: "cnb-menu" }, make("select", {
    "data-key": `menu${row}`, "aria-label": label, title: label, onchange: (event) => flip(row, Number(event.target.value)),
  }, ...options));
}

// The answer before and, under switches, after; what was not computed is said to be so.
function drawAnswer(state) {
  const run = Switches.run(state.settings), changed = Switches.changed(state.settings);
  const texts = outcomes ? outcomes.tokens : {};
  const top = (said) => [texts[said.top[0][0]], said.top[0][1]];
  let before = nodes.filter((n) => n.kind === "target").map((n) => [n.token, n.probability]);
  let after = null;
  if (outcomes) {
    const ids = (changed && run ? run : outcomes.before).top.map(([id]) => id);
    before = ids.map((id) => [texts[id], shareOf(outcomes.before.top, id)]);
    after = changed && run ? ids.map((id) => [texts[id], shareOf(run.top, id)]) : null;
  }
  // Tokens come the likeliest first, tied ones as the model's own list has them.
  const says = byId("says"), first = outcomes ? top(outcomes.before) : before[0] || ["", 0];
  const said = ([token, share]) => [make("b", { class: "cnb-says" }, tokenText(token)), " ",
    make("span", { class: "cnb-share", title: String(share) }, percent(share))];
  says.replaceChildren("says ", ...said(first));
  if (after) says.append(" → ", ...said(top(run)));
  const rows = before.map(([token, share], i) => ({ token, share, now: after ? after[i][1] : null }))
    .sort((a, b) => Math.max(b.share, b.now ?? 0) - Math.max(a.share, a.now ?? 0)).slice(0, 6);
  const bar = (share, colour) => [72 * share, colour, percent(share), share];
  const parts = rows.map((row) => barRow(tokenText(row.token), row.token,
    [bar(row.share, view.style.grey), ...(row.now === null ? [] : [bar(row.now, view.style.raises)])]));
  if (after) parts.push(make("div", { class: "cnb-faint" }, "grey before, blue after"));
  if (!outcomes) parts.push(empty("This page was made without the model: it holds no outcomes of switches."));
  if (changed && !run) {
    parts.push(make("div", { class: "cnb-not", role: "status" }, "Not computed: this page holds the on/off combinations " +
      "of up to 8 switches, and each switch at its multipliers with the others as they were."));
  }
  byId("answer").replaceChildren(...parts);
  const continued = [];
  if (outcomes && outcomes.new_tokens) continued.push(["before", outcomes.before.text]);
  if (continued.length && after) continued.push(["after", run.text]);
  byId("texts").replaceChildren(...continued.map(([when, text]) => make("div", { class: "cnb-text" },
    make("span", { class: "cnb-faint" }, `${when} `), graph.prompt, make("b", {}, text))));
}
