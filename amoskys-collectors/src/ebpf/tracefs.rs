//! The kernel's list of tracepoints, without mounting anything that others would see.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A tracefs: one that is mounted, or one of our own that has no place in the tree of files.
pub(super) struct Tracefs {
    root: PathBuf,
    /// Keeps the mount while it is used.
    _own: Option<OwnedFd>,
}

impl Tracefs {
    /// Finds it. A mount of one's own takes Linux 5.2 and `CAP_SYS_ADMIN`.
    pub(super) fn open() -> io::Result<Self> {
        for mounted in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            let root = PathBuf::from(mounted);
            if root.join("events").is_dir() {
                return Ok(Self { root, _own: None });
            }
        }
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let own = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?;
        Ok(Self {
            root: PathBuf::from(format!("/proc/self/fd/{}", own.as_raw_fd())),
            _own: Some(own),
        })
    }

    /// The number of a tracepoint.
    pub(super) fn id(&self, group: &str, name: &str) -> io::Result<u64> {
        let path = self.root.join("events").join(group).join(name).join("id");
        let text = fs::read_to_string(path)?;
        text.trim().parse().map_err(io::Error::other)
    }
}
