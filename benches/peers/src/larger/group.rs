//! A control group that limits the memory of a process, its cached pages of files included.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use crate::Result;

/// Before the number of the process that made a group.
const NAME: &str = "spinney-larger-";
/// How often removing is tried again, and how long after: a process leaves some time after its end.
const RETRIES: (usize, Duration) = (50, Duration::from_millis(20));

/// A control group, removed when it is dropped.
pub struct Group {
    folder: PathBuf,
}

impl Group {
    /// Makes a group below the root of the memory controller, of version 2 or 1.
    ///
    /// # Errors
    /// What the system says: if it has no such groups, or no right to make one.
    pub fn new(bytes: u64) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let (root, limit, swap) = if root.join("cgroup.controllers").exists() {
            (root.to_owned(), "memory.max", "memory.swap.max")
        } else {
            (root.join("memory"), "memory.limit_in_bytes", "memory.swappiness")
        };
        remove_orphans(&root)?;
        let folder = root.join(format!("{NAME}{}", process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Self { folder };
        group.write(limit, bytes)?;
        // Pages that nobody asked for again may not go elsewhere. Some systems cannot swap.
        if group.folder.join(swap).exists() {
            group.write(swap, 0)?;
        }
        Ok(group)
    }

    /// Moves a process into the group. What it holds already does not count.
    ///
    /// # Errors
    /// What the system says.
    pub fn admit(&self, process: u32) -> Result<()> {
        self.write("cgroup.procs", process.into())
    }

    fn write(&self, name: &str, value: u64) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, value.to_string())
            .map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// Removes the groups of programs like this one that were killed.
fn remove_orphans(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
            // Nobody needs it, and what was left of the program may not have ended yet.
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..RETRIES.0 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(RETRIES.1);
        }
        eprintln!("{}: could not be removed", self.folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where groups may be made.
    #[test]
    fn a_group_limits_and_goes() -> Result<()> {
        let Ok(group) = Group::new(64 << 20) else {
            println!("no group may be made here");
            return Ok(());
        };
        let folder = group.folder.clone();
        let limits = ["memory.max", "memory.limit_in_bytes"].map(|name| folder.join(name));
        let limit = limits.iter().find_map(|path| fs::read_to_string(path).ok());
        assert_eq!(limit.as_deref().map(str::trim), Some("67108864"));

        let mut process = process::Command::new("sleep").arg("60").spawn()?;
        group.admit(process.id())?;
        let inside = fs::read_to_string(folder.join("cgroup.procs"))?;
        assert_eq!(inside.trim(), process.id().to_string());
        process.kill()?;
        process.wait()?;
        drop(group);
        assert!(!folder.exists());
        Ok(())
    }
}
