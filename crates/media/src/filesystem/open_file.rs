//! What the kernel says of an open file, and what it is told of it.

use fuser::{FileHandle, FopenFlags, OpenAccMode, OpenFlags};

use crate::nodes::Node;

/// Says how the kernel may treat an open file. What is written must not linger in its cache; what is
/// read may, because another version would be another node.
pub(super) fn open_flags(node: &Node, is_writer: bool) -> FopenFlags {
    if is_writer {
        FopenFlags::FOPEN_DIRECT_IO
    } else if node.staged().is_some() {
        FopenFlags::FOPEN_NOFLUSH
    } else {
        FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
    }
}

/// Returns the number of an open file, which says whether it is counted as one for writing. Any
/// daemon understands it.
pub(super) fn handle(is_writer: bool) -> FileHandle {
    FileHandle(u64::from(is_writer))
}

pub(super) fn is_writer(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY
}

pub(super) fn has(flags: OpenFlags, flag: i32) -> bool {
    flags.0 & flag != 0
}
