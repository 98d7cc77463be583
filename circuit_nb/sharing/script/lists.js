// What is said of the selected node: connections, paths, its card; and of the whole page.

function facts(node) {
  const told = [node.place];
  if (node.kind === "feature") told.push(`feature ${node.index}`, `activation ${short(node.activation)}`);
  if (node.kind === "feature" || node.kind === "error") told.push(`influence ${percent(node.influence)}`);
  const card = cards[`${node.layer}-${node.index}`];
  if (node.kind === "feature" && card) {
    if (card.density !== null) told.push(`active on ${percent(card.density)} of tokens`);
    if (card.source) told.push(`card: ${card.source}`);
  }
  return told;
}

const empty = (text) => make("div", { class: "cnb-empty" }, text);
const head = (text) => make("div", { class: "cnb-faint cnb-head" }, text);

const meter = (weight, top) => make("td", { class: "cnb-meter" }, make("span", {
  class: `cnb-bar cnb-${weight > 0 ? "plus" : "minus"}`, title: weight > 0 ? "raises" : "lowers",
  style: { width: `${Math.max(1, Math.round((44 * Math.abs(weight)) / top))}px` },
}));

// A name, and beside it bars: [width in per cent, colour, text, exact value].
const barRow = (name, title, bars) => make("div", { class: "cnb-rowbar", "data-token": title }, make("span", { title }, name),
  make("span", { class: "cnb-bars" }, ...bars.map(([width, background, told, exact]) => make("div", {},
    make("i", { style: { width: `${width.toFixed(2)}%`, background } }), make("span", { title: String(exact ?? told) }, told)))));

function row(number, weight, top, heads) {
  const node = nodes[number];
  return make("tr", { "data-node": node.id, tabindex: 0, role: "option", title: node.title },
    make("td", {}, node.name, " ", make("span", { class: "cnb-faint" }, node.place)),
    meter(weight, top),
    make("td", { class: "cnb-number" }, signed(weight)), ...(heads === null ? [] : [carrier(heads)]));
}

function edgeTable(edges, total, kind, headsOf) {
  if (!edges.length) return [head(`no ${kind}`)];
  const shown = edges.slice(0, 40), sum = shown.reduce((s, [, w]) => s + Math.abs(w), 0);
  const known = shown.some(([n]) => headsOf(n));
  const rows = shown.map(([n, w]) => row(n, w, Math.abs(shown[0][1]), known ? headsOf(n) : null));
  return [head(`${kind}: ${shown.length} of ${edges.length}, ${percent(Math.min(sum / total, 1))} of the strength` +
    (known ? "; right: the head that carried most" : "; heads not computed")),
    make("div", { class: "cnb-scroll" }, make("table", { role: "listbox" }, make("tbody", {}, ...rows)))];
}

function connections(state) {
  if (state.selected === null) return [empty("Select a node to see what feeds it and what it feeds.")];
  const node = nodes[state.selected];
  const own = state.selected;
  return [make("h3", {}, node.title), ...edgeTable(inputs[own], node.into, "inputs", (n) => headsOf(n, own)),
    ...edgeTable(outputs[own], node.out, "outputs", (n) => headsOf(own, n))];
}

// The strongest chains between two nodes, as `analysis.paths` finds them: for every node in
// ascending layer order, the best chains that reach it.
function findPaths(start, end, most = 6) {
  const chains = nodes.map(() => []);
  chains[start] = [{ share: 1, nodes: [start] }];
  const ofKind = (kind) => [...nodes.keys()].filter((n) => nodes[n].kind === kind);
  const rising = [...ofKind("feature"), ...ofKind("target")];
  for (const n of rising) {
    if (n === start) continue;
    const by = inputs[n].filter(([s]) => chains[s].length)
      .map(([s, w]) => [s, Math.abs(w) / Math.max(nodes[n].into, 1e-10)])
      .sort((a, b) => b[1] * chains[b[0]][0].share - a[1] * chains[a[0]][0].share).slice(0, most);
    chains[n] = by.flatMap(([s, share]) => chains[s].map((c) => ({ share: share * c.share, nodes: [...c.nodes, n] })))
      .sort((a, b) => b.share - a.share).slice(0, most);
  }
  return start === end ? [] : chains[end].map((chain) => ({ ...chain, sign: chain.nodes.slice(1).reduce((sign, n, i) =>
    sign * Math.sign(inputs[n].find(([s]) => s === chain.nodes[i])[1]), 1) }));
}

function paths(state) {
  const [from, to] = state.ends;
  const button = (text, end) => make("button", {
    type: "button", disabled: state.selected === null ? "" : null,
    onclick: () => update({ ends: end ? [from, state.selected] : [state.selected, to] }),
  }, text);
  const tools = make("div", { class: "cnb-bar-row" }, button("from selected", 0), button("to selected", 1));
  if (from === null || to === null || from === to) return [tools, empty("Choose two nodes that paths lead between.")];
  const title = make("div", { class: "cnb-head" }, `${nodes[from].title} → ${nodes[to].title}`);
  const found = findPaths(from, to), top = found.length ? found[0].share : 1;
  if (!found.length) return [tools, title, empty("No path leads from one to the other.")];
  const same = (a, b) => a.nodes.join() === b.nodes.join();
  const rows = found.map((path) => {
    const lit = state.paths.some((p) => same(p, path)), chain = path.nodes.map((n) => nodes[n].name).join(" → ");
    const toggle = () => update({ paths: lit ? state.paths.filter((p) => !same(p, path)) : [...state.paths, path] });
    return make("tr", {
      class: lit ? "cnb-on" : "", "data-path": path.nodes.join(), tabindex: 0, role: "option",
      "aria-selected": String(lit), title: chain, onclick: toggle,
    },
      make("td", { class: "cnb-number" }, percent(path.share)),
      meter(path.sign * path.share, top),
      make("td", { class: "cnb-chain" }, chain));
  });
  return [tools, title, make("div", { class: "cnb-scroll" }, make("table", { role: "listbox" }, make("tbody", {}, ...rows))),
    head("share of the end's input; click keeps a path highlighted")];
}

// A text whose tokens are shaded by activation.
function example(tokens) {
  const top = Math.max(...tokens.map(([, value]) => value), 0) || 1;
  return make("div", { class: "cnb-text" }, ...tokens.map(([token, value]) => make("span", {
    title: `${tokenText(token)}: ${short(value)}`,
    style: value / top > 0.02 ? { background: `rgba(0,114,178,${(0.55 * value / top).toFixed(2)})` } : {},
  }, token)));
}

function effects(card) {
  const both = [...card.promotes, ...card.suppresses];
  if (!both.length) return [empty("No logit effects are known.")];
  const top = Math.max(...both.map(([, v]) => Math.abs(v)));
  return both.map(([token, value]) => barRow(tokenText(token), token,
    [[(70 * Math.abs(value)) / top, value > 0 ? view.style.raises : view.style.lowers, signed(value)]]));
}

function feature(state) {
  const node = nodes[state.selected];
  if (!node) return [empty("Select a feature to see what it fires on and what it promotes.")];
  if (node.kind !== "feature") return [empty(`${node.title}: only features have a card.`)];
  const card = cards[`${node.layer}-${node.index}`];
  const here = graph.tokens.map((token) => [token, 0]);
  const same = (n) => n.kind === "feature" && n.layer === node.layer && n.index === node.index;
  nodes.filter(same).forEach((n) => { here[n.position][1] = n.activation; });
  const parts = [make("h3", {}, node.name), make("div", { class: "cnb-faint" }, facts(node).join(" · ")),
    head("fires on, in this prompt"), example(here)];
  if (!card) return [...parts, empty("This page holds no card of this feature.")];
  if (card.examples.length) parts.push(head("in other texts"), make("div", { class: "cnb-scroll" }, ...card.examples.map(example)));
  parts.push(head("promotes and suppresses"), ...effects(card));
  if (card.histogram && card.histogram[0].length) {
    const top = Math.max(...card.histogram[0]) || 1;
    parts.push(head(`activations, ${short(card.histogram[1][0])} to ${short(card.histogram[1].at(-1))}`),
      make("div", { class: "cnb-histogram" }, ...card.histogram[0].map((c) => make("i", { style: { height: `${(100 * c) / top}%` } }))));
  }
  if (card.url && card.url.startsWith("https://")) {
    parts.push(make("a", { href: card.url, rel: "noopener noreferrer", target: "_blank" }, "page about this feature"));
  }
  return parts;
}

function aboutPage() {
  const area = (text, rows) => make("textarea", { readonly: "", rows, onfocus: (event) => event.target.select() }, text);
  const file = decodeURIComponent(location.pathname.split("/").pop() || "page.html");
  const panels = make("select", { "aria-label": "panel" }, ...["graph", "circuit", "answer", ...Object.keys(TABS).filter((tab) => tab !== "about")]
    .map((name) => make("option", { value: name }, name)));
  const save = (label, action) => make("button", { type: "button", onclick: action }, label);
  return [make("p", {}, about.contents),
    head("numbers, settings and citation, for a paper"), area(about.paper, 6),
    head("embed this view in another page"),
    area(`<iframe src="${encodeURI(file)}${location.hash}" width="100%" height="900" style="border:0" ` +
      `loading="lazy" title="circuit"></iframe>`, 3),
    head("pictures of this page as it is now"),
    make("div", { class: "cnb-bar-row" }, panels, save("save SVG", () => savePanel(panels.value, false)),
      save("save PNG", () => savePanel(panels.value, true)), save("print", () => print()))];
}
