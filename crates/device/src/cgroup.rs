//! Memory limits of Linux control groups, which containers and job schedulers set.
//!
//! Formats: <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory> and
//! <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>.

use std::fs;
use std::path::{Path, PathBuf};

/// One limit that holds for this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CgroupMemory {
    pub(crate) limit_bytes: u64,
    /// Held by the group, without file cache that the kernel gives up when asked.
    pub(crate) used_bytes: u64,
}

/// Every limit on the way from this process's groups up to their roots. `root` is `/`, or a copy of it in a test. Empty
/// on other systems and where nothing is limited.
pub(crate) fn read_limits(root: &Path) -> Vec<CgroupMemory> {
    let Ok(groups) = fs::read_to_string(root.join("proc/self/cgroup")) else {
        return Vec::new();
    };
    groups.lines().flat_map(|line| read_hierarchy(root, line)).collect()
}

/// How one version of control groups names its files.
struct Files {
    limit: &'static [&'static str],
    used: &'static str,
    reclaimable: &'static str,
}

const VERSION_1: Files =
    Files { limit: &["memory.limit_in_bytes"], used: "memory.usage_in_bytes", reclaimable: "total_inactive_file" };

/// Above `memory.high` a group is not killed, but slowed to a crawl: for a plan that is a limit as well.
const VERSION_2: Files =
    Files { limit: &["memory.max", "memory.high"], used: "memory.current", reclaimable: "inactive_file" };

/// A line is `number:controllers:path`; version 2 has number 0 and no controllers.
fn read_hierarchy(root: &Path, line: &str) -> Vec<CgroupMemory> {
    let mut fields = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let base = root.join("sys/fs/cgroup");
    let (mounts, files) = if controllers.is_empty() {
        (vec![base.clone(), base.join("unified")], VERSION_2)
    } else if controllers.split(',').any(|controller| controller == "memory") {
        (vec![base.join("memory")], VERSION_1)
    } else {
        return Vec::new();
    };
    let folders = mounts.iter().flat_map(|mount| folders_up_to(mount, path));
    folders.filter_map(|folder| read_group(&folder, &files)).collect()
}

/// The group's folder and all above it, the mount included: in a container the path may be the host's, and only the
/// mount itself is there.
fn folders_up_to(mount: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    if path.contains("..") {
        return vec![mount.to_owned()];
    }
    relative.ancestors().map(|ancestor| mount.join(ancestor)).collect()
}

fn read_group(folder: &Path, files: &Files) -> Option<CgroupMemory> {
    let limit_bytes = files.limit.iter().filter_map(|name| read_number(&folder.join(name))).min()?;
    let used = read_number(&folder.join(files.used)).unwrap_or(0);
    let reclaimable = read_statistic(&folder.join("memory.stat"), files.reclaimable).unwrap_or(0);
    Some(CgroupMemory { limit_bytes, used_bytes: used.saturating_sub(reclaimable) })
}

/// `None` for `max`, which is no limit.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read_statistic(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that stands for `/`, with these files, removed when dropped.
    struct FakeRoot(PathBuf);

    impl FakeRoot {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("device-cgroup-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for FakeRoot {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn version_2_limits_hold_from_the_group_up_to_the_root() {
        let root = FakeRoot::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/jobs/train\n"),
                ("sys/fs/cgroup/jobs/memory.max", "4000\n"),
                ("sys/fs/cgroup/jobs/memory.high", "3500\n"),
                ("sys/fs/cgroup/jobs/memory.current", "1500\n"),
                ("sys/fs/cgroup/jobs/memory.stat", "anon 900\ninactive_file_x 7\ninactive_file 500\n"),
                ("sys/fs/cgroup/jobs/train/memory.max", "max\n"),
                ("sys/fs/cgroup/jobs/train/memory.high", "max\n"),
            ],
        );
        assert_eq!(read_limits(&root.0), [CgroupMemory { limit_bytes: 3500, used_bytes: 1000 }]);
    }

    #[test]
    fn version_1_limits_are_found_at_the_mount_when_the_path_is_the_hosts() {
        let root = FakeRoot::new(
            "v1",
            &[
                ("proc/self/cgroup", "5:cpu,memory:/docker/abc\n4:cpuset:/\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "2500"),
                ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 3000\n"),
            ],
        );
        assert_eq!(read_limits(&root.0), [CgroupMemory { limit_bytes: 9000, used_bytes: 0 }]);
    }

    #[test]
    fn systems_without_control_groups_have_no_limits() {
        assert_eq!(read_limits(Path::new("/nowhere/at/all")), []);
        let root = FakeRoot::new("odd", &[("proc/self/cgroup", "nonsense\n1:memory:/../..\n0::\n")]);
        assert_eq!(read_limits(&root.0), []);
    }
}
