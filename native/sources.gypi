{
  "variables": {
    "cairn_core_sources": [
      "native/base/check.cc",
      "native/base/clock.cc",
      "native/base/hash.cc",
      "native/base/os_common.cc",
      "native/base/os_darwin.cc",
      "native/base/os_linux.cc",
      "native/base/os_windows.cc",
      "native/store/arena.cc",
      "native/store/change_ring.cc",
      "native/store/hash_table.cc",
      "native/store/record.cc",
      "native/store/shard.cc",
      "native/store/shard_memory.cc",
      "native/store/shard_requests.cc",
      "native/store/shard_verify.cc",
      "native/store/shard_walks.cc",
      "native/store/store.cc",
      "native/store/timer_wheel.cc",
      "native/process/flight_table.cc",
      "native/process/janitor.cc",
      "native/process/registry.cc",
      "native/process/removal_ring.cc",
      "native/protocol/execute.cc",
      "native/protocol/held_replies.cc",
      "native/protocol/service.cc",
      "native/protocol/session.cc",
      "native/protocol/stats.cc",
      "native/protocol/text_compose.cc",
      "native/protocol/text_parse.cc",
      "native/protocol/tickets.cc"
    ],
    "cairn_addon_sources": [
      "native/addon/addon.cc",
      "native/addon/answer.cc",
      "native/addon/batch_binding.cc",
      "native/addon/cache_binding.cc",
      "native/addon/convert.cc",
      "native/addon/environment.cc",
      "native/addon/flight_binding.cc",
      "native/addon/many_binding.cc",
      "native/addon/removal_binding.cc",
      "native/addon/session_binding.cc",
      "native/addon/thread_waker.cc",
      "native/addon/walk_binding.cc"
    ],
    "cairn_includes": [
      "native"
    ],
    "cairn_windows_libraries": [
      "bcrypt",
      "synchronization"
    ]
  }
}
