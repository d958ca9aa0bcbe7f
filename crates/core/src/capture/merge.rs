//! Two lines of commits meet: what the one changed is applied to the other, path by path, when they
//! changed different files. Contents are never mixed.

use std::collections::{BTreeMap, BTreeSet};

/// What paths became on one side; `None` is a path that is gone.
pub type Changes<B> = BTreeMap<Vec<u8>, Option<B>>;

/// What one side did since the two parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side<B> {
    /// The paths that it changed.
    pub changes: Changes<B>,
    /// Directories, with a `/` at the end, of which it deleted every file, such as a plugin's.
    pub deleted: BTreeSet<Vec<u8>>,
}

impl<B> Default for Side<B> {
    fn default() -> Self {
        Self { changes: Changes::new(), deleted: BTreeSet::new() }
    }
}

/// Returns what has to change on their side to have both, or the paths at which they conflict.
///
/// # Errors
/// Both changed the same path to something different, the one has a file where the other has a
/// directory, or the one deleted a plugin or theme that the other changed.
pub fn merge<B: Clone + PartialEq>(
    ours: &Side<B>,
    theirs: &Side<B>,
) -> Result<Changes<B>, BTreeSet<Vec<u8>>> {
    let mut conflicts = BTreeSet::new();
    let mut merged = Changes::new();
    for (path, became) in &ours.changes {
        match theirs.changes.get(path) {
            Some(theirs) if theirs == became => {}
            Some(_) => {
                conflicts.insert(path.clone());
            }
            None => {
                merged.insert(path.clone(), became.clone());
            }
        }
    }
    conflicts.extend(in_the_way(&ours.changes, &theirs.changes));
    conflicts.extend(in_the_way(&theirs.changes, &ours.changes));
    conflicts.extend(changed_below(&theirs.changes, &ours.deleted));
    conflicts.extend(changed_below(&ours.changes, &theirs.deleted));
    if conflicts.is_empty() { Ok(merged) } else { Err(conflicts) }
}

/// Finds files of the one side that are directories on the other.
fn in_the_way<B>(files: &Changes<B>, others: &Changes<B>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (path, _) in files.iter().filter(|(_, became)| became.is_some()) {
        let mut directory = path.clone();
        directory.push(b'/');
        let mut below = others.range(directory.clone()..);
        let is_there = below
            .by_ref()
            .take_while(|(other, _)| other.starts_with(&directory))
            .any(|(_, became)| became.is_some());
        if is_there {
            found.push(path.clone());
        }
    }
    found
}

/// Finds files that one side has written in directories that the other deleted.
fn changed_below<B>(changes: &Changes<B>, deleted: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for directory in deleted {
        let below = changes.range(directory.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(directory));
        found.extend(below.filter(|(_, became)| became.is_some()).map(|(path, _)| path.clone()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(changes: &[(&str, Option<u8>)], deleted: &[&str]) -> Side<u8> {
        let bytes = |text: &&str| text.as_bytes().to_vec();
        Side {
            changes: changes.iter().map(|(path, became)| (bytes(path), *became)).collect(),
            deleted: deleted.iter().map(bytes).collect(),
        }
    }

    fn check(ours: &Side<u8>, theirs: &Side<u8>, expected: Result<&[&str], &[&str]>) {
        let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
        let merged = merge(ours, theirs);
        let merged = merged
            .map(|changes| changes.keys().map(text).collect::<Vec<_>>())
            .map_err(|conflicts| conflicts.iter().map(text).collect::<Vec<_>>());
        let expected = expected
            .map(|paths| paths.iter().map(|path| (*path).to_owned()).collect())
            .map_err(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(merged, expected);
    }

    #[test]
    fn different_files_go_together_and_equal_changes_are_one() {
        let ours = side(&[("a", Some(1)), ("b", None), ("same", Some(5)), ("gone", None)], &[]);
        let theirs = side(&[("c", Some(2)), ("same", Some(5)), ("gone", None)], &[]);
        check(&ours, &theirs, Ok(&["a", "b"]));
    }

    #[test]
    fn the_same_file_changed_twice_is_a_conflict_also_when_one_side_deleted_it() {
        check(&side(&[("a", Some(1))], &[]), &side(&[("a", Some(2))], &[]), Err(&["a"]));
        check(&side(&[("a", None)], &[]), &side(&[("a", Some(2))], &[]), Err(&["a"]));
    }

    #[test]
    fn a_file_where_the_other_has_a_directory_is_a_conflict() {
        let file = side(&[("x", Some(1))], &[]);
        let directory = side(&[("x-", Some(2)), ("x/y", Some(2))], &[]);
        check(&file, &directory, Err(&["x"]));
        check(&directory, &file, Err(&["x"]));
        check(&file, &side(&[("x/y", None)], &[]), Ok(&["x"]));
    }

    #[test]
    fn what_one_deleted_as_a_whole_the_other_must_not_have_changed() {
        let deleted = side(&[("p/a", None), ("p/b", None)], &["p/"]);
        let changed = side(&[("p/new", Some(1)), ("q/x", Some(1))], &[]);
        check(&deleted, &changed, Err(&["p/new"]));
        check(&changed, &deleted, Err(&["p/new"]));
        check(&deleted, &side(&[("p/b", None), ("pq", Some(1))], &[]), Ok(&["p/a"]));
    }
}
