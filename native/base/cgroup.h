// The limits that Linux control groups set for this process (man 7 cgroups; the kernel's admin-guide/cgroup-v2.rst and
// cgroup-v1/). Only os_linux.cc and its tests use it.
#pragma once

#include <cstdint>

namespace cairn {

struct CgroupLimits {
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t memory_bytes = kNone;
  // The processor time that the group may use, as a number of processors, rounded up.
  uint64_t cpu_count = kNone;
};

// The smallest limits of the groups named in `membership_file` (/proc/self/cgroup) and of all their ancestors, in both
// versions, as far as they can be read below `mount` (/sys/fs/cgroup). If a container sees its own group as the root of
// the mount, but the host's membership, the root's limits are used.
CgroupLimits ReadCgroupLimits(const char* membership_file, const char* mount);

}  // namespace cairn
