//! What a guest writes: lines with stamp and stream, capped, in the order they were begun.
//!
//! A command's result is the last line of stdout that is not empty; until a later one begins, the candidate is held
//! apart with its place among the lines. Beyond the caps bytes are counted or dropped, never stored: a log of a
//! gibibyte costs no memory.
//!
//! A line that is stored is told at once to whoever listens; the candidate only when it is known to be no result.

use std::sync::Arc;

use bytes::Bytes;

use super::{LogLine, Stream, Traffic};
use crate::model::live::{Line, Listener};
use crate::model::time::nanos_now;
use crate::model::{Action, ActivationId, Namespace};

/// What a line costs besides its text, as the record prints it: stamp, stream and line end.
const LINE_OVERHEAD_BYTES: usize = 40;

/// A line that has begun and not ended.
#[derive(Default)]
struct Partial {
    at: u64,
    text: Vec<u8>,
    /// Whole length, stored or not.
    size: usize,
}

/// The last line of stdout that was not empty.
struct Candidate {
    line: Partial,
    /// Where it belongs among the lines.
    place: usize,
}

/// The result of a command, as far as it was kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastLine {
    /// At most as many bytes as a result may have, and one.
    pub(super) text: Bytes,
    /// Whole length.
    pub(super) size: usize,
}

/// Lines of one run and what was left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) lines: Vec<LogLine>,
    pub(super) truncated: bool,
    pub(super) last: Option<LastLine>,
    pub(super) traffic: Traffic,
}

/// Who hears the lines of an instance.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) listener: Arc<dyn Listener>,
    pub(super) namespace: Namespace,
    pub(super) action: Arc<Action>,
}

/// Who hears the lines of a run.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) by: Arc<Heard>,
    pub(super) id: ActivationId,
}

impl Told {
    fn tell(&self, line: &LogLine) {
        let heard = &*self.by;
        if heard.listener.listens() {
            let line = Line {
                id: self.id,
                action: Arc::clone(&heard.action),
                text: line.stamped(),
            };
            heard.listener.hear(&heard.namespace, line);
        }
    }
}

/// Captures stdout and stderr of one run after the other.
#[derive(Default)]
pub(super) struct Output {
    lines: Vec<LogLine>,
    open: [Partial; 2],
    candidate: Option<Candidate>,
    /// Whether the last line of stdout is the result.
    answers: bool,
    log_bytes_left: usize,
    log_bytes_max: usize,
    result_bytes_max: usize,
    truncated: bool,
    told: Option<Told>,
}

impl Output {
    /// Begins a run. With `answers`, the last line of stdout is kept apart, up to `result_bytes_max` bytes and one.
    pub(super) fn begin(
        &mut self,
        log_bytes_max: usize,
        answers: Option<usize>,
        told: Option<Told>,
    ) {
        *self = Self {
            told,
            answers: answers.is_some(),
            result_bytes_max: answers.unwrap_or(0),
            log_bytes_left: log_bytes_max,
            log_bytes_max,
            ..Self::default()
        };
    }

    /// Takes what the guest wrote to `stream`.
    pub(super) fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.append(stream, line);
            self.end_line(stream);
            bytes = rest.get(1..).unwrap_or_default();
        }
        if !bytes.is_empty() {
            self.append(stream, bytes);
        }
    }

    /// Ends the run: unfinished lines count as lines.
    pub(super) fn finish(&mut self) -> Captured {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.open[index(stream)].size > 0 {
                self.end_line(stream);
            }
        }
        let last = self.candidate.take().map(|candidate| LastLine {
            size: candidate.line.size,
            text: candidate.line.text.into(),
        });
        Captured {
            lines: std::mem::take(&mut self.lines),
            truncated: self.truncated,
            last,
            traffic: Traffic::default(),
        }
    }

    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        let keep_max = self.line_bytes_max(stream);
        let open = &mut self.open[index(stream)];
        if open.size == 0 {
            open.at = nanos_now();
        }
        open.size = open.size.saturating_add(bytes.len());
        let room = keep_max.saturating_sub(open.text.len()).min(bytes.len());
        open.text.extend_from_slice(&bytes[..room]);
    }

    /// Bytes of a line on `stream` worth keeping.
    fn line_bytes_max(&self, stream: Stream) -> usize {
        if self.answers && stream == Stream::Stdout {
            (self.result_bytes_max + 1).max(self.log_bytes_left)
        } else {
            self.log_bytes_left
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let mut line = std::mem::take(&mut self.open[index(stream)]);
        if line.size == 0 {
            line.at = nanos_now();
        }
        let is_blank =
            line.text.iter().all(u8::is_ascii_whitespace) && line.size == line.text.len();
        if self.answers && stream == Stream::Stdout && !is_blank {
            let place = self.lines.len();
            let previous = self.candidate.replace(Candidate { line, place });
            if let Some(previous) = previous {
                let stored = self.log(previous.place, Stream::Stdout, previous.line);
                if let (true, Some(candidate)) = (stored, &mut self.candidate) {
                    candidate.place += 1;
                }
            }
        } else {
            self.log(self.lines.len(), stream, line);
        }
    }

    /// Stores a line unless the cap is reached; says whether it was.
    fn log(&mut self, place: usize, stream: Stream, line: Partial) -> bool {
        let cost = line.size.saturating_add(LINE_OVERHEAD_BYTES);
        if cost > self.log_bytes_left {
            // A log nobody wants is not "truncated".
            self.truncated |= self.log_bytes_max > 0;
            // The first line that does not fit ends the log: later, shorter ones would make a gap look like none.
            self.log_bytes_left = 0;
            return false;
        }
        self.log_bytes_left -= cost;
        let mut text = match String::from_utf8(line.text) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        if text.ends_with('\r') {
            text.pop();
        }
        let line = LogLine {
            at: line.at,
            stream,
            text,
        };
        if let Some(told) = &self.told {
            told.tell(&line);
        }
        self.lines.insert(place, line);
        true
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(captured: &Captured) -> Vec<&str> {
        captured
            .lines
            .iter()
            .map(|line| line.text.as_str())
            .collect()
    }

    #[test]
    fn the_last_line_that_is_not_empty_is_the_result_and_the_rest_is_log_in_order() {
        let mut output = Output::default();
        output.begin(1 << 20, Some(100), None);
        output.write(Stream::Stdout, b"one\ntw");
        output.write(Stream::Stderr, b"err 1\nerr 2\n");
        output.write(Stream::Stdout, b"o\r\n");
        output.write(Stream::Stderr, b"err 3\n");
        output.write(Stream::Stdout, b"{\"a\":1}\n\n  \n");
        output.write(Stream::Stderr, b"tail");
        let captured = output.finish();
        assert_eq!(captured.last.as_ref().unwrap().text, "{\"a\":1}");
        assert_eq!(
            texts(&captured),
            ["one", "err 1", "err 2", "two", "err 3", "", "  ", "tail"]
        );
        assert!(!captured.truncated);
    }

    #[test]
    fn a_flood_is_counted_and_not_kept() {
        let mut output = Output::default();
        output.begin(1000, Some(10), None);
        for _ in 0..10_000 {
            output.write(Stream::Stderr, b"0123456789\n");
        }
        let long = vec![b'x'; 5000];
        output.write(Stream::Stdout, &long);
        assert!(output.open[0].text.len() <= 11);
        let captured = output.finish();
        assert_eq!(captured.lines.len(), 20);
        assert!(captured.truncated);
        let last = captured.last.unwrap();
        assert_eq!((last.size, last.text.len()), (5000, 11));
    }

    #[test]
    fn no_log_wanted_is_none_kept_and_none_truncated() {
        let mut output = Output::default();
        output.begin(0, None, None);
        output.write(Stream::Stdout, b"hello\n\n");
        assert_eq!(output.finish(), Captured::default());
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_replaced() {
        let mut output = Output::default();
        output.begin(1000, None, None);
        output.write(Stream::Stdout, b"a\xffb\n");
        assert_eq!(texts(&output.finish()), ["a\u{fffd}b"]);
    }
}
