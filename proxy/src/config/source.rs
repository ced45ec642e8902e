//! Reads a configuration file and reports all of its mistakes, where a deserializer stops at the first one.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::Config;
use super::findings::{Finding, Findings, SettingPath, Severity};

/// Reading stops after this many mistakes: the file is probably not a configuration of the proxy.
const MAX_MISTAKES: usize = 50;
/// A name that no table contains.
const NO_NAME: &str = "?";

/// A configuration file, read as far as possible.
pub struct ConfigSource<'a> {
    text: &'a str,
    document: DeTable<'a>,
    /// Invalid settings that were removed from the document, in the order of their removal.
    removed: Vec<SettingPath>,
    /// The valid settings. `None` if the file is not TOML.
    pub config: Option<Config>,
    /// The mistakes in the other settings.
    pub mistakes: Findings,
}

impl<'a> ConfigSource<'a> {
    /// Parses the text of a file. Invalid settings are left out, and a misspelt name is treated as the nearest known one.
    #[must_use]
    pub fn read(text: &'a str) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        let span = document.span();
        let mut source = Self {
            text,
            document: document.into_inner(),
            removed: Vec::new(),
            config: None,
            mistakes: Findings::default(),
        };
        for error in &errors {
            let problem = format!("not valid TOML: {}", error.message());
            source.add(SettingPath::default(), error.span(), Advice::new(problem, "correct the line"));
        }
        if !errors.is_empty() {
            return source;
        }
        while source.mistakes.0.len() < MAX_MISTAKES {
            let document = Spanned::new(span.clone(), source.document.clone());
            match Config::deserialize(Deserializer::from(document)) {
                Ok(config) => {
                    source.config = Some(config);
                    break;
                }
                Err(error) => {
                    if !source.repair(&error) {
                        break;
                    }
                }
            }
        }
        source
    }

    /// The line of a setting, from 1, or of the innermost enclosing table that is in the file.
    #[must_use]
    pub fn line(&self, setting: &SettingPath) -> Option<usize> {
        let (first, rest) = setting.0.split_first()?;
        let (key, value) = self.document.get_key_value(first.as_str())?;
        let inner = rest.split_first().and_then(|(next, rest)| start_of(value, next, rest));
        Some(self.line_at(inner.unwrap_or_else(|| key.span().start)))
    }

    /// Whether the value of this setting may depend on a setting that was removed.
    #[must_use]
    pub fn is_uncertain(&self, setting: &SettingPath) -> bool {
        self.removed.iter().any(|removed| match removed.0.as_slice() {
            [_] | [] => setting.is_in(removed),
            // The other elements of an array don't depend on it.
            [.., last] if last.parse::<usize>().is_ok() => false,
            [around @ .., _] => setting.is_in(&SettingPath(around.to_vec())),
        })
    }

    /// The path of a setting with its indexes in the file: earlier elements of an array may have been removed.
    #[must_use]
    pub fn in_file(&self, setting: &SettingPath) -> SettingPath {
        let mut steps = setting.0.clone();
        for removed in self.removed.iter().rev() {
            let Some((last, around)) = removed.0.split_last() else { continue };
            let Ok(left_out) = last.parse::<usize>() else { continue };
            if steps.starts_with(around)
                && let Some(step) = steps.get_mut(around.len())
                && let Ok(index) = step.parse::<usize>()
                && index >= left_out
            {
                *step = (index + 1).to_string();
            }
        }
        SettingPath(steps)
    }

    /// Reports an error, and removes or renames the setting that causes it. Returns whether the document has changed.
    fn repair(&mut self, error: &Error) -> bool {
        let found = error.span().and_then(|span| find_in_table(&self.document, &span));
        let Some(path) = found else {
            let problem = error.message().to_owned();
            self.add(SettingPath::default(), error.span(), Advice::new(problem, "correct the value"));
            return false;
        };
        let advice = explain(error.message());
        let meant = advice.meant.clone();
        // A field that was removed before is not missing.
        if !error.message().starts_with("missing field") || !self.is_uncertain(&any_child_of(&path)) {
            self.add(self.in_file(&path), error.span(), advice);
        }
        let Some(value) = remove_setting(&mut self.document, &path.0) else { return false };
        let renamed = meant.is_some_and(|meant| insert_renamed(&mut self.document, &path, meant, value));
        if !renamed {
            self.removed.push(path);
        }
        true
    }

    fn add(&mut self, setting: SettingPath, span: Option<Range<usize>>, advice: Advice) {
        let Advice { problem, remedy, .. } = advice;
        let line = span.map(|span| self.line_at(span.start));
        self.mistakes.0.push(Finding { severity: Severity::Error, setting, line, problem, remedy });
    }

    fn line_at(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

fn any_child_of(path: &SettingPath) -> SettingPath {
    SettingPath(path.0.iter().cloned().chain([NO_NAME.to_owned()]).collect())
}

/// The position of a setting, or of its innermost enclosing table that exists.
fn start_of(value: &Spanned<DeValue<'_>>, step: &str, rest: &[String]) -> Option<usize> {
    let (start, value) = match value.get_ref() {
        DeValue::Table(table) => {
            let (key, value) = table.get_key_value(step)?;
            (key.span().start, value)
        }
        DeValue::Array(array) => {
            let value = array.get(step.parse::<usize>().ok()?)?;
            (value.span().start, value)
        }
        _ => return None,
    };
    Some(rest.split_first().and_then(|(next, rest)| start_of(value, next, rest)).unwrap_or(start))
}

/// The setting whose name or value has exactly this span.
fn find_in_table(table: &DeTable<'_>, span: &Range<usize>) -> Option<SettingPath> {
    table.iter().find_map(|(key, value)| {
        let inner = if key.span() == *span { Some(SettingPath::default()) } else { find(value, span) };
        inner.map(|inner| prepend(key.get_ref(), inner))
    })
}

/// The setting inside a value that has exactly this span.
fn find(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<SettingPath> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, span),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .find_map(|(index, value)| find(value, span).map(|inner| prepend(&index.to_string(), inner))),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(SettingPath::default))
}

fn prepend(step: &str, mut inner: SettingPath) -> SettingPath {
    inner.0.insert(0, step.to_owned());
    inner
}

/// Removes a setting, and returns its value.
fn remove_setting<'a>(table: &mut DeTable<'a>, path: &[String]) -> Option<Spanned<DeValue<'a>>> {
    match path {
        [] => None,
        [name] => table.remove(name.as_str()),
        [name, rest @ ..] => remove_inner(table.get_mut(name.as_str())?.get_mut(), rest),
    }
}

fn remove_inner<'a>(value: &mut DeValue<'a>, path: &[String]) -> Option<Spanned<DeValue<'a>>> {
    match (value, path) {
        (DeValue::Table(table), _) => remove_setting(table, path),
        (DeValue::Array(array), [index, rest @ ..]) => {
            let index = index.parse::<usize>().ok()?;
            if !rest.is_empty() {
                return remove_inner(array.get_mut(index)?.get_mut(), rest);
            }
            let taken = array.get(index)?.clone();
            let mut others = DeArray::new();
            array
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != index)
                .for_each(|(_, value)| others.push(value.clone()));
            *array = others;
            Some(taken)
        }
        _ => None,
    }
}

/// Inserts a removed value under another name, unless that name exists.
fn insert_renamed<'a>(
    document: &mut DeTable<'a>,
    path: &SettingPath,
    name: String,
    value: Spanned<DeValue<'a>>,
) -> bool {
    let Some((_, around)) = path.0.split_last() else { return false };
    let mut table = document;
    let mut steps = around.iter();
    while let Some(step) = steps.next() {
        let mut inner = table.get_mut(step.as_str()).map(Spanned::get_mut);
        while let Some(DeValue::Array(array)) = inner {
            let index = steps.next().and_then(|index| index.parse::<usize>().ok());
            inner = index.and_then(|index| array.get_mut(index)).map(Spanned::get_mut);
        }
        let Some(DeValue::Table(found)) = inner else { return false };
        table = found;
    }
    if table.contains_key(name.as_str()) {
        return false;
    }
    table.insert(Spanned::new(value.span(), name.into()), value);
    true
}

/// A problem, and what to do about it.
struct Advice {
    problem: String,
    remedy: String,
    /// The known name nearest to an unknown one.
    meant: Option<String>,
}

impl Advice {
    fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into(), meant: None }
    }
}

/// Explains serde's message.
fn explain(message: &str) -> Advice {
    let Some((unknown, known)) = unknown_field(message) else {
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        if let Some((name, _)) = missing {
            return Advice::new(format!("it has no {name}"), format!("add {name} = …"));
        }
        let remedy = if message.contains("expected a duration") {
            "write a number with a unit, such as \"30s\""
        } else {
            "correct the value"
        };
        return Advice::new(message, remedy);
    };
    let problem = format!("there is no setting {unknown} here");
    if let Some(meant) = nearest(&unknown, &known) {
        return Advice { problem, remedy: format!("write {meant}"), meant: Some(meant) };
    }
    let remedy = match section_of(&unknown) {
        Some(section) if section.is_empty() => {
            format!(
                "move the line to the top of the file, above the first [section]; {unknown} belongs to no section"
            )
        }
        Some(section) => format!("move it into [{section}]"),
        None => format!("remove it; known here: {}", known.join(", ")),
    };
    Advice::new(problem, remedy)
}

/// Parses serde's message about an unknown field: the name, and the known names.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((unknown.to_owned(), known))
}

/// The known name with the smallest edit distance, if it is at most a third of the length.
fn nearest(unknown: &str, known: &[String]) -> Option<String> {
    let distance = |name: &String| strsim::damerau_levenshtein(unknown, name);
    let best = known.iter().min_by_key(|name| distance(name))?;
    (distance(best) <= (unknown.chars().count() / 3).max(1)).then(|| best.clone())
}

/// The section that has a setting of this name; empty for the top of the file.
fn section_of(name: &str) -> Option<String> {
    let mut sections = vec![String::new()];
    while let Some(section) = sections.pop() {
        let known = known_names(&section);
        if known.iter().any(|known| known == name) {
            return Some(section);
        }
        let inner = |name: String| if section.is_empty() { name } else { format!("{section}.{name}") };
        sections.extend(known.into_iter().map(inner));
    }
    None
}

/// The settings of a section, from the error that an unknown one causes. Empty if there is no such section.
fn known_names(section: &str) -> Vec<String> {
    let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let error = toml::from_str::<Config>(&format!("{header}'{NO_NAME}' = 0")).err();
    let known = error.and_then(|error| unknown_field(error.message()));
    known.filter(|(unknown, _)| unknown == NO_NAME).map(|(_, known)| known).unwrap_or_default()
}
