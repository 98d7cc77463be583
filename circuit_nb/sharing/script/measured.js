// What was measured before the page was made: evidence for the boxes, and the heads of edges.

const whole = (share) => (share === null ? "–" : percent(Math.round(100 * share) / 100));
const NOT = "Not computed before this page was made.";

// Lines over places that stand apart evenly; what is null is left out.
function chart(xs, lines, says) {
  const width = 340, height = 120, left = 34, bottom = 16, values = lines.flatMap(([, ys]) => ys).filter((y) => y !== null);
  const low = Math.min(0, ...values), high = Math.max(1, ...values);
  const x = (i) => left + ((width - left - 18) * i) / Math.max(xs.length - 1, 1);
  const y = (v) => 6 + (height - bottom - 12) * (1 - (v - low) / (high - low));
  const text = (at, up, anchor, told) => draw("text", { x: at, y: up, "text-anchor": anchor, "font-size": 10 }, told);
  const every = Math.ceil(xs.length / 8);
  return make("figure", {}, draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": says, class: "cnb-chart" },
    ...[0, 1].map((v) => draw("path", { d: `M${left} ${y(v)}H${width - 18}`, class: "cnb-rule" })),
    ...[0, 1].map((v) => text(left - 4, y(v) + 3, "end", percent(v))),
    ...xs.map((told, i) => [told, i]).filter(([, i]) => i % every === 0).map(([told, i]) => text(x(i), height - 3, "middle", told)),
    ...lines.map(([, ys, colour, dashes]) => draw("path", {
      d: ys.map((v, i) => (v === null ? "" : `${i && ys[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`)).join(""),
      stroke: colour, "stroke-width": 1.8, "stroke-dasharray": dashes || null,
    }))), make("figcaption", { class: "cnb-faint" }, ...lines.filter(([name]) => name).flatMap(([name, , colour]) =>
    [make("b", { style: { color: colour } }, "— "), `${name} `]), make("div", {}, says)));
}

function partsTable(parts) {
  const cell = (share, needed) => (share === null ? ["not computed"] : needed ? [make("span", {
    class: "cnb-bar cnb-plus", style: { width: `${Math.max(1, Math.round(40 * Math.min(Math.max(share, 0), 1)))}px` },
  }), ` ${whole(share)}`] : [`${whole(share)}, not needed`]);
  const title = "What the answer's logit gains when this box alone is switched off, all else as it is";
  return make("table", {}, make("tbody", {}, make("tr", {}, ...["without", "the others keep", "off alone"].map((t) => make("th", {}, t))),
    ...parts.map((part) => make("tr", {}, make("td", { title: part.name }, part.name), make("td", {}, ...cell(part.without, part.needed)),
      make("td", { title }, part.badge ?? "not computed")))));
}

function evidenceTab() {
  if (!evidence) return [empty(`${NOT} Measured of a circuit: what its boxes keep of the answer, beside random features.`)];
  const { kept, verified, combinations, parts, sweeps } = evidence, { raises, lowers, grey } = view.style;
  const told = (title, found, shown) => [head(title), ...(found ? [make("p", {}, found.text), ...shown(found)] : [empty(NOT)])];
  const named = (box) => parts.find((part) => part.box === box).name;
  const curve = ({ cpr, cmd, curve: { sizes, values, random } }) => [chart(sizes.map(percent), [["most influential", values, raises],
    ["random", random[0], grey], ["", random[1], grey, "2 3"], ["", random[2], grey, "2 3"]],
  `by share of the active features; CPR ${short(cpr)}, CMD ${short(cmd)}`)];
  const worth = ({ shapley }) => {
    const top = Math.max(...shapley.map(Math.abs)) || 1;
    return shapley.map((v, i) => barRow(parts[i].name, parts[i].name, [[(70 * Math.abs(v)) / top, v > 0 ? raises : lowers, signed(v)]]));
  };
  const hues = [raises, lowers, "#009E73", "#CC79A7", grey];
  const missing = parts.filter((part) => !sweeps.some((s) => s.box === part.box)).map((part) => part.name);
  return [...told("what the boxes keep of the answer", kept, curve), partsTable(parts),
    ...told("predicted by the graph, and measured", verified, () => []),
    ...told("every combination of boxes; what each adds (Shapley)", combinations, worth), head("boxes turned up and down"),
    ...sweeps.flatMap((s) => [make("p", {}, s.text), chart(s.multipliers.map((m) => `×${minus(String(m))}`),
      s.tokens.map((token, i) => [tokenText(token), s.probabilities.map((at) => at[i]), hues[i % hues.length]]), `next token, by the multiplier of ${named(s.box)}`)]),
    ...(missing.length ? [empty(`Not computed of ${missing.join(", ")}.`)] : [])];
}

// Heads of an edge, [block, head, share], the strongest first; undefined where nobody asked.
const headsOf = (() => {
  const known = new Map((attention ? attention.edges : []).map(([s, t, heads]) => [`${s} ${t}`, heads]));
  return (source, target) => known.get(`${source} ${target}`);
})();

// The head that carried most of an edge, as a cell of a list.
function carrier(heads) {
  if (!heads) return make("td", { class: "cnb-carrier", title: "head: not computed" }, "–");
  const [first] = heads.filter(([, , share]) => Math.abs(share) >= 0.1);
  const told = first && `${first[0]}.${first[1]}`;
  return make("td", { class: "cnb-carrier", title: first ? `head ${told} carried ${whole(first[2])} of this edge` : "no head carried it" }, told || "");
}

function reasons(side, rows) {
  const top = Math.max(...rows.map(([, v]) => Math.abs(v))) || 1;
  return make("div", {}, make("table", {}, make("tbody", {}, make("tr", {}, make("th", {}, side),
    ...[48, 60].map((width) => make("th", { style: { width: `${width}px` } }))),
    ...rows.map(([name, value]) => make("tr", {}, make("td", { title: name }, name), meter(value, top),
      make("td", { class: "cnb-number" }, signed(value)))))));
}

function attentionTab(state) {
  if (!attention) return [empty(`${NOT} Known of an edge where it was: the attention heads that carried it, and why they looked.`)];
  const node = nodes[state.selected], at = (position) => tokenText(graph.tokens[position]), parts = [];
  const pattern = (values) => example(values.map((value, i) => [graph.tokens[i], value]));
  if (node) {
    const edges = [...inputs[state.selected].map(([n]) => [n, state.selected]), ...outputs[state.selected].map(([n]) => [state.selected, n])];
    const known = edges.filter(([s, t]) => headsOf(s, t));
    parts.push(make("h3", {}, node.title), head(`heads known of ${known.length} of ${edges.length} edges; of the others not computed`),
      make("div", { class: "cnb-scroll" }, make("table", {}, make("tbody", {}, ...known.map(([s, t]) => {
        const heads = headsOf(s, t).map(([block, h, share]) => `${block}.${h} ${whole(share)}`).join(" · ");
        return make("tr", {}, make("td", { title: `${nodes[s].title} → ${nodes[t].title}` },
          t === state.selected ? `from ${nodes[s].name}` : `to ${nodes[t].name}`), make("td", { class: "cnb-chain" }, heads || "no head carried it"));
      })))));
  }
  for (const { edge: [s, t], head: [block, h], sent, query, pattern: looked } of attention.moved) {
    parts.push(head(`Head ${block}.${h} moved ${nodes[s].name} → ${nodes[t].name} to:`), pattern(sent), head(`and from ${at(query)} looked at:`), pattern(looked));
  }
  for (const entry of attention.looked) {
    const [block, h] = entry.head, [query, key] = entry.places, cap = entry.soft_cap === null ? "" : ` Before the soft cap at ±${entry.soft_cap}.`;
    parts.push(head(`Why head ${block}.${h} looked from ${at(query)} at ${at(key)}, with ${whole(entry.pattern[key])} of its attention`),
      make("p", {}, entry.text + cap), make("div", { class: "cnb-columns" }, reasons("asked", entry.asked), reasons("answered", entry.answered)));
  }
  if (!attention.looked.length) parts.push(head("why heads looked there"), empty(NOT));
  parts.push(...attention.without.map(({ head: [block, h], query, token, shares }) => make("p", {},
    `Without head ${block}.${h} at ${at(query)}: `, make("b", {}, tokenText(token)), ` ${percent(shares[0])} → ${percent(shares[1])}`)));
  return parts;
}
