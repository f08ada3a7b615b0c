// The page: the bar on top, the sections in their order, and where in them the reader is.
"use strict";

const SECTIONS = [
  ["model", "What this model is", modelSection],
  ["reach", "Steps and reach", reachSection],
  ["attention", "Who looks at whom", attentionSection],
  ["lookup", "One head from the inside", lookupSection],
  ["order", "Set or sequence", orderSection],
  ["depth", "Averages of averages", depthSection],
  ["mask", "The future must not be seen", maskSection],
  ["weights", "Dynamic against fixed weights", weightsSection],
  ["ask", "Ask it", askSection],
  ["run", "The run", runSection],
];

function showTheme() {
  if (state.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = state.theme;
}

// All sections anew: a model or a sentence was chosen. The place on the screen stays.
function build() {
  const from = window.scrollY;
  const inside = document.activeElement?.closest?.("section")?.id;
  watcher.disconnect();
  lives = [];
  controls = [...bar, showTheme];
  const sections = SECTIONS.map(([id, title, content], k) => make("section", { id, "aria-labelledby": `${id}-title`, tabindex: -1 },
    make("h2", { id: `${id}-title` }, make("span", { class: "number" }, `${k + 1}`), title), content()));
  document.getElementById("main").replaceChildren(...sections);
  document.getElementById("lead").textContent = leadOf();
  for (const one of sections) watcher.observe(one);
  for (const show of controls) show();
  window.scrollTo({ top: from, behavior: "instant" });
  if (inside) document.getElementById(inside).focus({ preventScroll: true });
}

// Where the reader is goes into the hash, without a step on the way back.
let moving = false;
const watcher = new IntersectionObserver((entries) => {
  const seen = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target.id);
  if (seen.length && !moving) arrive(seen[0]);
}, { rootMargin: "-15% 0px -80% 0px" });

function arrive(id) {
  if (state.section !== id) set({ section: id });
  showSection();
}

function showSection() {
  for (const link of document.querySelectorAll("#contents a")) {
    if (link.dataset.section === state.section) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function goTo(id, smooth) {
  moving = true;
  document.getElementById(id)?.scrollIntoView({ behavior: smooth ? "auto" : "instant", block: "start" });
  showSection();
  setTimeout(() => { moving = false; }, 700);
}

const contents = make("ol", {}, SECTIONS.map(([id, title], k) => make("li", {}, make("a", {
  href: `#${id}`, "data-section": id,
  onclick: (event) => {
    event.preventDefault();
    set({ section: id }, true);
    goTo(id, true);
    document.getElementById(id).focus({ preventScroll: true });
  },
}, make("span", { class: "number" }, `${k + 1}`), title))));
document.getElementById("contents").append(contents);

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});

readHash();
document.getElementById("bar").append(make("div", { class: "bar-inner" },
  choose("model", "model", DATA.models.map((one, k) => [k, one.name]), { sentence: 0, word: -1, query: -1, reached: 0 }),
  choose("sentence", "sentence", () => model().sentences.map((one, k) => [k, one.text]), { word: -1, query: -1, reached: 0 }),
  choose("theme", "theme", [["auto", "as the system"], ["light", "light"], ["dark", "dark"]])));
const bar = controls;
rebuild = build;
showTheme();
build();
if (location.hash) goTo(state.section, false);
else showSection();

// The way back and a hash that was typed: the whole state again.
window.addEventListener("popstate", () => {
  const before = { ...state };
  readHash();
  const changed = Object.keys(state).filter((name) => state[name] !== before[name]);
  if (!changed.length) return;
  redraw(changed);
  if (changed.includes("section")) goTo(state.section, false);
});
