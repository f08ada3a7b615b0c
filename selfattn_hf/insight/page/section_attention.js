// Sections 3 and 4: who looks at whom, and one head from the inside.
"use strict";

// The part, layer and head that are looked at, as far as this model has them.
function chosenMaps() {
  const { maps } = sentence();
  const has = (part) => (maps[part] ?? []).some((layer) => layer !== null);
  const parts = maps.absent ? [] : ["encoder", "decoder", "cross"].filter(has);
  const part = parts.includes(state.part) ? state.part : parts.includes("cross") ? "cross" : parts[0];
  if (!part) return { parts };
  const layers = maps[part];
  let layer = clamp(state.layer, 0, layers.length - 1);
  if (!layers[layer]) layer = layers.findIndex((one) => one !== null);
  const head = clamp(state.head, 0, layers[layer].length - 1);
  return { parts, part, layer, head, layers, weights: layers[layer][head], ...wordsOf(part) };
}

function wordsOf(part) {
  const { source_tokens: source, target_tokens: target, written_tokens: written } = sentence();
  return {
    asking: part === "encoder" ? source : target,
    named: part === "cross" ? written.map((word, k) => word || target[k]) : part === "encoder" ? source : target,
    asked: part === "decoder" ? target : source,
  };
}

const partControls = () => {
  const parts = () => chosenMaps().parts.map((part) => [part, SIDE_NAMES[part]]);
  const now = () => chosenMaps();
  return make("div", { class: "controls" },
    sync(() => choose("part", "part", parts, { word: -1 }), "part", () => now().part),
    sync(() => choose("layer", "layer", () => (now().layers ?? []).flatMap((one, k) => (one ? [[k, `layer ${k + 1}`]] : []))), "layer", () => now().layer),
    sync(() => choose("head", "head", () => (now().layers?.[now().layer] ?? []).map((_, k) => [k, `head ${k + 1}`])), "head", () => now().head));
};

// A control that shows what is drawn, where the state names what this model does not have.
function sync(build, name, value) {
  const control = build();
  const show = () => {
    const now = value();
    if (now !== undefined) control.querySelector("select").value = String(now);
  };
  controls.push(show);
  show();
  return control;
}

function attentionSection() {
  return [
    make("p", { class: "theory" }, "A word asks, and spreads one unit of attention over the words it may see. The first to draw it were Bahdanau, Cho and Bengio (2015), for a decoder that reads its source; self-attention does the same among the words of one sentence."),
    partControls(),
    live(["part", "layer", "head"], linesFigure),
    live(["part", "layer", "head"], overview),
    live([], alignmentFigure),
  ];
}

function linesFigure() {
  const maps = sentence().maps;
  const { part, layer, head, weights, named, asked } = chosenMaps();
  if (!part) return absent(maps.absent ?? "No layer of this model has affinities between words.");
  const verb = part === "cross" ? "While writing" : "For the state of";
  const pitch = 26;
  const height = Math.max(named.length, asked.length) * pitch;
  const edges = weights.flatMap((row, i) => row.map((weight, j) => (weight < 0.01 ? null : Object.assign(
    draw("line", { x1: 0, x2: 100, y1: i * pitch + 12, y2: j * pitch + 12, class: "edge", "vector-effect": "non-scaling-stroke", "stroke-width": (0.6 + 3.4 * weight).toFixed(2) }), { i, j, weight })))).filter(Boolean);
  const readout = make("p", { class: "readout" });
  const buttons = (texts, side) => texts.map((text, k) => make("button", {
    type: "button", class: "word", "data-key": `${side}-${k}`,
    onpointerenter: () => show(side, k), onpointerleave: () => show(...pinned()),
    onfocus: () => show(side, k), onblur: () => show(...pinned()),
    onclick: () => { set(side === "left" ? { word: state.word === k ? -1 : k } : { word: -1 }); show(side, k); },
  }, text));
  const [left, right] = [buttons(named, "left"), buttons(asked, "right")];
  const pinned = () => (state.word >= 0 && state.word < named.length ? ["left", state.word] : [null, -1]);
  const shade = (button, weight) => { button.style.backgroundColor = weight ? `color-mix(in srgb, var(--data) ${(weight * 72).toFixed(0)}%, transparent)` : ""; };
  function show(side, k) {
    for (const edge of edges) {
      const mine = side === "left" ? edge.i === k : side === "right" ? edge.j === k : true;
      edge.setAttribute("stroke-opacity", side === null ? (edge.weight * 0.55).toFixed(3) : mine ? (0.15 + 0.85 * edge.weight).toFixed(3) : 0);
    }
    left.forEach((button, i) => { shade(button, side === "right" ? weights[i][k] : 0); button.setAttribute("aria-pressed", String(state.word === i)); });
    right.forEach((button, j) => shade(button, side === "left" ? weights[k][j] : 0));
    readout.textContent = side === "left"
      ? `${verb} ${quoted(named[k])} it looks at ${listed(weights[k], asked)}.`
      : side === "right" ? `${quoted(asked[k])} is looked at by ${listed(weights.map((row) => row[k]), named)}.`
        : "Point at a word, or reach it by the Tab key, to see its weights alone; a click keeps it.";
  }
  const content = [
    figure(`${SIDE_NAMES[part]}, layer ${layer + 1}, head ${head + 1}: on the left who asks${part === "cross" ? " (the word being written)" : ""}, on the right who is looked at.`,
      make("div", { class: "row" },
        make("div", {}, make("div", { class: "lines", role: "group", "aria-label": `Attention of ${SIDE_NAMES[part]}, layer ${layer + 1}, head ${head + 1}` },
          make("div", { class: "side left" }, left),
          draw("svg", { width: "100%", height, viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": "Lines from each word that asks to the words it looks at, thicker for more weight; the numbers are in the table below." }, edges),
          make("div", { class: "side right" }, right))),
        matrix({ values: weights, rows: named, columns: asked, most: 1, cell: clamp(Math.floor(420 / asked.length), 13, 24), key: "map", label: `The same weights as a matrix: a row for each word that asks. The numbers are in the table below.`, tell: (i, j) => `${quoted(named[i])} looks at ${quoted(asked[j])}: ${shown(weights[i][j])}` })), readout),
    numbers("These weights as a table", ["", ...asked], () => weights.map((row, i) => [named[i], ...row])),
  ];
  show(...pinned());
  return content;
}

function listed(weights, texts) {
  const best = weights.map((weight, k) => [weight, k]).filter(([weight]) => weight >= 0.05).sort((a, b) => b[0] - a[0]).slice(0, 4);
  return best.length ? best.map(([weight, k]) => `${quoted(texts[k])} ${shown(weight)}`).join(", ") : "nothing with 0.05 or more";
}

function overview() {
  const { part, layer, head, layers } = chosenMaps();
  if (!part || layers.flat().length < 2) return null;
  return [make("h3", {}, `All heads of the ${SIDE_NAMES[part]}`), make("div", { class: "thumbs" }, layers.map((heads, l) => (heads ? make("div", { class: "layer" }, make("span", {}, `layer ${l + 1}`), heads.map((weights, h) => make("button", {
    type: "button", class: "thumb", "data-key": `thumb-${l}-${h}`, "aria-label": `Show layer ${l + 1}, head ${h + 1}`, "aria-pressed": String(l === layer && h === head), onclick: () => set({ part, layer: l, head: h }, true),
  }, thumbnail(weights)))) : make("p", { class: "note" }, `Layer ${l + 1} has no affinities.`))))];
}

function alignmentFigure() {
  const { maps, source_tokens: source, target_tokens: target, written_tokens: written } = sentence();
  if (maps.absent || !maps.alignment) return [make("h3", {}, "Alignment"), absent("An alignment is read from the attention of a decoder to its source, and this model has no such attention.")];
  const { weights, best, entropy, sharpness } = maps.alignment;
  const named = written.map((word, k) => word || target[k]);
  return [
    make("h3", {}, "Alignment: from which word was each word written?"),
    figure("The mean of all layers and heads that read the source; a frame marks the word read most.",
      matrix({ values: weights, rows: named, columns: source, most: largestOf(weights), cell: clamp(Math.floor(520 / source.length), 14, 26), key: "alignment", label: "Alignment of written words with source words; the numbers are in the table below.", mark: (i, j) => best[i] === j,
        tell: (i, j) => `${quoted(named[i])} from ${quoted(source[j])}: ${shown(weights[i][j])}; entropy ${shown(entropy[i])} bits, sharpness ${shown(sharpness[i])}` })),
    numbers("The alignment as a table", ["", "read most", "entropy, bits", "sharpness", ...source], () => weights.map((row, i) => [named[i], source[best[i]], entropy[i], sharpness[i], ...row])),
  ];
}

// -------------------------------------------------------------------------------------------------- section 4

const LOOKUP_STEPS = ["states", "query and keys", "products", "bias of places", "mask", "softmax", "values and their mix"];

function lookupSection() {
  return [
    make("p", { class: "theory" }, "A state becomes a query; every state becomes a key and a value. The query is compared with all keys, places add their bias, the mask takes away what must not be seen, softmax turns affinities into weights, and the values are mixed by them."),
    partControls(),
    make("div", { class: "controls" }, slide("step", "step", 1, 7), live(["step"], () => make("p", { class: "note", style: { margin: 0 } }, `${clamp(state.step, 1, 7)} of 7: ${LOOKUP_STEPS[clamp(state.step, 1, 7) - 1]}`))),
    live(["part", "layer", "head", "query", "step"], lookupFigure),
  ];
}

function lookupFigure() {
  const { part, layer, head, asked, named } = chosenMaps();
  if (!part) return absent(sentence().maps.absent ?? "No layer of this model looks anything up.");
  const kept = sentence().lookups;
  if (!kept) {
    const first = model().sentences.findIndex((one) => one.lookups);
    return [absent("The vectors of this sentence are left out, to keep the page small."), make("button", { type: "button", onclick: () => set({ sentence: first }, true) }, `Look at ${quoted(model().sentences[first].text)}`)];
  }
  const of = kept[part][layer];
  if (of.absent) return absent(of.absent);
  const one = of.heads[head];
  if (!one) return absent(`To keep the page small, it has the vectors of ${of.heads.length === 1 ? "head 1" : `heads 1 to ${of.heads.length}`} of each layer alone.`);
  const i = clamp(state.query, -1, named.length - 1) < 0 ? 0 : clamp(state.query, 0, named.length - 1);
  const step = clamp(state.step, 1, 7);
  const [asking, sources] = [of.states, of.asked_states ?? of.states];
  const most = { state: Math.max(largestOf(asking), largestOf(sources)), key: one.keys ? Math.max(largestOf(one.keys), largestOf(one.queries)) : 1, value: largestOf(one.values) };
  const buttons = make("div", { class: "words", role: "group", "aria-label": "The word that asks" }, named.map((word, k) => make("button", { type: "button", class: "word", "data-key": `query-${k}`, "aria-pressed": String(k === i), onclick: () => set({ query: k }) }, word)));
  const from = (first) => (step < first ? "hidden" : step === first ? "now" : null);
  const column = (first, title) => make("th", { scope: "col", class: from(first) }, title);
  const cell = (first, ...content) => make("td", { class: from(first) }, ...content);
  const rows = asked.map((word, j) => make("tr", {},
    make("th", { scope: "row" }, word),
    cell(1, strip(sources[j], most.state, 96)),
    cell(2, one.keys ? strip(one.keys[j], most.key, 120) : "–"),
    cell(3, shown(one.products[i][j])),
    cell(4, one.bias ? shown(one.bias[i][j]) : "none"),
    cell(5, of.seen[i][j] ? "seen" : "−∞"),
    cell(6, barred(one.weights[i][j], one.weights[i][j], 6)),
    cell(7, strip(one.values[j], most.value, 120))));
  const table = make("table", { class: "lookup" },
    make("caption", { class: "note", style: { textAlign: "left", paddingBottom: "0.5rem" } }, "Who asks: ", make("strong", {}, named[i]), make("div", { class: "row", style: { gap: "0.3rem 1.2rem", marginTop: "0.3rem" } },
      make("span", { class: from(1) }, "state ", strip(asking[i], most.state, 150, 14, `State of ${named[i]}`)), make("span", { class: from(2) }, "query ", one.queries ? strip(one.queries[i], most.key, 150, 14, `Query of ${named[i]}`) : "nobody asks: the layer has a table of places"))),
    make("thead", {}, make("tr", {}, column(0, "who is asked"), column(1, "state"), column(2, "key"), column(3, of.score === "additive" ? "v·tanh(q + k)" : of.score === "table" ? "table" : of.scaling === 1 ? "q·k" : `q·k × ${shown(of.scaling)}`), column(4, "bias"), column(5, "mask"), column(6, "weight"), column(7, "value"))),
    make("tbody", {}, rows),
    make("tfoot", {}, make("tr", {}, make("td", { colspan: 7, class: from(7), style: { textAlign: "right" } }, "the values, mixed by the weights"), cell(7, strip(one.mixed[i], largestOf(one.mixed), 120, 16, `Mix of values for ${named[i]}`)))));
  const vectors = () => [["query", named[i], one.queries?.[i]], ...asked.map((word, j) => ["key", word, one.keys?.[j]]), ...asked.map((word, j) => ["value", word, one.values[j]]), ["mix", named[i], one.mixed[i]]].filter(([, , values]) => values);
  return [
    buttons,
    figure(`${SIDE_NAMES[part]}, layer ${layer + 1}, head ${head + 1}. Blue is positive, orange negative, and more colour is more. ${of.score === "additive" ? "This attention compares by an additive score (Bahdanau)." : ""}`, scrolling("The lookup, step by step", table)),
    numbers("All products as a table", ["", ...asked], () => one.products.map((row, k) => [named[k], ...row])),
    numbers("Query, keys, values and mix as a table", ["", "", ...one.mixed[i].map((_, k) => k + 1)], () => vectors().map(([kind, word, values]) => [kind, word, ...values])),
  ];
}
