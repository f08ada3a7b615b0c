// Sections 5 and 6: set or sequence, positions, and what becomes of differences over depth.
"use strict";

function orderSection() {
  return [
    make("p", { class: "theory" }, "Self-attention alone sees a set: shuffle the words, and every word keeps its state. Positions turn the set into a sequence."),
    make("h3", {}, "Shuffle the words"),
    live(["shuffle"], shuffleFigure),
    make("h3", {}, "What the positions do"),
    make("div", { class: "controls" },
      choose("encoding", "encoding", () => [["own", "of this model, as trained"], ...Object.keys(DATA.positions).map((name) => [name, `${name}, fresh`])]),
      model().sides.length > 1 ? choose("side", "side", model().sides.map((side) => [side, side])) : null),
    live(["encoding", "side"], positionFigure),
  ];
}

function shuffleFigure() {
  const { order, source_tokens: tokens, target_tokens: target, written_tokens: written } = sentence();
  if (order.absent) return absent(order.absent);
  const number = ((state.shuffle % order.shuffles.length) + order.shuffles.length) % order.shuffles.length;
  const one = order.shuffles[number];
  const again = make("button", { type: "button", "data-key": "shuffle", onclick: () => set({ shuffle: (number + 1) % order.shuffles.length }, true) }, "Shuffle again");
  const [pitch, T] = [26, tokens.length];
  const last = one.state_change.length - 1;
  const most = Math.max(largestOf(one.state_change), 1e-6);
  const tiny = most < 1e-3;
  const layerNames = one.state_change.map((_, l) => (l ? `layer ${l}` : "input"));
  const edges = one.permutation.map((old, now) => draw("line", { x1: 0, x2: 100, y1: old * pitch + 12, y2: now * pitch + 12, class: "edge", "vector-effect": "non-scaling-stroke", "stroke-width": 1.4, "stroke-opacity": 0.55 }));
  const plain = (texts) => texts.map((text) => make("span", { class: "word" }, text));
  return [
    make("div", { class: "controls" }, again, make("span", { class: "note" }, `order ${number + 1} of ${order.shuffles.length}`)),
    make("div", { class: "row" },
      figure("The words in both orders.", make("div", { class: "lines" }, make("div", { class: "side left" }, plain(tokens)),
        draw("svg", { width: "100%", height: T * pitch, viewBox: `0 0 100 ${T * pitch}`, preserveAspectRatio: "none", role: "img", "aria-label": `Shuffled: ${words(one.shuffled_tokens)}` }, edges), make("div", { class: "side right" }, plain(one.shuffled_tokens)))),
      figure(tiny ? "No state moves: rounding errors are all there is." : "How far the state of each word moves, in lengths of the state.",
        matrix({ values: one.state_change[0].map((_, k) => one.state_change.map((layer) => layer[k])), rows: tokens, columns: layerNames, most: Math.max(most, 0.2), cell: 26, key: "shuffle", label: "How far each state moves when the words are shuffled; the numbers are in the table below.",
          tell: (i, j) => `${quoted(tokens[i])}, ${layerNames[j]}: moves by ${shown(one.state_change[j][i])}` }))),
    make("p", { class: "finding" }, order.is_set ? `Theory: this encoder sees a set. Measured: ${order.agrees ? "so it does, up to rounding" : "it does not"}.` : `Theory: this encoder sees a sequence. After the last layer states have moved by ${shown(one.mean_change[last])} of their length on average.`),
    one.output_change.length ? make("p", {}, `Of ${count(one.other_choice.length, "prediction")}, ${one.other_choice.filter(Boolean).length} would be another token: `, make("span", { class: "words" }, written.map((word, k) => make("span", { class: "word", style: { backgroundColor: one.output_change[k] ? `color-mix(in srgb, var(--warm) ${(Math.min(one.output_change[k], 1) * 70).toFixed(0)}%, transparent)` : "", textDecoration: one.other_choice[k] ? "line-through" : "" } }, word || target[k])))) : null,
    numbers("How far states move, as a table", ["", ...layerNames], () => tokens.map((token, k) => [token, ...one.state_change.map((layer) => layer[k])])),
    one.output_change.length ? numbers("How predictions change, as a table", ["read so far", "written", "total variation", "another token"], () => target.map((token, k) => [token, written[k], one.output_change[k], one.other_choice[k]])) : null,
  ];
}

const DOORS = { embed: "joins the embeddings", rotate: "turns queries and keys", bias: "is added to affinities" };

function positionFigure() {
  const side = sideOf(state.side);
  const own = !(state.encoding in DATA.positions);
  const one = own ? model().positions[side] : DATA.positions[state.encoding];
  const name = one.names.filter((word) => word !== "none").join(" + ") || "none";
  const P = one.places;
  const distances = Array.from({ length: 2 * P - 1 }, (_, k) => k - P + 1);
  const places = Array.from({ length: P }, (_, k) => String(k));
  const beyond = one.beyond === "raises" ? `It knows ${one.bounded} places, and raises beyond them.` : "Every later place has a value too.";
  const content = [p(`${own ? `The ${side} of this model has ` : "A small fresh encoder with "}`, make("strong", {}, name), `: ${one.doors.length ? `what it makes ${one.doors.map((door) => DOORS[door]).join(", and ")}` : "nothing tells places apart here; a mixer that reads in order does it by itself"}. Drawn for ${count(P, "place")}; ${own ? `the longest row shown on this page has ${one.trained}` : `think of training as having seen ${one.trained}`}. ${beyond}`)];
  if (one.vectors) {
    const D = one.vectors[0].length;
    content.push(make("div", { class: "row" },
      figure(`The vector of each place (row), ${D} numbers.`, matrix({ values: one.vectors, rows: places, columns: one.vectors[0].map((_, k) => String(k)), cell: clamp(Math.floor(300 / Math.max(P, D)), 4, 9), headings: false, key: "vectors", tell: (i, j) => `place ${i}, number ${j + 1}: ${shown(one.vectors[i][j])}`, label: `Vectors of ${P} places; the numbers are in the table below.` })),
      figure("How alike two places are: the cosine of their vectors.", matrix({ values: one.cosine, rows: places, columns: places, most: 1, cell: clamp(Math.floor(300 / P), 5, 11), headings: false, key: "cosine", tell: (i, j) => `places ${i} and ${j}: ${shown(one.cosine[i][j])}`, label: "Cosine of the vectors of any two places; the numbers are in the table below." }))),
      curves({ series: [{ name: "p(0) · p(distance), measured", x: distances.slice(P - 1), y: one.dot[0] }, ...(one.theory.sinusoidal ? [{ name: "theory: Σ cos(rate · distance)", x: distances.slice(P - 1), y: one.theory.sinusoidal.slice(P - 1) }] : [])], xName: "distance", yName: "p(0) · p(distance)", dots: false, rule: { x: one.trained, text: own ? "longest row here" : "trained so far" }, label: "Product of the vector of place 0 with that of each other place; the numbers are in the table below." }),
      numbers("Vectors as a table", ["place", ...one.vectors[0].map((_, k) => k + 1)], () => one.vectors.map((row, k) => [k, ...row])),
      numbers("Products p(i) · p(j) as a table", ["place", ...places], () => one.dot.map((row, k) => [k, ...row])),
      numbers("Cosines as a table", ["place", ...places], () => one.cosine.map((row, k) => [k, ...row])));
  }
  if (one.turned) content.push(
    figure("What turning leaves of q · k of equal words of length 1, by distance.", curves({ series: [{ name: "measured", x: distances, y: one.turned }, { name: "theory", x: distances, y: one.theory.rope }], xName: "distance j − i", yName: "q · k", dots: false, rule: { x: one.trained, text: own ? "longest row here" : "trained so far" }, label: "Affinity of equal words by distance, measured and by theory; the numbers are in the table below." })),
    numbers("Turned affinities as a table", ["distance", "measured", "theory"], () => distances.map((distance, k) => [distance, one.turned[k], one.theory.rope?.[k]])));
  if (one.bias) content.push(
    figure(`What is added to the affinity of equal words at each distance, for ${one.bias.length > 4 ? "the first four heads" : count(one.bias.length, "head")}. ${one.constant_from === null ? "It goes on changing." : `From distance ${one.constant_from} on it stays the same.`} ${one.bias_spread > 1e-4 ? `Pairs of one distance differ by up to ${shown(one.bias_spread)} from their mean, which is drawn.` : "The distance alone decides."}`,
      curves({ series: one.bias.slice(0, 4).map((y, k) => ({ name: `head ${k + 1}`, x: distances, y })), xName: "distance j − i", yName: "bias", dots: false, rule: { x: one.trained, text: own ? "longest row here" : "trained so far" }, label: "Bias by distance for each head; the numbers are in the table below." })),
    numbers("Biases as a table", ["distance", ...one.bias.map((_, k) => `head ${k + 1}`)], () => distances.map((distance, k) => [distance, ...one.bias.map((row) => row[k])])));
  return content;
}

// -------------------------------------------------------------------------------------------------- section 6

const MEASURES = { effective_rank: "effective rank", stable_rank: "stable rank", distance_to_mean: "distance to the mean state", cosine: "mean cosine of two words" };

function depthSection() {
  if (sentence().depth.absent) return absent(sentence().depth.absent);
  return [
    make("p", { class: "theory" }, "Attention averages values, and averages of averages are averages: layer by layer the words grow alike. What keeps them apart is the residual and the feed-forward layer, which makes something new inside each word (Dong, Cordonnier and Loukas, 2021)."),
    make("div", { class: "controls" }, choose("measure", "measure", Object.entries(MEASURES)), model().sides.length > 1 ? choose("side", "side", model().sides.map((side) => [side, side])) : null),
    live(["measure", "side"], depthFigure),
  ];
}

function depthFigure() {
  const side = sideOf(state.side);
  const variants = sentence().depth[side];
  const measure = state.measure in MEASURES ? state.measure : "effective_rank";
  const names = Object.keys(variants);
  const x = variants[names[0]].stable_rank.map((_, l) => l);
  const end = (name) => variants[name][measure][x.length - 1];
  const other = names[names.length - 1];
  return [
    figure(`${MEASURES[measure]} of the states of this sentence after 0 to ${x.length - 1} layers of the ${side}; the same weights, run with parts switched off. At the end: ${names.map((name) => `${name} ${shown(end(name))}`).join(", ")}.`,
      curves({ series: names.map((name) => ({ name, x, y: variants[name][measure] })), xName: "layers", yName: MEASURES[measure], label: `${MEASURES[measure]} over layers, ${names.join(", ")}; the numbers are in the table below.`, yLow: measure === "cosine" ? null : 0 })),
    names.length < 2 ? absent("This model has neither residuals nor feed-forward layers that could be switched off.") : make("p", { class: "finding" }, `As it is, the last layer's states have ${MEASURES[measure]} ${shown(end(names[0]))}; ${other}, ${shown(end(other))}.`),
    numbers("All measures as a table", ["", "layers", ...Object.values(MEASURES)], () => names.flatMap((name) => x.map((l) => [name, l, ...Object.keys(MEASURES).map((one) => variants[name][one][l])]))),
  ];
}
