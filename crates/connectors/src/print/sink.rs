//! The sink that prints.

use std::fmt::{Debug, Display, Write as _};
use std::io::Write as _;

use streamd_core::graph::Guarantee;
use streamd_core::sink::{NoCommit, Sink, SinkContext, SinkWriter};
use streamd_core::source::ConnectorError;

/// Prints each record on a line of the process's standard output. On a cluster that is the worker's log.
///
/// The lines of a batch are written together, so lines of different subtasks do not mix.
///
/// Guarantee: at-least-once. What was printed since the last checkpoint is printed again after a failure.
#[derive(Debug)]
pub struct PrintSink<T> {
    prefix: String,
    render: fn(&T, &mut String) -> std::fmt::Result,
}

impl<T: Display + Send + 'static> PrintSink<T> {
    /// Prints records as [`Display`] shows them.
    pub fn new() -> Self {
        Self {
            prefix: String::new(),
            render: |record, line| write!(line, "{record}"),
        }
    }
}

impl<T: Display + Send + 'static> Default for PrintSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Debug + Send + 'static> PrintSink<T> {
    /// Prints records as [`Debug`] shows them.
    pub fn debug() -> Self {
        Self {
            prefix: String::new(),
            render: |record, line| write!(line, "{record:?}"),
        }
    }
}

impl<T> PrintSink<T> {
    /// Begins each line with `prefix> `.
    pub fn prefix(mut self, prefix: impl Display) -> Self {
        self.prefix = format!("{prefix}> ");
        self
    }
}

impl<T> Clone for PrintSink<T> {
    fn clone(&self) -> Self {
        Self {
            prefix: self.prefix.clone(),
            render: self.render,
        }
    }
}

impl<T: Send + 'static> Sink for PrintSink<T> {
    type In = T;
    type Committable = NoCommit;
    type Writer = PrintWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _context: &SinkContext) -> Result<Self::Writer, ConnectorError> {
        Ok(PrintWriter {
            sink: self.clone(),
            lines: String::new(),
        })
    }

    fn commit(&self, _committables: &[NoCommit]) -> Result<(), ConnectorError> {
        Ok(())
    }
}

/// Prints for one subtask.
#[derive(Debug)]
pub struct PrintWriter<T> {
    sink: PrintSink<T>,
    /// The lines of one batch; kept for its memory.
    lines: String,
}

impl<T> PrintWriter<T> {
    fn render(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        self.lines.clear();
        for record in batch.drain(..) {
            self.lines.push_str(&self.sink.prefix);
            (self.sink.render)(&record, &mut self.lines)
                .map_err(|cause| ConnectorError::caused("cannot format a record for printing", cause))?;
            self.lines.push('\n');
        }
        Ok(())
    }
}

impl<T: Send + 'static> SinkWriter for PrintWriter<T> {
    type In = T;
    type Committable = NoCommit;

    fn write(&mut self, batch: &mut Vec<T>) -> Result<(), ConnectorError> {
        self.render(batch)?;
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(self.lines.as_bytes()).and_then(|()| stdout.flush()) {
            // Nobody reads any more, as behind `| head`: that is no failure of the job.
            Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed.map_err(|cause| ConnectorError::caused("cannot print to standard output", cause)),
        }
    }

    fn prepare_commit(&mut self) -> Result<Vec<NoCommit>, ConnectorError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sink::context;

    #[test]
    fn each_record_of_a_batch_is_a_line_with_the_prefix() {
        let mut writer = PrintSink::new().prefix("words").writer(&context(0, "a")).unwrap();
        for round in 0..2 {
            let mut batch = vec![format!("to {round}"), "be".to_owned()];
            writer.render(&mut batch).unwrap();
            assert!(batch.is_empty());
            assert_eq!(writer.lines, format!("words> to {round}\nwords> be\n"));
        }
    }

    #[test]
    fn records_without_display_are_printed_by_debug() {
        let mut writer = PrintSink::debug().writer(&context(0, "a")).unwrap();
        writer.render(&mut vec![Some(1), None]).unwrap();
        assert_eq!(writer.lines, "Some(1)\nNone\n");
    }
}
