//! The size of installed packages, in bytes, and how many there are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// What every virtual environment has.
const OF_THE_ENVIRONMENT: &[&str] = &["pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources"];

/// The packages in a virtual environment.
pub(super) fn python(environment: &Path) -> Result<(u64, usize)> {
    let versions = folders(&environment.join("lib"))?;
    let packages = versions.first().context("the environment has no Python")?.join("site-packages");
    let (mut size, mut count) = (0, 0);
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if OF_THE_ENVIRONMENT.iter().any(|fixed| name.starts_with(fixed)) {
            continue;
        }
        size += size_of(&path)?;
        count += usize::from(name.ends_with(".dist-info"));
    }
    Ok((size, count))
}

/// The packages in `node_modules` of a folder.
pub(super) fn node(folder: &Path) -> Result<(u64, usize)> {
    let modules = folder.join("node_modules");
    Ok((size_of(&modules)?, node_packages(&modules)?))
}

fn node_packages(modules: &Path) -> Result<usize> {
    let mut count = 0;
    for folder in folders(modules)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('@') {
            count += node_packages(&folder)?;
        } else if folder.join("package.json").exists() {
            count += 1 + node_packages(&folder.join("node_modules"))?;
        }
    }
    Ok(count)
}

/// The jars of a class path.
pub(super) fn jars(jars: &[PathBuf]) -> Result<(u64, usize)> {
    let sizes: Result<Vec<u64>> = jars.iter().map(|jar| size_of(jar)).collect();
    Ok((sizes?.iter().sum(), jars.len()))
}

/// The folders directly in a folder, which may not exist.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// The size of a file, or of all files below a folder.
fn size_of(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut size = 0;
    for entry in fs::read_dir(path)? {
        size += size_of(&entry?.path())?;
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_packages_and_of_scopes_count() {
        let folder = tempfile::tempdir().unwrap();
        for package in ["a", "a/node_modules/b", "@scope/c"] {
            let package = folder.path().join("node_modules").join(package);
            fs::create_dir_all(&package).unwrap();
            fs::write(package.join("package.json"), "{}").unwrap();
        }
        assert_eq!(node(folder.path()).unwrap(), (6, 3));
    }
}
