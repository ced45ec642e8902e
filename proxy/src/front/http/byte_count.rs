//! A number of bytes in JSON.

use serde::Serialize;
use utoipa::ToSchema;

use crate::service::StoredBytes;

/// A number of bytes, and whether it is an estimate.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bytes)]
pub(super) struct ByteCount {
    count: u64,
    estimated: bool,
}

impl From<StoredBytes> for ByteCount {
    fn from(bytes: StoredBytes) -> Self {
        Self { count: bytes.count, estimated: bytes.estimated }
    }
}
