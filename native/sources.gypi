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
      "native/store/record.cc"
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
