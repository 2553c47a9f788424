// Lists whose links are in their elements: an element is in at most one list per link, and leaves in O(1).
#pragma once

#include <cstddef>

namespace cairn {

template <class T>
struct ListLink {
  ListLink* before = nullptr;
  ListLink* after = nullptr;
  T* element = nullptr;

  bool is_linked() const { return before != nullptr; }
  void Unlink() {
    if (!is_linked()) return;
    before->after = after;
    after->before = before;
    before = after = nullptr;
  }
};

template <class T>
class LinkedList {
 public:
  LinkedList() { head_.before = head_.after = &head_; }
  LinkedList(const LinkedList&) = delete;
  LinkedList& operator=(const LinkedList&) = delete;

  bool empty() const { return head_.after == &head_; }
  bool has_one() const { return !empty() && head_.after == head_.before; }
  void PushBack(ListLink<T>* link, T* element) {
    if (link->is_linked()) return;
    link->element = element;
    link->before = head_.before;
    link->after = &head_;
    head_.before->after = link;
    head_.before = link;
  }
  T* PopFront() {
    ListLink<T>* link = head_.after;
    link->Unlink();
    return link->element;
  }
  T* front() const { return head_.after->element; }
  // All elements go to the end of another list, which is empty.
  void MoveTo(LinkedList* other) {
    if (empty()) return;
    other->head_.before = head_.before;
    other->head_.after = head_.after;
    head_.before->after = &other->head_;
    head_.after->before = &other->head_;
    head_.before = head_.after = &head_;
  }

 private:
  ListLink<T> head_;
};

}  // namespace cairn
