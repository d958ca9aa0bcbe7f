//! Puts plugins into the code of a new site.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// How much of a file is searched for the header that makes it a plugin's main file, as WordPress
/// does it (`get_file_data`).
const HEADER_BYTES_MAX: u64 = 8 * 1024;

/// Says why a plugin cannot be put into a site.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It is no plugin.
    #[error("`{0}` is no plugin: none of its PHP files has a `Plugin Name:` header")]
    NotPlugin(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot copy `{path}`")]
    Copy {
        /// What was copied.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Copies a WordPress and plugins into one directory; returns the names by which WordPress
/// activates the plugins: `shop/shop.php`.
///
/// # Errors
/// One of them is no plugin, or a file cannot be copied.
pub fn assemble(
    wordpress: &Path,
    plugins: &[PathBuf],
    target: &Path,
) -> Result<Vec<String>, PluginError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PluginError::Copy { path, source }
    };
    if target.exists() {
        fs::remove_dir_all(target).map_err(failed(target))?;
    }
    copy(wordpress, target).map_err(failed(wordpress))?;
    let mut names = Vec::new();
    for plugin in plugins {
        let (directory, main) = main_file(plugin)
            .map_err(failed(plugin))?
            .ok_or_else(|| PluginError::NotPlugin(plugin.clone()))?;
        let place = target.join("wp-content/plugins").join(&directory);
        copy(plugin, &place).map_err(failed(plugin))?;
        names.push(format!("{directory}/{main}"));
    }
    Ok(names)
}

/// Finds the names of a plugin's directory and of the file that makes it a plugin.
fn main_file(plugin: &Path) -> io::Result<Option<(String, String)>> {
    let plugin = plugin.canonicalize()?;
    let Some(directory) = plugin.file_name().and_then(|name| name.to_str()) else {
        return Ok(None);
    };
    let mut names: Vec<PathBuf> =
        fs::read_dir(&plugin)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names.iter().filter(|path| path.extension().is_some_and(|end| end == "php")) {
        let mut head = Vec::new();
        fs::File::open(path)?.take(HEADER_BYTES_MAX).read_to_end(&mut head)?;
        if String::from_utf8_lossy(&head).contains("Plugin Name:")
            && let Some(main) = path.file_name().and_then(|name| name.to_str())
        {
            return Ok(Some((directory.to_owned(), main.to_owned())));
        }
    }
    Ok(None)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&path)?, &target)?;
        } else if kind.is_dir() {
            copy(&path, &target)?;
        } else if kind.is_file() {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_put_into_the_site_and_named_as_wordpress_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let (wordpress, plugin) =
            (directory.path().join("wordpress"), directory.path().join("shop"));
        fs::create_dir_all(wordpress.join("wp-content/plugins")).unwrap();
        fs::create_dir_all(plugin.join("includes")).unwrap();
        fs::write(plugin.join("another.php"), "<?php").unwrap();
        fs::write(plugin.join("main.php"), "<?php /* Plugin Name: Shop */").unwrap();
        let target = directory.path().join("site");
        let names = assemble(&wordpress, std::slice::from_ref(&plugin), &target).unwrap();
        assert_eq!(names, ["shop/main.php"]);
        assert!(target.join("wp-content/plugins/shop/includes").is_dir());
        fs::remove_file(plugin.join("main.php")).unwrap();
        let error = assemble(&wordpress, &[plugin], &target).unwrap_err();
        assert!(error.to_string().contains("is no plugin"), "{error}");
    }
}
