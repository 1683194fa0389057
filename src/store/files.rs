//! Where the files of a store are, and what they lie on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::options::StoreOptions;

/// The files of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// What LMDB is given: the folder, or the file itself.
    pub(crate) path: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) lock: PathBuf,
}

/// Which file a path leads to, whatever its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// Device and inode.
    #[cfg(unix)]
    Inode(u64, u64),
    /// The path without links.
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl Files {
    pub(crate) fn at(path: &Path, is_single_file: bool) -> Result<Self> {
        // A path that is relative would lead elsewhere when the process changes its folder.
        let path = std::path::absolute(path).map_err(|error| Error::file(path, error))?;
        if is_single_file {
            let mut lock = path.clone().into_os_string();
            lock.push("-lock");
            return Ok(Self { data: path.clone(), lock: lock.into(), path });
        }
        Ok(Self { data: path.join("data.mdb"), lock: path.join("lock.mdb"), path })
    }

    /// Creates the folder if need be. An error if there is nothing to open, or nothing that can be
    /// trusted.
    pub(crate) fn prepare(&self, options: &StoreOptions) -> Result<()> {
        match fs::metadata(&self.data) {
            // LMDB would take an empty file for a new one, and what it held would be lost unseen.
            Ok(found) if found.len() == 0 => {
                return Err(Error::Truncated { have: 0, need: 2 * 4096 });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !options.create || options.read_only || options.sealed {
                    return Err(Error::StoreNotFound(self.data.clone()));
                }
                let folder = self.data.parent().unwrap_or(&self.path);
                create_folder(folder).map_err(|error| Error::file(folder, error))?;
            }
            Err(error) => return Err(Error::file(&self.data, error)),
        }
        if options.allow_remote {
            return Ok(());
        }
        let folder = self.data.parent().unwrap_or(&self.path);
        match remote_kind(folder) {
            Some(kind) => Err(Error::RemoteFileSystem(self.path.clone(), kind)),
            None => Ok(()),
        }
    }

    /// The file that is there now, if one is.
    pub(crate) fn identity(&self) -> Result<Option<Identity>> {
        identity_at(&self.data)
    }

    /// Whether an open file is the one that is there now, or none is.
    #[cfg(unix)]
    pub(crate) fn is_at_path(&self, opened: &fs::File) -> Result<bool> {
        let opened = opened.metadata().map_err(|error| Error::file(&self.data, error))?;
        let opened = identity(&self.data, &opened)?;
        Ok(self.identity()?.is_none_or(|there| there == opened))
    }

    /// An open file cannot be replaced here.
    #[cfg(not(unix))]
    pub(crate) fn is_at_path(&self, _: &fs::File) -> Result<bool> {
        Ok(true)
    }

    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.data).map_or(0, |metadata| metadata.len())
    }
}

/// The file that is at this path now, if one is.
pub(crate) fn identity_at(path: &Path) -> Result<Option<Identity>> {
    match fs::metadata(path) {
        Ok(metadata) => identity(path, &metadata).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, error)),
    }
}

#[cfg(unix)]
fn identity(_: &Path, metadata: &fs::Metadata) -> Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    Ok(Identity::Inode(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &fs::Metadata) -> Result<Identity> {
    path.canonicalize().map(Identity::Path).map_err(|error| Error::file(path, error))
}

/// For the owner alone: what is stored may be anybody's documents.
fn create_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Makes sure that the name of this file is on the disk.
#[cfg(unix)]
pub(crate) fn sync_folder_of(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::file(folder, error))
}

/// Folders cannot be opened as files here.
#[cfg(not(unix))]
pub(crate) fn sync_folder_of(_: &Path) -> Result<()> {
    Ok(())
}

/// File systems that lie on other machines, as Linux names them.
const REMOTE: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "ncpfs",
    "coda",
    "beegfs",
];

/// The kind of the network file system on which a folder lies, as far as the system tells.
#[cfg(target_os = "linux")]
fn remote_kind(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    remote_kind_in(&mounts, &folder)
}

#[cfg(not(target_os = "linux"))]
fn remote_kind(_: &Path) -> Option<String> {
    None
}

/// As proc(5): the mount point is the fifth field, and the kind follows a field of one hyphen.
fn remote_kind_in(mounts: &str, folder: &Path) -> Option<String> {
    let mut deepest: Option<(PathBuf, &str)> = None;
    for line in mounts.lines() {
        let Some((fields, rest)) = line.split_once(" - ") else { continue };
        let Some(point) = fields.split(' ').nth(4).map(unescape) else { continue };
        let Some(kind) = rest.split(' ').next() else { continue };
        // A later mount covers an earlier one of the same point.
        let is_deeper = deepest
            .as_ref()
            .is_none_or(|(found, _)| point.components().count() >= found.components().count());
        if folder.starts_with(&point) && is_deeper {
            deepest = Some((point, kind));
        }
    }
    let (_, kind) = deepest?;
    let is_remote = REMOTE.contains(&kind) || kind == "fuse" || kind.starts_with("fuse.");
    is_remote.then(|| kind.to_owned())
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut plain = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let digits = after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        plain.push(digits.map_or('\\', char::from));
        rest = if digits.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain.push_str(rest);
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:27 / /srv/far\\040away rw - nfs4 host:/x rw
31 30 0:28 / /srv/far\\040away/near rw - tmpfs tmpfs rw
32 22 0:29 / /srv/f rw - fuse.sshfs host:/y rw
33 22 0:30 / /boot rw - fuseblk /dev/vdb rw
not a line of this file
";

    #[test]
    fn the_deepest_mount_tells_the_kind() {
        let kind = |path: &str| remote_kind_in(MOUNTS, Path::new(path));
        assert_eq!(kind("/home"), None);
        assert_eq!(kind("/srv/far away/store").as_deref(), Some("nfs4"));
        assert_eq!(kind("/srv/far away/near/store"), None);
        assert_eq!(kind("/srv/f/store").as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind("/srv/file"), None);
        assert_eq!(kind("/boot"), None);
        assert_eq!(remote_kind_in("", Path::new("/")), None);
    }
}
