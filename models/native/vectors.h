// Vectors of the processor this is compiled for, by GCC's and clang's vector extension.

#pragma once
#include <cstdint>

#if defined(__AVX512F__)
constexpr int BYTES = 64, ROWS = 6;
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
template <class T> inline Vec<T> all(T x) { return x - Vec<T>{}; }

template <int N> struct Height {
  static constexpr int value = N;
};

// Calls f(Height<n>, first row) for tiles of rows: as many of ROWS as there are, then smaller ones.
template <class F> inline void in_tiles(int64_t rows, F f) {
  int64_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) f(Height<ROWS>{}, r);
  if (ROWS > 4 && r + 4 <= rows) f(Height<4>{}, r), r += 4;
  if (r + 2 <= rows) f(Height<2>{}, r), r += 2;
  if (r < rows) f(Height<1>{}, r);
}

// Calls f(Height<n>, first vector) for groups of 4, 2 and 1 vectors.
template <class F> inline void in_groups(int64_t vectors, F f) {
  int64_t v = 0;
  for (; v + 4 <= vectors; v += 4) f(Height<4>{}, v);
  if (v + 2 <= vectors) f(Height<2>{}, v), v += 2;
  if (v < vectors) f(Height<1>{}, v);
}
