// The graph: one of the pictures that were laid out, and over it what a selection adds.

const Picture = (() => {
  const box = byId("graph"), hover = byId("hover");
  const { raises, lowers, grey, steps, path: [pathWidth, pathOpacity] } = view.style;
  let shown = null, places = new Map(), svg, under, over, frame;

  const choose = (kept, errors, width) => {
    const fitting = view.pictures.filter((p) => p.kept === kept && p.errors === errors);
    return fitting.filter((p) => p.width <= width).pop() || fitting[0];
  };

  const text = (x, y, size, anchor, lines, bold, more = {}) => draw("text", {
    x, y, "font-size": size, "text-anchor": anchor, "font-weight": bold ? 600 : 400, ...more,
  }, ...lines.map((line, i) => draw("tspan", { x, y: y + 1.25 * size * (i - (lines.length - 1) / 2) + 0.36 * size }, line)));

  function symbol(kind, x, y, half, colour) {
    if (kind === "feature") return draw("circle", { cx: x, cy: y, r: half, fill: colour });
    if (kind === "error") {
      const far = 1.3 * half;
      const d = `M${x} ${y - far}l${far} ${far}l${-far} ${far}l${-far} ${-far}z`;
      return draw("path", { d, stroke: colour, "pointer-events": "all" });
    }
    return draw("rect", { x: x - half, y: y - half, width: 2 * half, height: 2 * half, fill: colour });
  }

  function tick([x, y, side, label, bold]) {
    const aslant = side === "below" && shown.aslant;
    return draw("text", {
      x, y: aslant ? y - 6 : y, "font-size": 11, "font-weight": bold ? 600 : 400, class: "tick-text",
      "text-anchor": side === "beside" || aslant ? "end" : "middle",
      transform: aslant ? `rotate(-40 ${x} ${y - 6})` : null,
    }, label);
  }

  // Draws the picture itself; a selection changes none of it.
  function lay(state) {
    const picture = choose(view.levels[state.level], state.errors, box.clientWidth);
    if (picture === shown) return;
    shown = picture;
    places = new Map(picture.nodes.map((n) => [n[0], n]));
    picture.marks.forEach(([x, y, members]) => members.forEach((n) => places.set(n, [n, x, y, 8, 1, grey])));
    under = draw("g");
    over = draw("g");
    frame = [0, 0, picture.width, picture.height];
    svg = draw("svg", { viewBox: frame.join(" "), "font-family": "inherit", role: "img", "aria-label": picture.summary },
      draw("g", { class: "tick" }, ...picture.ticks.map(tick)),
      draw("g", {}, ...picture.lines.map(([d, stroke, width, opacity]) =>
        draw("path", { d, stroke, "stroke-width": width, opacity }))),
      under,
      draw("g", {}, ...picture.nodes.map(([n, x, y, size, opacity, colour]) =>
        draw("g", { class: "node", "data-node": nodes[n].id, opacity },
          draw("circle", { cx: x, cy: y, r: Math.max(size / 2, 9), fill: "transparent" }),
          symbol(nodes[n].kind, x, y, size / 2, colour)))),
      draw("g", {}, ...picture.marks.map(([x, y, members]) =>
        draw("g", { class: "mark", "data-mark": members.join(" ") },
          text(x, y, 11, "middle", [`+${members.length}`], false, { fill: grey })))),
      over,
      draw("g", {}, ...picture.words.map(([, x, y, side, size, bold, lines]) =>
        text(x, y, size, { left: "end", center: "middle", right: "start" }[side], lines, bold))));
    box.replaceChildren(svg);
    byId("graph-note").textContent = picture.summary;
  }

  // One edge: it leaves and arrives upright, as `figures.edges.curve` draws it.
  function curve(source, target) {
    const [, x0, y0] = places.get(source), [, x1, y1] = places.get(target);
    if (Math.abs(x0 - x1) < 0.5) return `M${x0} ${y0}L${x1} ${y1}`;
    const middle = (y0 + y1) / 2;
    return `M${x0} ${y0}C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`;
  }

  // A node's drawn edges on one side by sign and strength; the weakest come first.
  function edges(pairs, toPath) {
    const drawn = pairs.filter(([other]) => places.has(other));
    const top = Math.max(...drawn.map(([, w]) => Math.abs(w)), 1e-30);
    const made = [];
    steps.map((step, i) => [i, ...step]).reverse().forEach(([i, least, width, opacity]) => {
      [[-1, lowers], [1, raises]].forEach(([sign, stroke]) => {
        const inside = drawn.filter(([, w]) => Math.sign(w) === sign && Math.abs(w) / top >= least &&
          (i === 0 || Math.abs(w) / top < steps[i - 1][0]));
        const d = inside.map(([other]) => toPath(other)).join("");
        if (d) made.push(draw("path", { d, stroke, "stroke-width": width, opacity, class: "edge" }));
      });
    });
    return made;
  }

  const ring = (n, extra, stroke, width) => {
    const [, x, y, size] = places.get(n);
    return draw("circle", { cx: x, cy: y, r: (size + extra) / 2, stroke, "stroke-width": width, class: "ring" });
  };

  const cross = (n) => {
    const [, x, y, size] = places.get(n), half = (size + 4) / 2;
    const d = `M${x - half} ${y - half}l${2 * half} ${2 * half}m${-2 * half} 0l${2 * half} ${-2 * half}`;
    return draw("path", { d, stroke: lowers, "stroke-width": 2 });
  };

  // Names of the selected node and of the strongest ends of its edges, where there is room.
  function names(state) {
    const named = new Set(shown.words.map((w) => w[0]));
    const taken = [...svg.querySelectorAll("text")].map((t) => t.getBBox());
    taken.push(...[...places.values()].map(([, x, y, size]) => ({ x: x - size / 2, y: y - size / 2, width: size, height: size })));
    const clear = (b) => b.x > 2 && b.y > 2 && b.x + b.width < shown.width - 2 && b.y + b.height < shown.height - 2 &&
      taken.every((t) => b.x > t.x + t.width || t.x > b.x + b.width || b.y > t.y + t.height || t.y > b.y + b.height);
    const ends = [...inputs[state.selected].slice(0, 6), ...outputs[state.selected].slice(0, 3)];
    const wanted = [state.selected, ...ends.map(([n]) => n)];
    for (const n of wanted) {
      if (named.has(n) || !places.has(n) || !nodes[n].short) continue;
      const [, x, y, size] = places.get(n), label = nodes[n].short;
      const away = size / 2 + 5, cut = label.length > 24 ? label.slice(0, 23) + "…" : label;
      const tries = [[x + away, y, "start"], [x - away, y, "end"], [x, y - away - 5, "middle"], [x, y + away + 5, "middle"]];
      for (const [a, b, anchor] of tries) {
        const word = text(a, b, 11, anchor, [cut], n === state.selected);
        over.append(word);
        if (clear(word.getBBox())) {
          taken.push(word.getBBox());
          named.add(n);
          break;
        }
        word.remove();
      }
    }
  }

  function select(state) {
    under.replaceChildren();
    over.replaceChildren();
    for (const path of state.paths) {
      const steps = path.nodes.slice(1).map((n, i) => [path.nodes[i], n]).filter((ends) => ends.every((n) => places.has(n)));
      under.append(draw("path", {
        d: steps.map(([a, b]) => curve(a, b)).join(""), stroke: path.sign > 0 ? raises : lowers,
        "stroke-width": pathWidth, opacity: pathOpacity, class: "path",
      }));
      over.append(...path.nodes.filter((n) => places.has(n) && nodes[n].kind === "feature").map((n) => ring(n, 4, raises, 2)));
    }
    over.append(...view.pinned.filter((n) => places.has(n)).map((n) => ring(n, 5, grey, 1)));
    over.append(...state.switched.filter((n) => places.has(n)).map(cross));
    const own = state.selected;
    if (own === null || !places.has(own)) return;
    if (state.links !== "inputs") under.append(...edges(outputs[own], (n) => curve(own, n)));
    if (state.links !== "outputs") under.append(...edges(inputs[own], (n) => curve(n, own)));
    over.append(ring(own, 7, grey, 2));
    names(state);
  }

  function tell(event, n) {
    if (n === undefined) { hover.hidden = true; return; }
    const node = nodes[n], at = byId("graph").parentElement.getBoundingClientRect();
    hover.replaceChildren(make("b", {}, node.name), ...facts(node).map((fact) => make("div", {}, fact)));
    hover.hidden = false;
    const left = Math.min(event.clientX - at.left + 14, at.width - hover.offsetWidth - 4);
    hover.style.left = `${Math.max(left, 0)}px`;
    hover.style.top = `${event.clientY - at.top + 16}px`;
  }

  // Zooms by a factor around a place given in shares of the picture; 0 shows the whole.
  function zoom(factor, across = 0.5, down = 0.5) {
    const [x, y, width, height] = frame;
    const wide = Math.min(width / factor, shown.width), high = Math.min(height / factor, shown.height);
    frame = factor ? [x + (width - wide) * across, y + (height - high) * down, wide, high] : [0, 0, shown.width, shown.height];
    move(0, 0);
  }

  function move(right, down) {
    frame[0] = Math.min(Math.max(frame[0] + right * frame[2], 0), shown.width - frame[2]);
    frame[1] = Math.min(Math.max(frame[1] + down * frame[3], 0), shown.height - frame[3]);
    svg.setAttribute("viewBox", frame.join(" "));
  }

  box.addEventListener("wheel", (event) => {
    if (!box.contains(document.activeElement)) return;
    event.preventDefault();
    const at = svg.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
  }, { passive: false });
  let held = null;
  box.addEventListener("pointerdown", (event) => { held = event; });
  window.addEventListener("pointerup", () => { held = null; });
  box.addEventListener("pointermove", (event) => {
    if (held && event.buttons && frame[2] < shown.width) {
      const at = svg.getBoundingClientRect();
      move((held.clientX - event.clientX) / at.width, (held.clientY - event.clientY) / at.height);
      held = event;
    }
    tell(event, numberOf.get(event.target.closest?.("[data-node]")?.dataset.node));
  });
  box.addEventListener("pointerleave", (event) => tell(event));

  return { lay, select, zoom, has: (n) => places.has(n), svg: () => svg, places: () => places };
})();
