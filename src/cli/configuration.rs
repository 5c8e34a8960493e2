//! Reads what settings are made from: the file, the environment, the flags, the host's name.
//!
//! It judges nothing: the crate `wayfarer-settings` does.

use super::ConfigurationArgs;
use wayfarer_settings::{Loaded, Mistake, Settings, Sources};

/// A configuration file is at most this long; a longer one is surely another file.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub(super) fn load(args: &ConfigurationArgs) -> Result<Loaded, Vec<Mistake>> {
    let mut sources = Sources { overrides: args.set.clone(), host_name: host_name(), ..Sources::default() };
    // A variable that is not UTF-8 cannot be a setting.
    sources.environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    if let Some(path) = &args.config {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => sources.file = Some((name, text)),
            Err(message) => {
                let remedy = "give another file with -c, or none for the defaults".to_owned();
                return Err(vec![Mistake { file: name, line: None, key: String::new(), message, remedy }]);
            }
        }
    }
    Settings::load(&sources)
}

fn read(path: &std::path::Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("has {length} bytes; a configuration has at most {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("cannot be read as text: {e}"))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Settings for tests: the defaults with these over them.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) fn settings_with(overrides: &[&str]) -> Settings {
    let overrides = overrides.iter().map(|s| (*s).to_owned()).collect();
    Settings::load(&Sources { overrides, host_name: "h".to_owned(), ..Sources::default() }).unwrap().settings
}
