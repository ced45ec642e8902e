//! The packages as users install them: the wheel in a virtual environment, the tarball in `node_modules`, the jar
//! on a class path. The project's programs run on these, never on the source tree.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    artefacts::{Artefacts, Profile},
    fresh::is_fresh,
    language::Language,
    maven,
    package::Packages,
    step,
    tool::Tool,
    workspace::Workspace,
};

/// The Kotlin compiler as a Java package.
const KOTLIN_COMPILER: &str = "tests/xtask/kotlin/pom.xml";
/// The program that calls it.
const COMPILE_ALL: &str = "tests/xtask/kotlin/CompileAll.java";

/// The installed packages of every language.
#[derive(Debug)]
pub(crate) struct Installed<'a> {
    workspace: &'a Workspace,
    artefacts: Artefacts,
    packages: Packages,
    /// The folder in the cache that they are installed in.
    place: String,
}

impl<'a> Installed<'a> {
    /// Builds everything, packs the languages and installs the packages. Unchanged parts are skipped.
    pub(crate) fn prepare(
        workspace: &'a Workspace,
        languages: &[Language],
        profile: Profile,
    ) -> Result<Self> {
        let artefacts = Artefacts::build(workspace, profile)?;
        let packages = Packages::make(workspace, &artefacts, languages)?;
        Self::install(workspace, artefacts, packages, &profile.cache("installed"))
    }

    /// Installs packages below `place` in the cache.
    pub(crate) fn install(
        workspace: &'a Workspace,
        artefacts: Artefacts,
        packages: Packages,
        place: &str,
    ) -> Result<Self> {
        let installed = Self { workspace, artefacts, packages, place: place.to_owned() };
        if let Some(wheel) = &installed.packages.wheel {
            installed.install_wheel(wheel)?;
        }
        if !installed.packages.tarballs.is_empty() {
            installed.install_tarballs(&installed.packages.tarballs)?;
        }
        Ok(installed)
    }

    /// The output of the build.
    pub(crate) fn artefacts(&self) -> &Artefacts {
        &self.artefacts
    }

    fn cache(&self, name: &str) -> Result<PathBuf> {
        self.workspace.cache(&format!("{}/{name}", self.place))
    }

    /// The Python of the virtual environment that holds the wheel.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        let folder = self.cache("python")?;
        let (bin, program) = if cfg!(windows) { ("Scripts", "python.exe") } else { ("bin", "python") };
        Ok(folder.join(bin).join(program))
    }

    /// Copies the files of a folder beside the installed package: Node looks for packages beside the program.
    pub(crate) fn node_programs(&self, sources: &Path, name: &str) -> Result<PathBuf> {
        let folder = self.cache("node")?.join(name);
        fs::create_dir_all(&folder)?;
        for stale in files(&folder)? {
            fs::remove_file(stale)?;
        }
        for source in files(sources)? {
            fs::copy(&source, folder.join(source.file_name().context("a file's name")?))?;
        }
        Ok(folder)
    }

    /// A Java class path: the jar, its dependencies, and a program's own classes.
    pub(crate) fn class_path(&self, classes: &Path) -> Result<OsString> {
        let jar = self.packages.jar.as_deref().context("the jar is not packed")?;
        let libraries = self.packages.jar_dependencies.join("*");
        Ok(std::env::join_paths([jar, &libraries, classes])?)
    }

    /// The jar and those that it depends on.
    pub(crate) fn jars(&self) -> Result<Vec<PathBuf>> {
        let mut jars = files(&self.packages.jar_dependencies)?;
        jars.push(self.packages.jar.clone().context("the jar is not packed")?);
        Ok(jars)
    }

    /// The command of the example in `folder` for a language, without its arguments.
    pub(crate) fn example(&self, language: Language, folder: &str) -> Result<Command> {
        self.program(language, &self.workspace.root().join("examples").join(folder), folder)
    }

    /// The command of the main file in the folder `source`, without its arguments. Rust programs are examples.
    pub(crate) fn program(&self, language: Language, source: &Path, name: &str) -> Result<Command> {
        Ok(match language {
            Language::Rust => Command::new(self.artefacts.program(&format!("example-{name}"))),
            Language::Python => {
                let mut command = Command::new(self.python()?);
                // Unbuffered, so that output appears at once.
                command.arg("-u").arg(source.join("main.py"));
                command
            }
            Language::Node => {
                let mut command = Tool::Node.command();
                command.arg(self.node_programs(source, name)?.join("main.mjs"));
                command
            }
            Language::Kotlin => {
                let source = source.join("Main.kt");
                self.compile_kotlin(&[KotlinProgram { name: name.to_owned(), source }])?;
                let mut command = Command::new("java");
                command.arg("-cp").arg(self.class_path(&self.kotlin_classes(name)?)?).arg("MainKt");
                command
            }
        })
    }

    /// The command of a Java program in one file, without its arguments.
    pub(crate) fn java_program(&self, source: &Path) -> Result<Command> {
        let mut command = Command::new("java");
        command
            .arg("-cp")
            .arg(self.class_path(source.parent().context("the program's folder")?)?)
            .arg(source);
        Ok(command)
    }

    fn install_wheel(&self, wheel: &Path) -> Result<()> {
        let python = self.python()?;
        let stamp = self.cache("python")?.join("installed");
        if is_fresh(&stamp, &[wheel.to_owned()]) {
            return Ok(());
        }
        let folder = self.cache("python")?;
        step::run(
            self.workspace,
            "make a Python environment",
            Tool::Python.command().args(["-m", "venv"]).arg(folder),
        )?;
        let mut install = Command::new(python);
        install.args("-m pip install --disable-pip-version-check --no-index --force-reinstall".split(' '));
        step::run(self.workspace, "install the wheel", install.arg(wheel))?;
        Ok(fs::write(stamp, "")?)
    }

    fn install_tarballs(&self, tarballs: &[PathBuf]) -> Result<()> {
        let folder = self.cache("node")?;
        let stamp = folder.join("installed");
        if is_fresh(&stamp, tarballs) {
            return Ok(());
        }
        fs::write(folder.join("package.json"), "{\"private\": true}\n")?;
        let mut install = Tool::Npm.command();
        // The packages of other platforms are optional, and not there.
        install.current_dir(folder).args([
            "install",
            "--offline",
            "--no-audit",
            "--no-fund",
            "--no-save",
            "--force",
        ]);
        step::run(self.workspace, "install the npm tarball", install.args(tarballs))?;
        Ok(fs::write(stamp, "")?)
    }

    /// Compiles Kotlin programs against the jar, as far as they have changed.
    pub(crate) fn compile_kotlin(&self, programs: &[KotlinProgram]) -> Result<()> {
        if programs.is_empty() {
            return Ok(());
        }
        let jar = self.packages.jar.clone().context("the jar is not packed")?;
        let mut stale = Vec::new();
        for program in programs {
            let stamp = self.kotlin_classes(&program.name)?.join("META-INF/main.kotlin_module");
            if !is_fresh(&stamp, &[program.source.clone(), jar.clone()]) {
                stale.push(program);
            }
        }
        let step = match stale[..] {
            [] => return Ok(()),
            [program] => format!("compile the Kotlin program of {}", program.name),
            _ => format!("compile {} Kotlin programs", stale.len()),
        };
        // The compiler does not expand `*` in class paths.
        let libraries = self.jars()?;
        let mut compile = Command::new("java");
        // The compiler lives for seconds: code for long runs and parallel collection cost it more than they save.
        compile.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        compile.arg("-cp").arg(maven::class_path(self.workspace, KOTLIN_COMPILER)?);
        compile.arg(self.workspace.root().join(COMPILE_ALL)).arg(std::env::join_paths(libraries)?);
        for KotlinProgram { name, source } in stale {
            compile.arg(self.kotlin_classes(name)?).arg(source);
        }
        step::run(self.workspace, &step, &mut compile).map(drop)
    }

    /// The folder of a Kotlin program's classes.
    pub(crate) fn kotlin_classes(&self, name: &str) -> Result<PathBuf> {
        Ok(self.cache("kotlin")?.join(name))
    }
}

/// A Kotlin program in one file.
#[derive(Debug)]
pub(crate) struct KotlinProgram {
    /// The folder of its classes.
    pub(crate) name: String,
    pub(crate) source: PathBuf,
}

/// The files directly in a folder, without subfolders.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}
