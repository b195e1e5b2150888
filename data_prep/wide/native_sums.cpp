// Adds up the weights of the n-grams of texts for native_sums.py; compiled on first use.
//
// Most of the time is spent on waiting for memory, because the tables of a large model do not fit
// into the processor's caches. Look-ups are therefore requested in advance, the features of a chunk
// are looked up once per call, and repeated features are found in a small table.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace {

// The kind of a character; matches native_sums.py.
enum Kind : uint8_t { UNCLASSIFIED, SPACE, WORD, MARK };

const uint32_t PADDING = ' ';  // before and after a chunk

// Characters of a text.
struct Span {
  const uint32_t* begin;
  size_t size;

  bool operator==(const Span& other) const {
    return size == other.size && !std::memcmp(begin, other.begin, size * sizeof *begin);
  }

  uint64_t hash() const {
    uint64_t hash = size;
    for (size_t at = 0; at < size; ++at) {
      hash = (hash ^ begin[at]) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 32;
    }
    return hash;
  }
};

// Distinct strings, numbered from 0 in the order in which they are added (open addressing). The
// characters belong to the caller.
class Strings {
 public:
  Strings() : slots_(size_t(1) << 12) {}

  // Returns the number of a string, or -1.
  int32_t find(const Span& string) const { return slots_[slot_of(string, string.hash())].number; }

  // Returns the number of a string, which is `size()` before the call if it is new.
  int32_t add(const Span& string) {
    const uint64_t hash = string.hash();
    Slot& slot = slots_[slot_of(string, hash)];
    if (slot.number >= 0) return slot.number;
    const int32_t number = size_++;
    slot = Slot{string, hash, number};
    if (2 * size_t(size_) > slots_.size()) grow();
    return number;
  }

  int32_t size() const { return size_; }

 private:
  struct Slot {
    Span string{};
    uint64_t hash = 0;
    int32_t number = -1;  // -1: empty slot
  };

  size_t slot_of(const Span& string, uint64_t hash) const {
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].number >= 0 && !(slots_[at].hash == hash && slots_[at].string == string))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  void grow() {
    std::vector<Slot> wider(2 * slots_.size());
    for (const Slot& slot : slots_) {
      if (slot.number < 0) continue;
      size_t at = slot.hash & (wider.size() - 1);
      while (wider[at].number >= 0) at = (at + 1) & (wider.size() - 1);
      wider[at] = slot;
    }
    slots_.swap(wider);
  }

  std::vector<Slot> slots_;
  int32_t size_ = 0;
};

// The n-grams of one kind (ngrams.py); matches native_sums.py.
struct Table {
  int64_t symbols, levels;
  const int64_t* sizes;  // number of keys of each length from 2
  const int64_t* keys;   // all keys, by length
  int64_t shortest;      // length of the shortest features
  int64_t first_feature;
};

// A model; matches native_sums.py.
struct Arrays {
  const uint32_t* words;  // code points of the known words, concatenated
  const int64_t* word_ends;
  const int32_t* characters;  // symbol of each code point below `code_points`, or -1
  int64_t code_points;        // 0: no n-grams of characters
  Table of_words, of_characters;
  const float* weights;  // (outputs, features)
  int64_t features, outputs;
};

// Finds n-grams: a hash table from a prefix and a last symbol to a node. Nodes are numbered by
// length, then by key.
class Trie {
 public:
  explicit Trie(const Table& table) : levels_(table.levels) {
    int64_t total = 0, hidden = table.shortest > 1 ? table.symbols : 0;
    for (int64_t level = 0; level < levels_; ++level) {
      total += table.sizes[level];
      if (level + 2 < table.shortest) hidden += table.sizes[level];
    }
    hidden_ = int32_t(hidden);
    first_feature_ = int32_t(table.first_feature);
    size_t size = 2;
    while (size < 2 * size_t(total)) size *= 2;
    slots_.resize(size);
    const int64_t* key = table.keys;
    int64_t prefixes = 0, node = table.symbols;
    for (int64_t level = 0; level < levels_; ++level) {
      const int64_t first = node;
      for (const int64_t* end = key + table.sizes[level]; key < end; ++key)
        insert(packed(prefixes + *key / table.symbols, *key % table.symbols), int32_t(node++));
      prefixes = first;
    }
  }

  // Appends the features in a sequence of symbols, of which negative ones are unknown. Changes the
  // symbols' copy `nodes`.
  void append(const std::vector<int32_t>& symbols, std::vector<int32_t>& nodes,
              std::vector<int32_t>& features) const {
    nodes = symbols;
    append_features(nodes, features);
    for (int64_t level = 1; level <= levels_; ++level) {
      const size_t count = symbols.size() > size_t(level) ? symbols.size() - level : 0;
      nodes.resize(count);
      // The slots of all n-grams are requested from memory before the first is read.
      for (size_t at = 0; at < count; ++at)
        if (is_known(nodes[at], symbols[at + level]))
          __builtin_prefetch(&slots_[first_slot(packed(nodes[at], symbols[at + level]))]);
      for (size_t at = 0; at < count; ++at)
        nodes[at] = is_known(nodes[at], symbols[at + level])
                        ? find(packed(nodes[at], symbols[at + level]))
                        : -1;
      append_features(nodes, features);
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    int32_t node = -1;  // -1: empty slot
  };

  static bool is_known(int32_t node, int32_t symbol) { return node >= 0 && symbol >= 0; }

  static uint64_t packed(int64_t prefix, int64_t symbol) {
    return uint64_t(prefix) << 32 | uint64_t(symbol);
  }

  size_t first_slot(uint64_t key) const {
    const uint64_t hash = key * 0x9E3779B97F4A7C15u;
    return (hash ^ hash >> 32) & (slots_.size() - 1);
  }

  void insert(uint64_t key, int32_t node) {
    size_t at = first_slot(key);
    while (slots_[at].node >= 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at].key = key;
    slots_[at].node = node;
  }

  int32_t find(uint64_t key) const {
    size_t at = first_slot(key);
    while (slots_[at].node >= 0 && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    return slots_[at].node;
  }

  void append_features(const std::vector<int32_t>& nodes, std::vector<int32_t>& features) const {
    for (const int32_t node : nodes)
      if (node >= hidden_) features.push_back(node - hidden_ + first_feature_);
  }

  int64_t levels_;
  int32_t hidden_, first_feature_;
  std::vector<Slot> slots_;
};

struct Model {
  explicit Model(const Arrays& arrays)
      : arrays(arrays), of_words(arrays.of_words), of_characters(arrays.of_characters) {
    for (int64_t word = 0, begin = 0; word < arrays.of_words.symbols;
         begin = arrays.word_ends[word++])
      words.add(Span{arrays.words + begin, size_t(arrays.word_ends[word] - begin)});
  }

  const Arrays arrays;
  const Trie of_words, of_characters;
  Strings words;
};

// Distinct features of a text, in the order in which they were added. The table is small enough for
// the processor's cache, unlike an array with a value for each feature of the model.
class Distinct {
 public:
  Distinct() : slots_(size_t(1) << 13, -1) {}

  void add(int32_t feature) {
    int32_t& slot = slot_of(feature);
    if (slot == feature) return;
    slot = feature;
    features_.push_back(feature);
    if (2 * features_.size() > slots_.size()) {
      slots_.assign(2 * slots_.size(), -1);
      for (const int32_t each : features_) slot_of(each) = each;
    }
  }

  void clear() {
    features_.clear();
    std::fill(slots_.begin(), slots_.end(), -1);
  }

  const std::vector<int32_t>& features() const { return features_; }

 private:
  int32_t& slot_of(int32_t feature) {
    const size_t last = slots_.size() - 1;
    size_t at = (uint32_t(feature) * 0x9E3779B1u >> 8) & last;
    while (slots_[at] >= 0 && slots_[at] != feature) at = (at + 1) & last;
    return slots_[at];
  }

  std::vector<int32_t> slots_;
  std::vector<int32_t> features_;
};

// Reads the texts of a call.
class Reader {
 public:
  Reader(const Model& model, const uint8_t* kinds) : model_(model), kinds_(kinds) {}

  // Sets the sums of a text, one for each output.
  void read(const Span& text, double* sums) {
    ++text_;
    std::fill(sums, sums + model_.arrays.outputs, 0.0);
    add_words(text);
    add_weights(sums);
    if (!model_.arrays.code_points) return;
    add_chunks(text);
    add_weights(sums);
  }

 private:
  void add_words(const Span& text) {
    symbols_.clear();
    for (size_t at = 0; at < text.size;) {
      const size_t begin = at;
      const Kind kind = kind_of(text, at++);
      if (kind == SPACE) continue;
      while (kind == WORD && at < text.size && kind_of(text, at) == WORD) ++at;
      symbols_.push_back(model_.words.find(Span{text.begin + begin, at - begin}));
    }
    of_text_.clear();
    model_.of_words.append(symbols_, nodes_, of_text_);
    for (const int32_t feature : of_text_) found_.add(feature);
  }

  void add_chunks(const Span& text) {
    for (size_t at = 0; at < text.size;) {
      const size_t begin = at;
      if (kind_of(text, at++) == SPACE) continue;
      while (at < text.size && kind_of(text, at) != SPACE) ++at;
      const Span chunk{text.begin + begin, at - begin};
      const int32_t number = chunks_.add(chunk);
      if (size_t(number) == last_texts_.size()) append_chunk(chunk);
      if (last_texts_[number] == text_) continue;
      last_texts_[number] = text_;
      for (size_t item = bounds_[number]; item < bounds_[number + 1]; ++item)
        found_.add(of_chunks_[item]);
    }
  }

  // Finds the features of a chunk that no earlier text contains.
  void append_chunk(const Span& chunk) {
    symbols_.clear();
    symbols_.push_back(character(PADDING));
    for (size_t at = 0; at < chunk.size; ++at) symbols_.push_back(character(chunk.begin[at]));
    symbols_.push_back(character(PADDING));
    model_.of_characters.append(symbols_, nodes_, of_chunks_);
    bounds_.push_back(of_chunks_.size());
    last_texts_.push_back(0);
  }

  // Adds the scaled weights of the features that were found since the last call.
  void add_weights(double* sums) {
    const std::vector<int32_t>& features = found_.features();
    const double scale = 1 / std::sqrt(double(std::max<size_t>(features.size(), 1)));
    for (int64_t output = 0; output < model_.arrays.outputs; ++output) {
      const float* weights = model_.arrays.weights + output * model_.arrays.features;
      double sum = 0;
      for (const int32_t feature : features) sum += weights[feature];
      sums[output] += sum * scale;
    }
    found_.clear();
  }

  Kind kind_of(const Span& text, size_t at) const { return Kind(kinds_[text.begin[at]]); }

  int32_t character(uint32_t code) const {
    return code < model_.arrays.code_points ? model_.arrays.characters[code] : -1;
  }

  const Model& model_;
  const uint8_t* kinds_;
  int32_t text_ = 0;  // number of the text, from 1
  Strings chunks_;
  std::vector<int32_t> last_texts_;   // of each chunk, the last text that contains it
  std::vector<int32_t> of_chunks_;    // features of all chunks
  std::vector<size_t> bounds_ = {0};  // begin of the features of each chunk; and the last end
  std::vector<int32_t> symbols_, nodes_, of_text_;
  Distinct found_;
};

}  // namespace

extern "C" {

// Returns a model, which celltune_wide_free frees, or null if memory is exhausted. The arrays have
// to outlive it.
void* celltune_wide_model(const Arrays* arrays) try {
  return new Model(*arrays);
} catch (const std::bad_alloc&) {
  return nullptr;
}

void celltune_wide_free(void* model) { delete static_cast<Model*>(model); }

// Computes the product of the features of n texts and their weights.
//
// codes: the code points of the normalized texts, concatenated.
// ends: end of each text.
// kinds: kind of each code point that occurs.
// sums: output, (n, outputs).
//
// Returns 0, or 1 if memory is exhausted.
int celltune_wide_sums(const void* handle, const uint32_t* codes, const int64_t* ends, int64_t n,
                       const uint8_t* kinds, double* sums) try {
  const Model& model = *static_cast<const Model*>(handle);
  Reader reader(model, kinds);
  for (int64_t text = 0, begin = 0; text < n; begin = ends[text++])
    reader.read(Span{codes + begin, size_t(ends[text] - begin)},
                sums + text * model.arrays.outputs);
  return 0;
} catch (const std::bad_alloc&) {
  return 1;
}
}
