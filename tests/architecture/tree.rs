//! The project as a list of text files: read from disk, or made of snippets by the tests of the rules.

use std::{fs, path::Path};

use crate::scan::{Scan, scan};

/// Folders that are made, not written.
const MADE: &[&str] = &["target", ".git", "node_modules", "__pycache__"];
/// Larger files are data; no source comes near it.
const BYTES_MAX: u64 = 1024 * 1024;

pub struct File {
    /// From the root of the project, with `/`.
    pub path: String,
    pub text: String,
    /// Comments, strings and code apart; empty for files that are not Rust.
    pub scan: Scan,
}

pub struct Tree {
    /// Sorted by path.
    pub files: Vec<File>,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let scan = if path.ends_with(".rs") { scan(text) } else { Scan::default() };
        Self { path: path.to_owned(), text: text.to_owned(), scan }
    }

    /// Rust that is compiled into a crate of the product: `src` and `crates/*/src`.
    pub fn is_source(&self) -> bool {
        self.path.ends_with(".rs")
            && (self.path.starts_with("src/") || (self.path.starts_with("crates/") && self.path.contains("/src/")))
    }

    /// A file of tests alone: what it uses and how long it is are its own affair.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs") || self.path.contains("/tests/")
    }

    /// Number of lines before the module of tests.
    pub fn production_lines(&self) -> usize {
        let lines: Vec<&str> = self.scan.code.lines().map(str::trim).collect();
        let starts_tests = |at: usize| {
            lines[at] == "#[cfg(test)]"
                && lines[at + 1..]
                    .iter()
                    .find(|line| !line.is_empty() && !line.starts_with("#["))
                    .is_some_and(|line| is_module(line))
        };
        (0..lines.len()).find(|at| starts_tests(*at)).unwrap_or(lines.len())
    }

    /// The code before the module of tests; comments and the insides of strings are blank.
    pub fn production_code(&self) -> String {
        self.scan.code.lines().take(self.production_lines()).collect::<Vec<_>>().join("\n")
    }

    /// The head comment, without its marks.
    pub fn head(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with("//!"));
        lines.map(|line| line.trim_start_matches("//!").trim()).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a line opens a module with a body. `#[cfg(test)] mod tests;` is a line like others: the file goes on after it.
fn is_module(line: &str) -> bool {
    ["mod ", "pub mod ", "pub(crate) mod "].iter().any(|start| line.starts_with(start)) && line.ends_with('{')
}

impl Tree {
    pub fn of_project() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        collect(root, root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    pub fn of_snippets(snippets: &[(&str, &str)]) -> Self {
        Self { files: snippets.iter().map(|(path, text)| File::new(path, text)).collect() }
    }

    pub fn sources(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_source())
    }

    pub fn production(&self) -> impl Iterator<Item = &File> {
        self.sources().filter(|file| !file.is_test())
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of the project can be listed") {
        let entry = entry.expect("an entry of a folder can be read");
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if !MADE.iter().any(|made| name == *made) {
                collect(root, &path, files);
            }
        } else if kind.is_file() && entry.metadata().is_ok_and(|data| data.len() <= BYTES_MAX) {
            // What is not text has nothing to say to a rule.
            if let Ok(text) = fs::read_to_string(&path) {
                let from_root = path.strip_prefix(root).expect("the walk began at the root");
                files.push(File::new(&from_root.to_string_lossy().replace('\\', "/"), &text));
            }
        }
    }
}
