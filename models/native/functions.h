// The activation functions, the numbers of the recurrences, and the treatment of denormal numbers.

#pragma once
#include <cmath>
#include <cstdint>

#include "vectors.h"

// `Recurrence` in layers/base.py has the same names and values.
enum { RNN_TANH, RNN_RELU, LSTM, GRU, GRU_RESET_BEFORE, MGU };

// e^x for float: range reduction by ln 2 and a polynomial of degree 6 (error at most 2 units in the
// last place). 2^n is applied as two factors, so that the result can become infinite and a sigmoid
// exactly 0.
inline Vec<float> fast_exp(Vec<float> x) {
  typedef int32_t ints __attribute__((vector_size(BYTES), aligned(4), may_alias));
  const Vec<float> high = broadcast(110.f), low = broadcast(-110.f);
  x = x > high ? high : x;  // false for NaN, which is propagated
  x = x < low ? low : x;
  const float shift = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  Vec<float> shifted = x * 1.44269504f + shift;
  Vec<float> n = shifted - shift;
  Vec<float> r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vec<float> p = r * 1.3888889e-3f + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 5.0e-1f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  ints whole = (ints)shifted - 0x4B400000;
  ints half = whole >> 1;
  return p * (Vec<float>)((half + 127) << 23) * (Vec<float>)((whole - half + 127) << 23);
}
inline Vec<double> fast_exp(Vec<double> x) {
  for (int i = 0; i < Of<double>::L; i++) x[i] = std::exp(x[i]);
  return x;
}
template <class V> inline V sigmoid(V x) { return 1 / (1 + fast_exp(-x)); }

inline Vec<float> fast_tanh(Vec<float> x) {
  Vec<float> far = 1 - 2 / (fast_exp(x + x) + 1);
  // Near zero the difference loses digits, so use the Taylor series up to x^9.
  Vec<float> s = x * x;
  Vec<float> near = s * 2.18694885e-2f - 5.39682540e-2f;
  near = near * s + 1.33333333e-1f;
  near = near * s - 3.33333333e-1f;
  near = near * s * x + x;
  return s < broadcast(0.0625f) ? near : far;
}
inline Vec<double> fast_tanh(Vec<double> x) {
  for (int i = 0; i < Of<double>::L; i++) x[i] = std::tanh(x[i]);
  return x;
}

// Applies the caller's denormal mode (models/denormals.py) to a thread of the pool.
struct FloatMode {
#if defined(__SSE__)
  static constexpr unsigned FLUSH = 0x8040;  // denormal results and operands are zero
  unsigned before = __builtin_ia32_stmxcsr();
  static unsigned here() { return __builtin_ia32_stmxcsr(); }
  explicit FloatMode(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
  ~FloatMode() { __builtin_ia32_ldmxcsr(before); }
#else
  static constexpr unsigned FLUSH = 0;
  static unsigned here() { return 0; }
  explicit FloatMode(unsigned) {}
#endif
};
