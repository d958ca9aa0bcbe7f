//! The list of empty directories, which git does not keep: one file at the root of a revision's tree.
//!
//! It travels with the commit and survives commits that people make; a checkout recreates the
//! directories and leaves the list itself out of the docroot.

/// The path of the list in a revision's tree.
pub const FILE_NAME: &str = ".flotilla-directories";

const HEADING: &str =
    "# Empty directories of this revision, which git does not keep. Flotilla writes this list.\n";

/// Writes the list; empty when there are no empty directories.
pub fn encode<'a>(directories: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in directories {
        if bytes.is_empty() {
            bytes.extend(HEADING.as_bytes());
        }
        if path.first() == Some(&b'#') {
            bytes.push(b'\\');
        }
        for byte in path {
            match byte {
                b'\\' => bytes.extend(br"\\"),
                b'\n' => bytes.extend(br"\n"),
                byte => bytes.push(*byte),
            }
        }
        bytes.push(b'\n');
    }
    bytes
}

/// Reads the list. Lines that are no path inside the tree are left out: a person may have edited it.
#[must_use]
pub fn decode(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let paths = lines.filter(|line| line.first() != Some(&b'#')).map(unescape);
    paths.filter(|path| is_inside(path)).collect()
}

fn unescape(line: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(line.len());
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => path.push(b'\n'),
                Some(escaped) => path.push(*escaped),
                None => {}
            },
            byte => path.push(*byte),
        }
    }
    path
}

/// Whether a path of a revision stays inside the tree and is no repository of its own.
pub(super) fn is_inside(path: &[u8]) -> bool {
    !path.contains(&0)
        && path
            .split(|byte| *byte == b'/')
            .all(|name| !matches!(name, b"" | b"." | b"..") && !name.eq_ignore_ascii_case(b".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_survive() {
        let names: [&[u8]; 5] = [b"a/b", b"#c", b"d\ne", b"f\\n", b"\xff"];
        assert_eq!(decode(&encode(names)), names);
        assert!(encode([]).is_empty());
    }

    #[test]
    fn a_list_cannot_name_places_outside_the_tree() {
        let list = b"../a\n/etc\nb/../../c\n.git\nx/.GIT/y\n\n./d\ngood\n";
        assert_eq!(decode(list), [b"good".to_vec()]);
    }
}
