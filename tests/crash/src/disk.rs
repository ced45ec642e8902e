//! A power failure: what is left of a data directory, from its files and the copy of what was synced.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;

/// What a disk writes at once.
const SECTOR: usize = 512;
/// What the operating system writes at once.
const PAGE: usize = 4096;

/// What happens to that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    /// All of it is lost.
    Nothing,
    /// Each page and each folder's names survive or not, in any combination. A page may be torn.
    Some,
    /// All of it survives.
    Everything,
}

impl Survival {
    /// One of them.
    pub(crate) fn choose(random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0..4 => Self::Nothing,
            4..9 => Self::Some,
            _ => Self::Everything,
        }
    }
}

/// The directory, and the copy that the preloaded library has made of it.
pub(crate) struct Disk<'a> {
    /// The data directory as the process saw it.
    pub(crate) data: PathBuf,
    /// The copy of what was synced.
    pub(crate) synced: PathBuf,
    pub(crate) survival: Survival,
    pub(crate) random: &'a mut StdRng,
}

/// The files and folders of the data directory, by inode numbers.
type Present = HashMap<u64, PathBuf>;

impl Disk<'_> {
    /// Replaces the data directory by what is left of it.
    ///
    /// # Errors
    /// If a file can't be read or written.
    pub(crate) fn lose_power(mut self) -> Result<()> {
        if !self.synced.join("complete").exists() {
            // The process has not begun.
            return Ok(());
        }
        let mut present = Present::new();
        find(&self.data, &mut present)?;
        let root = fs::metadata(&self.data)?.ino();
        let mut numbers: Vec<_> = present.keys().copied().collect();
        // The same choices for the same seed, as far as the numbers are the same.
        numbers.sort_unstable();
        for number in numbers {
            let path = &present[&number];
            if path.is_file() {
                self.write_back(number, path).with_context(|| format!("{}", path.display()))?;
            }
        }
        let left = self.data.with_extension("left");
        self.rebuild(root, &left, &present)?;
        fs::remove_dir_all(&self.data)?;
        fs::rename(&left, &self.data)?;
        Ok(())
    }

    /// Adds what survives of the changes since the last sync to the copy of a file.
    fn write_back(&mut self, number: u64, path: &Path) -> io::Result<()> {
        if self.survival == Survival::Nothing {
            return Ok(());
        }
        let copy = self.content(number);
        let (now, synced) = (fs::read(path)?, fs::read(&copy).unwrap_or_default());
        if now == synced {
            return Ok(());
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&copy)?;
        if self.survives() {
            file.set_len(now.len() as u64)?;
        }
        for (index, page) in now.chunks(PAGE).enumerate() {
            let at = index * PAGE;
            let before = synced.get(at..(at + page.len()).min(synced.len())).unwrap_or_default();
            if page == before || !self.survives() {
                continue;
            }
            let is_torn = self.survival == Survival::Some && self.random.random_bool(0.1);
            let sectors = if is_torn { self.random.random_range(0..PAGE / SECTOR) } else { PAGE / SECTOR };
            let end = (sectors * SECTOR).min(page.len());
            if page[..end].iter().any(|byte| *byte != 0) || at < synced.len() {
                file.write_all_at(&page[..end], at as u64)?;
            }
        }
        Ok(())
    }

    /// Makes a folder with the names that are left, and those below it.
    fn rebuild(&mut self, number: u64, to: &Path, present: &Present) -> Result<()> {
        fs::create_dir(to)?;
        let synced = self.synced.join("folders").join(number.to_string());
        let mut names = Vec::new();
        match present.get(&number) {
            Some(now) if self.survives() => {
                for entry in fs::read_dir(now)? {
                    let entry = entry?;
                    names.push((entry.file_name(), entry.metadata()?.ino(), entry.file_type()?.is_dir()));
                }
            }
            _ => {
                // Without a sync since it was made it is empty.
                for entry in synced.read_dir().into_iter().flatten() {
                    let entry = entry?;
                    let is_folder = entry.file_type()?.is_symlink();
                    if is_folder {
                        let number = fs::read_link(entry.path())?;
                        let number = number.to_str().and_then(|number| number.parse().ok());
                        names.push((entry.file_name(), number.context("not a number")?, true));
                    } else {
                        fs::hard_link(entry.path(), to.join(entry.file_name()))?;
                    }
                }
            }
        }
        names.sort();
        for (name, number, is_folder) in names {
            let place = to.join(name);
            if is_folder {
                self.rebuild(number, &place, present)?;
                continue;
            }
            let content = self.content(number);
            if !content.exists() {
                File::create(&content)?;
            }
            fs::hard_link(content, place)?;
        }
        Ok(())
    }

    fn content(&self, number: u64) -> PathBuf {
        self.synced.join("files").join(number.to_string())
    }

    fn survives(&mut self) -> bool {
        match self.survival {
            Survival::Nothing => false,
            Survival::Some => self.random.random_bool(0.5),
            Survival::Everything => true,
        }
    }
}

fn find(path: &Path, present: &mut Present) -> io::Result<()> {
    let status = fs::symlink_metadata(path)?;
    if status.is_dir() {
        for entry in fs::read_dir(path)? {
            find(&entry?.path(), present)?;
        }
    }
    present.insert(status.ino(), path.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// A directory with a synced file, an unsynced change of it, and an unsynced name.
    fn left_with(survival: Survival) -> (Vec<u8>, bool) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (data, synced) = (folder.path().join("data"), folder.path().join("synced"));
        for made in [data.join("inner"), synced.join("files"), synced.join("folders")] {
            fs::create_dir_all(made).expect("a folder");
        }
        fs::write(synced.join("complete"), "").expect("written");
        let number = |path: &Path| fs::metadata(path).expect("a file").ino().to_string();
        let file = data.join("inner/file");
        fs::write(&file, [2; 10_000]).expect("written");
        fs::write(data.join("unsynced"), "text").expect("written");
        let copy = synced.join("files").join(number(&file));
        fs::write(&copy, [1; 5_000]).expect("written");
        let [of_root, of_inner] =
            [&data, &data.join("inner")].map(|path| synced.join("folders").join(number(path)));
        fs::create_dir(&of_root).expect("a folder");
        fs::create_dir(&of_inner).expect("a folder");
        fs::hard_link(copy, of_inner.join("file")).expect("a link");
        std::os::unix::fs::symlink(number(&data.join("inner")), of_root.join("inner")).expect("a link");
        let mut random = StdRng::seed_from_u64(1);
        let disk = Disk { data: data.clone(), synced, survival, random: &mut random };
        disk.lose_power().expect("a power failure");
        (fs::read(&file).expect("it was synced"), data.join("unsynced").exists())
    }

    #[test]
    fn what_was_synced_is_left() {
        assert_eq!(left_with(Survival::Nothing), (vec![1; 5_000], false));
        assert_eq!(left_with(Survival::Everything), (vec![2; 10_000], true));
    }

    #[test]
    fn each_page_is_old_or_new_or_torn() {
        let (bytes, _) = left_with(Survival::Some);
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte <= 2)), "{bytes:?}");
    }
}
