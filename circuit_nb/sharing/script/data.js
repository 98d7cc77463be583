// What the page holds, and how numbers and elements are made. Texts only ever become text nodes.

const page = JSON.parse(document.getElementById("page-data").textContent);
const { graph, view, circuit, cards, outcomes, evidence, attention, about } = page;
const nodes = graph.nodes;
const byId = (id) => document.getElementById(id);
const numberOf = new Map(nodes.map((node, number) => [node.id, number]));

// Edges by their ends, the strongest first: [other, weight].
const inputs = nodes.map(() => []), outputs = nodes.map(() => []);
for (const [source, target, weight] of graph.edges) {
  inputs[target].push([source, weight]);
  outputs[source].push([target, weight]);
}
const stronger = (a, b) => Math.abs(b[1]) - Math.abs(a[1]);
[...inputs, ...outputs].forEach((edges) => edges.sort(stronger));

const make = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);
const draw = (tag, properties = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([k, v]) => element.style.setProperty(k, v));
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const minus = (text) => text.replace("-", "−");

function percent(share) {
  if (share === null) return "–";
  if (share !== 0 && Math.abs(share) < 0.0005) return share > 0 ? "< 0.1 %" : "> −0.1 %";
  return minus((100 * share).toFixed(1).replace(/\.0$/, "")) + " %";
}

const short = (value) => minus(String(Number(value.toPrecision(3))));
const signed = (value) => (value > 0 ? "+" : "") + short(value);

// A token as read: the one space that most words begin with is left out, other blanks are shown.
function tokenText(token) {
  const word = /^ .*\S/s.test(token) ? token.slice(1) : token;
  const marks = { "\n": "⏎", "\r": "␍", "\t": "⇥" };
  return word.replace(/^ +| +$/g, (blanks) => "␣".repeat(blanks.length))
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, (c) =>
      marks[c] || "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));
}
