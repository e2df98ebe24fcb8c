//! What `SQLite` says, in the store's words.

use rusqlite::ffi;

use crate::store::Error;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ffi::ErrorCode::DiskFull => Self::Full,
                // The shared-memory file could not grow: the same cause, met elsewhere.
                _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Self::Full,
                ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase => {
                    Self::Corrupt(error.to_string())
                }
                _ => Self::Unavailable(error.to_string()),
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// The store was closed, or its writer has ended.
pub(super) fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

/// What is stored under `place` cannot be read.
pub(super) fn corrupt(place: &str, cause: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("{place}: {cause}"))
}
