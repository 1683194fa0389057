//! How much memory there is for this process, as far as the system says.
//!
//! On Linux a control group may allow less than the machine has. The page cache of a group counts
//! towards its limit. It can be dropped, so it counts as available here.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory that this process may still use. `None` if the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = field(&fs::read_to_string(MEMINFO).ok()?, "MemAvailable:", KIB)?;
    let groups = groups();
    Some(groups.iter().filter_map(|group| group.left()).fold(machine, u64::min))
}

/// Bytes of memory that this process may use at most. `None` if the system does not say.
pub(crate) fn total() -> Option<u64> {
    let machine = field(&fs::read_to_string(MEMINFO).ok()?, "MemTotal:", KIB)?;
    Some(groups().iter().filter_map(Group::limit).fold(machine, u64::min))
}

/// Whether a file of so many bytes is best opened with the system's read-ahead.
///
/// By default the system reads up to megabytes beside each page that is missed. While a file fits
/// in memory this warms it quickly. In a file that does not fit, it throws out what other searches
/// need. `false` says that the file takes more than half of the memory of the machine, or of the
/// control group. Open it with [`heed::EnvFlags::NO_READ_AHEAD`] then. Where the system does not
/// say how much memory there is, the answer is `true`. Linux says it.
///
/// Ask with the size that the file will have, if it is about to grow.
///
/// ```
/// use spinney::heed::{EnvFlags, EnvOpenOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let bytes = std::fs::metadata(dir.join("data.mdb")).map_or(0, |file| file.len());
/// let mut options = EnvOpenOptions::new();
/// options.map_size(1 << 30).max_dbs(1);
/// if !spinney::is_read_ahead_useful(bytes) {
///     // SAFETY: the flag changes no more than advice to the system.
///     unsafe { options.flags(EnvFlags::NO_READ_AHEAD) };
/// }
/// // SAFETY: nobody else changes the files of this folder while they are mapped.
/// let env = unsafe { options.open(dir)? };
/// # assert!(spinney::is_read_ahead_useful(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// Reads a few small files of the system.
#[must_use]
pub fn is_read_ahead_useful(file_bytes: u64) -> bool {
    total().is_none_or(|total| file_bytes <= total / 2)
}

const MEMINFO: &str = "/proc/meminfo";
const KIB: u64 = 1024;

/// The files of a version of control groups.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// Fields of `memory.stat` that count page cache.
    cache: [&'static str; 2],
}

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file", "total_active_file"],
};
const V2: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file", "active_file"],
};

/// A control group that the process is in.
struct Group {
    folder: PathBuf,
    version: &'static Version,
}

impl Group {
    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    fn limit(&self) -> Option<u64> {
        // Version 2 says `max` if there is no limit.
        self.read(self.version.limit)?.trim().parse().ok()
    }

    fn left(&self) -> Option<u64> {
        let used = self.read(self.version.usage)?.trim().parse().ok()?;
        let stat = self.read("memory.stat").unwrap_or_default();
        Some(left(self.limit()?, used, droppable(&stat, self.version)))
    }
}

/// The control groups of this process, up to the root.
fn groups() -> Vec<Group> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    groups_in(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// The groups that `/proc/self/cgroup` names, where `/proc/self/mountinfo` says they are.
fn groups_in(own: &str, mounts: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = match controllers {
            "" => &V2,
            _ if controllers.split(',').any(|name| name == "memory") => &V1,
            _ => continue,
        };
        for (root, mount) in mounts.lines().filter_map(|line| mount(line, version)) {
            // A container may see a part of the groups only: what is mounted is its root.
            let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
            let inside = below.ancestors().map(|below| Path::new(mount).join(below));
            found.extend(inside.map(|folder| Group { folder, version }));
        }
    }
    found
}

/// Root and folder of a mount, if it is one of memory groups of this version.
fn mount<'l>(line: &'l str, version: &Version) -> Option<(&'l str, &'l str)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let mut kind = kind.split(' ');
    let (root, folder) = (place.next()?, place.next()?);
    let is_ours = match kind.next()? {
        "cgroup2" => version.limit == V2.limit,
        "cgroup" => {
            version.limit == V1.limit && kind.nth(1)?.split(',').any(|option| option == "memory")
        }
        _ => false,
    };
    is_ours.then_some((root, folder))
}

/// What a limit leaves, if some of what is used can be dropped.
fn left(limit: u64, used: u64, droppable: u64) -> u64 {
    limit.saturating_sub(used.saturating_sub(droppable))
}

/// Bytes of page cache in a text of `memory.stat`.
fn droppable(stat: &str, version: &Version) -> u64 {
    version.cache.iter().filter_map(|name| field(stat, name, 1)).fold(0, u64::saturating_add)
}

/// The number of a field, in bytes: one `name number` a line.
fn field(text: &str, name: &str, unit: u64) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut words = lines.find_map(|mut words| (words.next() == Some(name)).then_some(words))?;
    words.next()?.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:       1024 kB\nMemAvailable:    512 kB\nodd\nHuge: many\n";
        assert_eq!(field(text, "MemTotal:", KIB), Some(1 << 20));
        assert_eq!(field(text, "MemAvailable:", KIB), Some(1 << 19));
        for name in ["Mem", "odd", "Huge:", "none"] {
            assert_eq!(field(text, name, KIB), None);
        }
        assert_eq!(field(&format!("a {}", u64::MAX), "a", KIB), None);
    }

    #[test]
    fn cache_that_can_be_dropped_is_left_and_nothing_is_below_zero() {
        let stat = "cache 9\ninactive_file 30\nactive_file 20\n\
                    total_inactive_file 300\ntotal_active_file 200\n";
        assert_eq!((droppable(stat, &V1), droppable(stat, &V2), droppable("", &V2)), (500, 50, 0));
        assert_eq!(left(100, 70, 50), 80);
        assert_eq!(
            (left(100, 200, 50), left(100, 20, 50), left(u64::MAX, 5, 0)),
            (0, 100, u64::MAX - 5)
        );
    }

    #[test]
    fn groups_are_walked_up_to_what_is_mounted() {
        let folders = |own, mounts| -> Vec<(PathBuf, &str)> {
            let groups: Vec<Group> = groups_in(own, mounts);
            groups.into_iter().map(|group| (group.folder, group.version.limit)).collect()
        };
        let v2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let of = |path: &str, version: &Version| (PathBuf::from(path), version.limit);
        assert_eq!(
            folders("0::/a/b\n", v2),
            [
                of("/sys/fs/cgroup/a/b", &V2),
                of("/sys/fs/cgroup/a", &V2),
                of("/sys/fs/cgroup/", &V2)
            ]
        );
        let v1 = "31 24 0:27 /job /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(
            folders("5:cpu:/x\n4:memory:/job/c\n", v1),
            [of("/sys/fs/cgroup/memory/c", &V1), of("/sys/fs/cgroup/memory/", &V1)]
        );
        // A path of another namespace, lines that say nothing, and no mounts.
        assert_eq!(folders("4:memory:/other\n", v1), [of("/sys/fs/cgroup/memory/", &V1)]);
        assert!(folders("nonsense\n1:cpu:/\n", v1).is_empty());
        assert!(folders("0::/a\n", "").is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory_and_not_more_than_it_has() {
        let (available, total) = (available().unwrap(), total().unwrap());
        assert!(available <= total && total > 1 << 20, "{available} of {total}");
        assert!(is_read_ahead_useful(total / 2) && !is_read_ahead_useful(u64::MAX));
    }
}
