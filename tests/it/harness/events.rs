//! What a namespace is told of its activations as they run and end: server-sent events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{Tenant, basic};

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Opened and answered: what happens from now on is told.
    #[track_caller]
    pub(crate) fn of(tenant: &Tenant, query: &str) -> Self {
        let mut stream = tenant.client.connect().expect("it listens");
        let request = format!(
            "GET /api/v1/namespaces/_/activations?events=true{query} HTTP/1.1\r\nhost: x\r\n\
             authorization: {}\r\n\r\n",
            basic(&tenant.key)
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut events = Self(BufReader::new(stream));
        while !events.line().is_empty() {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("it goes on");
        assert!(read > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// The next event, with what it carries.
    #[track_caller]
    pub(crate) fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(name) = self.line().strip_prefix("event: ").map(str::to_owned) {
                let data = self.line();
                let data = data.strip_prefix("data: ").expect("data");
                return (name, serde_json::from_str(data).expect("JSON"));
            }
        }
    }

    /// The line of the next event, which is one of a log.
    #[track_caller]
    pub(crate) fn next_line(&mut self, id: &str) -> String {
        let (name, data) = self.next();
        assert_eq!(
            (name.as_str(), &data["activationId"]),
            ("log", &json!(id)),
            "{data}"
        );
        data["line"].as_str().expect("a line").to_owned()
    }
}
