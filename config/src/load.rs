//! From a file and the environment to a [`Config`]: defaults, then the file, then the environment; then the rules.
//!
//! Each value is tried alone against the defaults, so that a value of the wrong kind is blamed on its own key and line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::environment;
use crate::file;
use crate::problem::{Place, Problem, Problems};
use crate::types::Config;

/// Reads the configuration from `file` (`None`: built-in defaults) and `environment`.
/// Relative paths in it are relative to the folder of the file, and without a file to the current directory.
///
/// # Errors
/// Everything that is wrong with it, with file, line, key and reason.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Problems> {
    let (loader, folder) = read(file, environment)?;
    loader.finish(&folder)
}

/// The same from the text of a file that was read already.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_text(
    file: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Config, Problems> {
    let mut loader = Loader::new();
    loader.read_file(file, text);
    loader.read_environment(environment);
    loader.finish(file.parent().unwrap_or(file))
}

/// Reads `server.pid_file` alone: where to find a server that runs, also when the rest of the file has become wrong meanwhile.
///
/// # Errors
/// The file cannot be read or parsed, or this key is wrong.
pub fn pid_file(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<PathBuf, Problems> {
    const KEY: &str = "server.pid_file";
    let (loader, folder) = read(file, environment)?;
    let in_the_way: Vec<Problem> = loader
        .problems
        .into_iter()
        // A problem with a line and no key is one of syntax: nothing was read.
        .filter(|p| p.key == KEY || p.key.is_empty() && matches!(p.place, Place::Line(..)))
        .collect();
    match loader.values["server"]["pid_file"].as_str() {
        Some(path) if in_the_way.is_empty() => Ok(folder.join(path)),
        _ => Err(Problems(in_the_way)),
    }
}

fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Loader, PathBuf), Problems> {
    let here = |path: &Path, reason: String| {
        Problems(vec![Problem {
            place: Place::File(path.to_owned()),
            key: String::new(),
            reason,
        }])
    };
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| here(path, e.to_string()));
    let (text, folder) = match file {
        None => (None, absolute(Path::new("."))?),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| here(path, unreadable(&e)))?;
            let path = absolute(path)?;
            (Some(text), path.parent().unwrap_or(&path).to_owned())
        }
    };
    let mut loader = Loader::new();
    if let (Some(path), Some(text)) = (file, text) {
        loader.read_file(path, &text);
    }
    loader.read_environment(environment);
    Ok((loader, folder))
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::InvalidData => "the file is not UTF-8".into(),
        _ => format!("the file cannot be read: {error}"),
    }
}

struct Loader {
    /// What the defaults are, as a tree of sections and keys: the list of all names that exist.
    defaults: Value,
    values: Value,
    /// Where each `section.key` that was set comes from.
    places: HashMap<String, Place>,
    problems: Vec<Problem>,
}

impl Loader {
    fn new() -> Self {
        // A structure of plain fields always has a JSON form.
        let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
        Self {
            values: defaults.clone(),
            defaults,
            places: HashMap::new(),
            problems: Vec::new(),
        }
    }

    fn read_file(&mut self, path: &Path, text: &str) {
        let entries = match file::entries(text) {
            Ok(entries) => entries,
            Err((line, reason)) => {
                let place = Place::Line(path.to_owned(), line);
                return self.problems.push(Problem {
                    place,
                    key: String::new(),
                    reason,
                });
            }
        };
        for entry in entries {
            let place = Place::Line(path.to_owned(), entry.line);
            match self.unknown(&entry.section, &entry.key) {
                // A section that does not exist is blamed once, at its head.
                Some((key, _)) if key == entry.section && !entry.key.is_empty() => {}
                Some((key, reason)) => self.problems.push(Problem { place, key, reason }),
                None if entry.key.is_empty() => {}
                None => self.set(&entry.section, &entry.key, entry.value, place),
            }
        }
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut variables: Vec<(String, OsString)> = environment
            .into_iter()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text)))
            .filter(|(name, _)| name.starts_with(environment::PREFIX))
            .collect();
        variables.sort();
        let names: HashMap<String, (String, String)> = sections(&self.defaults)
            .flat_map(|(section, keys)| {
                keys.keys()
                    .map(move |key| (section.to_owned(), key.to_owned()))
            })
            .map(|(section, key)| (environment::variable(&section, &key), (section, key)))
            .collect();
        for (name, text) in variables {
            let place = Place::Variable(name.clone());
            let Some((section, key)) = names.get(&name) else {
                let reason =
                    "no key is set by this variable; it would be STEADFAST_SECTION_KEY".into();
                self.problems.push(Problem {
                    place,
                    key: String::new(),
                    reason,
                });
                continue;
            };
            let value = match text.to_str() {
                Some(text) => environment::value(text, &self.defaults[section][key]),
                None => Err("the value is not UTF-8".into()),
            };
            self.set(section, key, value, place);
        }
    }

    /// Why there is no such section or key, with the name to blame.
    fn unknown(&self, section: &str, key: &str) -> Option<(String, String)> {
        let names = |keys: &mut dyn Iterator<Item = &String>| {
            keys.map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        if section.is_empty() {
            return Some((
                key.into(),
                "a key must stand in a section, after a line like [server]".into(),
            ));
        }
        let Some(keys) = self.defaults[section].as_object() else {
            let known = sections(&self.defaults)
                .map(|(s, _)| s.to_owned())
                .collect::<Vec<_>>();
            let reason = format!(
                "there is no such section; there are {}",
                names(&mut known.iter())
            );
            return Some((section.into(), reason));
        };
        if key.is_empty() || keys.contains_key(key) {
            return None;
        }
        let reason = format!(
            "there is no such key; [{section}] has {}",
            names(&mut keys.keys())
        );
        Some((format!("{section}.{key}"), reason))
    }

    fn set(&mut self, section: &str, key: &str, value: Result<Value, String>, place: Place) {
        let name = format!("{section}.{key}");
        let tried = value.and_then(|value| {
            let mut alone = self.defaults.clone();
            alone[section][key] = value.clone();
            serde_json::from_value::<Config>(alone)
                .map(|_| value)
                .map_err(|e| e.to_string())
        });
        match tried {
            Ok(value) => {
                self.values[section][key] = value;
                self.places.insert(name, place);
            }
            Err(reason) => self.problems.push(Problem {
                place,
                key: name,
                reason,
            }),
        }
    }

    fn finish(mut self, folder: &Path) -> Result<Config, Problems> {
        let config: Result<Config, _> = serde_json::from_value(self.values);
        match config {
            Ok(mut config) => {
                for (key, reason) in config.faults() {
                    let place = self.places.get(key).cloned().unwrap_or(Place::Default);
                    self.problems.push(Problem {
                        place,
                        key: key.into(),
                        reason,
                    });
                }
                if self.problems.is_empty() {
                    config.resolve_paths(folder);
                    return Ok(config);
                }
            }
            Err(e) => self.problems.push(Problem {
                place: Place::Default,
                key: String::new(),
                reason: e.to_string(),
            }),
        }
        self.problems.sort_by_key(|p| match p.place {
            Place::Line(_, line) => line,
            _ => usize::MAX,
        });
        Err(Problems(self.problems))
    }
}

fn sections(tree: &Value) -> impl Iterator<Item = (&str, &serde_json::Map<String, Value>)> {
    tree.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, keys)| Some((name.as_str(), keys.as_object()?)))
}

impl Config {
    fn resolve_paths(&mut self, folder: &Path) {
        let paths: [&mut PathBuf; 7] = [
            &mut self.server.pid_file,
            &mut self.server.log_file,
            &mut self.auth.jwt_public_key_file,
            &mut self.auth.jwks_file,
            &mut self.cluster.tls_ca_file,
            &mut self.cluster.tls_cert_file,
            &mut self.cluster.tls_key_file,
        ];
        for path in paths {
            // Empty means none.
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        }
    }
}
