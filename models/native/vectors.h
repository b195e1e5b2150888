// SIMD vectors of the processor that the code is compiled for, with the vector extensions of GCC
// and clang.

#pragma once
#include <cstdint>

#if defined(__AVX512F__)
constexpr int BYTES = 64, ROWS = 6;  // size of a vector, and rows of a register tile
#elif defined(__AVX__)
constexpr int BYTES = 32, ROWS = 3;
#else
constexpr int BYTES = 16, ROWS = 3;
#endif

template <class T> struct Of {
  typedef T vec __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
  static constexpr int L = BYTES / sizeof(T);
};
template <class T> using Vec = typename Of<T>::vec;

template <class T> inline Vec<T> load(const T* p) { return *(const Vec<T>*)p; }
template <class T> inline void store(T* p, Vec<T> v) { *(Vec<T>*)p = v; }
template <class T> inline Vec<T> broadcast(T x) { return x - Vec<T>{}; }

// An integer as a type, so that templates can be instantiated with it.
template <int N> struct Count {
  static constexpr int value = N;
};

// Calls f(Count<n>, first row) for tiles of ROWS rows, then for smaller tiles for the rest.
template <class F> inline void in_tiles(int64_t rows, F f) {
  int64_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) f(Count<ROWS>{}, r);
  if (ROWS > 4 && r + 4 <= rows) f(Count<4>{}, r), r += 4;
  if (r + 2 <= rows) f(Count<2>{}, r), r += 2;
  if (r < rows) f(Count<1>{}, r);
}

// Calls f(Count<n>, first vector) for groups of 4 vectors, then of 2 and 1 for the rest.
template <class F> inline void in_groups(int64_t vectors, F f) {
  int64_t v = 0;
  for (; v + 4 <= vectors; v += 4) f(Count<4>{}, v);
  if (v + 2 <= vectors) f(Count<2>{}, v), v += 2;
  if (v < vectors) f(Count<1>{}, v);
}
