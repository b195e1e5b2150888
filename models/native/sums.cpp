// Gradients of weights: the sum over steps of left[t] right[t]^T. layers/native_layer.py calls it.
//
// Shapes: T steps, R rows, K columns, B batch.
//
// The product of a single step is too small for an efficient library call, and too small to be
// divided among threads. Here a tile of the sum stays in registers over a chunk of steps, and each
// thread computes its own rows.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "vectors.h"

// The arguments. `_Sums` in layers/native_layer.py has the same fields in the same order.
template <class T> struct Sums {
  int64_t steps, rows, columns, width, batch, threads;
  int64_t left_step, right_step, right_batch, right_column;  // strides, in values
  const T* left;   // (T, R, B), rows and batch contiguous
  const T* right;  // (T, B, K), of any strides
  T* out;          // (R, width), initially zero; width: K rounded up to vectors of 64 bytes
};

constexpr int64_t CHUNK = 1 << 16;  // values of `right` in a chunk, which fill half of an L2 cache

template <class T, int MR, int NV>
inline void tile(const Sums<T>& job, int64_t steps, const T* left, const T* packed, T* out) {
  constexpr int L = Of<T>::L;
  Vec<T> sum[MR][NV];
#pragma GCC unroll 8
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) sum[r][j] = load(out + r * job.width + j * L);
  for (int64_t t = 0; t < steps; t++) {
    const T* rows = left + t * job.left_step;
    for (int64_t b = 0; b < job.batch; b++, packed += job.width) {
      Vec<T> column[NV];
#pragma GCC unroll 4
      for (int j = 0; j < NV; j++) column[j] = load(packed + j * L);
#pragma GCC unroll 8
      for (int r = 0; r < MR; r++) {
        Vec<T> one = broadcast(rows[r * job.batch + b]);
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) sum[r][j] += one * column[j];
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
    for (int j = 0; j < NV; j++) store(out + r * job.width + j * L, sum[r][j]);
}

// Copies `right` of step t to (B, width) with contiguous columns. Columns beyond K stay zero.
template <class T> void pack(const Sums<T>& job, int64_t t, T* to) {
  const T* from = job.right + t * job.right_step;
  if (job.right_column == 1) {
    for (int64_t b = 0; b < job.batch; b++)
      std::memcpy(to + b * job.width, from + b * job.right_batch, job.columns * sizeof(T));
    return;
  }
  constexpr int64_t SIDE = 16;  // copy squares, so that source and target stay in the L1 cache
  for (int64_t k0 = 0; k0 < job.columns; k0 += SIDE)
    for (int64_t b = 0; b < job.batch; b++)
      for (int64_t k = k0; k < k0 + SIDE && k < job.columns; k++)
        to[b * job.width + k] = from[b * job.right_batch + k * job.right_column];
}

template <class T> int sums(const Sums<T>& job) {
  constexpr int L = Of<T>::L;
  const int64_t one = job.batch * job.width;
  const int64_t chunk = CHUNK / one < 1 ? 1 : CHUNK / one;
  const int64_t tiles = (job.rows + ROWS - 1) / ROWS;
  const int64_t share = (tiles + job.threads - 1) / job.threads * ROWS;
  int failed = 0;
#ifdef _OPENMP
#pragma omp parallel for num_threads(job.threads) schedule(static) if (job.threads > 1)
#endif
  for (int64_t thread = 0; thread < job.threads; thread++) {
    const int64_t first = thread * share;
    const int64_t rows = job.rows - first < share ? job.rows - first : share;
    T* packed = rows > 0 ? (T*)std::calloc(chunk * one, sizeof(T)) : nullptr;
    if (rows > 0 && !packed) failed = 1;
    for (int64_t t = 0; packed && t < job.steps; t += chunk) {
      const int64_t steps = job.steps - t < chunk ? job.steps - t : chunk;
      for (int64_t s = 0; s < steps; s++) pack(job, t + s, packed + s * one);
      in_tiles(rows, [&](auto height, int64_t r) {
        in_groups(job.width / L, [&](auto group, int64_t v) {
          tile<T, height.value, group.value>(
              job, steps, job.left + t * job.left_step + (first + r) * job.batch,
              packed + v * L, job.out + (first + r) * job.width + v * L);
        });
      });
    }
    std::free(packed);
  }
  return failed;
}

extern "C" {
int celltune_sums_f32(const Sums<float>* job) { return sums(*job); }
int celltune_sums_f64(const Sums<double>* job) { return sums(*job); }
}
