// Trains word vectors for skip_gram.py, which compiles this file on first use and describes the
// algorithm; its function `_train_in_numpy` makes the same steps.
//
// Shapes: V words, S numbers of a row (a multiple of 16), M words of a context.

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
constexpr int L = BYTES / 4;         // lanes of a vector
constexpr int K = 1 + NEGATIVES;     // outputs that a window trains
constexpr int MAX_M = 2 * WINDOW;

// The arguments of a call. `_Job` in skip_gram.py has the same fields in the same order.
struct Job {
  const int32_t* words;      // (N,) the text as indices of words
  const int64_t* offsets;    // document i is words[offsets[i]] to words[offsets[i + 1]]
  const uint32_t* kept;      // (V,) share of a word's occurrences that are trained, of 2^32
  const int32_t* negatives;  // (2^bits,) words in proportion to their probability as a negative
  float* inputs;             // (V, S)
  float* outputs;            // (V, S)
  int64_t bits, stride;
  uint64_t key;              // of the epoch
  int64_t trained, total;    // words in the epochs before this one and in all epochs
  double first_rate, last_rate;
};

namespace {

typedef float Vec __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

inline Vec load(const float* from) { return *(const Vec*)from; }
inline void store(float* to, Vec values) { *(Vec*)to = values; }
inline Vec broadcast(float x) { return x - Vec{}; }

// 1 / (1 + e^-x): range reduction by ln 2 and a polynomial of degree 6.
inline Vec sigmoid(Vec x) {
  const Vec limit = broadcast(80.f);
  x = x > limit ? -limit : x < -limit ? limit : -x;
  const float shift = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = x * 1.44269504f + shift, n = shifted - shift;
  const Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vec p = r * 1.3888889e-3f + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 5.0e-1f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return 1 / (1 + p * (Vec)(((Ints)shifted - 0x4B400000 + 127) << 23));
}

inline float sum_of(Vec values) {
  float lanes[L];
  store(lanes, values);
  Four sum = *(Four*)lanes;
  for (int l = 4; l < L; l += 4) sum += *(Four*)(lanes + l);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

constexpr uint64_t STEP = 0x9E3779B97F4A7C15u;

// The output function of SplitMix64: a random number for each number.
inline uint64_t mixed(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

// The words of a document that are trained, and a random number for each.
struct Sentence {
  std::vector<int32_t> words;
  std::vector<uint64_t> draws;

  void sample(const Job& job, int64_t document) {
    words.clear(), draws.clear();
    for (int64_t i = job.offsets[document]; i < job.offsets[document + 1]; i++) {
      const int32_t word = job.words[i];
      const uint64_t draw = mixed(job.key + uint64_t(i) * STEP);
      if (uint32_t(draw >> 32) <= job.kept[word]) words.push_back(word), draws.push_back(draw);
    }
  }
};

inline void prefetch(const float* row, int64_t stride) {
  for (int64_t at = 0; at < stride; at += 16) __builtin_prefetch(row + at, 1);
}

// Sets the outputs to train at a position: its own word, then the negatives.
inline void choose(const Job& job, const Sentence& sentence, int64_t center, int32_t* chosen) {
  chosen[0] = sentence.words[center];
  for (int k = 1; k < K; k++)
    chosen[k] = job.negatives[mixed(sentence.draws[center] + k * STEP) >> (64 - job.bits)];
  for (int k = 0; k < K; k++) prefetch(job.outputs + chosen[k] * job.stride, job.stride);
}

// Trains the rows of M inputs and K outputs; `same[k]` is true if output k is the first one again.
void train_window(int64_t stride, float rate, int M, float* const* inputs, float* const* outputs,
                  const bool* same) {
  float steps[MAX_M * K + L];
  for (int m = 0; m < M; m++) {
    Vec sums[K] = {};
    for (int64_t v = 0; v < stride; v += L) {
      const Vec x = load(inputs[m] + v);
#pragma GCC unroll 16
      for (int k = 0; k < K; k++) sums[k] += x * load(outputs[k] + v);
    }
#pragma GCC unroll 16
    for (int k = 0; k < K; k++) steps[m * K + k] = sum_of(sums[k]);
  }
  for (int at = 0; at < M * K; at += L) store(steps + at, -rate * sigmoid(load(steps + at)));
  for (int m = 0; m < M; m++) {
    steps[m * K] += rate;
    for (int k = 1; k < K; k++)
      if (same[k]) steps[m * K + k] = 0;
  }
  for (int64_t v = 0; v < stride; v += L) {
    Vec old[K], change[K] = {};
#pragma GCC unroll 16
    for (int k = 0; k < K; k++) old[k] = load(outputs[k] + v);
    // All inputs are read before one is written: a word can occur twice in a context.
    for (int m = 0; m < M; m++) {
      const Vec x = load(inputs[m] + v);
#pragma GCC unroll 16
      for (int k = 0; k < K; k++) change[k] += steps[m * K + k] * x;
    }
    for (int m = 0; m < M; m++) {
      Vec x = load(inputs[m] + v);
#pragma GCC unroll 16
      for (int k = 0; k < K; k++) x += steps[m * K + k] * old[k];
      store(inputs[m] + v, x);
    }
#pragma GCC unroll 16
    for (int k = 0; k < K; k++) store(outputs[k] + v, load(outputs[k] + v) + change[k]);
  }
}

void train_sentence(const Job& job, const Sentence& sentence, float rate) {
  const int64_t length = int64_t(sentence.words.size());
  int32_t chosen[K], next[K];
  if (length) choose(job, sentence, 0, next);
  for (int64_t center = 0; center < length; center++) {
    std::copy(next, next + K, chosen);
    if (center + 1 < length) choose(job, sentence, center + 1, next);
    if (center + WINDOW + 1 < length)
      prefetch(job.inputs + sentence.words[center + WINDOW + 1] * job.stride, job.stride);
    const int64_t reach = 1 + int64_t((sentence.draws[center] & 0xFFFF) * WINDOW >> 16);
    float *inputs[MAX_M], *outputs[K];
    bool same[K];
    int M = 0;
    const int64_t end = std::min(length, center + reach + 1);
    for (int64_t at = std::max<int64_t>(0, center - reach); at < end; at++)
      if (at != center) inputs[M++] = job.inputs + sentence.words[at] * job.stride;
    for (int k = 0; k < K; k++) {
      outputs[k] = job.outputs + chosen[k] * job.stride;
      same[k] = chosen[k] == chosen[0];
    }
    train_window(job.stride, rate, M, inputs, outputs, same);
  }
}

}  // namespace

extern "C" {

// Trains the documents from `first` to `last`. Returns 0, or 1 if memory is exhausted.
int celltune_skip_gram(const Job* job, int64_t first, int64_t last) try {
  Sentence sentence;
  for (int64_t document = first; document < last; document++) {
    const double done = double(job->trained + job->offsets[document]) / double(job->total);
    const double rate = job->first_rate + (job->last_rate - job->first_rate) * done;
    sentence.sample(*job, document);
    train_sentence(*job, sentence, float(rate));
  }
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}
}
