// The limits of control groups, read from made-up trees like those that systemd, Docker and Kubernetes build.
#include "base/cgroup.h"

#if defined(__linux__)

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "test.h"

namespace cairn {
namespace {

constexpr uint64_t kNone = CgroupLimits::kNone;

struct CgroupTest {
  CgroupTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cairn-cgroup-XXXXXX").string();
    EXPECT_TRUE(mkdtemp(pattern.data()) != nullptr) << "no temporary folder";
    root = pattern;
  }
  ~CgroupTest() {
    std::error_code ignored;  // what is left lies in the system's folder for such things
    std::filesystem::remove_all(root, ignored);
  }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root + "/" + path;
    std::error_code error;
    std::filesystem::create_directories(file.parent_path(), error);
    std::ofstream(file) << text;
  }

  CgroupLimits Read() { return ReadCgroupLimits((root + "/membership").c_str(), (root + "/sys").c_str()); }

  std::string root;
};

TEST_F(CgroupTest, NoGroupsNoLimits) {
  EXPECT_EQ(Read().memory_bytes, kNone);
  EXPECT_EQ(Read().cpu_count, kNone);
  Write("membership", "0::/user.slice\n");
  EXPECT_EQ(Read().memory_bytes, kNone);
  EXPECT_EQ(Read().cpu_count, kNone);
}

TEST_F(CgroupTest, Version2InAContainer) {
  Write("membership", "0::/\n");
  Write("sys/memory.max", "536870912\n");
  Write("sys/cpu.max", "150000 100000\n");
  EXPECT_EQ(Read().memory_bytes, 512u << 20);
  EXPECT_EQ(Read().cpu_count, 2u) << "one and a half, rounded up";
}

TEST_F(CgroupTest, Version2WithoutALimitSaysMax) {
  Write("membership", "0::/system.slice/app.service\n");
  Write("sys/system.slice/app.service/memory.max", "max\n");
  Write("sys/system.slice/app.service/cpu.max", "max 100000\n");
  EXPECT_EQ(Read().memory_bytes, kNone);
  EXPECT_EQ(Read().cpu_count, kNone);
}

TEST_F(CgroupTest, TheTightestAncestorCounts) {
  Write("membership", "0::/a/b/c\n");
  Write("sys/a/memory.max", "1000000\n");
  Write("sys/a/b/memory.max", "max\n");
  Write("sys/a/b/c/memory.max", "2000000\n");
  Write("sys/a/cpu.max", "400000 100000\n");
  Write("sys/a/b/cpu.max", "300000 100000\n");
  Write("sys/a/b/c/cpu.max", "max 100000\n");
  EXPECT_EQ(Read().memory_bytes, 1000000u);
  EXPECT_EQ(Read().cpu_count, 3u);
}

TEST_F(CgroupTest, AGroupOfTheHostThatTheContainerCannotSee) {
  Write("membership", "0::/kubepods.slice/pod1/container1\n");
  Write("sys/memory.max", "268435456\n");
  Write("sys/cpu.max", "50000 100000\n");
  EXPECT_EQ(Read().memory_bytes, 256u << 20);
  EXPECT_EQ(Read().cpu_count, 1u) << "half a processor is one";
}

TEST_F(CgroupTest, Version1) {
  Write("membership",
        "12:memory:/docker/abc\n11:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n");
  Write("sys/memory/docker/abc/memory.limit_in_bytes", "1073741824\n");
  Write("sys/memory/memory.limit_in_bytes", "9223372036854771712\n");
  Write("sys/cpu/docker/abc/cpu.cfs_quota_us", "200000\n");
  Write("sys/cpu/docker/abc/cpu.cfs_period_us", "100000\n");
  Write("sys/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Read().memory_bytes, 1u << 30);
  EXPECT_EQ(Read().cpu_count, 2u);
}

TEST_F(CgroupTest, Version1WithoutALimitSaysMinusOne) {
  Write("membership", "4:cpuacct,cpu:/\n");
  Write("sys/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Read().cpu_count, kNone);
}

TEST_F(CgroupTest, BothVersionsAtOnce) {
  Write("membership", "5:memory:/app\n0::/app\n");
  Write("sys/memory/app/memory.limit_in_bytes", "700000000\n");
  Write("sys/app/memory.max", "600000000\n");
  EXPECT_EQ(Read().memory_bytes, 600000000u);
}

TEST_F(CgroupTest, NonsenseIsNoLimit) {
  Write("membership", "\n:\nx:y\n0::\n0:::\n::/a:b\nno colons here\n7:memory,,cpu,:/a\n0::/a\n");
  for (const char* text : {"", "\n", "twelve", "12x", "99999999999999999999999999", "-5", " ", "1 2 3"}) {
    Write("sys/a/memory.max", text);
    Write("sys/a/cpu.max", text);
    Write("sys/memory/a/memory.limit_in_bytes", text);
    Write("sys/cpu/a/cpu.cfs_quota_us", text);
    Write("sys/cpu/a/cpu.cfs_period_us", text);
    // "1 2 3" is a quota of 1 in a period of 2, and a limit of 1 byte.
    const bool meaningful = std::string(text) == "1 2 3";
    EXPECT_EQ(Read().memory_bytes, meaningful ? 1 : kNone) << text;
    EXPECT_EQ(Read().cpu_count, meaningful ? 1 : kNone) << text;
  }
  Write("sys/a/cpu.max", "100000 0\n");
  Write("sys/cpu/a/cpu.cfs_period_us", "0\n");
  EXPECT_EQ(Read().cpu_count, kNone) << "a period of nothing";
}

}  // namespace
}  // namespace cairn

#endif  // defined(__linux__)
