//! Checks the database `state`: whether the catalog and the progress of groups can be read.

use super::super::keys;
use super::super::scan::{Item, Scan};
use super::super::store::OpenDatabase;
use super::finding::{BACKUP_ADVICE, Finding};
use super::names::StoredNames;
use super::progress::CheckProgress;

/// Reads the whole database. Returns the names of topics and groups.
pub(super) fn read(
    state: &OpenDatabase,
    findings: &mut Vec<Finding>,
    progress: &mut CheckProgress<'_>,
) -> Result<StoredNames, fjall::Error> {
    let mut names = StoredNames::default();
    let mut damaged = Vec::new();
    for item in Scan::all(state) {
        match item? {
            Item::Entry(key, value) => {
                progress.add(key.len() + value.len());
                match names.add(&key, &value) {
                    Some(()) => progress.sink.state(&key, &value)?,
                    None => damaged.push((key.to_vec(), None)),
                }
            }
            Item::Damaged(key) => damaged.push((key.to_vec(), None)),
            Item::Gap(before, after) => {
                damaged.push((before.to_vec(), Some(after.map(|after| after.to_vec()))))
            }
        }
    }
    names.name_lite_topics();
    for (key, gap) in damaged {
        findings.push(finding(&names, &key, gap));
    }
    Ok(names)
}

fn finding(names: &StoredNames, key: &[u8], gap: Option<Option<Vec<u8>>>) -> Finding {
    let what = names.describe(key);
    let (place, is_catalog) = match gap {
        None => (what, key.starts_with(&keys::RESERVED_ID)),
        Some(Some(after)) => (
            format!("records between {what} and {}", names.describe(&after)),
            key.is_empty() || key.starts_with(&keys::RESERVED_ID),
        ),
        Some(None) => (format!("all records after {what}"), key.is_empty()),
    };
    let (cost, advice) = if is_catalog {
        let cost = "topics, groups or users are lost, with their settings, and the proxy does not start";
        (cost, BACKUP_ADVICE)
    } else {
        let cost = "the progress of a group is lost: its requests fail";
        (cost, "delete the group and create it again, or restore the data directory from a backup")
    };
    Finding::damage(format!("database state, {place}"), cost, advice)
}
