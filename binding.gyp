{
  "includes": ["native/sources.gypi"],
  "targets": [
    {
      "target_name": "cairn",
      "sources": ["<@(cairn_core_sources)", "<@(cairn_addon_sources)"],
      "include_dirs": ["<@(cairn_includes)", "<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc": ["-std=c++20", "-O3", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
      "conditions": [
        ["OS=='linux'", { "ldflags": ["-Wl,-z,nodelete", "-Wl,-z,now", "-Wl,-z,relro"] }],
        [
          "OS=='win'",
          {
            "defines": ["NOMINMAX", "WIN32_LEAN_AND_MEAN", "_WIN32_WINNT=0x0A00", "_HAS_EXCEPTIONS=0"],
            "libraries": ["-lbcrypt.lib", "-lsynchronization.lib"]
          }
        ]
      ],
      "xcode_settings": {
        "CLANG_CXX_LANGUAGE_STANDARD": "c++20",
        "GCC_ENABLE_CPP_EXCEPTIONS": "NO",
        "GCC_ENABLE_CPP_RTTI": "NO",
        "GCC_OPTIMIZATION_LEVEL": "3",
        "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
        "MACOSX_DEPLOYMENT_TARGET": "11.0"
      },
      "msvs_settings": {
        "VCCLCompilerTool": { "AdditionalOptions": ["/std:c++20"], "ExceptionHandling": 0, "RuntimeTypeInfo": "false" }
      }
    }
  ]
}
