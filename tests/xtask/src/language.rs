//! The languages of rocketmq-thin, and their selection on the command line.

use std::fmt;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::tool::{self, Tool};

/// A language that rocketmq-thin supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// The core, `core/`.
    Rust,
    /// `bindings/python`.
    Python,
    /// `bindings/node`.
    Node,
    /// `bindings/kotlin`.
    Kotlin,
}

impl Language {
    /// The tools that its build, installation and programs need in addition to cargo.
    pub(crate) fn tools(self) -> &'static [Tool] {
        match self {
            Self::Rust => &[],
            Self::Python => &[Tool::Python],
            Self::Node => &[Tool::Node, Tool::Npm],
            Self::Kotlin => &[Tool::Jdk, Tool::Maven],
        }
    }

    /// The name on the command line: `rust`, `python`, …
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::Kotlin => "kotlin",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::Node => "Node",
            Self::Kotlin => "Kotlin",
        })
    }
}

/// The languages that a subcommand works on.
#[derive(Debug, Default, Args)]
pub(crate) struct Selection {
    /// Only these languages [default: all]
    #[arg(value_enum)]
    only: Vec<Language>,
    /// Leave a language out, for a machine without its tools; may be repeated
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    without: Vec<Language>,
}

impl Selection {
    /// A selection without the command line.
    pub(crate) fn of(only: Vec<Language>, without: Vec<Language>) -> Self {
        Self { only, without }
    }

    /// The chosen languages in their usual order. Fails if none is left or a tool is missing.
    pub(crate) fn resolve(&self) -> Result<Vec<Language>> {
        let chosen: Vec<Language> = Language::value_variants()
            .iter()
            .copied()
            .filter(|language| self.only.is_empty() || self.only.contains(language))
            .filter(|language| !self.without.contains(language))
            .collect();
        ensure!(!chosen.is_empty(), "no language is left to run");
        let mut missing = Vec::new();
        let mut leave_out = String::from("Or leave it out:");
        for language in &chosen {
            let lacks = tool::missing(language.tools());
            if !lacks.is_empty() {
                leave_out += &format!(" --without {}", language.key());
            }
            missing.extend(lacks);
        }
        tool::refuse(&missing, &leave_out)?;
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_named_and_drops_what_is_left_out() {
        let chosen = Selection::of(vec![Language::Rust], vec![Language::Kotlin]).resolve().unwrap();
        assert_eq!(chosen, [Language::Rust]);
    }

    #[test]
    fn refuses_an_empty_choice() {
        assert!(Selection::of(vec![Language::Kotlin], vec![Language::Kotlin]).resolve().is_err());
    }
}
