//! Rows of checkpoints for those who look into them: commands that have no backend.

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::KeyedStateHandle;
use streamd_snapshot::{DatabaseReader, RowVisitor, SnapshotError};
use tokio::runtime::Handle;

use super::database::DatabaseError;
use super::open::{Databases, OpenError};

/// Opens the files of checkpoints read-only, in a temporary directory that goes when the rows were read.
#[derive(Debug)]
pub struct FilesReader;

impl DatabaseReader for FilesReader {
    fn read(
        &self,
        database: &[KeyedStateHandle],
        wanted: &KeyedStateHandle,
        range: KeyGroupRange,
        runtime: &Handle,
        visit: &mut RowVisitor<'_>,
    ) -> Result<u64, SnapshotError> {
        let read = Databases::new(database, None).read(wanted, range, runtime, visit);
        read.map_err(|error| match error {
            OpenError::Snapshot(error) => error,
            OpenError::Database(error) => of_database(wanted, error),
        })
    }
}

/// What is wrong with files whose digests hold.
fn of_database(wanted: &KeyedStateHandle, error: DatabaseError) -> SnapshotError {
    match error {
        DatabaseError::Disk {
            operation,
            path,
            message,
        } => SnapshotError::Local {
            operation,
            path,
            source: std::io::Error::other(message),
        },
        DatabaseError::RocksDb { .. } | DatabaseError::NotRestored { .. } | DatabaseError::Lost { .. } => {
            SnapshotError::Malformed {
                uri: wanted
                    .objects
                    .first()
                    .map(|object| object.path.clone())
                    .unwrap_or_default(),
                reason: error.to_string(),
            }
        }
    }
}
