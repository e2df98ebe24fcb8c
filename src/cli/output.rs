//! The only printer.
//!
//! What was asked for goes to standard output, everything else to standard error. With `--json` standard output carries
//! JSON and nothing else, and an error is one JSON object on standard error. Colours only where somebody looks.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::Failure;

type Sink = Mutex<Box<dyn Write + Send>>;

/// Where and how to print.
pub(super) struct Output {
    out: Sink,
    err: Sink,
    /// JSON only.
    pub(super) json: bool,
    colour_out: bool,
    colour_err: bool,
    /// Somebody watches standard error: progress is welcome.
    watched: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Prints to this process's streams.
    pub(super) fn terminal(colour: bool) -> Self {
        let watched = io::stderr().is_terminal();
        Self {
            colour_out: colour && io::stdout().is_terminal(),
            colour_err: colour && watched,
            watched,
            ..Self::to(io::stdout(), io::stderr())
        }
    }

    /// Prints to `out` and `err`, plainly.
    pub(super) fn to(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self {
            out: Mutex::new(Box::new(out)),
            err: Mutex::new(Box::new(err)),
            json: false,
            colour_out: false,
            colour_err: false,
            watched: false,
        }
    }

    /// A line for people.
    pub(super) fn line(&self, text: &str) {
        if !self.json {
            write(&self.out, format!("{text}\n").as_bytes());
        }
    }

    /// `ok: …`, for people.
    pub(super) fn ok(&self, text: &str) {
        self.line(&format!("{} {text}", self.green("ok:")));
    }

    /// A JSON value, indented as `wsk` does; strings too are JSON.
    pub(super) fn value(&self, value: &Value) {
        let mut text = pretty(value);
        text.push(b'\n');
        write(&self.out, &text);
    }

    /// One JSON value on one line.
    pub(super) fn row(&self, value: &Value) {
        write(&self.out, format!("{value}\n").as_bytes());
    }

    /// What a command did, and what came of it.
    pub(super) fn done(&self, text: &str, value: &Value) {
        match (self.json, value) {
            (true, Value::Null) => self.value(&json!({})),
            (true, value) => self.value(value),
            (false, _) => self.ok(text),
        }
    }

    /// Bytes as they are.
    pub(super) fn raw(&self, bytes: &[u8]) {
        write(&self.out, bytes);
    }

    /// A line beside what was asked for.
    pub(super) fn note(&self, text: &str) {
        write(&self.err, format!("{text}\n").as_bytes());
    }

    /// A JSON value beside what was asked for: what an invocation that failed answered.
    pub(super) fn note_value(&self, value: &Value) {
        let mut text = pretty(value);
        text.push(b'\n');
        write(&self.err, &text);
    }

    /// Columns as wide as they must be, under a header.
    pub(super) fn table<const N: usize>(&self, header: [&str; N], rows: &[[String; N]]) {
        let mut widths = header.map(|title| title.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let header = aligned(&header, &widths);
        self.line(&self.bold(&header));
        for row in rows {
            self.line(&aligned(row, &widths));
        }
    }

    /// Why a command did not succeed.
    pub(super) fn failure(&self, failure: &Failure) {
        if self.json {
            let mut error = json!({ "error": failure.message, "exit": failure.exit });
            if let Some(status) = failure.status {
                error["status"] = json!(status);
            }
            if let Some(code) = &failure.code {
                error["code"] = code.clone();
            }
            return self.note(&error.to_string());
        }
        let code = match &failure.code {
            Some(Value::String(code)) => format!(" (code {code})"),
            Some(code) => format!(" (code {code})"),
            None => String::new(),
        };
        self.note(&format!(
            "{} {}{code}",
            self.paint("31", "error:", self.colour_err),
            failure.message
        ));
        if let Some(advice) = &failure.advice {
            self.note(advice);
        }
    }

    /// What clap says: help and version are what was asked for, the rest is an error. The exit code.
    pub(super) fn command_line(&self, error: &clap::Error) -> u8 {
        let text = error.render();
        let (sink, colour) = match error.use_stderr() {
            true => (&self.err, self.colour_err),
            false => (&self.out, self.colour_out),
        };
        let text = if colour {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        write(sink, text.as_bytes());
        u8::try_from(error.exit_code()).unwrap_or(1)
    }

    /// Whether somebody is there to be asked.
    pub(super) fn asks(&self) -> bool {
        self.watched && !self.json && io::stdin().is_terminal()
    }

    /// Asks a question; only `y` and `yes` agree.
    pub(super) fn confirm(&self, question: &str) -> bool {
        write(&self.err, format!("{question} [y/N] ").as_bytes());
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        let answer = answer.trim();
        read.is_ok()
            && ["y", "yes"]
                .iter()
                .any(|yes| answer.eq_ignore_ascii_case(yes))
    }

    /// Green, on a terminal.
    pub(super) fn green(&self, text: &str) -> String {
        self.paint("32", text, self.colour_out)
    }

    /// Bold, on a terminal.
    pub(super) fn bold(&self, text: &str) -> String {
        self.paint("1", text, self.colour_out)
    }

    /// Faint, on a terminal.
    pub(super) fn dim(&self, text: &str) -> String {
        self.paint("2", text, self.colour_out)
    }

    fn paint(&self, style: &str, text: &str, colour: bool) -> String {
        match colour {
            true => format!("\u{1b}[{style}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// Progress of an upload of `bytes` called `what`; invisible unless somebody watches.
    pub(super) fn upload(&self, what: &str, bytes: u64) -> ProgressBar {
        if !self.watched || self.json {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(bytes).with_message(format!("uploading {what}"));
        bar.set_style(style("{msg} [{bar:30}] {bytes}/{total_bytes}"));
        bar
    }

    /// Turns an upload's progress into that of what follows it.
    pub(super) fn uploaded(bar: &ProgressBar) {
        bar.set_style(style("{spinner} compiling… {elapsed}"));
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A reader that went away (`| head`) is no error; there is nobody left to tell about any other.
fn write(sink: &Sink, bytes: &[u8]) {
    let mut sink = sink.lock();
    drop(sink.write_all(bytes).and_then(|()| sink.flush()));
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
    match value.serialize(&mut writer) {
        Ok(()) => text,
        Err(_) => value.to_string().into_bytes(),
    }
}

/// Cells side by side, two spaces apart, nothing after the last.
fn aligned(cells: &[impl AsRef<str>], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, width)| {
        let cell = cell.as_ref();
        format!(
            "{cell}{}",
            " ".repeat(width.saturating_sub(cell.chars().count()))
        )
    });
    let cells: Vec<String> = cells.collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(print: impl FnOnce(&mut Output)) -> (String, String) {
        let (out, err) = (Paper::default(), Paper::default());
        print(&mut Output::to(out.clone(), err.clone()));
        let text = |paper: Paper| String::from_utf8(paper.0.lock().clone()).unwrap();
        (text(out), text(err))
    }

    #[test]
    fn tables_are_aligned_and_end_without_blanks() {
        let rows = [
            ["é".to_owned(), "long cell".to_owned()],
            ["four".to_owned(), String::new()],
        ];
        let (out, _) = printed(|output| output.table(["A", "B"], &rows));
        assert_eq!(out, "A     B\né     long cell\nfour\n");
    }

    #[test]
    fn json_mode_prints_nothing_else() {
        let (out, err) = printed(|output| {
            output.json = true;
            output.ok("created action x");
            output.done("deleted action x", &json!({"a": 1}));
            output.failure(&Failure::status(
                404,
                &json!({"error": "gone", "code": "t"}),
            ));
        });
        assert_eq!(out, "{\n    \"a\": 1\n}\n");
        let error: Value = serde_json::from_str(&err).unwrap();
        assert_eq!(
            error,
            json!({"error": "gone", "code": "t", "status": 404, "exit": 148})
        );
    }

    #[test]
    fn errors_carry_the_servers_code_and_no_colour_off_a_terminal() {
        let failure = Failure::status(
            409,
            &json!({"error": "resource already exists", "code": "abc"}),
        );
        let failure = failure.while_trying("Unable to create action 'x'");
        let (out, err) = printed(|output| output.failure(&failure));
        assert_eq!(out, "");
        assert_eq!(
            err,
            "error: Unable to create action 'x': resource already exists (code abc)\n"
        );
    }
}
