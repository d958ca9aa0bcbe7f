//! Looking whether a bucket holds what it should: every object is read, and what is known of its
//! content is compared.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};

use super::{FILES_AT_ONCE, Problem, Problems, Progress, TransferError};
use crate::cache::blocking;
use crate::path::{MediaPath, RESERVED};
use crate::store::{Depth, Metadata, Store, StoreError, hexadecimal};

/// What was found in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, files whose content was compared with its digest or with a local file.
    pub compared: u64,
    /// How many files are missing, damaged, or have names that are not shown.
    pub wrong: u64,
    /// The first of them.
    pub problems: Vec<Problem>,
}

/// What one file turned out to be.
struct Look {
    name: String,
    bytes: u64,
    is_compared: bool,
    problem: Option<String>,
}

/// Reads every object of a bucket and compares it with its digest; and with the file of the same name
/// in a local directory, when one is given, of which all files must be there.
///
/// # Errors
/// The bucket does not answer or the directory cannot be read.
pub async fn verify(
    store: &Store,
    directory: Option<&Path>,
    mut progress: impl FnMut(Progress),
) -> Result<VerifyReport, TransferError> {
    let mut problems = Problems::default();
    let objects = list(store, &mut problems).await?;
    if let Some(directory) = directory {
        find_missing(directory, &objects, &mut problems).await?;
    }
    let mut done = Progress {
        files_total: u64::try_from(objects.len()).unwrap_or(u64::MAX),
        bytes_total: objects.iter().map(|(_, size)| size).sum(),
        ..Progress::default()
    };
    progress(done);
    let mut report = VerifyReport::default();
    let looks: Vec<_> = objects
        .iter()
        .map(|(path, _)| {
            look(store, path, directory.map(|directory| directory.join(path.as_str())))
        })
        .collect();
    let mut looks = stream::iter(looks).buffer_unordered(FILES_AT_ONCE);
    while let Some(look) = looks.next().await {
        let look = look?;
        done.files += 1;
        done.bytes += look.bytes;
        report.compared += u64::from(look.is_compared);
        if let Some(reason) = look.problem {
            problems.add(look.name, reason);
        }
        progress(done);
    }
    (report.files, report.bytes) = (done.files, done.bytes);
    (report.wrong, report.problems) = (problems.count, problems.named);
    Ok(report)
}

async fn list(store: &Store, problems: &mut Problems) -> Result<Vec<(MediaPath, u64)>, StoreError> {
    let mut objects = Vec::new();
    let mut next = None;
    loop {
        let page = store.list("", Depth::Everything, 0, next.as_deref()).await?;
        for object in page.objects {
            let is_ours = object.key.split('/').next() == Some(RESERVED);
            if object.key.ends_with('/') || is_ours {
                continue;
            }
            match MediaPath::from_relative_key(&object.key) {
                Some(path) => objects.push((path, object.size)),
                None => problems.add(object.key, "no file can have this name, so it is not shown"),
            }
        }
        match page.next {
            Some(token) => next = Some(token),
            None => return Ok(objects),
        }
    }
}

async fn find_missing(
    directory: &Path,
    objects: &[(MediaPath, u64)],
    problems: &mut Problems,
) -> Result<(), TransferError> {
    let root = directory.to_owned();
    let read = blocking(move || files(&root)).await;
    let files =
        read.map_err(|source| TransferError::Read { path: directory.to_owned(), source })?;
    let known: std::collections::HashSet<&str> =
        objects.iter().map(|(path, _)| path.as_str()).collect();
    for file in files {
        let name = file.strip_prefix(directory).unwrap_or(&file).to_string_lossy();
        if !known.contains(name.as_ref()) {
            problems.add(name, "it is not in the bucket");
        }
    }
    Ok(())
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

async fn look(
    store: &Store,
    path: &MediaPath,
    local: Option<PathBuf>,
) -> Result<Look, TransferError> {
    let name = path.as_str().to_owned();
    let mut response = match store.get(path.as_str(), None, 0..0).await {
        Ok(response) => response,
        Err(StoreError::NotFound(_)) => {
            let problem = Some("it was removed while the bucket was read".to_owned());
            return Ok(Look { name, bytes: 0, is_compared: false, problem });
        }
        Err(error) => return Err(error.into()),
    };
    let known = Metadata::read(response.headers()).sha256;
    let local = open_local(local).await?;
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let mut is_same = true;
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| store.cut_short(&flotilla_core::error::chain(&error)))?;
        let Some(chunk) = chunk else { break };
        digest.update(&chunk);
        if let Some((file, _)) = &local {
            let mut there = vec![0; chunk.len()];
            is_same &= file.read_exact_at(&mut there, bytes).is_ok() && there == chunk;
        }
        bytes += u64::try_from(chunk.len()).unwrap_or_default();
    }
    let is_compared = known.is_some() || local.is_some();
    let problem = if known.is_some_and(|known| known != hexadecimal(&digest.finalize())) {
        Some("its content is not what was stored".to_owned())
    } else if local.is_some_and(|(_, size)| !is_same || size != bytes) {
        Some("the local file has another content".to_owned())
    } else {
        None
    };
    Ok(Look { name, bytes, is_compared, problem })
}

async fn open_local(path: Option<PathBuf>) -> Result<Option<(File, u64)>, TransferError> {
    let Some(path) = path else { return Ok(None) };
    let shown = path.clone();
    let opened = blocking(move || {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    match opened.await {
        Ok(opened) => Ok(Some(opened)),
        // That there is none is no problem: others have stored files since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TransferError::Read { path: shown, source }),
    }
}
