// Prediction: the forward pass of one recurrent layer for many documents. network/native_network.py
// calls it; the equations are in layers/cells.py.
//
// Shapes: n documents, N tokens in all documents, U rows of the table, D directions, H hidden (a
// multiple of 16; `inner` of them are used), P blocks of the projection, R columns of the product.
//
// loops.cpp needs padded batches, because training stores the values of all steps. A prediction needs
// only the current state, so here the values are document-major and nothing is padded: a panel is
// some documents in one direction, from the longest to the shortest, and documents leave it when
// they end. A document is therefore computed with the same operations whatever the others are. The
// projection of a token is a row of a table, so it is computed once for each distinct word.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "functions.h"
#include "vectors.h"

// The arguments. `_Layer` in network/native_network.py has the same fields in the same order.
struct Layer {
  int64_t cell, directions, size, inner, documents, threads;
  const float* table;      // (U, D, P * H): the projected inputs, blocks as stored, with biases
  const int32_t* rows;     // (N): the row of `table` of each token
  const int64_t* starts;   // (n): the first token of each document
  const int64_t* lengths;  // (n): at least 1, in descending order
  const float* weight;     // (D, inner, R), the first product; the blocks of R as stored
  const float* second;     // (D, inner, H), the second product, or null
  const float* bias;       // gru: (D, H), the bias of block n inside of the product
  float* states;           // (N, D * H): the states after each token, or null
  float* last;             // (n, D * H): the last states, or null
  float* mean;             // (n, D * H): the mean of the states, or null
  float* maximum;          // (n, D * H): the maximum of the states, or null
};

typedef Vec<float> V;
constexpr int64_t LANES = Of<float>::L;
constexpr int64_t PANEL = 48;  // documents; their states and products fit in the L2 cache

// Computes out = init + h w for MR documents and NV vectors of columns.
template <int MR, int NV>
inline void tile(int64_t inner, const float* h, int64_t ldh, const float* w, int64_t ldw,
                 const float* const* init, int64_t at, float* out, int64_t ldo) {
  V sum[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) sum[r][j] = load(init[r] + at + j * LANES);
  for (int64_t k = 0; k < inner; k++) {
    V row[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) row[j] = load(w + k * ldw + j * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++) {
      V one = broadcast(h[r * ldh + k]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) sum[r][j] += one * row[j];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(out + r * ldo + j * LANES, sum[r][j]);
}

// Documents `first` to `first + count` in direction `d`, and their values in the current step.
struct Panel {
  const Layer& layer;
  int64_t d, first, count, H, blocks, columns;
  float *h, *c, *x, *q, *sum, *most;  // state, cell state, products, gated state, for mean, maximum
  const float* input[PANEL];          // projection of the current token
  const float* zero[PANEL];           // bias of block n, for gru
  int64_t token[PANEL];

  static int64_t blocks_of(int64_t cell) {
    static const int64_t blocks[] = {1, 1, 4, 3, 3, 2};
    return blocks[cell];
  }
  static int64_t scratch(const Layer& layer) {
    return PANEL * layer.size * (5 + blocks_of(layer.cell));
  }

  Panel(const Layer& job, int64_t direction, int64_t begin, float* memory)
      : layer(job), d(direction), first(begin), H(job.size), blocks(blocks_of(job.cell)) {
    count = layer.documents - first < PANEL ? layer.documents - first : PANEL;
    columns = layer.second ? (blocks - 1) * H : blocks * H;
    float** parts[] = {&h, &c, &q, &sum, &most, &x};
    for (float** part : parts) *part = memory, memory += PANEL * H;
    std::memset(h, 0, 2 * PANEL * H * sizeof(float));
    std::memset(sum, 0, PANEL * H * sizeof(float));
    for (int64_t i = 0; i < PANEL * H; i++) most[i] = -INFINITY;
    for (int64_t i = 0; i < PANEL; i++) zero[i] = layer.bias ? layer.bias + d * H : nullptr;
  }

  const float* projection(int64_t i, int64_t step) const {
    const int64_t last = layer.lengths[first + i] - 1;
    const int64_t at = layer.starts[first + i] + (d ? last - step : step);
    return layer.table + (layer.rows[at] * layer.directions + d) * blocks * H;
  }

  void run() {
    int64_t active = count;
    for (int64_t step = 0; step < layer.lengths[first]; step++) {
      while (layer.lengths[first + active - 1] <= step) active--;
      for (int64_t i = 0; i < active; i++) {
        const int64_t last = layer.lengths[first + i] - 1;
        token[i] = layer.starts[first + i] + (d ? last - step : step);
        input[i] = projection(i, step);
        if (step < last) {
          const char* next = (const char*)projection(i, step + 1);
          for (int64_t at = 0; at < blocks * H * 4; at += 64) __builtin_prefetch(next + at);
        }
      }
      compute(active);
      if (layer.states)
        for (int64_t i = 0; i < active; i++)
          std::memcpy(layer.states + (token[i] * layer.directions + d) * H, h + i * H, H * 4);
      if (layer.mean) each(active, [&](int64_t, int64_t p) {
        store(sum + p, load(sum + p) + load(h + p));
      });
      if (layer.maximum) each(active, [&](int64_t, int64_t p) {
        V old = load(most + p), now = load(h + p);
        store(most + p, old > now ? old : now);
      });
    }
    for (int64_t i = 0; i < count; i++) {
      const int64_t at = ((first + i) * layer.directions + d) * H;
      const float length = float(layer.lengths[first + i]);
      if (layer.last) std::memcpy(layer.last + at, h + i * H, H * 4);
      if (layer.maximum) std::memcpy(layer.maximum + at, most + i * H, H * 4);
      if (layer.mean)
        for (int64_t u = 0; u < H; u++) layer.mean[at + u] = sum[i * H + u] / length;
    }
  }

 private:
  // Calls f(document, position) for each vector of the first `active` states.
  template <class F> void each(int64_t active, F f) const {
    for (int64_t i = 0; i < active; i++)
      for (int64_t u = 0; u < H; u += LANES) f(i, i * H + u);
  }
  // Computes `width` columns of out = init + state w, from column `from` of w.
  void product(int64_t active, const float* state, const float* w, int64_t ldw, int64_t from,
               int64_t width, const float* const* init, int64_t at, float* out, int64_t ldo) const {
    in_groups(width / LANES, [&](auto group, int64_t v) {
      in_tiles(active, [&](auto height, int64_t r) {
        tile<height.value, group.value>(layer.inner, state + r * H, H, w + from + v * LANES, ldw,
                                        init + r, at + v * LANES, out + r * ldo + from + v * LANES,
                                        ldo);
      });
    });
  }

  void compute(int64_t active) const {
    const float* W = layer.weight + d * layer.inner * columns;
    const float* S = layer.second ? layer.second + d * layer.inner * H : nullptr;
    const int64_t R = columns;
    if (layer.cell == GRU) {
      product(active, h, W, R, 0, 2 * H, input, 0, x, R);
      product(active, h, W, R, 2 * H, H, zero, 0, x, R);
    } else {
      product(active, h, W, R, 0, R, input, 0, x, R);
    }
    switch (layer.cell) {
      case RNN_TANH:
        each(active, [&](int64_t, int64_t p) { store(h + p, fast_tanh(load(x + p))); });
        break;
      case RNN_RELU:
        each(active, [&](int64_t, int64_t p) {
          V a = load(x + p);
          store(h + p, a < V{} ? V{} : a);
        });
        break;
      case LSTM:
        each(active, [&](int64_t i, int64_t p) {
          const float* gates = x + i * 3 * H + p;
          V in = sigmoid(load(gates)), forget = sigmoid(load(gates + H));
          V next = fast_tanh(load(gates + 2 * H)) * in + forget * load(c + p);
          store(c + p, next);
          store(h + p, sigmoid(load(gates + 3 * H)) * fast_tanh(next));
        });
        break;
      case GRU:
        each(active, [&](int64_t i, int64_t p) {
          const float* gates = x + i * 2 * H + p;
          V r = sigmoid(load(gates)), z = sigmoid(load(gates + H));
          V n = fast_tanh(load(input[i] + 2 * H + p - i * H) + r * load(gates + 2 * H));
          store(h + p, n + z * (load(h + p) - n));
        });
        break;
      case GRU_RESET_BEFORE:
        each(active, [&](int64_t i, int64_t p) {
          store(q + p, sigmoid(load(x + i * H + p)) * load(h + p));
        });
        product(active, q, S, H, 0, H, input, 2 * H, c, H);
        each(active, [&](int64_t i, int64_t p) {
          V z = sigmoid(load(x + i * H + p + H)), n = fast_tanh(load(c + p));
          store(h + p, n + z * (load(h + p) - n));
        });
        break;
      case MGU:
        each(active, [&](int64_t, int64_t p) {
          V f = sigmoid(load(x + p));
          store(x + p, f), store(q + p, f * load(h + p));
        });
        product(active, q, S, H, 0, H, input, H, c, H);
        each(active, [&](int64_t, int64_t p) {
          V n = fast_tanh(load(c + p)), old = load(h + p);
          store(h + p, old + load(x + p) * (n - old));
        });
        break;
    }
  }
};

extern "C" {
// Returns 0, or 1 if the temporary memory of a panel cannot be allocated.
int celltune_infer_f32(const Layer* layer) {
  const int64_t panels = (layer->documents + PANEL - 1) / PANEL;
  const unsigned flushed = FloatMode::here() | FloatMode::FLUSH;
  int failed = 0;
#ifdef _OPENMP
#pragma omp parallel for num_threads(layer->threads) schedule(dynamic) if (layer->threads > 1)
#endif
  for (int64_t task = 0; task < layer->directions * panels; task++) {
    FloatMode mode(flushed);
    float* memory = (float*)std::malloc(Panel::scratch(*layer) * sizeof(float));
    if (memory)
      Panel(*layer, task % layer->directions, task / layer->directions * PANEL, memory).run();
    else
      failed = 1;
    std::free(memory);
  }
  return failed;
}
}
