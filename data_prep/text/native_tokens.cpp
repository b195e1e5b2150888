// Tokenizes and numbers texts for native_tokens.py; compiled on first use.
//
// A text is first rewritten into a buffer in which tokens are separated by ' ' or '\n', then cut.
// '\n' represents all whitespace other than ' ', and characters that basic_english replaces by a
// space after it has removed line breaks. The two are distinguished because the line break "<br />"
// contains a ' ' and may only be found where basic_english finds it.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {

// The effect of a byte. SEPARATED: a token of its own. LATE_SPACE: replaced by a space after line
// breaks were removed. ENDS_BREAK: '>', the end of a line break. MAYBE_SPACE: first byte of a UTF-8
// sequence that may be whitespace.
enum Kind : uint8_t { PLAIN, DROPPED, SEPARATED, SPACE, LATE_SPACE, ENDS_BREAK, MAYBE_SPACE };

const char LINE_BREAK[] = "<br />";
const size_t BREAK_SIZE = sizeof LINE_BREAK - 1;
const size_t PADDING = 8;  // bytes that may be read after the last separator

struct Alphabet {
  uint8_t lowered[256];
  Kind kind[256];

  Alphabet(bool lowercase, bool basic_english) {
    for (int byte = 0; byte < 256; ++byte) {
      lowered[byte] = lowercase && byte >= 'A' && byte <= 'Z' ? byte + 32 : byte;
      kind[byte] = PLAIN;
    }
    for (int byte : {9, 10, 11, 12, 13, 28, 29, 30, 31}) kind[byte] = SPACE;
    for (int byte : {0xC2, 0xE1, 0xE2, 0xE3}) kind[byte] = MAYBE_SPACE;
    if (!basic_english) return;
    for (const char* mark = "'.,()!?"; *mark; ++mark) kind[uint8_t(*mark)] = SEPARATED;
    kind[uint8_t('"')] = DROPPED;
    kind[uint8_t(';')] = kind[uint8_t(':')] = LATE_SPACE;
    kind[uint8_t('>')] = ENDS_BREAK;
  }
};

// Returns the UTF-8 size of the non-ASCII whitespace character (as defined by str.isspace) at `at`,
// or 0 if there is none.
size_t wide_space(const uint8_t* at, const uint8_t* end) {
  if (at[0] == 0xC2) return end - at >= 2 && (at[1] == 0x85 || at[1] == 0xA0) ? 2 : 0;
  if (end - at < 3) return 0;
  const uint32_t code = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
  const bool space = code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
                     code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
  return space ? 3 : 0;
}

// Returns eight bytes as an integer, the first byte lowest.
uint64_t word_at(const uint8_t* text) {
  uint64_t word;
  std::memcpy(&word, text, 8);
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap64(word);
}

// Sets the highest bit of each byte that equals `wanted`; only bits up to the first match are
// exact.
uint64_t matches(uint64_t word, char wanted) {
  const uint64_t ones = 0x0101010101010101u, differing = word ^ ones * uint8_t(wanted);
  return (differing - ones) & ~differing & ones << 7;
}

// A token: its first eight bytes (padded with zeros), its start and its size.
struct Token {
  uint64_t first;
  const uint8_t* text;
  size_t size;

  // The token from `at` to the next separator; reads up to PADDING bytes after the separator.
  explicit Token(const uint8_t* at) : first(word_at(at)), text(at), size(0) {
    uint64_t word = first, separators;
    while (!(separators = matches(word, ' ') | matches(word, '\n')))
      word = word_at(at + (size += 8));
    size += __builtin_ctzll(separators) / 8;
    if (size < 8) first &= (uint64_t(1) << 8 * size) - 1;
  }

  uint64_t hash() const {
    uint64_t hash = mixed(size, first);
    for (size_t at = 8; at < size; at += 8) {
      const uint64_t word = word_at(text + at), left = size - at;
      hash = mixed(hash, left < 8 ? word & ((uint64_t(1) << 8 * left) - 1) : word);
    }
    return hash;
  }

 private:
  static uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
  }
};

// Distinct tokens, numbered from 0 in the order of first occurrence (open-addressing hash table).
class Numbers {
 public:
  Numbers() : slots_(size_t(1) << 16) {}

  int32_t of(const Token& token) {
    const size_t last = slots_.size() - 1;
    const uint64_t hash = token.hash();
    size_t at = hash & last;
    for (; slots_[at].number >= 0; at = (at + 1) & last)
      if (same(slots_[at], token)) return slots_[at].number;
    const int32_t number = int32_t(begins_.size());
    slots_[at] = Slot{token.first, uint32_t(token.size), number};
    begins_.push_back(text_.size());
    hashes_.push_back(hash);
    text_.append(reinterpret_cast<const char*>(token.text), token.size).push_back('\n');
    if (2 * begins_.size() > slots_.size()) grow();
    return number;
  }

  const std::string& text() const { return text_; }

 private:
  struct Slot {
    uint64_t first = 0;
    uint32_t size = 0;
    int32_t number = -1;  // -1: empty slot
  };

  bool same(const Slot& slot, const Token& token) const {
    return slot.first == token.first && slot.size == uint32_t(token.size) &&
           (token.size <= 8 || !std::memcmp(&text_[begins_[slot.number]], token.text, token.size));
  }

  void grow() {
    std::vector<Slot> wider(2 * slots_.size());
    for (const Slot& slot : slots_) {
      if (slot.number < 0) continue;
      size_t at = hashes_[slot.number] & (wider.size() - 1);
      while (wider[at].number >= 0) at = (at + 1) & (wider.size() - 1);
      wider[at] = slot;
    }
    slots_.swap(wider);
  }

  std::vector<Slot> slots_;
  std::string text_;  // all tokens, each followed by '\n'
  std::vector<size_t> begins_;
  std::vector<uint64_t> hashes_;
};

// Rewrites a text into at most three bytes per byte plus one; returns the end of the output.
uint8_t* separate(const Alphabet& alphabet, const uint8_t* at, const uint8_t* end, uint8_t* begin) {
  uint8_t* to = begin;
  while (at < end) {
    const uint8_t byte = *at++;
    switch (alphabet.kind[byte]) {
      case PLAIN:
        *to++ = alphabet.lowered[byte];
        while (at < end && alphabet.kind[*at] == PLAIN) *to++ = alphabet.lowered[*at++];
        break;
      case DROPPED:
        break;
      case SEPARATED:
        *to++ = ' ', *to++ = byte, *to++ = ' ';
        break;
      case SPACE:
      case LATE_SPACE:
        *to++ = '\n';
        break;
      case ENDS_BREAK:
        *to++ = byte;
        if (size_t(to - begin) >= BREAK_SIZE &&
            !std::memcmp(to - BREAK_SIZE, LINE_BREAK, BREAK_SIZE))
          to -= BREAK_SIZE, *to++ = '\n';
        break;
      case MAYBE_SPACE:
        if (const size_t size = wide_space(at - 1, end)) {
          at += size - 1;
          *to++ = '\n';
        } else {
          *to++ = byte;
        }
    }
  }
  *to++ = '\n';
  return to;
}

}  // namespace

extern "C" {

// Tokenizes and numbers n texts.
//
// texts: the texts in UTF-8, concatenated; each is smaller than 2^30 bytes. If `lowercase`, texts
//     with non-ASCII characters are lower-case already.
// ends: end of each text.
// ids: output, one number per token; has the size of `texts`.
// counts: output, number of tokens of each text.
//
// Returns the distinct tokens, which celltune_tokens_free frees, or null if memory is exhausted.
void* celltune_tokens_index(const uint8_t* texts, const int64_t* ends, int64_t n, int lowercase,
                            int basic_english, int32_t* ids, int64_t* counts) try {
  const Alphabet alphabet(lowercase, basic_english);
  auto numbers = std::make_unique<Numbers>();
  std::vector<uint8_t> buffer;
  int64_t begin = 0;
  for (int64_t text = 0; text < n; begin = ends[text++]) {
    const size_t size = size_t(ends[text] - begin);
    if (size >> 30) return nullptr;
    buffer.resize(std::max(buffer.size(), 3 * size + 1 + PADDING));
    const uint8_t* at = buffer.data();
    const uint8_t* stop = separate(alphabet, texts + begin, texts + ends[text], buffer.data());
    const int32_t* first = ids;
    while (at < stop) {
      const Token token(at);
      if (token.size) *ids++ = numbers->of(token);
      at += token.size + 1;
    }
    counts[text] = ids - first;
  }
  return numbers.release();
} catch (const std::bad_alloc&) {
  return nullptr;
}

// Returns the distinct tokens in the order of their numbers, each followed by '\n'; sets the size.
const char* celltune_tokens_text(const void* numbers, int64_t* size) {
  const std::string& text = static_cast<const Numbers*>(numbers)->text();
  *size = int64_t(text.size());
  return text.data();
}

void celltune_tokens_free(void* numbers) { delete static_cast<Numbers*>(numbers); }
}
