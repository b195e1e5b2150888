// Tokenizing and numbering of texts, behind data_prep/native_tokens.py; compiled at first use.
//
// A text is first spaced, into a buffer where only ' ' and '\n' part tokens, then cut. '\n' stands
// for every blank that wasn't ' ' and for what was replaced by a blank late: a line break of HTML
// has a ' ' in it, and must be found only where basic_english finds it.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace {

enum Kind : uint8_t { PLAIN, DROPPED, APART, BLANK, LATE_BLANK, CLOSES_BREAK, MAYBE_BLANK };

const char LINE_BREAK[] = "<br />";
const size_t BREAK_SIZE = sizeof LINE_BREAK - 1;
const size_t PADDING = 8;  // bytes behind the last blank that may be read

struct Alphabet {
  uint8_t lowered[256];
  Kind kind[256];

  Alphabet(bool lowercase, bool basic_english) {
    for (int byte = 0; byte < 256; ++byte) {
      lowered[byte] = lowercase && byte >= 'A' && byte <= 'Z' ? byte + 32 : byte;
      kind[byte] = PLAIN;
    }
    for (int byte : {9, 10, 11, 12, 13, 28, 29, 30, 31}) kind[byte] = BLANK;
    for (int byte : {0xC2, 0xE1, 0xE2, 0xE3}) kind[byte] = MAYBE_BLANK;
    if (!basic_english) return;
    for (const char* mark = "'.,()!?"; *mark; ++mark) kind[uint8_t(*mark)] = APART;
    kind[uint8_t('"')] = DROPPED;
    kind[uint8_t(';')] = kind[uint8_t(':')] = LATE_BLANK;
    kind[uint8_t('>')] = CLOSES_BREAK;
  }
};

// The size in UTF-8 of the blank beyond ASCII that begins here, as str.isspace() knows them; or 0.
size_t wide_blank(const uint8_t* at, const uint8_t* end) {
  if (at[0] == 0xC2) return end - at >= 2 && (at[1] == 0x85 || at[1] == 0xA0) ? 2 : 0;
  if (end - at < 3) return 0;
  const uint32_t code = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
  const bool blank = code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
                     code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
  return blank ? 3 : 0;
}

// Eight bytes, the first of them lowest.
uint64_t word_at(const uint8_t* text) {
  uint64_t word;
  std::memcpy(&word, text, 8);
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? word : __builtin_bswap64(word);
}

// The highest bit of each byte of the word that is `wanted`, exact up to the first of them.
uint64_t found_in(uint64_t word, char wanted) {
  const uint64_t ones = 0x0101010101010101u, differing = word ^ ones * uint8_t(wanted);
  return (differing - ones) & ~differing & ones << 7;
}

// A token: its first eight bytes, zeros where it has none; where it begins, and its size.
struct Token {
  uint64_t first;
  const uint8_t* text;
  size_t size;

  // The token that begins here and ends before the next blank; reads PADDING bytes behind that.
  explicit Token(const uint8_t* at) : first(word_at(at)), text(at), size(0) {
    uint64_t word = first, blanks;
    while (!(blanks = found_in(word, ' ') | found_in(word, '\n'))) word = word_at(at + (size += 8));
    size += __builtin_ctzll(blanks) / 8;
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

// Distinct tokens, numbered from 0 on in the order of their coming.
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
    int32_t number = -1;  // free
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
  std::string text_;  // every token with a '\n' behind it
  std::vector<size_t> begins_;
  std::vector<uint64_t> hashes_;
};

// Writes at most three bytes for each of the text; gives the end of what was written.
uint8_t* spaced(const Alphabet& alphabet, const uint8_t* at, const uint8_t* end, uint8_t* begin) {
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
      case APART:
        *to++ = ' ', *to++ = byte, *to++ = ' ';
        break;
      case BLANK:
      case LATE_BLANK:
        *to++ = '\n';
        break;
      case CLOSES_BREAK:
        *to++ = byte;
        if (size_t(to - begin) >= BREAK_SIZE && !std::memcmp(to - BREAK_SIZE, LINE_BREAK, BREAK_SIZE))
          to -= BREAK_SIZE, *to++ = '\n';
        break;
      case MAYBE_BLANK:
        if (const size_t size = wide_blank(at - 1, end)) {
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

// texts: n texts in UTF-8, one after the other; ends: where each ends. Those with letters beyond
// ASCII must be lower-cased already if `lowercase`; none may have 2^30 bytes. ids has room for as many numbers as texts has
// bytes; counts gets each text's number of tokens. Gives the distinct tokens, or null without
// memory; celltune_tokens_free takes them back.
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
    const uint8_t* stop = spaced(alphabet, texts + begin, texts + ends[text], buffer.data());
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

// The distinct tokens in the order of their numbers, a '\n' behind each; and how many bytes.
const char* celltune_tokens_text(const void* numbers, int64_t* size) {
  const std::string& text = static_cast<const Numbers*>(numbers)->text();
  *size = int64_t(text.size());
  return text.data();
}

void celltune_tokens_free(void* numbers) { delete static_cast<Numbers*>(numbers); }
}
