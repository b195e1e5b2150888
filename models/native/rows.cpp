// Steps of Adam and of SGD with momentum on the rows of a table that a batch uses.
// training/lazy_rows.py calls them.
//
// Shapes: V rows of the table, E values per row, U rows used by the batch.
//
// In a step without a gradient, the moments still change a row. These steps can be delayed until
// the row is read: `catch_up` then applies all of them at once.
//
// A moving average of the table is delayed in the same way. With the decay d_t after step t, and
// with x_t = (average - value) after it, a step that subtracts s from the value gives
//   x_t = d_t (x_(t-1) + s).

#include <cmath>
#include <cstdint>
#include <cstdlib>

// The arguments. `_Rows` in training/lazy_rows.py has the same fields in the same order.
template <class T> struct Rows {
  int64_t count, width, now, threads, adam;
  const int64_t* rows;   // (U,)
  int64_t* last;         // (V,): the last step that was applied to a row
  T* values;             // (V, E)
  T* first;              // (V, E): first moment of Adam or momentum of SGD; null without momentum
  T* second;             // (V, E): second moment of Adam, or null
  T* offsets;            // (V, E): moving average minus value, only for Adam; or null
  const T* grad;         // (U, E), only for `step`
  const double* sizes;   // (now + 2,): for step t, learning rate / (1 - beta1^t); SGD: the rate
  const double* scales;  // (now + 2,): for step t, 1 / sqrt(1 - beta2^t)
  const double* logs;    // (now + 2,): logarithm of the product of the decays up to step t, or null
  double beta1, beta2, eps;  // SGD: beta1 is the momentum
};

// Consecutive steps with nearly the same scale of the second moment.
struct Segment {
  double weight, center, spread;  // sum of the step sizes; mean and variance of the scales
  double moments[3];  // of the step sizes in the average: their sum, and those of their products
};                    // with the distance from the center and its square
constexpr int WINDOW = 256;  // missed steps with a noticeable effect
constexpr int MAX_SEGMENTS = 96;
constexpr int SHARED_PLANS = 1024;  // plans for gaps below this are shared by all rows
// How to apply a number of missed steps.
struct Plan {
  int segments;
  double kept;  // of the offset
  Segment segment[MAX_SEGMENTS];
};

// Without a gradient, the k-th missed step subtracts
//   size_k beta1^k m / (scale_k beta2^(k/2) sqrt(v) + eps).
// After WINDOW steps, 0.9^k is below 1e-11. Steps whose scales differ by less than 6 % form a
// segment, in which the quotient is a second-order Taylor series around the mean scale. Its error
// is below 1e-5 of the step. In the offset of the average, this step counts with the product of the
// decays from it to the last one.
template <class T> void plan(const Rows<T>& job, int64_t last, Plan& out) {
  const int64_t gap = job.now - last < WINDOW ? job.now - last : WINDOW;
  double fade = 1, shrink = 1, w = 0, wc = 0, wcc = 0, from = 0, a = 0, ac = 0, acc = 0;
  const double root = std::sqrt(job.beta2);
  out.segments = 0;
  auto close = [&]() {
    double center = wc / w, spread = wcc / w - center * center;
    out.segment[out.segments++] = {
        w, center, spread > 0 ? spread : 0,
        {a, ac - center * a, acc - 2 * center * ac + center * center * a}};
    w = wc = wcc = a = ac = acc = 0;
  };
  out.kept = job.offsets ? std::exp(job.logs[job.now] - job.logs[last]) : 0;
  for (int64_t k = 1; k <= gap; k++) {
    fade *= job.beta1, shrink *= root;
    double size = job.sizes[last + k] * fade, c = job.scales[last + k] * shrink;
    if (w > 0 && c < from * 0.94 && out.segments < MAX_SEGMENTS - 1) close();
    if (w == 0) from = c;
    w += size, wc += size * c, wcc += size * c * c;
    if (!job.offsets) continue;
    double in_average = size * std::exp(job.logs[job.now] - job.logs[last + k - 1]);
    a += in_average, ac += in_average * c, acc += in_average * c * c;
  }
  if (w > 0) close();
}

template <class T, bool AVERAGE>
void adam_catch_up(const Rows<T>& job, int64_t row, const Plan& plan) {
  const int64_t gap = job.now - job.last[row], E = job.width;
  const T fade = std::pow(job.beta1, gap), shrink = std::pow(job.beta2, gap), eps = job.eps;
  T *p = job.values + row * E, *m = job.first + row * E, *v = job.second + row * E;
  T* x = AVERAGE ? job.offsets + row * E : nullptr;
  const T kept = plan.kept;
  for (int64_t start = 0; start < E; start += 64) {
    const int64_t n = E - start < 64 ? E - start : 64;
    T root[64], total[64], in_average[64];
    for (int64_t i = 0; i < n; i++) root[i] = std::sqrt(v[start + i]), total[i] = 0;
    if (AVERAGE) for (int64_t i = 0; i < n; i++) in_average[i] = 0;
    for (int k = 0; k < plan.segments; k++) {
      const T w = plan.segment[k].weight, c = plan.segment[k].center, s = plan.segment[k].spread;
      const double* moments = plan.segment[k].moments;
      const T a = moments[0], b = moments[1], d = moments[2];
      for (int64_t i = 0; i < n; i++) {
        T inverse = 1 / (root[i] * c + eps), relative = root[i] * inverse;
        total[i] += w * inverse * (1 + s * relative * relative);
        if (AVERAGE) in_average[i] += inverse * (a - relative * (b - relative * d));
      }
    }
    if (AVERAGE)
      for (int64_t i = 0; i < n; i++)
        x[start + i] = kept * x[start + i] + m[start + i] * in_average[i];
    for (int64_t i = 0; i < n; i++) {
      p[start + i] -= m[start + i] * total[i];
      m[start + i] *= fade, v[start + i] *= shrink;
    }
  }
}

template <class T> void sgd_catch_up(const Rows<T>& job, int64_t row) {
  const int64_t gap = job.now - job.last[row], E = job.width;
  const double mu = job.beta1, fade = std::pow(mu, gap);
  const T sum = job.sizes[0] * mu * (1 - fade) / (1 - mu), kept = fade;
  T *p = job.values + row * E, *m = job.first + row * E;
  for (int64_t i = 0; i < E; i++) p[i] -= sum * m[i], m[i] *= kept;
}

template <class T> void adam_catch_up(const Rows<T>& job, int64_t row, const Plan& plan) {
  if (job.offsets) adam_catch_up<T, true>(job, row, plan);
  else adam_catch_up<T, false>(job, row, plan);
}

template <class T> int catch_up(const Rows<T>& job) {
  Plan* plans = job.adam ? (Plan*)std::calloc(SHARED_PLANS, sizeof(Plan)) : nullptr;
  if (job.adam && !plans) return 1;
  for (int64_t u = 0; job.adam && u < job.count; u++) {
    int64_t gap = job.now - job.last[job.rows[u]];
    if (gap > 0 && gap < SHARED_PLANS && !plans[gap].segments) plan(job, job.now - gap, plans[gap]);
  }
#ifdef _OPENMP
#pragma omp parallel for num_threads(job.threads) schedule(static) if (job.threads > 1)
#endif
  for (int64_t u = 0; u < job.count; u++) {
    const int64_t row = job.rows[u], gap = job.now - job.last[row];
    if (gap > 0 && job.adam && gap < SHARED_PLANS) adam_catch_up(job, row, plans[gap]);
    if (gap > 0 && job.adam && gap >= SHARED_PLANS) {
      Plan own;
      plan(job, job.last[row], own);
      adam_catch_up(job, row, own);
    }
    if (gap > 0 && !job.adam && job.first) sgd_catch_up(job, row);
    job.last[row] = job.now;
  }
  std::free(plans);
  return 0;
}

template <class T> int step(const Rows<T>& job) {
  const int64_t t = job.now + 1, E = job.width;
  const T b1 = job.beta1, b2 = job.beta2, eps = job.eps;
  const T size = job.sizes[job.adam ? t : 0], scale = job.adam ? job.scales[t] : 0;
  const T kept = job.offsets ? std::exp(job.logs[t] - job.logs[t - 1]) : 0;
#ifdef _OPENMP
#pragma omp parallel for num_threads(job.threads) schedule(static) if (job.threads > 1)
#endif
  for (int64_t u = 0; u < job.count; u++) {
    const int64_t row = job.rows[u];
    const T* g = job.grad + u * E;
    T* p = job.values + row * E;
    T* m = job.first ? job.first + row * E : nullptr;
    if (job.adam) {
      T* v = job.second + row * E;
      T* x = job.offsets ? job.offsets + row * E : nullptr;
      // A loop of its own, so that the other one has no branch and is the same without an average.
      if (x)
        for (int64_t i = 0; i < E; i++) {
          T first = b1 * m[i] + (1 - b1) * g[i], second = b2 * v[i] + (1 - b2) * g[i] * g[i];
          x[i] = kept * (x[i] + size * first / (std::sqrt(second) * scale + eps));
        }
      for (int64_t i = 0; i < E; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        p[i] -= size * m[i] / (std::sqrt(v[i]) * scale + eps);
      }
    } else if (m) {
      for (int64_t i = 0; i < E; i++) m[i] = b1 * m[i] + g[i], p[i] -= size * m[i];
    } else {
      for (int64_t i = 0; i < E; i++) p[i] -= size * g[i];
    }
    job.last[row] = t;
  }
  return 0;
}

extern "C" {
int celltune_catch_up_f32(const Rows<float>* job) { return catch_up(*job); }
int celltune_catch_up_f64(const Rows<double>* job) { return catch_up(*job); }
int celltune_step_rows_f32(const Rows<float>* job) { return step(*job); }
int celltune_step_rows_f64(const Rows<double>* job) { return step(*job); }
}
