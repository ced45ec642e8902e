//! Remembers which packages are installed, so that they are installed again only when the files that name them change.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::SOURCE;

/// A folder of the cache for installed packages. It records the contents of the files of this crate (`inputs`) from
/// which they were installed.
pub(crate) struct Installation {
    /// The folder, which exists.
    pub(crate) folder: PathBuf,
    wanted: Vec<u8>,
}

impl Installation {
    pub(crate) fn new(cache: &Path, name: &str, inputs: &[&str]) -> Result<Self> {
        let folder = cache.join(name);
        fs::create_dir_all(&folder)?;
        let mut wanted = Vec::new();
        for input in inputs {
            let path = Path::new(SOURCE).join(input);
            wanted.extend(fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
        }
        Ok(Self { folder, wanted })
    }

    pub(crate) fn is_fresh(&self) -> bool {
        fs::read(self.stamp()).is_ok_and(|installed| installed == self.wanted)
    }

    /// Marks the installation as complete.
    pub(crate) fn done(&self) -> Result<()> {
        Ok(fs::write(self.stamp(), &self.wanted)?)
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("installed-from")
    }
}

/// A file of this crate.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(SOURCE).join(path)
}
