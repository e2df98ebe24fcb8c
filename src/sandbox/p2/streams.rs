//! A file as a stream. Nothing here ever waits: the bytes are in memory.

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::super::files::{Descriptor, FileError};

/// Bytes one step takes or gives.
const STEP_BYTES_MAX: usize = 64 << 10;

fn failed(error: FileError) -> StreamError {
    StreamError::LastOperationFailed(ErrorCode::from(error).into())
}

/// Reads a file from an offset on.
pub(super) struct Reader {
    file: Descriptor,
    offset: u64,
}

impl Reader {
    pub(super) fn new(file: Descriptor, offset: u64) -> Self {
        Self { file, offset }
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut bytes = vec![0; size.min(STEP_BYTES_MAX)];
        let count = self.file.read_at(self.offset, &mut bytes).map_err(failed)?;
        if count == 0 && size > 0 {
            return Err(StreamError::Closed);
        }
        bytes.truncate(count);
        self.offset += count as u64;
        Ok(bytes.into())
    }
}

/// Writes a file from an offset on, or at its end.
pub(super) struct Writer {
    file: Descriptor,
    offset: Option<u64>,
    closed: bool,
}

impl Writer {
    pub(super) fn new(file: Descriptor, offset: Option<u64>) -> Self {
        Self {
            file,
            offset,
            closed: false,
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        let mut left = &bytes[..];
        while !left.is_empty() {
            match self.file.write_at(self.offset, left) {
                Ok((count, end)) => {
                    self.offset = self.offset.map(|_| end);
                    left = &left[count..];
                }
                Err(error) => {
                    // A stream that failed is over; the file is not.
                    self.closed = true;
                    return Err(failed(error));
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        Ok(STEP_BYTES_MAX)
    }
}
