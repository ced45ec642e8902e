//! The programs in the READMEs: they run as they are printed, against a merged proxy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    examples::Run,
    installed::{Installed, KotlinProgram},
    language::Language,
    step,
    tally::Tally,
    workspace::Workspace,
};

/// The address in the READMEs, which stands for the proxy's.
const ADDRESS: &str = "127.0.0.1:8081";

/// The languages whose programs are complete: what begins a code block, and the file that it is saved as.
const KINDS: &[(Language, &str, &str)] = &[
    (Language::Python, "```python", "main.py"),
    (Language::Node, "```js", "main.mjs"),
    (Language::Kotlin, "```kotlin", "Main.kt"),
    (Language::Kotlin, "```java", "Main.java"),
];

/// A program of a README.
struct Snippet {
    language: Language,
    /// The folder of what is built of it.
    name: String,
    source: PathBuf,
    /// What its step is called.
    title: String,
}

/// Runs the programs of the chosen languages.
pub(crate) fn run(workspace: &Workspace, installed: &Installed<'_>, run: &Run<'_>) -> Result<Tally> {
    let snippets = write(workspace, run)?;
    let kotlin = snippets.iter().filter(|snippet| is_kotlin(&snippet.source));
    let kotlin: Vec<KotlinProgram> = kotlin
        .map(|Snippet { name, source, .. }| KotlinProgram { name: name.clone(), source: source.clone() })
        .collect();
    installed.compile_kotlin(&kotlin)?;
    let mut tally = Tally::default();
    for snippet in &snippets {
        let mut program = program(installed, snippet)?;
        tally.add_one(step::attempt(workspace, &snippet.title, &mut program)?.ok);
    }
    Ok(tally)
}

/// Saves the programs as files.
fn write(workspace: &Workspace, run: &Run<'_>) -> Result<Vec<Snippet>> {
    let mut snippets = Vec::new();
    for (language, fence, file) in KINDS.iter().filter(|(language, ..)| run.languages.contains(language)) {
        let binding = format!("bindings/{}/README.md", language.key());
        for (readme, place) in [("README.md", "root"), (&binding, "binding")] {
            let text = fs::read_to_string(workspace.root().join(readme))
                .with_context(|| format!("reading {readme}"))?;
            for (number, code) in blocks(&text, fence).into_iter().enumerate() {
                let name = format!("snippet-{place}-{number}-{}", file.replace('.', "-").to_lowercase());
                let folder = workspace.cache("snippets")?.join(&name);
                fs::create_dir_all(&folder)?;
                let source = folder.join(file);
                fs::write(&source, code.replace(ADDRESS, run.proxy.endpoint()))?;
                snippets.push(Snippet {
                    language: *language,
                    name,
                    source,
                    title: format!("{file} of {readme}"),
                });
            }
        }
    }
    Ok(snippets)
}

fn is_kotlin(source: &Path) -> bool {
    source.extension().is_some_and(|extension| extension == "kt")
}

fn program(installed: &Installed<'_>, snippet: &Snippet) -> Result<Command> {
    let Snippet { language, name, source, .. } = snippet;
    if *language == Language::Kotlin && !is_kotlin(source) {
        return installed.java_program(source);
    }
    installed.program(*language, source.parent().context("the program's folder")?, name)
}

/// The code blocks of a language in a Markdown text.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            None if line == fence => block = Some(String::new()),
            None => {}
            Some(_) if line == "```" => blocks.extend(block.take()),
            Some(code) => {
                code.push_str(line);
                code.push('\n');
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_other_languages_are_skipped() {
        let text = "text\n```js\na\nb\n```\n```sh\nc\n```\n```js\nd\n```\n";
        assert_eq!(blocks(text, "```js"), ["a\nb\n", "d\n"]);
    }
}
