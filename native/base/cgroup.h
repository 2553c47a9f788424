// The limits that Linux control groups set for this process (man 7 cgroups; the kernel's admin-guide/cgroup-v2.rst and
// cgroup-v1/). Only os_linux.cc uses it; it has a header for the sake of its tests.
#pragma once

#include <cstdint>

namespace cairn {

struct CgroupLimits {
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t memory_bytes = kNone;
  // Processors worth of time that the group may use, rounded up.
  uint64_t cpu_count = kNone;
};

// The smallest limits of the groups named in `membership_file` (/proc/self/cgroup) and of all their ancestors, of both
// versions, as far as they can be read below `mount` (/sys/fs/cgroup). Where a container shows its own group as the
// root of the mount while the membership is that of the host, the root counts.
CgroupLimits ReadCgroupLimits(const char* membership_file, const char* mount);

}  // namespace cairn
