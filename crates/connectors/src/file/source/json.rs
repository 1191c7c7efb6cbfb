//! JSON lines.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use streamd_core::source::ConnectorError;

use super::format::Format;
use super::lines::{LineDecoder, LineFormat};
use super::split::FileSplit;

/// One JSON value per line. Lines that hold nothing but white space are passed over.
#[derive(Debug)]
pub struct JsonLines<T>(PhantomData<fn() -> T>);

impl<T> JsonLines<T> {
    /// The format of records of type `T`.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for JsonLines<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: DeserializeOwned + Send + 'static> LineFormat for JsonLines<T> {
    type Out = T;

    fn record(&self, line: &[u8]) -> Result<Option<T>, Box<dyn std::error::Error + Send + Sync>> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(line)?))
    }
}

impl<T: DeserializeOwned + Send + 'static> Format for JsonLines<T> {
    type Out = T;
    type Decoder = LineDecoder<Self>;

    fn can_be_cut(&self) -> bool {
        true
    }

    fn decoder(&self, split: &FileSplit) -> Result<Self::Decoder, ConnectorError> {
        LineDecoder::open(split, self.clone())
    }
}
