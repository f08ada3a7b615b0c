// Section 2: how many steps one after the other, and how far a state reaches. Theory with sliders, measurement beside it.
"use strict";

function reachSection() {
  const most = () => 24;
  return [
    make("p", { class: "theory" }, "A recurrent network computes word t only after word t − 1: T words cost T steps that no machine can take side by side. Windows take one step for each layer, but see 1 + 2rL words and no more. Self-attention takes one step, and sees them all."),
    make("h3", {}, "The theoretical pyramid"),
    make("div", { class: "controls" },
      choose("mixer", "mixer", Object.entries(MIXER_NAMES)),
      slide("words T", "T", 2, most), slide("radius r", "r", 1, 6), slide("layers L", "L", 1, 6),
      slide("state looked at", "place", 0, () => state.T - 1),
      choose("side", "side", [["encoder", "encoder, both ways"], ["decoder", "decoder, the past"]])),
    live(["mixer", "T", "r", "L", "place", "side"], pyramid),
    live(["T"], stepsFigure),
    make("h3", {}, "Measured: which inputs move which states of this model"),
    model().sides.length > 1 ? make("div", { class: "controls" }, choose("side", "side", model().sides.map((side) => [side, side]))) : null,
    live(["side", "reached"], measuredReach),
    live(["side"], pathFigure),
    live(["side"], timesFigure),
  ];
}

function pyramid() {
  const { mixer, r, side } = state;
  const [T, L] = [clamp(state.T, 2, 24), clamp(state.L, 1, 6)];
  const place = clamp(state.place, 0, T - 1);
  const causal = side === "decoder";
  const layers = THEORY.reach(mixer, T, r, L, causal);
  const ready = THEORY.ready(mixer, T, r, L, causal);
  // Which states take part: those that the chosen state of the last layer reads, and so on downwards.
  const parts = [];
  let wanted = new Set([place]);
  for (let l = L; l >= 0; l--) {
    parts[l] = wanted;
    if (l) wanted = new Set([...Array(T).keys()].filter((s) => [...parts[l]].some((t) => THEORY.sees(mixer, t, s, r, causal))));
  }
  const [left, rise] = [62, 58];
  const gap = clamp((Math.min(document.documentElement.clientWidth - 40, 920) - left - 8) / T, 19, 46);
  const X = (t) => left + gap / 2 + t * gap;
  const Y = (l) => 20 + (L - l) * rise;
  const [width, height] = [left + T * gap + 8, 20 + L * rise + 30];
  const edges = [];
  for (let l = 1; l <= L; l++) {
    for (const t of parts[l]) {
      for (let s = 0; s < T; s++) {
        if (!THEORY.sees(mixer, t, s, r, causal)) continue;
        if (mixer === "rnn") continue;
        edges.push(draw("line", { x1: X(s), y1: Y(l - 1) - 9, x2: X(t), y2: Y(l) + 9, class: "edge", "stroke-opacity": mixer === "window" || mixer === "local_attention" ? 0.55 : 0.22 }));
      }
    }
    if (mixer === "rnn") {
      for (let t = 0; t < T; t++) {
        edges.push(draw("line", { x1: X(t), y1: Y(l - 1) - 9, x2: X(t), y2: Y(l) + 9, class: "edge", "stroke-opacity": parts[l].has(t) ? 0.6 : 0.15 }));
        if (t) edges.push(draw("line", { x1: X(t - 1) + 9, y1: Y(l), x2: X(t) - 9, y2: Y(l), class: "edge", "stroke-opacity": parts[l].has(t) ? 0.6 : 0.15 }));
      }
    }
  }
  const dots = [];
  for (let l = 0; l <= L; l++) {
    dots.push(draw("text", { x: 0, y: Y(l) + 4, "font-size": 12, class: "quiet" }, l ? `layer ${l}` : "words"));
    for (let t = 0; t < T; t++) {
      const inside = parts[l].has(t);
      const chosen = l === L && t === place;
      dots.push(draw("circle", { cx: X(t), cy: Y(l), r: Math.min(9.5, gap / 2 - 1.5), fill: chosen ? "var(--warm)" : inside ? "var(--data)" : "var(--paper)", stroke: inside ? "none" : "var(--rule)" }));
      if (l && gap > 17) dots.push(draw("text", { x: X(t), y: Y(l) + 3.7, "text-anchor": "middle", "font-size": 10.5, style: { fill: inside || chosen ? "var(--on-data)" : "var(--quiet)" } }, String(ready[l - 1][t])));
    }
  }
  const seen = layers[L][place].filter(Boolean).length;
  const steps = Math.max(...ready[L - 1]);
  const way = THEORY.longest(mixer, T, r, L, causal);
  const width1 = THEORY.width(mixer, r, L, causal);
  const formula = width1 === null ? "all there are" : `1 + ${causal ? "" : "2·"}${r}·${L} = ${width1}`;
  const text = `${MIXER_NAMES[mixer]}, ${count(T, "word")}, ${count(L, "layer")}: the state at place ${place} has seen ${count(seen, "word")}`;
  return figure(
    ["The number in a dot is the step at which that state is there. ", make("strong", {}, `${text}; a state far from both ends sees ${formula}. All states are there after ${count(steps, "step")}.`), ` The longest way between two words: ${way === null ? "there is none" : count(way, "step")}.`],
    scrolling("The theoretical pyramid", draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${text}; ${count(steps, "step")} one after the other.`, "data-pyramid": `${seen}/${steps}` }, edges, dots)),
    numbers("Steps and reach as a table", ["layer", ...Array.from({ length: T }, (_, t) => t)], () => layers.slice(1).map((layer, l) => [`layer ${l + 1}: step, *: seen`, ...layer[place].map((is, t) => `${ready[l][t]}${parts[l + 1].has(t) ? "*" : ""}`)])));
}

function stepsFigure() {
  const { layers, steps } = DATA.mixers;
  const T = clamp(state.T, 2, 24);
  const own = model().steps;
  const rows = [
    ...Object.entries(steps).map(([mixer, one]) => [`${MIXER_NAMES[mixer] ?? mixer}, ${count(layers, "layer")}`, one.order, one.totals[T - 1], one.totals[one.totals.length - 1]]),
    ...Object.entries(own).map(([side, one]) => {
      if (one.absent) return [side, "", null, null];
      const row = [`this model's ${side}`, one.orders.join(", "), one.totals[T - 1], one.totals[one.totals.length - 1]];
      row.changed = true;
      return row;
    }),
  ];
  const most = Math.max(...rows.map((row) => row[2] ?? 0));
  const shownRows = rows.map((row) => Object.assign([row[0], row[1], barred(row[2], (row[2] ?? 0) / most, 9), row[3]], { changed: row.changed }));
  return figure("Steps one after the other until all states are there, for the T of the slider; while training, when the whole row is given.",
    make("div", { class: "scroll" }, tableOf(["", "grows as", `steps at T = ${T}`, `at T = ${Object.values(steps)[0].totals.length}`], shownRows)));
}

const sideOf = (wanted) => (model().sides.includes(wanted) ? wanted : model().sides[0]);
const tokensOf = (side) => sentence()[side === "encoder" ? "source_tokens" : "target_tokens"];

function measuredReach() {
  if (sentence().reach.absent) return absent(sentence().reach.absent);
  const side = sideOf(state.side);
  const found = sentence().reach[side];
  const tokens = tokensOf(side);
  const t = clamp(state.reached, 0, tokens.length - 1);
  const layers = found.gradients.map((layer) => layer[t]);
  const order = [...layers.keys()].reverse();
  const texts = order.map((l) => (l ? `layer ${l}` : "words"));
  const most = largestOf(layers.slice(1)) || 1;
  return [
    p("Choose a word; each row tells how much every input moves its state after so many layers (mean absolute derivative). A frame is where theory allows any influence; outside it, the derivative is exactly zero."),
    wordButtons(tokens, "reached", { label: "The state that is looked at" }),
    figure(["The state of ", make("strong", {}, tokens[t]), ` in the ${side}. `, make("strong", {}, found.agrees ? "Theory and measurement agree in every cell of every state." : "Theory and measurement differ."), ` Words seen far from both ends: ${found.widths.map((width) => width ?? "all").join(", ")}. Measured with ${found.dimensions} numbers of each state.`],
      matrix({ values: order.map((l) => layers[l]), rows: texts, columns: tokens, most, cell: 24, key: "reach", label: `How much each word moves the state of ${tokens[t]} in each layer of the ${side}; the numbers are in the table below.`,
        region: (i, j) => found.theory[order[i]][t][j] === 1,
        tell: (i, j) => `${quoted(tokens[j])} moves the state of ${quoted(tokens[t])} at ${texts[i]} by ${shown(layers[order[i]][j])}; theory: ${found.theory[order[i]][t][j] ? "it can" : "it cannot"}` })),
    numbers("These derivatives as a table", ["", ...tokens], () => order.map((l) => [l ? `layer ${l}` : "words", ...layers[l]])),
  ];
}

function pathFigure() {
  if (sentence().reach.absent) return null;
  const side = sideOf(state.side);
  const { steps, layers, measured, longest } = sentence().reach[side];
  const tokens = tokensOf(side);
  const agree = JSON.stringify(layers) === JSON.stringify(measured);
  return [
    make("h3", {}, "How long is the way from word to word?"),
    figure(`Steps from each input (column) to each state (row) of this model's ${side}. The longest way: ${longest === null ? "none, no two words are connected" : count(longest, "step")}. Layers that are needed, by theory and as the first layer with a derivative that is not zero, ${agree ? "are the same everywhere" : "differ"}.`,
      matrix({ values: steps, rows: tokens, columns: tokens, most: Math.max(longest ?? 1, 1) * 1.6, cell: 20, key: "path", label: `Steps between any two words of the ${side}; the longest way takes ${longest ?? 0}.`,
        print: (i, j) => String(steps[i][j]),
        tell: (i, j) => `from ${quoted(tokens[j])} to the state of ${quoted(tokens[i])}: ${steps[i][j] === null ? "no way" : `${count(steps[i][j], "step")}, ${count(layers[i][j], "layer")} by theory, ${measured[i][j]} measured`}` })),
    numbers("Steps between words as a table", ["", ...tokens], () => steps.map((row, i) => [tokens[i], ...row])),
  ];
}

function timesFigure() {
  const series = Object.entries(model().steps).filter(([, one]) => one.times && !one.times.absent).map(([side, one]) => ({ name: side, x: one.times.lengths, y: one.times.seconds, all: one.times }));
  if (!series.length) return absent("The time of a gradient step was not measured when this page was made.");
  return [
    make("h3", {}, "Measured: the time of a gradient step"),
    figure(`One row forward and backward; both axes by powers. ${series.map(({ name, all }) => `The ${name} grows like T to the power of ${shown(all.exponent)}`).join(", ")}. ${count(series[0].all.threads, "thread")} of a ${series[0].all.device}; short rows cost a fixed price.`,
      curves({ series, log: true, xName: "T", yName: "seconds", label: "Seconds of a gradient step over T, on powers; the numbers are in the table below." })),
    numbers("These times as a table", ["T", ...series.map((one) => `${one.name}, seconds`), ...series.map((one) => `${one.name}, steps`)], () => series[0].x.map((T, k) => [T, ...series.map((one) => one.y[k]), ...series.map((one) => one.all.steps[k])])),
  ];
}
