//! A configuration file with all its mistakes. Other readers stop at the first.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::Config;
use super::findings::{Finding, Findings, Setting, Severity};

/// From here on, a file has something else wrong with it than single mistakes.
const MAX_MISTAKES: usize = 50;
/// A name that no table has.
const NO_NAME: &str = "?";

/// A file that was read as far as possible.
pub struct Source<'a> {
    text: &'a str,
    document: DeTable<'a>,
    /// What was left out of the configuration.
    removed: Vec<Setting>,
    /// The settings that could be read. `None` if the file is no TOML.
    pub config: Option<Config>,
    /// What is wrong with the others.
    pub mistakes: Findings,
}

impl<'a> Source<'a> {
    /// Reads the text of a file. What is wrong is left out, and a misspelt name is taken for the one that is meant.
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
            let problem = format!("this is not TOML: {}", error.message());
            source.add(Setting::default(), error.span(), (problem, "correct the line".to_owned()));
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

    /// The line of a setting, from 1, or of the innermost table around it that is in the file.
    #[must_use]
    pub fn line(&self, setting: &Setting) -> Option<usize> {
        let (first, rest) = setting.0.split_first()?;
        let (key, value) = self.document.get_key_value(first.as_str())?;
        let inner = rest.split_first().and_then(|(next, rest)| start_of(value, next, rest));
        Some(self.line_at(inner.unwrap_or_else(|| key.span().start)))
    }

    /// Whether the setting could be otherwise if something near it had not been left out.
    #[must_use]
    pub fn is_uncertain(&self, setting: &Setting) -> bool {
        self.removed.iter().any(|removed| match removed.0.as_slice() {
            [_] | [] => setting.is_in(removed),
            // The other elements of an array don't depend on it.
            [.., last] if last.parse::<usize>().is_ok() => false,
            [around @ .., _] => setting.is_in(&Setting(around.to_vec())),
        })
    }

    /// The setting as it is numbered in the file, where elements before it may have been left out.
    #[must_use]
    pub fn in_file(&self, setting: &Setting) -> Setting {
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
        Setting(steps)
    }

    /// Reports an error, and takes its cause out of the document. Returns whether that was possible.
    fn repair(&mut self, error: &Error) -> bool {
        let found = error.span().and_then(|span| find_in_table(&self.document, &span));
        let Some(path) = found else {
            let problem = error.message().to_owned();
            self.add(Setting::default(), error.span(), (problem, "correct the value".to_owned()));
            return false;
        };
        let (problem, remedy, meant) = explain(error.message());
        // What was left out before is not missing.
        if !error.message().starts_with("missing field") || !self.is_uncertain(&child_of(&path)) {
            self.add(self.in_file(&path), error.span(), (problem, remedy));
        }
        let Some(value) = take(&mut self.document, &path.0) else { return false };
        let renamed = meant.is_some_and(|meant| put_back(&mut self.document, &path, meant, value));
        if !renamed {
            self.removed.push(path);
        }
        true
    }

    fn add(&mut self, setting: Setting, span: Option<Range<usize>>, (problem, remedy): (String, String)) {
        let line = span.map(|span| self.line_at(span.start));
        self.mistakes.0.push(Finding { severity: Severity::Error, setting, line, problem, remedy });
    }

    fn line_at(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

fn child_of(path: &Setting) -> Setting {
    Setting(path.0.iter().cloned().chain([NO_NAME.to_owned()]).collect())
}

/// Where the setting begins, or the innermost table around it.
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

/// The setting whose name or value is exactly here.
fn find_in_table(table: &DeTable<'_>, span: &Range<usize>) -> Option<Setting> {
    table.iter().find_map(|(key, value)| {
        let inner = if key.span() == *span { Some(Setting::default()) } else { find(value, span) };
        inner.map(|inner| prefixed(key.get_ref(), inner))
    })
}

fn find(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Setting> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, span),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .find_map(|(index, value)| find(value, span).map(|inner| prefixed(&index.to_string(), inner))),
        _ => None,
    };
    inner.or_else(|| (value.span() == *span).then(Setting::default))
}

fn prefixed(step: &str, mut inner: Setting) -> Setting {
    inner.0.insert(0, step.to_owned());
    inner
}

/// Takes a setting out.
fn take<'a>(table: &mut DeTable<'a>, path: &[String]) -> Option<Spanned<DeValue<'a>>> {
    match path {
        [] => None,
        [name] => table.remove(name.as_str()),
        [name, rest @ ..] => take_inner(table.get_mut(name.as_str())?.get_mut(), rest),
    }
}

fn take_inner<'a>(value: &mut DeValue<'a>, path: &[String]) -> Option<Spanned<DeValue<'a>>> {
    match (value, path) {
        (DeValue::Table(table), _) => take(table, path),
        (DeValue::Array(array), [index, rest @ ..]) => {
            let index = index.parse::<usize>().ok()?;
            if !rest.is_empty() {
                return take_inner(array.get_mut(index)?.get_mut(), rest);
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

/// Puts a value back under another name, unless there is one of that name.
fn put_back<'a>(
    document: &mut DeTable<'a>,
    path: &Setting,
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

/// The problem and the remedy of serde's message, and the name that was meant by an unknown one.
fn explain(message: &str) -> (String, String, Option<String>) {
    let Some((unknown, known)) = unknown_field(message) else {
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
        if let Some((name, _)) = missing {
            return (format!("it has no {name}"), format!("add {name} = …"), None);
        }
        let remedy = if message.contains("expected a duration") {
            "write a number with a unit, such as \"30s\""
        } else {
            "correct the value"
        };
        return (message.to_owned(), remedy.to_owned(), None);
    };
    let problem = format!("there is no setting {unknown} here");
    if let Some(meant) = nearest(&unknown, &known) {
        return (problem, format!("write {meant}"), Some(meant));
    }
    let remedy = match place_of(&unknown) {
        Some(section) if section.is_empty() => {
            format!(
                "move the line to the top of the file, above the first [section]; {unknown} belongs to none"
            )
        }
        Some(section) => format!("move it into [{section}]"),
        None => format!("remove it; known here: {}", known.join(", ")),
    };
    (problem, remedy, None)
}

/// The name that serde does not know, and those that it does.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((unknown.to_owned(), known))
}

/// The known name that differs by little.
fn nearest(unknown: &str, known: &[String]) -> Option<String> {
    let distance = |name: &String| strsim::damerau_levenshtein(unknown, name);
    let best = known.iter().min_by_key(|name| distance(name))?;
    (distance(best) <= (unknown.chars().count() / 3).max(1)).then(|| best.clone())
}

/// The section that knows the name: empty for the top of the file.
fn place_of(name: &str) -> Option<String> {
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

/// The names that a section knows, from the error that another one causes. Empty if it is no section.
fn known_names(section: &str) -> Vec<String> {
    let header = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
    let error = toml::from_str::<Config>(&format!("{header}'{NO_NAME}' = 0")).err();
    let known = error.and_then(|error| unknown_field(error.message()));
    known.filter(|(unknown, _)| unknown == NO_NAME).map(|(_, known)| known).unwrap_or_default()
}
