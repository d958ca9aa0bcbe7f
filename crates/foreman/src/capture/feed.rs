//! Sends what changed to git, piece by piece. Everything here blocks.

use std::io::Read;
use std::path::Path;

use flotilla_host::git::directories;
use flotilla_host::git::object::ObjectId;
use flotilla_host::git::tree::{Content, Tree};
use tokio::sync::mpsc;

use super::compare::{Became, Compared, PIECE_BYTES, is_gone};
use super::error::CaptureError;
use super::listing::Listing;
use crate::repository::fast_import::{delete, modify, modify_bytes, modify_inline};

/// Sends the changes in the form that fast-import takes. A file that changes meanwhile is sent with as
/// many bytes as it was said to have; the look that follows sees that it changed.
pub(super) fn send(
    directory: &Path,
    compared: &Compared,
    listing: &Listing,
    sender: &mpsc::Sender<Vec<u8>>,
) -> Result<(), CaptureError> {
    let mut tree = Tree::open(directory).map_err(CaptureError::file(directory.to_owned()))?;
    // First what is gone, so that a directory may become a file and a file a directory.
    for (path, _) in compared.changes.iter().filter(|(_, became)| *became == Became::Gone) {
        if sender.blocking_send(delete(path)).is_err() {
            return Ok(());
        }
    }
    for (path, became) in &compared.changes {
        let Became::File { mode, object } = became else { continue };
        let is_heard = if listing.has_object(object) {
            sender.blocking_send(modify(*mode, path, *object)).is_ok()
        } else {
            send_file(&mut tree, path, *mode, *object, sender)?
        };
        if !is_heard {
            // Git has ended; it is asked why.
            return Ok(());
        }
    }
    if let Some(list) = &compared.directories {
        // The receiver is gone only when git has ended, and then git is asked why.
        drop(sender.blocking_send(list_command(list)));
    }
    Ok(())
}

/// Writes the list of empty directories; an empty one is taken away.
pub(super) fn list_command(list: &[u8]) -> Vec<u8> {
    let path = directories::FILE_NAME.as_bytes();
    if list.is_empty() { delete(path) } else { modify_bytes(0o100_644, path, list) }
}

/// Sends one file; false when nobody listens any more.
fn send_file(
    tree: &mut Tree,
    path: &[u8],
    mode: u32,
    object: ObjectId,
    sender: &mpsc::Sender<Vec<u8>>,
) -> Result<bool, CaptureError> {
    let full = tree.full_path(path);
    let content = match tree.open_content(path) {
        // The look that follows sees that it went away.
        Err(error) if is_gone(&error) => return Ok(true),
        content => content.map_err(CaptureError::file(full.clone()))?,
    };
    let (mut file, size) = match content {
        Content::Link(target) => {
            let is_read = ObjectId::of_blob(&target) == object;
            let command = is_read.then(|| modify_bytes(mode, path, &target));
            return Ok(command.is_none_or(|command| sender.blocking_send(command).is_ok()));
        }
        Content::File(file, size) => (file, size),
    };
    if sender.blocking_send(modify_inline(mode, path, size)).is_err() {
        return Ok(false);
    }
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; wanted];
        let count = file.read(&mut piece).map_err(CaptureError::file(full.clone()))?;
        if count > 0 {
            piece.truncate(count);
        }
        left -= piece.len() as u64;
        if sender.blocking_send(piece).is_err() {
            return Ok(false);
        }
    }
    Ok(sender.blocking_send(b"\n".to_vec()).is_ok())
}
