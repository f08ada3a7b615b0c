// Figures: matrices, strips of numbers, curves. Shades are one colour for a sign, more of it for a larger number.
"use strict";

// A matrix as shaded cells. The cells are told below it: where the mouse is, or where the arrow keys have gone.
//   values [Q][K], null: nothing there; rows, columns: texts; most: the number that has the full colour;
//   mark(i, j): whether the cell has a frame; region(i, j): whether it has a quiet one; tell(i, j): what is said of it; print(i, j): a short text in it
function matrix({ values, rows, columns, label, cell: wanted = 17, most = null, mark = null, region = null, tell = null, print = null, key = "", headings = true }) {
  const [Q, K] = [values.length, values[0]?.length ?? 0];
  const full = most ?? (largestOf(values) || 1);
  const longest = (texts) => Math.max(...texts.map((text) => text.length), 1);
  const left = headings ? Math.min(longest(rows) * 7.8 + 12, 140) : 2;
  const top = headings ? Math.min(longest(columns) * 6.8 + 12, 116) : 2;
  // On a small screen cells shrink before the box has to scroll.
  const room = Math.floor((document.documentElement.clientWidth - 44 - left - 26) / K);
  const cell = headings ? clamp(room, Math.min(wanted, 11), wanted) : wanted;
  const [width, height] = [left + K * cell + (headings ? 26 : 3), top + Q * cell + 3];
  const gap = cell > 9 ? 1 : 0;
  const cells = [];
  for (let i = 0; i < Q; i++) {
    for (let j = 0; j < K; j++) {
      const value = values[i][j];
      const [x, y] = [left + j * cell, top + i * cell];
      if (value === null) {
        cells.push(draw("path", { d: `M${x + 4} ${y + cell - 4}L${x + cell - 4} ${y + 4}`, stroke: "var(--rule)" }));
      } else {
        const share = Math.min(Math.abs(value) / full, 1);
        if (share >= 0.004) cells.push(draw("rect", { x, y, width: cell - gap, height: cell - gap, class: value < 0 ? "cell-n" : "cell-p", "fill-opacity": share.toFixed(3) }));
        if (print) cells.push(draw("text", { x: x + cell / 2 - 0.5, y: y + cell / 2 + 4, "text-anchor": "middle", "font-size": 11, style: share > 0.6 ? { fill: "var(--on-data)" } : {} }, print(i, j)));
      }
      if (region && region(i, j)) cells.push(draw("rect", { x: x + 0.5, y: y + 0.5, width: cell - 2, height: cell - 2, class: "region" }));
      if (mark && mark(i, j)) cells.push(draw("rect", { x: x + 0.5, y: y + 0.5, width: cell - 2, height: cell - 2, class: "mark" }));
    }
  }
  const cursor = draw("rect", { class: "here", width: cell, height: cell, visibility: "hidden" });
  const readout = make("p", { class: "readout" });
  const say = tell ?? ((i, j) => `${rows[i]} → ${columns[j]}: ${shown(values[i][j])}`);
  let at = null;
  const go = (i, j) => {
    at = [clamp(i, 0, Q - 1), clamp(j, 0, K - 1)];
    cursor.setAttribute("x", left + at[1] * cell - 0.5);
    cursor.setAttribute("y", top + at[0] * cell - 0.5);
    cursor.setAttribute("visibility", "visible");
    readout.textContent = say(...at);
  };
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const svg = draw("svg", {
    width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, "shape-rendering": gap ? null : "crispEdges", tabindex: 0, "data-key": `matrix-${key || label}`,
    onpointermove: (event) => {
      const box = svg.getBoundingClientRect();
      const [j, i] = [Math.floor((event.clientX - box.left - left) / cell), Math.floor((event.clientY - box.top - top) / cell)];
      if (i >= 0 && j >= 0 && i < Q && j < K) go(i, j);
    },
    onpointerleave: () => cursor.setAttribute("visibility", "hidden"),
    onfocus: () => svg.matches(":focus-visible") && go(...(at ?? [0, 0])),
    onblur: () => cursor.setAttribute("visibility", "hidden"),
    onkeydown: (event) => {
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      const [i, j] = at ?? [0, 0];
      go(i + move[0], j + move[1]);
      const box = svg.parentElement;
      box.scrollLeft = clamp(box.scrollLeft, left + (at[1] + 1) * cell - box.clientWidth + 8, Math.max(at[1] * cell - 8, 0));
    },
  },
    draw("rect", { x: left - 0.5, y: top - 0.5, width: K * cell, height: Q * cell, class: "frame" }), cells,
    headings ? rows.map((text, i) => draw("text", { x: left - 6, y: top + i * cell + cell / 2 + 4, "text-anchor": "end", "font-size": 12 }, cut(text, 17))) : [],
    headings ? columns.map((text, j) => draw("text", { "font-size": 12, transform: `translate(${left + j * cell + cell / 2 + 3} ${top - 6}) rotate(-58)` }, cut(text, 17))) : [],
    cursor);
  return make("div", {}, make("div", { class: "scroll" }, svg), readout);
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// A picture of a matrix without words, inside a button.
function thumbnail(values, size = 58) {
  const [Q, K] = [values.length, values[0].length];
  const cells = [];
  values.forEach((row, i) => row.forEach((value, j) => {
    if (value >= 0.03) cells.push(draw("rect", { x: j, y: i, width: 1, height: 1, class: "cell-p", "fill-opacity": value.toFixed(2) }));
  }));
  return draw("svg", { width: size, height: size, viewBox: `0 0 ${K} ${Q}`, preserveAspectRatio: "none", "aria-hidden": "true", "shape-rendering": "crispEdges" }, cells);
}

// A row of numbers as a strip of shades.
function strip(values, most, width = 150, height = 14, label = null) {
  const step = width / values.length;
  return draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" },
    draw("rect", { x: 0.5, y: 0.5, width: width - 1, height: height - 1, class: "frame" }),
    values.map((value, k) => draw("rect", { x: k * step, y: 0, width: step, height, class: value < 0 ? "cell-n" : "cell-p", "fill-opacity": Math.min(Math.abs(value) / most, 1).toFixed(3) })));
}

// Curves over numbers. series: [{name, x, y}], up to four; log: both axes by powers; rule: {x, text} a line with a word.
function curves({ series, label, xName, yName, log = false, rule = null, width: wanted = 560, height = 280, dots = true, yLow = null }) {
  const width = Math.min(wanted, document.documentElement.clientWidth - 36);
  const [left, right, top, bottom] = [56, 26, 14, 42];
  const all = (name) => series.flatMap((one) => one[name].filter((value) => value !== null));
  const scale = (value) => (log ? Math.log10(value) : value);
  const [xs, ys] = [all("x"), all("y")].map((values) => values.map(scale));
  let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys, ...(yLow === null ? [] : [yLow])), Math.max(...ys)];
  if (y1 - y0 < 1e-12) [y0, y1] = [yLow === null ? y0 - 1 : y0, y1 + 1];
  if (x1 === x0) x1 = x0 + 1;
  const X = (value) => left + ((scale(value) - x0) / (x1 - x0)) * (width - left - right);
  const Y = (value) => height - bottom - ((scale(value) - y0) / (y1 - y0)) * (height - top - bottom);
  const whole = series.every((one) => one.x.every(Number.isInteger));
  const ticks = (low, high, least = 0) => (log ? [] : nice(low, high, least));
  const xTicks = log ? [...new Set(series.flatMap((one) => one.x))] : ticks(x0, x1, whole ? 1 : 0);
  const yTicks = log ? nicePowers(y0, y1) : ticks(y0, y1);
  const places = series.map((one) => one.x.map((x, k) => [x, one.y[k]]).filter(([, y]) => y !== null));
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, style: { maxWidth: "100%", height: "auto" } },
    yTicks.map((y) => [draw("line", { x1: left, x2: width - right, y1: Y(y), y2: Y(y), class: "axis" }), draw("text", { x: left - 7, y: Y(y) + 4, "text-anchor": "end", "font-size": 12, class: "quiet" }, short(y))]),
    xTicks.map((x) => draw("text", { x: X(x), y: height - bottom + 17, "text-anchor": "middle", "font-size": 12, class: "quiet" }, short(x))),
    draw("text", { x: (left + width - right) / 2, y: height - 7, "text-anchor": "middle", "font-size": 12.5 }, xName),
    draw("text", { transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle", "font-size": 12.5 }, yName),
    rule && rule.x > x0 && rule.x < x1 ? [draw("line", { x1: X(rule.x), x2: X(rule.x), y1: top, y2: height - bottom, class: "line-1" }), draw("text", { x: X(rule.x) + 5, y: top + 10, "font-size": 11.5, class: "quiet" }, rule.text)] : [],
    places.map((points, k) => [
      draw("polyline", { points: points.map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(" "), class: `line-${k % 4}` }),
      dots ? points.map(([x, y]) => draw("circle", { cx: X(x), cy: Y(y), r: 3, class: `dot-${k % 4}` }, draw("title", {}, `${series[k].name}, ${xName} ${shown(x)}: ${shown(y)}`))) : [],
    ]));
  const legend = series.length > 1 ? make("div", { class: "note row", style: { gap: "0.2rem 1.2rem" } }, series.map((one, k) => make("span", {}, draw("svg", { width: 30, height: 10, style: { display: "inline-block", marginRight: "0.35rem" }, "aria-hidden": "true" }, draw("line", { x1: 0, x2: 30, y1: 5, y2: 5, class: `line-${k % 4}` })), one.name))) : null;
  return make("div", {}, svg, legend);
}

const short = (value) => (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e5) ? value.toExponential(0) : String(Number(value.toPrecision(4)))).replace(/^-/, "−");

function nice(low, high, least = 0) {
  const rough = Math.max((high - low) / 5, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(8)));
  return found;
}

function nicePowers(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= high; power++) for (const k of [1, 2, 5]) found.push(k * 10 ** power);
  return found.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
}

const figure = (caption, ...children) => make("figure", {}, ...children, caption ? make("figcaption", {}, caption) : null);
