//! How much memory this process may use, as Linux tells it: the machine's, or less by its control group.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// The bytes that this process may use, from the system's files under `root` (`/`, unless in a test). `None` where they don't
/// tell.
pub(crate) fn memory(root: &Path) -> Option<u64> {
    [host(root), control_group(root)].into_iter().flatten().min()
}

fn host(root: &Path) -> Option<u64> {
    let text = read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit of the process's control groups and of those around them. Both versions may be there at once.
fn control_group(root: &Path) -> Option<u64> {
    let groups = read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.is_empty() {
            limits_along(&root.join("sys/fs/cgroup"), path, &["memory.max", "memory.high"], &mut limits);
        } else if controllers.split(',').any(|controller| controller == "memory") {
            limits_along(&root.join("sys/fs/cgroup/memory"), path, &["memory.limit_in_bytes"], &mut limits);
        }
    }
    limits.into_iter().min()
}

/// The limits of a group and of each group around it. In a container the path may be the host's, which is not to be seen
/// from inside, while the mount's own root is the container's group: that is looked at in any case.
fn limits_along(mount: &Path, path: &str, files: &[&str], limits: &mut Vec<u64>) {
    let mut folder: PathBuf = mount.join(path.trim_start_matches('/'));
    loop {
        for file in files {
            // `max` is no limit.
            let text = read_to_string(folder.join(file)).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>().ok().filter(|bytes| *bytes > 0));
        }
        if folder == mount || !folder.pop() || !folder.starts_with(mount) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        memory(root.path())
    }

    const HOST: (&str, &str) = ("proc/meminfo", "MemTotal:       67108864 kB\nMemFree:  1 kB\n");

    #[test]
    fn a_machine_without_groups_has_its_memory() {
        assert_eq!(machine(&[HOST]), Some(64 * GIB));
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[("proc/meminfo", "nonsense")]), None);
    }

    #[test]
    fn a_group_of_version_2_or_one_around_it_limits_memory() {
        let of = ("proc/self/cgroup", "0::/pods/one\n");
        let inner = |text| ("sys/fs/cgroup/pods/one/memory.max", text);
        assert_eq!(machine(&[HOST, of, inner("4294967296\n")]), Some(4 * GIB));
        assert_eq!(machine(&[HOST, of, inner("max\n")]), Some(64 * GIB));
        let outer = ("sys/fs/cgroup/pods/memory.max", "2147483648\n");
        assert_eq!(machine(&[HOST, of, inner("4294967296\n"), outer]), Some(2 * GIB));
        let high = ("sys/fs/cgroup/pods/one/memory.high", "1073741824\n");
        assert_eq!(machine(&[HOST, of, inner("4294967296\n"), high]), Some(GIB));
        // Inside a container: the mount's root is the group.
        let root = ("sys/fs/cgroup/memory.max", "3221225472\n");
        assert_eq!(machine(&[HOST, ("proc/self/cgroup", "0::/\n"), root]), Some(3 * GIB));
        assert_eq!(machine(&[HOST, ("proc/self/cgroup", "0::/../../elsewhere\n"), root]), Some(3 * GIB));
    }

    #[test]
    fn a_group_of_version_1_limits_memory() {
        let of = ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/abc\n");
        let limit = |text| ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", text);
        assert_eq!(machine(&[HOST, of, limit("1073741824\n")]), Some(GIB));
        assert_eq!(machine(&[HOST, of, limit("9223372036854771712\n")]), Some(64 * GIB));
        // The path is the host's; the container sees its group as the root.
        let root = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        assert_eq!(machine(&[HOST, of, root]), Some(GIB / 2));
    }
}
