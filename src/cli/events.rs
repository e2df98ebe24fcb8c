//! Server-sent events: a stream of bytes to events, read by a thread of its own so that waiting for the next can end.

use std::io::{BufRead, BufReader, Read};

use tokio::sync::mpsc;

use super::client::Events;

/// Longest line of a stream: the largest record there is, and some.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Events that are read before they are printed.
const AHEAD: usize = 16;

/// What comes in on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    /// An event.
    Event(Event),
    /// A sign of life.
    Alive,
}

/// An event with what it carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What to name when asking for those after it.
    pub(super) id: String,
    /// What kind it is.
    pub(super) name: String,
    /// What it carries.
    pub(super) data: String,
}

/// What comes in, until the stream ends.
pub(super) fn read(stream: Events) -> mpsc::Receiver<Signal> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    // It ends with the stream, which has a lifetime, or when nobody listens any more.
    std::thread::spawn(move || {
        let mut lines = Lines::of(stream);
        while let Some(signal) = lines.next() {
            if sender.blocking_send(signal).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Lines put together to events.
struct Lines<R> {
    stream: BufReader<R>,
    event: Event,
}

impl<R: Read> Lines<R> {
    fn of(stream: R) -> Self {
        Self {
            stream: BufReader::new(stream),
            event: Event::default(),
        }
    }

    /// The next signal; none at the end of the stream, however it comes.
    fn next(&mut self) -> Option<Signal> {
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut self.stream).take(LINE_BYTES_MAX);
            let read = limited.read_until(b'\n', &mut line).ok()?;
            if read == 0 || !line.ends_with(b"\n") {
                return None;
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\n').trim_end_matches('\r');
            if line.is_empty() {
                // An id stays for the events after it, as the standard has it.
                let next = Event {
                    id: self.event.id.clone(),
                    ..Event::default()
                };
                let event = std::mem::replace(&mut self.event, next);
                if event.data.is_empty() {
                    continue;
                }
                return Some(Signal::Event(event));
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => return Some(Signal::Alive),
                "id" => value.clone_into(&mut self.event.id),
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_lines_and_comments_are_signs_of_life() {
        let text = ": hello\n\nid: 7\nevent: activation\ndata: {\"a\":\r\ndata:1}\n\nretry: 5\n\ndata: x\n\ndata: cut";
        let mut lines = Lines::of(text.as_bytes());
        let event = |name: &str, data: &str| {
            Some(Signal::Event(Event {
                id: "7".to_owned(),
                name: name.to_owned(),
                data: data.to_owned(),
            }))
        };
        assert_eq!(lines.next(), Some(Signal::Alive));
        assert_eq!(lines.next(), event("activation", "{\"a\":\n1}"));
        assert_eq!(lines.next(), event("", "x"));
        assert_eq!(lines.next(), None);
    }
}
