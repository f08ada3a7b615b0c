// What all sections share: the data, the state in the URL's hash, making elements, and redrawing what depends on what.
//
// Nothing here turns text into markup: words of a sentence go into text nodes alone.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

// ------------------------------------------------------------------------------------------------------ elements

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes (`on...`: a listener; null or false: left out) and children: nodes, text, lists of them.
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

const p = (...children) => make("p", {}, ...children);
const quoted = (word) => `“${word}”`;
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
// A number as it stands in the data; there is no other way a measured number gets on the page.
const shown = (value) => (value === null || value === undefined ? "–" : value === true ? "yes" : value === false ? "no" : Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : typeof value === "number" ? String(value).replace(/^-/, "−") : String(value));
const thousands = (value) => value.toLocaleString("en-US");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const largestOf = (rows) => rows.reduce((most, row) => row.reduce((m, v) => Math.max(m, Math.abs(v ?? 0)), most), 0);

// --------------------------------------------------------------------------------------------------------- state

const DEFAULTS = {
  section: "model", model: 0, sentence: 0, theme: "auto", part: "", layer: 0, head: 0, word: -1,
  mixer: "window", T: 13, r: 1, L: 3, place: 6, side: "encoder", reached: 0, step: 7, shuffle: 0,
  encoding: "own", measure: "effective_rank", mask: "on", show: "weights", text: "", query: -1,
};
const state = { ...DEFAULTS };

function readHash() {
  const [section, ...parts] = decodeHash(location.hash).split("&");
  Object.assign(state, DEFAULTS);
  if (section && section !== "main") state.section = section;
  for (const part of parts) {
    const [name, value = ""] = part.split("=").map((text) => safely(text));
    if (!(name in DEFAULTS) || name === "section") continue;
    const number = Number(value);
    if (typeof DEFAULTS[name] !== "number") state[name] = value;
    else if (Number.isInteger(number)) state[name] = number;
  }
  state.model = clamp(state.model, 0, DATA.models.length - 1);
  state.sentence = clamp(state.sentence, 0, model().sentences.length - 1);
  if (!["auto", "light", "dark"].includes(state.theme)) state.theme = "auto";
}

const decodeHash = (hash) => hash.replace(/^#/, "");

function safely(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function hashOf() {
  const parts = Object.keys(DEFAULTS).filter((name) => name !== "section" && state[name] !== DEFAULTS[name]);
  return "#" + [state.section, ...parts.map((name) => `${name}=${encodeURIComponent(state[name])}`)].join("&");
}

// Change the state and redraw what depends on it. `push`: the way back leads here.
function set(changes, push = false) {
  const changed = Object.keys(changes).filter((name) => state[name] !== changes[name]);
  if (!changed.length) return;
  Object.assign(state, changes);
  history[push ? "pushState" : "replaceState"](null, "", hashOf());
  redraw(changed);
}

const model = () => DATA.models[state.model];
const sentence = () => model().sentences[state.sentence];

// ------------------------------------------------------------------------------------- what is drawn again, and when

let lives = []; // {names, box, render}
let controls = []; // functions that show the state in a control
let rebuild = () => {};

// A box whose content is made again whenever one of the named parts of the state changes. The focus stays.
function live(names, render, tag = "div") {
  const box = make(tag);
  const one = { names, box, render };
  lives.push(one);
  refresh(one);
  return box;
}

function refresh({ box, render }) {
  const active = document.activeElement;
  const key = active && box.contains(active) ? active.dataset.key : null;
  const content = [render()].flat(Infinity).filter((node) => node !== null && node !== undefined && node !== false);
  box.replaceChildren(...content);
  if (key) [...box.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus({ preventScroll: true });
}

function redraw(changed) {
  if (changed.includes("model") || changed.includes("sentence")) rebuild();
  else for (const one of lives) if (one.names.some((name) => changed.includes(name))) refresh(one);
  for (const show of controls) show();
}

// ------------------------------------------------------------------------------------------------------- controls

// `options`: [value, text] pairs, or a function that returns them.
function choose(label, name, options, extra = {}) {
  const list = () => (typeof options === "function" ? options() : options);
  const select = make("select", { "data-key": `choose-${name}`, onchange: () => set({ [name]: typed(name, select.value), ...extra }, true) });
  const show = () => {
    const now = list();
    select.replaceChildren(...now.map(([value, text]) => make("option", { value }, text)));
    const wanted = String(state[name]);
    select.value = now.some(([value]) => String(value) === wanted) ? wanted : String(now[0]?.[0] ?? "");
    select.closest(".control").hidden = now.length < 2;
  };
  const control = make("label", { class: "control" }, make("span", {}, label), select);
  controls.push(show);
  show();
  return control;
}

const typed = (name, value) => (typeof DEFAULTS[name] === "number" ? Number(value) : value);

function slide(label, name, low, high) {
  const top = () => (typeof high === "function" ? high() : high);
  const output = make("output");
  const input = make("input", {
    type: "range", min: low, max: top(), step: 1, "data-key": `slide-${name}`, "aria-label": label,
    oninput: () => set({ [name]: Number(input.value) }),
  });
  const show = () => {
    input.max = top();
    input.value = state[name];
    output.textContent = input.value;
  };
  controls.push(show);
  show();
  return make("label", { class: "control" }, make("span", {}, label, " ", output), input);
}

function toggle(label, name, on, off) {
  const button = make("button", { type: "button", "data-key": `toggle-${name}`, onclick: () => set({ [name]: state[name] === on ? off : on }, true) }, label);
  const show = () => {
    button.setAttribute("aria-pressed", String(state[name] === on));
    button.textContent = `${label}: ${state[name] === on ? on : off}`;
  };
  controls.push(show);
  show();
  return button;
}

// Words as buttons that choose a number of the state; the same word again chooses none, where none is allowed.
function wordButtons(words, name, { none = null, label }) {
  return make("div", { class: "words", role: "group", "aria-label": label }, words.map((word, k) => make("button", {
    type: "button", class: "word", "data-key": `${name}-${k}`, "aria-pressed": String(state[name] === k),
    onclick: () => set({ [name]: state[name] === k && none !== null ? none : k }),
  }, word)));
}

// A table that is made when it is opened. `rows`: lists of cells, the first one names the row.
function numbers(title, head, rows, name = "") {
  const details = make("details", { ontoggle: () => {
    if (!details.open || details.querySelector("table")) return;
    details.append(scrolling(title, tableOf(head, rows(), name)));
  } }, make("summary", { "data-key": `table-${title}` }, title));
  return details;
}

function tableOf(head, rows, name = "") {
  return make("table", { class: name || null },
    make("thead", {}, make("tr", {}, head.map((cell) => make("th", { scope: "col" }, cell)))),
    make("tbody", {}, rows.map((row) => make("tr", { class: row.changed ? "changed" : null },
      row.map((cell, k) => (k ? make("td", {}, cell instanceof Node ? cell : shown(cell)) : make("th", { scope: "row" }, shown(cell))))))));
}

// A number with a bar of its share beside it.
const barred = (value, share, width) => make("span", { class: "bars" }, make("b", {}, shown(value)), share > 0 && make("span", { class: "weightbar", style: { width: `${(share * width).toFixed(2)}rem` } }));
const scrolling = (label, ...children) => make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, ...children);
const absent = (reason) => make("p", { class: "absent" }, reason);
