//! The versions of plugins, themes and WordPress in two revisions.

use std::collections::BTreeSet;

use flotilla_core::capture::{
    Change, HEADER_BYTES_MAX, Happened, Kind, Package, Packages, Part, Versions, is_plugin,
    version, wordpress_version,
};
use flotilla_host::git::object::ObjectId;
use flotilla_host::git::{Blobs, Delta, Git, GitError, directories};

use super::listing::Listing;

/// Of how many parts the versions are read.
const PARTS_MAX: usize = 200;
/// In how many files of a plugin its header is looked for.
const MAIN_FILES_MAX: usize = 20;
const VERSION_FILE: &[u8] = b"wp-includes/version.php";

/// Says what changed in the words of the site.
pub(super) fn changes(deltas: &[Delta]) -> Vec<Change> {
    let files = deltas.iter().filter(|delta| delta.path != directories::FILE_NAME.as_bytes());
    let change = |delta: &Delta| {
        let happened = match (delta.before, delta.after) {
            (None, _) => Happened::Added,
            (_, None) => Happened::Deleted,
            _ => Happened::Edited,
        };
        Change { path: delta.path.clone(), happened }
    };
    files.map(change).collect()
}

/// Reads what is known of the parts that changed.
pub(super) async fn packages(
    git: &Git,
    changes: &[Change],
    before: &Listing,
    after: &Listing,
) -> Result<Packages, GitError> {
    let parts: BTreeSet<Part> = changes
        .iter()
        .map(|change| Part::of(&change.path))
        .filter(|part| part.is_package() || part.kind == Kind::WordPress)
        .collect();
    let before = side(git, &parts, before).await?;
    let after = side(git, &parts, after).await?;
    let both = before.into_iter().zip(after).map(|(before, after)| Versions { before, after });
    Ok(parts.into_iter().zip(both).collect())
}

/// Whether a revision has anything of a part.
pub(super) fn has(listing: &Listing, part: &Part) -> bool {
    match part.kind {
        Kind::WordPress => listing.get(VERSION_FILE).is_some(),
        _ if part.is_directory() => listing.below(&part.root).next().is_some(),
        _ => listing.get(&part.root).is_some(),
    }
}

/// Reads the parts in one revision, in their order.
async fn side(
    git: &Git,
    parts: &BTreeSet<Part>,
    listing: &Listing,
) -> Result<Vec<Option<Package>>, GitError> {
    let mut candidates = Vec::new();
    for (number, part) in parts.iter().take(PARTS_MAX).enumerate() {
        candidates.extend(main_files(listing, part).into_iter().map(|object| (number, object)));
    }
    let mut packages: Vec<Option<Package>> =
        parts.iter().map(|part| has(listing, part).then(Package::default)).collect();
    let kinds: Vec<Kind> = parts.iter().map(|part| part.kind).collect();
    let mut blobs = Blobs::new(git, candidates.iter().map(|(_, object)| *object))?;
    for (number, _) in candidates {
        blobs.next().await?;
        // One piece is more than a header may have.
        let mut head = blobs.piece().await?.unwrap_or_default();
        head.truncate(HEADER_BYTES_MAX);
        let (Some(Some(package)), Some(kind)) = (packages.get_mut(number), kinds.get(number))
        else {
            continue;
        };
        let found = match kind {
            Kind::WordPress => wordpress_version(&head),
            Kind::Theme => version(&head),
            _ if is_plugin(&head) => version(&head),
            _ => None,
        };
        package.version = package.version.take().or(found);
    }
    Ok(packages)
}

/// Names the files that may have the header of a part, the likeliest first.
fn main_files(listing: &Listing, part: &Part) -> Vec<ObjectId> {
    let one = |path: &[u8]| listing.get(path).map(|blob| blob.object).into_iter().collect();
    match part.kind {
        Kind::WordPress => one(VERSION_FILE),
        Kind::Theme => one(&[part.root.as_slice(), b"style.css"].concat()),
        _ if !part.is_directory() => one(&part.root),
        _ => {
            let name = part.root.strip_suffix(b"/").unwrap_or(&part.root);
            let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
            let likely = [part.root.as_slice(), name, b".php"].concat();
            let mut files: Vec<ObjectId> = one(&likely);
            let inside = |path: &[u8]| {
                let below = path.strip_prefix(part.root.as_slice()).unwrap_or_default();
                !below.contains(&b'/') && below.ends_with(b".php") && path != likely
            };
            let others = listing.below(&part.root).filter(|(path, _)| inside(path));
            files.extend(others.map(|(_, blob)| blob.object).take(MAIN_FILES_MAX));
            files
        }
    }
}
