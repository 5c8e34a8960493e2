//! The paths that a piece of Rust code names, such as `std::time::Instant`, with groups of `use` opened and `super` resolved.

/// A path as segments, and the line where it ends (from 1).
pub struct Named {
    pub line: usize,
    pub segments: Vec<String>,
}

/// `module` is the path of the module that holds the code, such as `["crate", "store", "table"]`.
pub fn named(code: &str, module: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    // The prefix of every group that is open; an ordinary block has an empty one.
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut joined = false;
    for (line, token) in tokens(code) {
        match token.as_str() {
            "::" => joined = true,
            "{" => groups.push(if joined { std::mem::take(&mut path) } else { Vec::new() }),
            "}" => {
                groups.pop();
            }
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                if !joined {
                    path = groups.last().cloned().unwrap_or_default();
                }
                path.push(word.to_owned());
                found.push(Named { line, segments: resolved(&path, module) });
                joined = false;
                continue;
            }
            _ => {}
        }
        if token != "::" {
            path.clear();
            joined = false;
        }
    }
    found
}

/// Whether `wanted` (`a::b`) occurs in the path, segment by segment.
pub fn names(segments: &[String], wanted: &str) -> bool {
    let wanted: Vec<&str> = wanted.split("::").collect();
    segments.windows(wanted.len()).any(|window| window == wanted.as_slice())
}

/// The module of a file of a crate, from its path: `src/store/mod.rs` and `src/store.rs` are `crate::store`.
pub fn module_of(path: &str) -> Vec<String> {
    let inside = path.rsplit_once("src/").map_or(path, |(_, inside)| inside);
    let mut module = vec!["crate".to_owned()];
    module.extend(inside.trim_end_matches(".rs").split('/').map(str::to_owned));
    if module.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn resolved(path: &[String], module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|segment| *segment == "super").count();
    if ups > 0 {
        let base = &module[..module.len().saturating_sub(ups)];
        return base.iter().chain(&path[ups..]).cloned().collect();
    }
    match path.split_first() {
        Some((first, rest)) if first == "self" => module.iter().chain(rest).cloned().collect(),
        _ => path.to_vec(),
    }
}

/// Words, `::` and single other characters, with their lines.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for (index, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            let (token, after) = rest.split_at(length);
            out.push((index + 1, token.to_owned()));
            rest = after.trim_start();
        }
    }
    out
}
