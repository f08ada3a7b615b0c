// Theory, for the sliders: which places each mixer connects, what a stack of layers reaches, how many steps it takes.
// The same as insight/connections.py and steps.py, which tests/insight/test_report_browser.py compares it with.
"use strict";

const MIXER_NAMES = { rnn: "RNN", window: "word window", local_attention: "local attention", self_attention: "self-attention", dense: "fully connected" };

const THEORY = {
  // Whether place t reads place s in one layer.
  sees(mixer, t, s, r, causal) {
    if (causal && s > t) return false;
    return mixer === "window" || mixer === "local_attention" ? Math.abs(t - s) <= r : true;
  },

  // [L + 1][T][T]: whether input s can influence state t after so many layers.
  reach(mixer, T, r, L, causal) {
    const places = [...Array(T).keys()];
    const layers = [places.map((t) => places.map((s) => s === t))];
    for (let l = 0; l < L; l++) {
      const below = layers[l];
      layers.push(places.map((t) => places.map((s) => places.some((k) => THEORY.sees(mixer, t, k, r, causal) && below[k][s]))));
    }
    return layers;
  },

  // [L][T]: after how many steps each state is there.
  ready(mixer, T, r, L, causal) {
    const layers = [];
    let below = Array(T).fill(0);
    const read = (row) => row.reduce((done, there) => [...done, Math.max(done.length ? done[done.length - 1] : 0, there) + 1], []);
    for (let l = 0; l < L; l++) {
      if (mixer === "rnn") {
        const forwards = read(below);
        const backwards = causal ? forwards : read([...below].reverse()).reverse();
        below = forwards.map((step, t) => Math.max(step, backwards[t]));
      } else {
        below = below.map((_, t) => 1 + Math.max(...below.filter((__, s) => THEORY.sees(mixer, t, s, r, causal))));
      }
      layers.push(below);
    }
    return layers;
  },

  // Fewest steps on the way from one end of the row to the other; null where there is no way.
  longest(mixer, T, r, L, causal) {
    if (T < 2) return 0;
    const far = T - 1;
    if (mixer === "rnn") return far;
    if (mixer === "window" || mixer === "local_attention") return Math.ceil(far / r) <= L ? Math.ceil(far / r) : null;
    return 1;
  },

  // Words that a state far from both ends has seen.
  width(mixer, r, L, causal) {
    return mixer === "window" || mixer === "local_attention" ? 1 + (causal ? 1 : 2) * r * L : null;
  },
};
