// Forward and backward passes of the recurrences of the built-in cells. layers/native_layer.py calls
// them; the equations are in layers/cells.py.
//
// Shapes: T time, B batch, H hidden, D directions, P blocks of the projection, Q blocks of
// gradients, R rows of a recurrent product, L lanes of a vector.
// Arrays are contiguous and feature-major, (..., rows, B), where B is a multiple of 16. They are in
// time order for both directions; direction 1 runs from the last step to the first.
//
// The columns of a batch are independent. So a panel (some columns of one direction) runs through
// all steps on its own: its state, its gradients and the recurrent weights stay in the L1 and L2
// cache. A thread processes whole panels, and threads never wait for each other.
//
// native/library.py compiles this file on first use. It includes no headers of PyTorch or Python,
// and no library has to be linked.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "functions.h"
#include "vectors.h"

// The arguments of a pass. `_Job` in layers/native_layer.py has the same fields in the same order.
template <class T> struct Job {
  int64_t cell, directions, steps, size, batch, panel, threads;
  T* work;            // (D, T, P * H, B): the projection, which forward replaces by activations
  T* hidden;          // (D, T + 1, H + 1, B): the state before t is at t (direction 0) or t + 1
  T* saved;           // gru: q, lstm: c, each (D, T, H, B); two products: (D, T, H + 1, B)
  T* output;          // (T, D * H, B)
  const T* weight;    // (D, R, H + 1), backward: (D, H, R)
  const T* second;    // the weight of the second product, or null
  const T* bias;      // gru: (D, H), the bias of block n outside of the product
  const T* grad;      // (T, D * H, B)
  T* result;          // (D, T, Q * H, B): gradients of the blocks
  T* bias_grad;       // gru: (D, H, B), initially zero
};

// Computes out = init + w x for MR rows and NV vectors of columns, accumulated in registers.
template <class T, int NV, int MR>
inline void tile(int64_t K, const T* w, int64_t ldw, const T* x, int64_t ldx, const T* init,
                 int64_t ldi, T* out, int64_t ldo) {
  constexpr int L = Of<T>::L;
  Vec<T> sum[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) sum[r][j] = init ? load(init + r * ldi + j * L) : Vec<T>{};
  for (int64_t k = 0; k < K; k++) {
    Vec<T> column[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) column[j] = load(x + k * ldx + j * L);
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++) {
      Vec<T> one = broadcast(w[r * ldw + k]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) sum[r][j] += one * column[j];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(out + r * ldo + j * L, sum[r][j]);
}

// Computes out = init + w x for R rows and NV vectors of columns; init may be null (zero).
template <class T, int NV>
void product_of(int64_t R, int64_t K, const T* w, int64_t ldw, const T* x, int64_t ldx,
                const T* init, int64_t ldi, T* out, int64_t ldo) {
  in_tiles(R, [&](auto height, int64_t r) {
    tile<T, NV, height.value>(K, w + r * ldw, ldw, x, ldx, init ? init + r * ldi : init, ldi,
                              out + r * ldo, ldo);
  });
}

// Computes out = init + w x for R rows and `cols` columns; init may be null (zero).
template <class T>
void product(int64_t cols, int64_t R, int64_t K, const T* w, int64_t ldw, const T* x, int64_t ldx,
             const T* init, int64_t ldi, T* out, int64_t ldo) {
  constexpr int L = Of<T>::L;
  while (cols > 0) {
    int64_t done;
    if (cols >= 4 * L) {
      product_of<T, 4>(R, K, w, ldw, x, ldx, init, ldi, out, ldo), done = 4 * L;
    } else if (cols >= 2 * L) {
      product_of<T, 2>(R, K, w, ldw, x, ldx, init, ldi, out, ldo), done = 2 * L;
    } else {
      product_of<T, 1>(R, K, w, ldw, x, ldx, init, ldi, out, ldo), done = L;
    }
    cols -= done, x += done, out += done;
    if (init) init += done;
  }
}

// A panel: `cols` columns from column `c` of direction `d`.
template <class T> struct Panel {
  static constexpr int L = Of<T>::L;
  const Job<T>& j;
  int64_t d, c, cols, H, B, blocks, result_blocks;

  Panel(const Job<T>& job, int64_t direction, int64_t column, int64_t columns)
      : j(job), d(direction), c(column), cols(columns), H(job.size), B(job.batch) {
    static const int64_t projection_blocks[] = {1, 1, 4, 3, 3, 2};
    static const int64_t gradient_blocks[] = {1, 1, 4, 4, 3, 2};
    blocks = projection_blocks[j.cell], result_blocks = gradient_blocks[j.cell];
  }
  // The values of step t in this panel.
  T* work(int64_t t) const { return j.work + (d * j.steps + t) * blocks * H * B + c; }
  T* result(int64_t t) const { return j.result + (d * j.steps + t) * result_blocks * H * B + c; }
  T* state(int64_t t) const { return j.hidden + (d * (j.steps + 1) + t) * (H + 1) * B + c; }
  T* before(int64_t t) const { return state(d ? t + 1 : t); }
  T* after(int64_t t) const { return state(d ? t : t + 1); }
  T* saved(int64_t t) const { return j.saved + (d * j.steps + t) * H * B + c; }
  T* gated_state(int64_t t) const { return j.saved + (d * j.steps + t) * (H + 1) * B + c; }
  T* output(int64_t t) const { return j.output + (t * j.directions + d) * H * B + c; }
  const T* grad(int64_t t) const { return j.grad + (t * j.directions + d) * H * B + c; }

  template <class F> void for_each(F f) const {
    for (int64_t i = 0; i < H; i++)
      for (int64_t v = 0; v < cols; v += L) f(i, i * B + v);
  }
  // R / H of the first recurrent product.
  int64_t first_product_blocks() const {
    return j.cell == GRU ? 3 : j.cell == LSTM ? 4 : j.cell == GRU_RESET_BEFORE ? 2 : 1;
  }
  // Adds w x, with w (R x K), to `out`.
  void add(int64_t R, int64_t K, const T* w, const T* x, T* out) const {
    product<T>(cols, R, K, w, K, x, B, out, B, out, B);
  }

  void forward() const {
    const int64_t order = d ? -1 : 1, S = H * B;
    const int64_t rows = first_product_blocks();
    const T* U = j.weight + d * rows * H * (H + 1);
    const T* V = j.second ? j.second + d * H * (H + 1) : nullptr;
    int64_t t = d ? j.steps - 1 : 0;
    for (int64_t n = 0; n < j.steps; n++, t += order) {
      switch (j.cell) {
        case RNN_TANH: rnn<false>(t, U); break;
        case RNN_RELU: rnn<true>(t, U); break;
        case LSTM: lstm(t, n == 0, n ? saved(t - order) : nullptr, U, S); break;
        case GRU: gru(t, U, S); break;
        case GRU_RESET_BEFORE: reset_before(t, U, V, S); break;
        case MGU: mgu(t, U, V, S); break;
      }
    }
  }
  template <bool RELU> void rnn(int64_t t, const T* U) const {
    T *x = work(t), *h = after(t), *o = output(t);
    add(H, H + 1, U, before(t), x);
    for_each([&](int64_t, int64_t p) {
      Vec<T> a = load(x + p);
      Vec<T> y = RELU ? (a < Vec<T>{} ? Vec<T>{} : a) : fast_tanh(a);
      store(h + p, y), store(o + p, y);
    });
  }
  void lstm(int64_t t, bool first, const T* cell, const T* U, int64_t S) const {
    T *x = work(t), *h = after(t), *o = output(t), *next = saved(t);
    add(4 * H, H + 1, U, before(t), x);
    for_each([&](int64_t, int64_t p) {
      Vec<T> og = sigmoid(load(x + p)), ig = sigmoid(load(x + S + p));
      Vec<T> fg = sigmoid(load(x + 2 * S + p)), g = fast_tanh(load(x + 3 * S + p));
      Vec<T> c2 = ig * g;
      if (!first) c2 += fg * load(cell + p);
      Vec<T> y = og * fast_tanh(c2);
      store(x + p, og), store(x + S + p, ig), store(x + 2 * S + p, fg), store(x + 3 * S + p, g);
      store(next + p, c2), store(h + p, y), store(o + p, y);
    });
  }
  void gru(int64_t t, const T* U, int64_t S) const {
    T *x = work(t), *h = after(t), *o = output(t), *q = saved(t);
    const T* previous = before(t);
    add(2 * H, H + 1, U, previous, x + S);
    product<T>(cols, H, H + 1, U + 2 * H * (H + 1), H + 1, previous, B, nullptr, 0, q, B);
    const T* bias = j.bias + d * H;
    for_each([&](int64_t i, int64_t p) {
      Vec<T> r = sigmoid(load(x + S + p)), z = sigmoid(load(x + 2 * S + p));
      Vec<T> n = fast_tanh(load(x + p) + bias[i] + r * load(q + p));
      Vec<T> y = n + z * (load(previous + p) - n);
      store(x + p, n), store(x + S + p, r), store(x + 2 * S + p, z);
      store(h + p, y), store(o + p, y);
    });
  }
  // Copies the bias row of a state to a gated state.
  void copy_bias_row(const T* previous, T* gate) const {
    for (int64_t v = 0; v < cols; v += L) store(gate + H * B + v, load(previous + H * B + v));
  }
  void reset_before(int64_t t, const T* U, const T* V, int64_t S) const {
    T *x = work(t), *h = after(t), *o = output(t), *reset = gated_state(t);
    const T* previous = before(t);
    add(2 * H, H + 1, U, previous, x);
    for_each([&](int64_t, int64_t p) {
      Vec<T> r = sigmoid(load(x + p));
      store(x + p, r), store(reset + p, r * load(previous + p));
    });
    copy_bias_row(previous, reset);
    add(H, H + 1, V, reset, x + 2 * S);
    for_each([&](int64_t, int64_t p) {
      Vec<T> z = sigmoid(load(x + S + p)), n = fast_tanh(load(x + 2 * S + p));
      Vec<T> y = n + z * (load(previous + p) - n);
      store(x + S + p, z), store(x + 2 * S + p, n), store(h + p, y), store(o + p, y);
    });
  }
  void mgu(int64_t t, const T* U, const T* V, int64_t S) const {
    T *x = work(t), *h = after(t), *o = output(t), *reset = gated_state(t);
    const T* previous = before(t);
    add(H, H + 1, U, previous, x);
    for_each([&](int64_t, int64_t p) {
      Vec<T> f = sigmoid(load(x + p));
      store(x + p, f), store(reset + p, f * load(previous + p));
    });
    copy_bias_row(previous, reset);
    add(H, H + 1, V, reset, x + S);
    for_each([&](int64_t, int64_t p) {
      Vec<T> f = load(x + p), n = fast_tanh(load(x + S + p)), old = load(previous + p);
      Vec<T> y = old + f * (n - old);
      store(x + S + p, n), store(h + p, y), store(o + p, y);
    });
  }

  // The backward pass. `dh` (gradient of the state) and `inner` (gradient of the cell state, or of
  // the gated state) are each one state of the panel, with a stride of B between rows.
  void backward(T* dh, T* inner) const {
    const int64_t order = d ? 1 : -1, S = H * B;
    const int64_t rows = first_product_blocks();
    const T* U = j.weight + d * H * rows * H;
    const T* V = j.second ? j.second + d * H * H : nullptr;
    int64_t t = d ? 0 : j.steps - 1;
    for (int64_t n = 0; n < j.steps; n++, t += order) {
      bool last = n + 1 == j.steps;
      switch (j.cell) {
        case RNN_TANH: rnn_back<false>(t, U, dh); break;
        case RNN_RELU: rnn_back<true>(t, U, dh); break;
        case LSTM: lstm_back(t, last ? nullptr : saved(t + order), U, dh, inner, S); break;
        case GRU: gru_back(t, U, dh, S); break;
        case GRU_RESET_BEFORE: reset_before_back(t, U, V, dh, inner, S); break;
        case MGU: mgu_back(t, U, V, dh, inner, S); break;
      }
    }
  }
  template <bool RELU> void rnn_back(int64_t t, const T* U, T* dh) const {
    T* out = result(t);
    const T *g = grad(t), *h = after(t);
    for_each([&](int64_t, int64_t p) {
      Vec<T> a = load(g + p) + load(dh + p), y = load(h + p);
      store(out + p, RELU ? (y > Vec<T>{} ? a : Vec<T>{}) : a * (1 - y * y));
    });
    product<T>(cols, H, H, U, H, out, B, nullptr, 0, dh, B);
  }
  void lstm_back(int64_t t, const T* cell, const T* U, T* dh, T* dc, int64_t S) const {
    T *out = result(t), *x = work(t), *now = saved(t);
    const T* g = grad(t);
    for_each([&](int64_t, int64_t p) {
      Vec<T> o = load(x + p), i = load(x + S + p), f = load(x + 2 * S + p), n = load(x + 3 * S + p);
      Vec<T> a = load(g + p) + load(dh + p), curved = fast_tanh(load(now + p));
      Vec<T> b = load(dc + p) + a * o * (1 - curved * curved);
      store(out + p, a * curved * o * (1 - o));
      store(out + S + p, b * n * i * (1 - i));
      store(out + 2 * S + p, cell ? b * load(cell + p) * f * (1 - f) : Vec<T>{});
      store(out + 3 * S + p, b * i * (1 - n * n));
      store(dc + p, b * f);
    });
    product<T>(cols, H, 4 * H, U, 4 * H, out, B, nullptr, 0, dh, B);
  }
  void gru_back(int64_t t, const T* U, T* dh, int64_t S) const {
    T *out = result(t), *x = work(t), *sums = j.bias_grad + d * S + c;
    const T *g = grad(t), *previous = before(t), *q = saved(t);
    for_each([&](int64_t, int64_t p) {
      Vec<T> n = load(x + p), r = load(x + S + p), z = load(x + 2 * S + p);
      Vec<T> a = load(g + p) + load(dh + p);
      Vec<T> dn = a * (1 - z) * (1 - n * n);
      store(out + p, dn);
      store(out + S + p, dn * load(q + p) * r * (1 - r));
      store(out + 2 * S + p, a * (load(previous + p) - n) * z * (1 - z));
      store(out + 3 * S + p, dn * r);
      store(dh + p, a * z);
      store(sums + p, load(sums + p) + dn);
    });
    add(H, 3 * H, U, out + S, dh);
  }
  void reset_before_back(int64_t t, const T* U, const T* V, T* dh, T* inner, int64_t S) const {
    T *out = result(t), *x = work(t);
    const T *g = grad(t), *previous = before(t);
    for_each([&](int64_t, int64_t p) {
      Vec<T> z = load(x + S + p), n = load(x + 2 * S + p), a = load(g + p) + load(dh + p);
      store(out + S + p, a * (load(previous + p) - n) * z * (1 - z));
      store(out + 2 * S + p, a * (1 - z) * (1 - n * n));
      store(dh + p, a * z);
    });
    product<T>(cols, H, H, V, H, out + 2 * S, B, nullptr, 0, inner, B);
    for_each([&](int64_t, int64_t p) {
      Vec<T> r = load(x + p), b = load(inner + p);
      store(out + p, b * load(previous + p) * r * (1 - r));
      store(dh + p, load(dh + p) + b * r);
    });
    add(H, 2 * H, U, out, dh);
  }
  void mgu_back(int64_t t, const T* U, const T* V, T* dh, T* inner, int64_t S) const {
    T *out = result(t), *x = work(t);
    const T *g = grad(t), *previous = before(t);
    for_each([&](int64_t, int64_t p) {
      Vec<T> f = load(x + p), n = load(x + S + p), a = load(g + p) + load(dh + p);
      store(out + S + p, a * f * (1 - n * n));
      store(dh + p, a);
    });
    product<T>(cols, H, H, V, H, out + S, B, nullptr, 0, inner, B);
    for_each([&](int64_t, int64_t p) {
      Vec<T> f = load(x + p), n = load(x + S + p), a = load(dh + p), b = load(inner + p);
      Vec<T> old = load(previous + p);
      store(out + p, (a * (n - old) + b * old) * f * (1 - f));
      store(dh + p, b * f + a * (1 - f));
    });
    add(H, H, U, out, dh);
  }
};

// Returns 0, or 1 if the temporary memory of a panel cannot be allocated.
template <class T> int run(const Job<T>& job, bool forward) {
  const int64_t panels = (job.batch + job.panel - 1) / job.panel;
  const int64_t bytes = 2 * job.size * job.batch * sizeof(T);
  const unsigned caller = FloatMode::here();
  int failed = 0;
#ifdef _OPENMP
#pragma omp parallel for num_threads(job.threads) schedule(static) if (job.threads > 1)
#endif
  for (int64_t task = 0; task < job.directions * panels; task++) {
    FloatMode mode(caller);
    int64_t column = task % panels * job.panel;
    int64_t columns = job.batch - column < job.panel ? job.batch - column : job.panel;
    Panel<T> panel(job, task / panels, column, columns);
    if (forward) {
      panel.forward();
      continue;
    }
    T* scratch = (T*)std::calloc(1, bytes);
    if (scratch) panel.backward(scratch, scratch + job.size * job.batch);
    if (!scratch) failed = 1;
    std::free(scratch);
  }
  return failed;
}

extern "C" {
int celltune_forward_f32(const Job<float>* job) { return run(*job, true); }
int celltune_forward_f64(const Job<double>* job) { return run(*job, true); }
int celltune_backward_f32(const Job<float>* job) { return run(*job, false); }
int celltune_backward_f64(const Job<double>* job) { return run(*job, false); }
}
