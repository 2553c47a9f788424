// The values among the replies of a call that leave from their entries, without a copy, at places between the bytes
// that the call appends to `out`:
//
//   out      |VALUE a 0 100000\r\n|\r\nVALUE b 0 50000\r\n|\r\nEND\r\n|
//   values                        ^ a: pinned             ^ b: pinned
//
// A front that sends from several places gives its workbench such a list, and takes from it what each call has put
// there; without a list all values are copied.
//
// Ownership: who takes a value from the list unpins it once it has left, or its client has.
// Not thread-safe: it is its workbench's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "store/request.h"

namespace cairn {

struct PinnedValue {
  size_t at = 0;  // the bytes of `out` before it
  size_t bytes = 0;
  Pin pin;
};

class PinnedValues {
 public:
  bool empty() const { return values_.empty(); }
  size_t bytes() const { return bytes_; }
  void Add(const PinnedValue& value) {
    values_.push_back(value);
    bytes_ += value.bytes;
  }
  // Takes all, in their order. The list is empty then, and keeps its memory.
  template <class Visit>
  void TakeAll(Visit visit) {
    for (const PinnedValue& value : values_) visit(value);
    values_.clear();
    bytes_ = 0;
  }

 private:
  std::vector<PinnedValue> values_;
  size_t bytes_ = 0;
};

}  // namespace cairn
