//! Decides whether an output file is at least as new as its inputs and need not be built again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Folders of generated files, which are ignored.
const MADE: &[&str] = &["__pycache__", "node_modules", "target"];

/// Whether `output` exists and is at least as new as every file in `inputs`. Folders are searched recursively.
pub(crate) fn is_fresh(output: &Path, inputs: &[PathBuf]) -> bool {
    let Some(made) = changed(output) else { return false };
    inputs.iter().all(|input| newest(input).is_some_and(|input| input <= made))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The latest modification time below `path`, or `None` if it does not exist.
fn newest(path: &Path) -> Option<SystemTime> {
    if !path.is_dir() {
        return changed(path);
    }
    let entries = fs::read_dir(path).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    entries
        .filter(|entry| !MADE.iter().any(|made| entry.ends_with(made)))
        .filter_map(|entry| newest(&entry))
        .chain(changed(path))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_fresh_until_an_input_is_newer() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        assert!(!is_fresh(&output, &[]));
        fs::write(&input, "").unwrap();
        fs::write(&output, "").unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        fs::File::open(&input).unwrap().set_modified(at(1)).unwrap();
        fs::File::open(&output).unwrap().set_modified(at(2)).unwrap();
        assert!(is_fresh(&output, std::slice::from_ref(&input)));
        fs::File::open(&input).unwrap().set_modified(at(3)).unwrap();
        assert!(!is_fresh(&output, &[input]));
    }

    #[test]
    fn an_output_with_a_missing_input_is_not_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        fs::write(&output, "").unwrap();
        assert!(!is_fresh(&output, &[folder.path().join("gone")]));
    }
}
