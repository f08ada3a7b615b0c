// Sections 7, 8 and 9: the mask, dynamic against fixed weights, and the model that answers.
"use strict";

function maskSection() {
  const { mask } = sentence();
  if (mask.absent) return absent(mask.absent);
  return [
    make("p", { class: "theory" }, "A decoder must not look at the words that it has yet to write. Recomputing every prefix would do it; setting the affinities of later words to −∞ does it in one pass, because the exponential of −∞ is exactly 0."),
    make("div", { class: "controls" }, toggle("mask", "mask", "on", "off"), choose("show", "show", [["weights", "weights, after softmax"], ["affinities", "affinities, before softmax"]]),
      choose("layer", "layer", mask.layers.map((_, k) => [k, `layer ${k + 1}`])), choose("head", "head", () => (mask.layers[clamp(state.layer, 0, mask.layers.length - 1)].heads ?? []).map((_, k) => [k, `head ${k + 1}`]))),
    live(["mask", "show", "layer", "head"], maskFigure),
    make("h3", {}, "Does the future leak?"),
    live([], leakFigure),
  ];
}

function maskFigure() {
  const { mask, target_tokens: tokens } = sentence();
  const layer = clamp(state.layer, 0, mask.layers.length - 1);
  if (mask.layers[layer].absent) return absent(mask.layers[layer].absent);
  const { heads } = mask.layers[layer];
  const head = clamp(state.head, 0, heads.length - 1);
  const one = heads[head];
  const on = state.mask !== "off";
  // A layer whose radius is smaller than the row sees less than the past; what weighs nothing behind the mask is hidden.
  const masked = one.affinities.map((row, i) => row.map((value, j) => (j > i && mask.future_mask ? null : value)));
  const values = state.show === "affinities" ? (on ? masked : one.affinities) : on ? one.weights : one.weights_before;
  const what = state.show === "affinities" ? "affinities" : "weights";
  const forbidden = one.future_weight;
  return [
    make("div", { class: "row" }, figure([`Decoder, layer ${layer + 1}, head ${head + 1}: ${what} `, make("strong", {}, !mask.future_mask ? "of a model that has no mask" : on ? "with the mask" : "without the mask"), `. ${mask.future_mask ? "" : "It was trained with future_mask=False, so the switch changes nothing. "}A frame is a later word.`],
      matrix({ values, rows: tokens, columns: tokens, most: state.show === "affinities" ? largestOf(one.affinities) : 1, cell: clamp(Math.floor(430 / tokens.length), 15, 26), key: "mask", label: `${what} of the decoder ${on ? "with" : "without"} the mask; the numbers are in the table below.`, region: (i, j) => j > i,
        tell: (i, j) => `${quoted(tokens[i])} → ${quoted(tokens[j])}: ${values[i][j] === null ? "−∞" : shown(values[i][j])}` })),
      figure(`${mask.future_mask ? "What the mask takes away: without it" : "What a mask would take away"}, this share of each word's attention lies on words that come later.`, make("div", { class: "scroll" }, tableOf(["word", "on later words"], tokens.map((token, k) => [token, barred(forbidden[k], forbidden[k], 7)]))))),
    make("p", { class: "finding" }, `${mask.future_mask ? "Without the mask" : "Here"}, ${quoted(tokens[0])} ${mask.future_mask ? "would spend" : "spends"} ${shown(forbidden[0])} of its attention on words that are not written yet.`),
    numbers(`These ${what} ${on ? "with" : "without"} the mask as a table`, ["", ...tokens], () => values.map((row, i) => [tokens[i], ...row.map((value) => (value === null ? "−∞" : value))])),
  ];
}

function leakFigure() {
  const { mask, target_tokens: tokens } = sentence();
  const verdict = mask.leaks ? `${count(mask.leaks, "pair")} of places leak: the largest derivative is ${shown(mask.largest)}.` : "No output depends on a later word: every derivative is exactly 0.";
  return [
    figure([make("strong", {}, verdict), ` ${mask.expected ? "Theory expects a leak, because the future is not masked" : "Theory expects none"}, and measurement ${mask.agrees ? "agrees" : "does not agree"}. Row: an output; column: an input of the decoder; a frame is the future.`],
      matrix({ values: mask.gradients, rows: tokens, columns: tokens, most: largestOf(mask.gradients), cell: clamp(Math.floor(420 / tokens.length), 14, 24), key: "leak", label: `Derivatives of outputs by inputs of the decoder. ${verdict}`, region: (i, j) => j > i,
        tell: (i, j) => `output after ${quoted(tokens[i])} by input ${quoted(tokens[j])}: ${shown(mask.gradients[i][j])}` })),
    numbers("These derivatives of the decoder as a table", ["", ...tokens], () => mask.gradients.map((row, i) => [tokens[i], ...row])),
  ];
}

// -------------------------------------------------------------------------------------------------- section 8

function weightsSection() {
  const { weights } = model();
  return [
    make("p", { class: "theory" }, "How is this different from a fully connected layer? In self-attention the words decide how much they hear of each other, anew in every sentence. A fully connected layer over places has one number for each pair of places, learned once, the same in every sentence."),
    weights.absent ? absent(weights.absent) : [
      make("div", { class: "controls" }, choose("layer", "layer", weights.layers.map((_, k) => [k, `layer ${k + 1}`])), choose("head", "head", () => (weights.layers[clamp(state.layer, 0, weights.layers.length - 1)].heads ?? []).map((_, k) => [k, `head ${k + 1}`]))),
      live(["layer", "head"], weightsFigure)],
  ];
}

function weightsFigure() {
  const { weights } = model();
  const layer = clamp(state.layer, 0, weights.layers.length - 1);
  const own = weights.layers[layer];
  const rows = [];
  if (own.absent) rows.push(absent(own.absent));
  else rows.push(twoMaps(own.heads[clamp(state.head, 0, own.heads.length - 1)], `This model's ${weights.side}, layer ${layer + 1}`, "own"));
  rows.push(twoMaps(weights.dense, "A fully connected layer, fresh", "dense"));
  return [p(`Two sentences of one length: ${quoted(words(weights.first_tokens))} and ${quoted(words(weights.second_tokens))}${weights.shuffled ? ", the same words in the opposite order" : ""}.`), rows];
}

function twoMaps(one, title, key) {
  const { first_tokens: first, second_tokens: second } = model().weights;
  const cell = clamp(Math.floor(225 / first.length), 8, 18);
  const names = ["the first sentence", "the second", "the difference"];
  const difference = one.second.map((row, i) => row.map((value, j) => Number((value - one.first[i][j]).toFixed(3))));
  const tables = [[one.first, first], [one.second, second], [difference, first.map((word, k) => (word === second[k] ? word : `${word}/${second[k]}`))]];
  return [
    make("h3", {}, `${title}: ${one.dynamic ? "the words decide" : "the places decide"}`),
    make("div", { class: "row low" }, tables.map(([values, tokens], k) => figure(names[k], matrix({ values, rows: tokens, columns: tokens, most: k === 2 ? Math.max(largestOf(one.first), 1e-9) : Math.max(largestOf(one.first), largestOf(one.second)), cell, headings: k < 2, tell: k < 2 ? null : () => "", key: `${key}-${k}`, label: `${title}: weights of ${names[k]}; the numbers are in the table below.` })))),
    make("p", { class: "finding" }, `From one sentence to the other the weights change by ${shown(one.largest)} at most, ${shown(one.mean)} on average.`),
    numbers(`${title}: both as a table`, ["", ...first.map((_, k) => `${k + 1}`)], () => [...one.first.map((row, i) => [`first, ${first[i]}`, ...row]), ...one.second.map((row, i) => [`second, ${second[i]}`, ...row])]),
  ];
}

// -------------------------------------------------------------------------------------------------- section 9

let tinyModel = null;

function askSection() {
  if (!DATA.tiny || typeof TinyModel === "undefined") return absent("No model of this page is small enough to live in it: at most 100,000 parameters, self-attention in every layer. Give one by --tiny.");
  if (!tinyModel) tinyModel = new TinyModel(DATA.tiny);
  const input = make("input", { type: "text", id: "question", value: state.text || DATA.tiny_examples[0], autocomplete: "off", spellcheck: "false", "data-key": "ask", oninput: () => set({ text: input.value }) });
  const show = () => { if (document.activeElement !== input) input.value = state.text || DATA.tiny_examples[0]; };
  controls.push(show);
  return [
    make("p", { class: "theory" }, `A real model of ${thousands(DATA.tiny.parameters)} parameters lives in this page, weights and tokenizer; its forward pass is written in plain JavaScript. Type, and it answers here, without a server.`),
    make("label", { class: "control", for: "question" }, make("span", {}, "input"), input),
    make("div", { class: "words", role: "group", "aria-label": "Inputs to try" }, DATA.tiny_examples.map((text, k) => make("button", { type: "button", class: "word", "data-key": `try-${k}`, onclick: () => { input.value = text; set({ text }); } }, text))),
    live(["text"], () => answerFigure(state.text || DATA.tiny_examples[0])),
  ];
}

function answerFigure(text) {
  if (!text.trim()) return p("Type something.");
  let found;
  try {
    found = tinyModel.answer(text, 40);
  } catch (error) {
    return absent(`It cannot read this: ${error.message}`);
  }
  const { sourceTokens: source, targetTokens: target, cross } = found;
  // The mean of all layers and heads, with as many digits as the other weights have.
  const heads = cross.flat();
  const mean = target.map((_, i) => source.map((__, j) => Number((heads.reduce((sum, weights) => sum + weights[i][j], 0) / heads.length).toFixed(3))));
  return [
    make("p", { class: "answer", id: "answer", "aria-live": "polite" }, found.text || words(target)),
    figure("Who was read while each token was written: the mean of all layers and heads.",
      matrix({ values: mean, rows: target, columns: source, most: largestOf(mean) || 1, cell: clamp(Math.floor(560 / source.length), 13, 26), key: "ask", label: "Attention of the tiny model; the numbers are in the table below.", tell: (i, j) => `${quoted(target[i])} from ${quoted(source[j])}: ${shown(mean[i][j])}` })),
    numbers("This attention as a table", ["", ...source], () => mean.map((row, i) => [target[i], ...row])),
  ];
}
