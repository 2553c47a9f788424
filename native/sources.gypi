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
      "native/store/hash_table.cc",
      "native/store/record.cc",
      "native/store/shard.cc",
      "native/store/store.cc",
      "native/store/timer_wheel.cc"
    ],
    "cairn_addon_sources": [],
    "cairn_includes": [
      "native"
    ],
    "cairn_windows_libraries": [
      "bcrypt",
      "synchronization"
    ]
  }
}
