//! A problem in a data directory.

use serde::Serialize;

/// The advice for most damage.
pub(super) const BACKUP_ADVICE: &str = "restore the data directory from a backup";
/// The advice for damaged blocks, which make writes fail eventually.
pub(super) const COPY_ADVICE: &str =
    "copy what can be read into a new directory (store copy), or restore the data directory from a backup";

/// A problem in a data directory.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Whether data is lost. If not, it is a trace of a crash, which the next start removes.
    pub damaged: bool,
    /// The damaged part of the directory.
    pub place: String,
    /// The topic of lost messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The queue of lost messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// The first lost offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_offset: Option<u64>,
    /// The last lost offset. `None` if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_offset: Option<u64>,
    /// The consequences.
    pub cost: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    /// Lost or unreadable data.
    pub(super) fn damage(place: String, cost: &str, advice: &str) -> Self {
        Self {
            damaged: true,
            place,
            topic: None,
            queue: None,
            first_offset: None,
            last_offset: None,
            cost: cost.to_owned(),
            advice: advice.to_owned(),
        }
    }
}
