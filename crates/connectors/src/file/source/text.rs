//! Lines of text.

use streamd_core::source::ConnectorError;

use super::format::Format;
use super::lines::{LineDecoder, LineFormat};
use super::split::FileSplit;

/// One `String` per line, without the line's end (`\n` or `\r\n`). An empty line is a record. The text must be UTF-8.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextLines;

impl LineFormat for TextLines {
    type Out = String;

    #[inline]
    fn record(&self, line: &[u8]) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Some(std::str::from_utf8(line)?.to_owned()))
    }
}

impl Format for TextLines {
    type Out = String;
    type Decoder = LineDecoder<Self>;

    fn can_be_cut(&self) -> bool {
        true
    }

    fn decoder(&self, split: &FileSplit) -> Result<Self::Decoder, ConnectorError> {
        LineDecoder::open(split, *self)
    }
}
