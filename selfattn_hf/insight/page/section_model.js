// Section 1, what the model is, and the last one, the run that made it.
"use strict";

const SIDE_NAMES = { encoder: "encoder", decoder: "decoder", cross: "cross-attention" };
const words = (list) => list.join(" ").trim();

function leadOf() {
  const one = model();
  const mixers = [...new Set(Object.values(one.steps).flatMap((side) => side.mixers ?? []))].map((name) => MIXER_NAMES[name] ?? name);
  const sides = one.sides.length === 2 ? "An encoder and a decoder" : one.sides[0] === "encoder" ? "An encoder alone" : "A decoder alone";
  return `${sides} of ${mixers.join(" and ")}, ${thousands(one.parameters)} parameters, opened part by part and looked at while it reads.`;
}

function modelSection() {
  const one = model();
  const config = one.config;
  const value = (name) => config[name].value;
  const facts = [
    ["parameters", thousands(one.parameters)],
    ["layers", one.sides.map((side) => value(`${side}_layers`)).join(" + ")],
    ["width", value("hidden_size")],
    ["heads", value("num_attention_heads")],
    ["order", one.sides.map((side) => one.positions[side]?.names.join(" + ") || "none").filter((name, k, all) => all.indexOf(name) === k).join(" / ")],
  ];
  const result = headline(one);
  if (result) facts.push(result);
  const rows = () => Object.entries(config).map(([name, { value: own, default: usual }]) => {
    const row = [name, own, usual];
    row.changed = JSON.stringify(own) !== JSON.stringify(usual);
    return row;
  });
  return [
    make("p", { class: "theory" }, "Every building block is a switch: what moves information between words, what tells them their places, what happens inside one word. The picture is drawn from the switches of this very model."),
    make("dl", { class: "facts" }, facts.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(text))))),
    architecture("change", state.model) ?? architecture("model", state.model),
    numbers("All switches of this model; shaded where they are not the default", ["switch", "here", "default"], rows, "texts"),
    DATA.models.length > 1 ? changes() : null,
  ];
}

// The picture that was drawn when the page was made; a copy, so that the original stays where it is.
function architecture(kind, number) {
  const found = document.querySelector(`#architectures [data-${kind}="${number}"] svg`);
  return found ? make("figure", { class: "arch" }, scrolling(kind === "model" ? "Picture of the model" : "Picture of what changed", found.cloneNode(true))) : null;
}

function changes() {
  const differ = [...new Set(DATA.models.flatMap((one) => Object.keys(one.changed)))];
  const rows = () => DATA.models.map((one) => [one.name, one.parameters, ...differ.map((name) => one.config[name].value)]);
  const { changed, name } = model();
  const before = DATA.models[state.model - 1];
  return [
    make("h3", {}, "What changed from model to model"),
    before ? make("p", { class: "changes" }, Object.keys(changed).length
      ? `From ${before.name} to ${name}, marked in the picture: ${Object.entries(changed).map(([field, [old, now]]) => `${field} ${shown(old)} → ${shown(now)}`).join("; ")}.`
      : `${before.name} and ${name} have the same switches.`) : make("p", { class: "changes" }, `${name} is the first of ${DATA.models.length}; choose a later one above.`),
    scrolling("What changed between the models", tableOf(["model", "parameters", ...differ], rows())),
  ];
}

function headline(one) {
  const { results } = one;
  const split = results && (results.test ? "test" : results.validation ? "validation" : null);
  const value = split && results[split][results.metric];
  return value === undefined || value === null || value === false ? null : [`${results.metric}, ${split}`, shown(value)];
}

function runSection() {
  const { results, curve, name } = model();
  if (!results && !curve) return absent("This folder has neither results.json nor training_curve.csv: it was not left by a run of scripts/train.py that had ended.");
  return [
    make("p", { class: "theory" }, "What is seen above is the state that this training came to."),
    curve ? curveFigures(curve) : null,
    results ? resultTables(results) : null,
    curve ? numbers("The training curve as a table", Object.keys(curve), () => curve.step.map((_, k) => Object.keys(curve).map((column) => curve[column][k]))) : null,
    DATA.models.length > 1 ? scrolling("Results of all models", tableOf(["model", "metric", "validation", "test", "parameters", "seconds"],
      DATA.models.filter((one) => one.results).map((one) => {
        const row = [one.name, one.results.metric, one.results.validation?.[one.results.metric], one.results.test?.[one.results.metric], one.parameters, one.results.seconds];
        row.changed = one.name === name;
        return row;
      }))) : null,
  ];
}

function curveFigures(curve) {
  const pick = (column) => {
    const kept = curve.step.map((step, k) => [step, curve[column]?.[k] ?? null]).filter(([, value]) => value !== null);
    return { x: kept.map(([step]) => step), y: kept.map(([, value]) => value) };
  };
  const losses = [["loss", "training"], ["eval_loss", "validation"]].map(([column, name]) => ({ name, ...pick(column) })).filter((one) => one.x.length);
  const metric = `eval_${model().results?.metric ?? "token_accuracy"}`;
  const measured = { name: metric.slice(5), ...pick(metric) };
  return make("div", { class: "row" },
    losses.length ? figure("Loss while training.", curves({ series: losses, label: `Loss over steps, ${losses.map((one) => one.name).join(" and ")}; the numbers are in the table below.`, xName: "step", yName: "loss", width: 440, height: 250, yLow: 0 })) : null,
    measured.x.length ? figure(`${measured.name} on the validation split.`, curves({ series: [measured], label: `${measured.name} over steps; the numbers are in the table below.`, xName: "step", yName: measured.name, width: 440, height: 250, yLow: 0 })) : null);
}

function resultTables(results) {
  const splits = ["validation", "test"].filter((split) => results[split]);
  const metrics = [...new Set(splits.flatMap((split) => Object.keys(results[split])))];
  const rest = ["kept", "kept_step", "steps", "epochs", "seed", "parameters", "seconds", "target_tokens_per_second", "device"].filter((name) => name in results);
  return [
    splits.length ? make("div", { class: "scroll" }, tableOf(["metric", ...splits], metrics.map((metric) => [metric, ...splits.map((split) => results[split][metric])]))) : null,
    results.examples?.length ? [make("h3", {}, "Rows it had not seen"), make("div", { class: "scroll" }, tableOf(["source", "output", "reference"], results.examples.map((one) => {
      const row = [one.source, one.output, one.reference];
      row.changed = one.output !== one.reference;
      return row;
    }), "texts"))] : null,
    numbers("How it was trained", ["", ""], () => [...rest.map((name) => [name, results[name]]), ...Object.entries(results.versions ?? {})], "texts"),
  ];
}
