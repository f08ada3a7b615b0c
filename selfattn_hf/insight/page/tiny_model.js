// A tiny trained model that answers inside a page: tokenizer, encoder, decoder, greedy writing. Plain JavaScript, no
// dependency; in a browser (file:// too) it leaves the global `TinyModel`, under node it is what `require` returns.
//
//   const model = new TinyModel(data);                  // data: what pack_model() of insight/tiny_model.py made
//   model.tokenize("the third of March")                // ids of a source, its end token included
//   model.logits(sourceIds, targetIds)                  // [T][V]; targetIds as the decoder reads them, start first
//   model.answer("the third of March", 32)              // see `answer`
//
// Chapter by chapter it is the forward pass of selfattn_hf/model, for self-attention; tests/insight/test_tiny_model.py
// compares the two. Rows of numbers are Float64Array, a state is an array of rows, [T][D].
"use strict";

(function (root) {
  // ---------------------------------------------------------------------------------------- small linear algebra

  function dot(a, b, aStart, bStart, size) {
    let sum = 0;
    for (let k = 0; k < size; k++) sum += a[aStart + k] * b[bStart + k];
    return sum;
  }

  function softmax(scores) {
    const largest = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  const zip = (a, b, join) => a.map((row, t) => row.map((value, k) => join(value, b[t][k])));

  // Abramowitz and Stegun, 7.1.26: at most 1.5e-7 off.
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - poly * Math.exp(-x * x));
  }

  const silu = (x) => x / (1 + Math.exp(-x));
  const ACTIVATIONS = {
    relu: (x) => Math.max(x, 0),
    gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
    silu: silu,
    swiglu: silu,
    geglu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  };

  function floats(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  }

  // -------------------------------------------------------------------------------------------------- tokenizer

  // What Rust, in which tokenizers are written, calls white space.
  const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
  const PIECES = {
    bpe: new RegExp(
      `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
      "gu",
    ),
    word: new RegExp(
      ` ?[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]+| ?[^${SPACE}\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]|[${SPACE}]`,
      "gu",
    ),
  };

  // The letter that stands for each byte in a vocabulary of bytes, as GPT-2 chose them.
  function byteLetters() {
    const letters = new Array(256);
    let next = 256;
    for (let byte = 0; byte < 256; byte++) {
      const shown = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
      letters[byte] = String.fromCharCode(shown ? byte : next++);
    }
    return letters;
  }

  const LETTERS = byteLetters();
  const BYTES = new Map(LETTERS.map((letter, byte) => [letter, byte]));

  class Tokenizer {
    constructor(data) {
      this.data = data;
      this.ids = new Map(data.vocabulary.map((token, id) => [token, id]));
      this.ranks = new Map(data.merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
      this.special = new Set(data.special);
    }

    // Text -> ids, the end token included.
    encode(text) {
      let normal = text.normalize("NFC");
      if (this.data.lowercase) normal = Array.from(normal, (letter) => letter.toLowerCase()).join("");
      if (normal) normal = " " + normal;
      const ids = [];
      for (const part of normal.match(/\p{N}|\P{N}+/gu) || []) {
        for (const piece of part.match(PIECES[this.data.type]) || []) ids.push(...this.pieceIds(piece));
      }
      return [...ids, this.data.end];
    }

    pieceIds(piece) {
      if (this.data.type === "word") return [this.ids.has(piece) ? this.ids.get(piece) : this.data.unknown];
      const parts = Array.from(new TextEncoder().encode(piece), (byte) => LETTERS[byte]);
      for (;;) {
        // The pair that was merged first in training is merged first, the leftmost of several.
        let best = Infinity;
        let place = -1;
        for (let k = 0; k + 1 < parts.length; k++) {
          const rank = this.ranks.get(`${parts[k]} ${parts[k + 1]}`);
          if (rank !== undefined && rank < best) [best, place] = [rank, k];
        }
        if (place < 0) return parts.map((part) => this.ids.get(part));
        parts.splice(place, 2, parts[place] + parts[place + 1]);
      }
    }

    // Ids -> text, special tokens left out.
    decode(ids) {
      const tokens = ids.filter((id) => !this.special.has(id)).map((id) => this.data.vocabulary[id] || "");
      const joined = tokens.join("");
      const bytes = () => Uint8Array.from(joined, (letter) => BYTES.get(letter));
      const text = this.data.type === "word" ? joined : new TextDecoder().decode(bytes());
      return text.startsWith(" ") ? text.slice(1) : text;
    }

    // How a page shows each token.
    texts(ids) {
      return ids.map((id) => this.data.texts[id]);
    }
  }

  // -------------------------------------------------------------------------------- positions: the three doors

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // Each returns {embed: rows -> rows, rotate: rows -> rows, bias: (head, i, j, query, start) -> number}, some of them.
  const POSITIONS = {
    sinusoidal(model) {
      const { hidden_size: width, sinusoid_layout: layout } = model.config;
      const vector = (t) => {
        const row = new Float64Array(width);
        for (let k = 0; k < width / 2; k++) {
          const angle = t * Math.exp((2 * k * -Math.log(10000)) / width);
          const halves = layout === "halves";
          row[halves ? k : 2 * k] = Math.sin(angle);
          row[halves ? k + width / 2 : 2 * k + 1] = Math.cos(angle);
        }
        return row;
      };
      return { vector };
    },
    learned(model, name) {
      const table = model.rows(`${name}.table.weight`);
      const vector = (t) => {
        if (t >= table.length) throw new RangeError(`position_encoding=learned knows ${table.length} places.`);
        return table[t];
      };
      return { vector };
    },
    rope(model) {
      const { head_width: width, heads, rope_theta: theta } = model.config;
      const rotate = (rows) =>
        rows.map((row, t) => {
          const turned = row.slice();
          for (let head = 0; head < heads; head++) {
            for (let k = 0; k < width / 2; k++) {
              const angle = t * theta ** ((-2 * k) / width);
              const [i, j] = [head * width + k, head * width + k + width / 2];
              turned[i] = row[i] * Math.cos(angle) - row[j] * Math.sin(angle);
              turned[j] = row[j] * Math.cos(angle) + row[i] * Math.sin(angle);
            }
          }
          return turned;
        });
      return { rotate };
    },
    t5(model, name, side) {
      const table = model.rows(`${name}.table.weight`);
      const buckets = model.config.t5_buckets[side]; // of the distances from -furthest to furthest
      const furthest = (buckets.length - 1) / 2;
      return { bias: (head, i, j) => table[buckets[clamp(j - i, -furthest, furthest) + furthest]][head] };
    },
    alibi(model) {
      return { bias: (head, i, j) => -model.config.alibi_slopes[head] * Math.abs(j - i) };
    },
    kerple(model, name) {
      const scale = model.weights[`${name}.log_scale.weight`];
      const rate = model.weights[`${name}.log_rate.weight`];
      const bias = (head, i, j) => -Math.exp(scale[head]) * Math.log1p(Math.exp(rate[head]) * Math.abs(j - i));
      return { bias };
    },
    shaw(model, name) {
      const table = model.rows(`${name}.table.weight`);
      const { head_width: width, relative_max_distance: furthest } = model.config;
      const bias = (head, i, j, query, start) =>
        dot(query, table[clamp(j - i, -furthest, furthest) + furthest], start, 0, width) / Math.sqrt(width);
      return { bias };
    },
  };

  // ------------------------------------------------------------------------------------------------- the model

  class TinyModel {
    constructor(data) {
      this.config = data.config;
      this.parameters = data.parameters;
      this.shapes = {};
      this.weights = {};
      for (const [name, { shape, data: base64 }] of Object.entries(data.weights)) {
        this.shapes[name] = shape;
        this.weights[name] = floats(base64);
      }
      for (const [name, kept] of Object.entries(data.same)) {
        this.shapes[name] = this.shapes[kept];
        this.weights[name] = this.weights[kept];
      }
      this.source = new Tokenizer(data.tokenizers.source);
      this.target = data.tokenizers.target ? new Tokenizer(data.tokenizers.target) : this.source;
      this.positions = {};
      for (const side of ["encoder", "decoder"]) {
        const names = this.config.positions[side];
        this.positions[side] = names.map((name, k) => {
          const prefix = `model.${side}.position` + (names.length > 1 ? `.parts.${k}` : "");
          return { ...POSITIONS[name](this, prefix, side), prefix };
        });
      }
    }

    tokenize(text) {
      return this.source.encode(text);
    }

    // Logits [T][V] of every next token; targetIds are what the decoder reads, the start token first.
    logits(sourceIds, targetIds) {
      return this.read(this.stack("decoder", targetIds, this.stack("encoder", sourceIds).states).states);
    }

    // The model's own answer, greedily, until its end token or maxTokens. A row of `cross` and of `decoder` is a target
    // token: who was looked at while it was written. `readTokens` are what the decoder had read last at that row, and
    // the columns of `decoder`.
    answer(text, maxTokens = 64) {
      const sourceIds = this.tokenize(text);
      const encoded = this.stack("encoder", sourceIds);
      const read = [this.config.start];
      const targetIds = [];
      const most = Math.min(maxTokens, this.config.places.decoder ?? maxTokens);
      let decoded;
      do {
        decoded = this.stack("decoder", read, encoded.states);
        const [last] = this.read(decoded.states.slice(-1));
        const next = last.indexOf(Math.max(...last));
        targetIds.push(next);
        read.push(next);
      } while (targetIds.length < most && !this.config.ends.includes(targetIds[targetIds.length - 1]));
      return {
        text: this.target.decode(targetIds),
        sourceIds,
        targetIds,
        sourceTokens: this.source.texts(sourceIds),
        targetTokens: this.target.texts(targetIds),
        readTokens: this.target.texts(read.slice(0, -1)),
        cross: decoded.cross,
        encoder: encoded.own,
        decoder: decoded.own,
      };
    }

    // States [T][D] of a stack, and its maps [layer][head][query][key].
    stack(side, ids, source = null) {
      const { config } = this;
      const name = `model.${side}`;
      const table = this.rows(`${name}.embed_tokens.weight`);
      const scale = config.scale_embedding ? Math.sqrt(config.hidden_size) : 1;
      let x = ids.map((id) => Float64Array.from(table[id], (value) => value * scale));
      if (config.position_injection === "input") x = this.ordered(side, x);
      x = this.norm(x, `${name}.embedding_norm`);
      const inputs = config.attend_to === "embeddings" ? x : null;
      const maps = { own: [], cross: [] };
      for (let k = 0; k < config[`${side}_layers`]; k++) {
        const layer = `${name}.layers.${config.share_layers ? 0 : k}`;
        x = this.residual(x, `${layer}.mix`, (h, before) => {
          const given = inputs === null ? h : before(inputs);
          return this.mix(side, h, given, `${layer}.mix.sublayer`, maps.own);
        });
        if (source !== null) {
          x = this.residual(x, `${layer}.read`, (h) => this.cross(h, source, `${layer}.read.sublayer`, maps.cross));
        }
        if (config.feedforward !== "none") {
          x = this.residual(x, `${layer}.think`, (h) => this.think(h, `${layer}.think.sublayer`));
        }
      }
      return { states: this.norm(x, `${name}.norm`), ...maps };
    }

    // Norm and sum around a sublayer; what is switched off has no weights, or is not done.
    residual(x, name, sublayer) {
      const before = (rows) => this.norm(rows, `${name}.before`);
      const y = sublayer(before(x), before);
      return this.norm(this.config.residual ? zip(x, y, (a, b) => a + b) : y, `${name}.after`);
    }

    mix(side, h, given, name, maps) {
      if (this.config.position_injection === "block") [h, given] = [this.ordered(side, h), this.ordered(side, given)];
      let [q, k] = [this.linear(h, `${name}.q_proj`), this.linear(given, `${name}.k_proj`)];
      const v = this.linear(given, `${name}.v_proj`);
      for (const { rotate } of this.positions[side]) if (rotate) [q, k] = [rotate(q), rotate(k)];
      const biases = this.positions[side].map((part) => part.bias).filter(Boolean);
      const width = this.config.head_width;
      const score = (head, i, j) =>
        biases.reduce(
          (sum, bias) => sum + bias(head, i, j, q[i], head * width),
          dot(q[i], k[j], head * width, head * width, width) / Math.sqrt(width),
        );
      const causal = side === "decoder" && this.config.future_mask;
      return this.linear(this.attend(q.length, v, score, causal, maps), `${name}.out_proj`);
    }

    cross(h, source, name, maps) {
      const has = (part) => `${name}.${part}.weight` in this.weights;
      const q = has("q_proj") ? this.linear(h, `${name}.q_proj`) : h;
      const k = has("k_proj") ? this.linear(source, `${name}.k_proj`) : source;
      const v = this.linear(source, `${name}.v_proj`);
      const width = this.config.head_width;
      const scale = this.config.attention_score === "scaled_dot" ? 1 / Math.sqrt(width) : 1;
      const energy = this.weights[`${name}.energy`];
      const product = (head, i, j) => dot(q[i], k[j], head * width, head * width, width) * scale;
      const additive = (head, i, j) => {
        let sum = 0;
        for (let d = head * width; d < (head + 1) * width; d++) sum += energy[d] * Math.tanh(q[i][d] + k[j][d]);
        return sum;
      };
      return this.linear(this.attend(q.length, v, energy ? additive : product, false, maps), `${name}.out_proj`);
    }

    // Affinities become weights, weights mix values. Of what may not be seen there is no affinity, and the weight is 0.
    attend(queries, v, score, causal, maps) {
      const { heads, head_width: width } = this.config;
      const context = Array.from({ length: queries }, () => new Float64Array(heads * width));
      const map = [];
      for (let head = 0; head < heads; head++) {
        map.push(
          context.map((row, i) => {
            const seen = causal ? i + 1 : v.length;
            const weights = softmax(Array.from({ length: seen }, (_, j) => score(head, i, j)));
            weights.forEach((weight, j) => {
              for (let d = head * width; d < (head + 1) * width; d++) row[d] += weight * v[j][d];
            });
            return weights.concat(new Array(v.length - seen).fill(0));
          }),
        );
      }
      maps.push(map);
      return context;
    }

    think(h, name) {
      const act = ACTIVATIONS[this.config.feedforward];
      const up = this.linear(h, `${name}.up_proj`);
      const gated = `${name}.gate_proj.weight` in this.weights;
      const hidden = gated
        ? zip(this.linear(h, `${name}.gate_proj`), up, (gate, value) => act(gate) * value)
        : up.map((row) => row.map(act));
      return this.linear(hidden, `${name}.down_proj`);
    }

    ordered(side, x) {
      for (const { vector, prefix } of this.positions[side]) {
        if (!vector) continue;
        const p = x.map((_, t) => vector(t));
        if (this.config.position_combine === "add") x = zip(x, p, (a, b) => a + b);
        else x = this.linear(x.map((row, t) => Float64Array.from([...row, ...p[t]])), `${prefix}.combine`);
      }
      return x;
    }

    // LayerNorm or RMSNorm; without weights of that name there is no norm.
    norm(x, name) {
      const weight = this.weights[`${name}.weight`];
      if (!weight) return x;
      const bias = this.weights[`${name}.bias`];
      const centred = this.config.norm_type === "layer_norm";
      return x.map((row) => {
        const mean = centred ? row.reduce((a, b) => a + b, 0) / row.length : 0;
        const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
        const scale = 1 / Math.sqrt(variance + this.config.norm_eps);
        return row.map((value, k) => (value - mean) * scale * weight[k] + (bias ? bias[k] : 0));
      });
    }

    linear(x, name) {
      const weight = this.weights[`${name}.weight`];
      const bias = this.weights[`${name}.bias`];
      const [outputs, inputs] = this.shapes[`${name}.weight`];
      return x.map((row) => {
        const out = new Float64Array(outputs);
        for (let k = 0; k < outputs; k++) out[k] = dot(weight, row, k * inputs, 0, inputs) + (bias ? bias[k] : 0);
        return out;
      });
    }

    // What the states say about the next token.
    read(states) {
      return this.linear(states, "lm_head");
    }

    // A table as an array of its rows.
    rows(name) {
      const [count, width] = this.shapes[name];
      return Array.from({ length: count }, (_, k) => this.weights[name].subarray(k * width, (k + 1) * width));
    }
  }

  root.TinyModel = TinyModel;
  if (typeof module !== "undefined" && module.exports) module.exports = TinyModel;
})(typeof globalThis !== "undefined" ? globalThis : this);
