// Things that TypeScript knows by small numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"

namespace cairn {

// Numbers are used again.
template <class T>
class NumberedList {
 public:
  uint32_t Add(std::unique_ptr<T> element) {
    if (free_.empty()) {
      elements_.push_back(std::move(element));
      return static_cast<uint32_t>(elements_.size() - 1);
    }
    uint32_t number = free_.back();
    free_.pop_back();
    elements_[number] = std::move(element);
    return number;
  }
  T* At(uint32_t number) const {
    CHECK(number < elements_.size() && elements_[number] != nullptr);
    return elements_[number].get();
  }
  std::unique_ptr<T> Remove(uint32_t number) {
    T* element = At(number);
    static_cast<void>(element);
    free_.push_back(number);
    return std::move(elements_[number]);
  }
  void RemoveAll() {
    elements_.clear();
    free_.clear();
  }
  template <class Visit>
  void ForEach(Visit visit) {
    for (auto& element : elements_) {
      if (element != nullptr) visit(element.get());
    }
  }

 private:
  std::vector<std::unique_ptr<T>> elements_;
  std::vector<uint32_t> free_;
};

}  // namespace cairn
