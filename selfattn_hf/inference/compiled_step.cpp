// One token more for every hypothesis: what a decoder's layers compute for it, in one call instead of some hundreds.
//
// Python (compiled.py) builds this file on the machine where it runs, hands over addresses, and checks shapes; nothing
// here allocates or keeps memory. All arrays are dense and row after row; sizes are in the names:
//   R rows (hypotheses); D width of a state; H heads of d numbers, I = H d; F inner width of
//   the feed-forward; T tokens written, this one included; S tokens of the source; V vocabulary.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// What one instruction adds up, and how many rows' sums fit into the registers beside a panel of weights.
#if defined(__AVX512F__)
constexpr int LANES = 16, BLOCK = 12;
#elif defined(__AVX__)
constexpr int LANES = 8, BLOCK = 6;
#elif defined(__aarch64__)
constexpr int LANES = 4, BLOCK = 12;
#else
constexpr int LANES = 4, BLOCK = 6;
#endif
typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));  // from any address
constexpr int PANEL = 2 * LANES;  // outputs whose packed weights lie together

// Whole numbers of 8 bits are multiplied GROUP at a time: bytes with 128 added to them, or numbers of 16 bits.
#if defined(__AVX512VNNI__)
constexpr int BYTES = 1, GROUP = 4, OFFSET = 128;
typedef unsigned char Whole;
#elif defined(__AVX2__)
constexpr int BYTES = 1, GROUP = 2, OFFSET = 0;
typedef int16_t Whole;
#else
constexpr int BYTES = 0, GROUP = 1, OFFSET = 0;
typedef int16_t Whole;
#endif

struct Norm { const float *weight, *bias; int32_t kind; float epsilon; };  // kind: 0 none, 1 layer norm, 2 rms norm

// x W^T + b. Weights [out, in], for one row, or packed: panels of outputs, [in, PANEL] each. Where there are scales (one for each
// output), weights are whole numbers of 8 bits, `sums` are those of each output, and packed panels are [in / GROUP, PANEL, GROUP].
struct Product {
  const void* weight; const float *bias, *scale; const int32_t* sums; int32_t in, out, packed, unused;
};

struct Layer {
  Norm before[3], after[3];  // of mix, read, think
  Product qkv, mixed, query, found, up, down;
  float *keys, *values;                            // [slots, table_width, I]
  const float *source_keys, *source_values;        // [B, S, I]
};

struct Step {
  const Layer* layers; const Norm* norm; const Product* head;
  int32_t layer_count, rows, width, heads, head_width, inner, activation, gated, residual, threads, tokens, source,
      table_width, bias_width;
  float own_scale, source_scale;
  float* x;                        // [R, D] in: embedded and ordered; out: changed
  const int32_t* slots;            // [R]: where a row keeps its keys and values
  const int32_t* sentences;        // [R]: which source it reads
  const int32_t* table;            // [R, table_width]: in which slot token t of this row's past is kept
  const float* bias;               // [H, bias_width] added to affinities by token, or null
  const float* rotation;           // [d, d] that turns queries and keys, or null
  const unsigned char* visible;    // [B, S] 1 at real source tokens, or null
  float* work;                     // see `work_size`
  float* logits;                   // [R, V]
};

// e^x for x <= 0 and moderate x > 0, to about 1e-7, by 2^(n + f); vectors of it are what compilers make best.
inline float exponential(float x) {
  x = std::max(x, -87.0f) * 1.44269504f;
  const float whole = std::nearbyint(x), rest = x - whole;
  float power = 1.5403530e-4f;
  for (float term : {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
    power = power * rest + term;
  const int32_t bits = (static_cast<int32_t>(whole) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return power * scale;
}

void normalise(const Norm& norm, const float* x, float* y, int rows, int width) {
  for (int row = 0; row < rows; ++row, x += width, y += width) {
    float mean = 0, square = 0;
    if (norm.kind == 1) {
      for (int i = 0; i < width; ++i) mean += x[i];
      mean /= width;
    }
    for (int i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
    const float factor = 1 / std::sqrt(square / width + norm.epsilon);
    for (int i = 0; i < width; ++i) {
      const float scaled = (x[i] - mean) * factor * (norm.weight ? norm.weight[i] : 1.0f);
      y[i] = norm.bias ? scaled + norm.bias[i] : scaled;
    }
  }
}

// ---- Products: y [R, out] = x [R, in] W^T + b, for outputs from `begin` to `end`.

inline float sum(Lanes lanes) {
  float parts[LANES];
  std::memcpy(parts, &lanes, sizeof(lanes));
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

// Memory is asked for early: what reads ahead by itself stops at the end of a page.
constexpr int AHEAD = 2048;  // bytes
inline void fetch(const void* from) { __builtin_prefetch(static_cast<const char*>(from) + AHEAD); }

void dots(const Product& p, const float* x, float* y, int begin, int end) {  // one row, weights as they are: read on end
  constexpr int AT_ONCE = 4;
  const float* weight = static_cast<const float*>(p.weight) + static_cast<int64_t>(begin) * p.in;
  const int most = p.in / (AT_ONCE * LANES) * (AT_ONCE * LANES);
  for (int column = begin; column < end; ++column, weight += p.in) {
    Lanes sums[AT_ONCE] = {};
    for (int k = 0; k < most; k += AT_ONCE * LANES)
      for (int i = 0; i < AT_ONCE; ++i) {
        fetch(weight + k + i * LANES);
        sums[i] += *reinterpret_cast<const Lanes*>(weight + k + i * LANES) *
                   *reinterpret_cast<const Lanes*>(x + k + i * LANES);
      }
    float total = sum((sums[0] + sums[1]) + (sums[2] + sums[3])) + (p.bias ? p.bias[column] : 0);
    for (int k = most; k < p.in; ++k) total += weight[k] * x[k];
    y[column] = total;
  }
}

template <int ROWS>
void panel(const Product& p, const float* x, float* y, int number) {
  const float* weight = static_cast<const float*>(p.weight) + static_cast<int64_t>(number) * p.in * PANEL;
  Lanes sums[ROWS][2] = {};
  for (int k = 0; k < p.in; ++k) {
    fetch(weight + k * PANEL);
    const Lanes left = *reinterpret_cast<const Lanes*>(weight + k * PANEL);
    const Lanes right = *reinterpret_cast<const Lanes*>(weight + k * PANEL + LANES);
    for (int r = 0; r < ROWS; ++r) {
      const float one = x[r * p.in + k];
      sums[r][0] += one * left;
      sums[r][1] += one * right;
    }
  }
  const int column = number * PANEL, count = std::min(PANEL, p.out - column);
  for (int r = 0; r < ROWS; ++r) {
    float* out = y + r * static_cast<int64_t>(p.out) + column;
    for (int c = 0; c < count; ++c) out[c] = sums[r][c / LANES][c % LANES] + (p.bias ? p.bias[column + c] : 0);
  }
}

// Rows as whole numbers from -127 to 127, and their scales.
void to_whole(const float* x, Whole* whole, float* scales, int rows, int width) {
  for (int row = 0; row < rows; ++row, x += width, whole += width) {
    float most = 1.17549435e-38f, lost = 0;  // lost: NaN where a number is none or infinite, as the product is then
    for (int i = 0; i < width; ++i) most = std::max(most, std::fabs(x[i])), lost += x[i] * 0;
    const float scale = most / 127;
    scales[row] = scale + lost;
    for (int i = 0; i < width; ++i)
      whole[i] = static_cast<Whole>(static_cast<int32_t>(std::nearbyint(x[i] / scale)) + OFFSET);
  }
}

inline float from_whole(const Product& p, int32_t total, float scale, int column) {
  const float product = static_cast<float>(total - OFFSET * p.sums[column]) * scale;
  return p.bias ? p.bias[column] + product * p.scale[column] : product * p.scale[column];
}

#if defined(__AVX512VNNI__)
typedef __m512i Wide;
inline Wide zero() { return _mm512_setzero_si512(); }
inline Wide some_weights(const signed char* from) { return _mm512_loadu_si512(from); }
inline Wide add(Wide sum, Wide x, Wide weight) { return _mm512_dpbusd_epi32(sum, x, weight); }
inline Wide everywhere(int32_t group) { return _mm512_set1_epi32(group); }
inline void store(int32_t* to, Wide sum) { _mm512_storeu_si512(to, sum); }
#elif defined(__AVX2__)
typedef __m256i Wide;
inline Wide zero() { return _mm256_setzero_si256(); }
inline Wide some_weights(const signed char* from) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline Wide add(Wide sum, Wide x, Wide weight) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, weight)); }
inline Wide everywhere(int32_t group) { return _mm256_set1_epi32(group); }
inline void store(int32_t* to, Wide sum) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum); }
#endif

#if defined(__AVX2__)
template <int ROWS>
void whole_panel(const Product& p, const Whole* x, const float* scales, float* y, int number) {
  const signed char* weight = static_cast<const signed char*>(p.weight) + static_cast<int64_t>(number) * p.in * PANEL;
  Wide sums[ROWS][2];
  for (int r = 0; r < ROWS; ++r) sums[r][0] = sums[r][1] = zero();
  for (int k = 0; k < p.in; k += GROUP) {
    fetch(weight + k * PANEL);
    const Wide left = some_weights(weight + k * PANEL), right = some_weights(weight + k * PANEL + GROUP * LANES);
    for (int r = 0; r < ROWS; ++r) {
      int32_t group;
      std::memcpy(&group, x + r * p.in + k, 4);
      const Wide one = everywhere(group);
      sums[r][0] = add(sums[r][0], one, left);
      sums[r][1] = add(sums[r][1], one, right);
    }
  }
  const int column = number * PANEL, count = std::min(PANEL, p.out - column);
  for (int r = 0; r < ROWS; ++r) {
    int32_t totals[PANEL];
    store(totals, sums[r][0]);
    store(totals + LANES, sums[r][1]);
    float* out = y + r * static_cast<int64_t>(p.out) + column;
    for (int c = 0; c < count; ++c) out[c] = from_whole(p, totals[c], scales[r], column + c);
  }
}
#endif

// Calls f<ROWS> for blocks of rows; the number of rows is known when the code is made, so that sums stay in registers.
template <int ROWS, class F>
void of_rows(int rows, F&& f, int first) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS) f(std::integral_constant<int, ROWS>(), first);
    else of_rows<ROWS - 1>(rows, f, first);
  }
}

template <class F>
void in_blocks(int rows, F&& f) {
  const int blocks = (rows + BLOCK - 1) / BLOCK;
  for (int block = 0; block < blocks; ++block) {
    const int first = block * rows / blocks;
    of_rows<BLOCK>((block + 1) * rows / blocks - first, f, first);
  }
}

struct Scratch { Whole* whole; float* scales; };

void multiply(const Product& p, const float* x, float* y, int rows, int threads, Scratch scratch) {
  if (p.scale) to_whole(x, scratch.whole, scratch.scales, rows, p.in);
  const int chunks = (p.out + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int number = 0; number < chunks; ++number) {
    if (!p.packed) {
      dots(p, x, y, number * PANEL, std::min((number + 1) * PANEL, p.out));
      continue;
    }
    in_blocks(rows, [&](auto count, int first) {
      constexpr int ROWS = decltype(count)::value;
      float* out = y + static_cast<int64_t>(first) * p.out;
#if defined(__AVX2__)
      if (p.scale) {
        whole_panel<ROWS>(p, scratch.whole + static_cast<int64_t>(first) * p.in, scratch.scales + first, out, number);
        return;
      }
#endif
      panel<ROWS>(p, x + static_cast<int64_t>(first) * p.in, out, number);
    });
  }
}

// ---- Lookups.

// One query of I numbers over `count` keys; `row_of` gives the address offset of each. weights: [H, count].
template <class Offset>
void look_up(const float* query, const float* keys, const float* values, Offset offset, int count, int heads, int d,
             float scale, const float* bias, int bias_width, const unsigned char* visible, float* weights, float* out) {
  for (int t = 0; t < count; ++t) {
    const float* key = keys + offset(t);
    for (int h = 0; h < heads; ++h) {
      float score = 0;
      for (int i = 0; i < d; ++i) score += query[h * d + i] * key[h * d + i];
      weights[h * count + t] = score * scale + (bias ? bias[h * bias_width + t] : 0);
    }
  }
  bool seen = !visible;
  for (int t = 0; visible && t < count; ++t) seen = seen || visible[t];
  std::memset(out, 0, sizeof(float) * heads * d);
  if (!seen) return;  // who may see nothing reads nothing
  for (int h = 0; h < heads; ++h) {
    float* own = weights + h * count;
    float most = -INFINITY, total = 0;
    for (int t = 0; t < count; ++t)
      if (!visible || visible[t]) most = std::max(most, own[t]);
    for (int t = 0; t < count; ++t) own[t] = exponential(own[t] - most);
    for (int t = 0; visible && t < count; ++t) own[t] = visible[t] ? own[t] : 0;
    for (int t = 0; t < count; ++t) total += own[t];
    for (int t = 0; t < count; ++t) own[t] /= total;
  }
  for (int t = 0; t < count; ++t) {
    const float* value = values + offset(t);
    for (int h = 0; h < heads; ++h) {
      const float weight = weights[h * count + t];
      for (int i = 0; i < d; ++i) out[h * d + i] += weight * value[h * d + i];
    }
  }
}

void rotate(const float* rotation, float* x, int heads, int d, float* spare) {
  for (int h = 0; h < heads; ++h, x += d) {
    std::memset(spare, 0, sizeof(float) * d);
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j) spare[j] += x[i] * rotation[i * d + j];
    std::memcpy(x, spare, sizeof(float) * d);
  }
}

void activate(float* x, int rows, int inner, int activation, int gated) {
  const int given = gated ? 2 * inner : inner;
  for (int row = 0; row < rows; ++row) {
    float *gate = x + static_cast<int64_t>(row) * given, *out = x + static_cast<int64_t>(row) * inner;
    if (activation == 0)
      for (int i = 0; i < inner; ++i) gate[i] = std::max(gate[i], 0.0f);
    else if (activation == 1)
      for (int i = 0; i < inner; ++i) gate[i] = 0.5f * gate[i] * (1 + std::erf(gate[i] * 0.70710678f));
    else if (activation == 2)
      for (int i = 0; i < inner; ++i) gate[i] = gate[i] / (1 + exponential(std::min(-gate[i], 87.0f)));
    else
      for (int i = 0; i < inner; ++i)
        gate[i] = 0.5f * gate[i] * (1 + std::tanh(0.79788456f * (gate[i] + 0.044715f * gate[i] * gate[i] * gate[i])));
    if (gated)
      for (int i = 0; i < inner; ++i) out[i] = gate[i] * gate[inner + i];
  }
}

// x = after(x + y) or after(y), where y is the output of a part.
void close(const Step& s, const Norm& after, float* x, const float* y) {
  const int64_t count = static_cast<int64_t>(s.rows) * s.width;
  for (int64_t i = 0; i < count; ++i) x[i] = s.residual ? x[i] + y[i] : y[i];
  if (after.kind) normalise(after, x, x, s.rows, s.width);
}

}  // namespace

extern "C" {

// What Python has to know: sizes of structures, outputs of a panel, inputs of a group, and whether whole numbers of 8 bits
// are served.
int32_t selfattn_knows(int32_t what) {
  const int32_t known[] = {sizeof(Layer), sizeof(Step), PANEL, GROUP, BYTES};
  return known[what];
}

// How many floats `work` must hold for steps of up to `tokens` tokens and `source` source tokens.
int64_t selfattn_work_size(const Step* s) {
  const int64_t rows = s->rows, own = s->heads * s->head_width, wide = std::max({s->width, 3 * static_cast<int>(own), 2 * s->inner});
  return rows * (2 * s->width + 4 * own + 2 * s->inner + 2) + (rows * wide) / 2 + s->head_width +
         rows * s->heads * std::max<int64_t>(s->table_width, s->source) + 64;
}

void selfattn_step(const Step* step) {
  const Step& s = *step;
  const int R = s.rows, D = s.width, d = s.head_width, I = s.heads * d, T = s.tokens, S = s.source;
  const int longest = std::max(s.table_width, S);
  float* state = s.work;                                           // [R, D]
  float* part = state + static_cast<int64_t>(R) * D;               // [R, D]
  float* qkv = part + static_cast<int64_t>(R) * D;                 // [R, 3 I]
  float* context = qkv + static_cast<int64_t>(R) * 3 * I;          // [R, I]
  float* think = context + static_cast<int64_t>(R) * I;            // [R, 2 F]
  float* weights = think + static_cast<int64_t>(R) * 2 * s.inner;  // [R, H, longest]
  float* spare = weights + static_cast<int64_t>(R) * s.heads * longest;  // [d]
  Scratch scratch;
  scratch.scales = spare + d;                                                // [R]
  scratch.whole = reinterpret_cast<Whole*>(scratch.scales + R);             // [R, widest]
  const auto opened = [&](const Norm& before) -> const float* {
    if (!before.kind) return s.x;
    normalise(before, s.x, state, R, D);
    return state;
  };
  for (int number = 0; number < s.layer_count; ++number) {
    const Layer& layer = s.layers[number];
    multiply(layer.qkv, opened(layer.before[0]), qkv, R, s.threads, scratch);
    for (int r = 0; r < R; ++r) {
      float* own = qkv + static_cast<int64_t>(r) * 3 * I;
      if (s.rotation) rotate(s.rotation, own, 2 * s.heads, d, spare);
      const int64_t slot = (static_cast<int64_t>(s.slots[r]) * s.table_width + T - 1) * I;
      std::memcpy(layer.keys + slot, own + I, sizeof(float) * I);
      std::memcpy(layer.values + slot, own + 2 * I, sizeof(float) * I);
    }
#pragma omp parallel for schedule(static) num_threads(s.threads) if (s.threads > 1)
    for (int r = 0; r < R; ++r) {
      const int32_t* wrote = s.table + static_cast<int64_t>(r) * s.table_width;
      look_up(qkv + static_cast<int64_t>(r) * 3 * I, layer.keys, layer.values,
              [=](int t) { return (static_cast<int64_t>(wrote[t]) * s.table_width + t) * I; }, T, s.heads, d, s.own_scale, s.bias,
              s.bias_width, nullptr, weights + static_cast<int64_t>(r) * s.heads * longest,
              context + static_cast<int64_t>(r) * I);
    }
    multiply(layer.mixed, context, part, R, s.threads, scratch);
    close(s, layer.after[0], s.x, part);

    multiply(layer.query, opened(layer.before[1]), qkv, R, s.threads, scratch);
#pragma omp parallel for schedule(static) num_threads(s.threads) if (s.threads > 1)
    for (int r = 0; r < R; ++r) {
      const int64_t sentence = s.sentences[r];
      look_up(qkv + static_cast<int64_t>(r) * I, layer.source_keys + sentence * S * I, layer.source_values + sentence * S * I,
              [=](int t) { return static_cast<int64_t>(t) * I; }, S, s.heads, d, s.source_scale, nullptr, 0,
              s.visible ? s.visible + sentence * S : nullptr, weights + static_cast<int64_t>(r) * s.heads * longest,
              context + static_cast<int64_t>(r) * I);
    }
    multiply(layer.found, context, part, R, s.threads, scratch);
    close(s, layer.after[1], s.x, part);

    if (!layer.up.weight) continue;
    multiply(layer.up, opened(layer.before[2]), think, R, s.threads, scratch);
    activate(think, R, s.inner, s.activation, s.gated);
    multiply(layer.down, think, part, R, s.threads, scratch);
    close(s, layer.after[2], s.x, part);
  }
  multiply(*s.head, opened(*s.norm), s.logits, R, s.threads, scratch);
}

// y [R, out] = x [R, in] W^T + b for weights of 8 bits; `work` holds R (1 + in / 2) + 1 floats.
void selfattn_multiply(const Product* product, const float* x, float* y, int32_t rows, int32_t threads, float* work) {
  multiply(*product, x, y, rows, threads, {reinterpret_cast<Whole*>(work + rows), work});
}

// The sum of the whole numbers of each output.
void selfattn_sums(const signed char* weight, int32_t* sums, int32_t out, int32_t in) {
  for (int32_t column = 0; column < out; ++column, weight += in) {
    int32_t total = 0;
    for (int32_t k = 0; k < in; ++k) total += weight[k];
    sums[column] = total;
  }
}

// Weights [out, in] in panels: of 4 bytes, [out / PANEL, in, PANEL]; of 1 byte, [out / PANEL, in / GROUP, PANEL, GROUP].
// What lies behind the last output is left as it is in `packed`.
void selfattn_pack(const void* weight, void* packed, int32_t out, int32_t in, int32_t bytes) {
  const int64_t size = bytes ? GROUP : 4, pieces = bytes ? in / GROUP : in;
  for (int32_t column = 0; column < out; ++column) {
    const char* from = static_cast<const char*>(weight) + column * pieces * size;
    char* to = static_cast<char*>(packed) + (column / PANEL * pieces * PANEL + column % PANEL) * size;
    if (size == 4)
      for (int64_t k = 0; k < pieces; ++k) std::memcpy(to + k * PANEL * 4, from + k * 4, 4);
    else
      for (int64_t k = 0; k < pieces; ++k) std::memcpy(to + k * PANEL * size, from + k * size, size);
  }
}

}  // extern "C"
