//! A shell in an empty directory.

use std::path::Path;

use tempfile::TempDir;

/// An empty directory in which the program is run.
pub(crate) struct Shell {
    directory: TempDir,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Runs the program and returns all that it did, as text for people.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        #[expect(clippy::disallowed_methods, reason = "the program under test ends at once here")]
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_flotilla"));
        let output = command
            .args(args)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (data, talk) = (text(&output.stdout), text(&output.stderr));
        let mut all = format!("exit {}", output.status.code().unwrap_or_default());
        for (name, text) in [("stdout", data), ("stderr", talk)] {
            if !text.is_empty() {
                all = format!("{all}\n--- {name}\n{text}");
            }
        }
        let directory = self.directory.path().canonicalize().unwrap();
        all.replace(&*directory.to_string_lossy(), "[DIR]")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.directory.path().join(name).exists()
    }
}
