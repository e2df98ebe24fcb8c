//! JSON text printed anew without being built into a tree: compact, or pretty as OpenWhisk prints it (an object's
//! fields on lines of their own, an array on one line).
//!
//! Both take valid JSON and nothing else.

/// Without white space between tokens; `None` when there is none to begin with.
pub(super) fn compact(text: &str) -> Option<String> {
    let is_space = |c: char| matches!(c, ' ' | '\n' | '\r' | '\t');
    let spaces = outside_strings(text).any(is_space);
    spaces.then(|| {
        let mut compact = String::with_capacity(text.len());
        let mut inside = Inside::default();
        for c in text.chars() {
            if inside.next(c) || !is_space(c) {
                compact.push(c);
            }
        }
        compact
    })
}

/// With a line per field.
pub(super) fn pretty(text: &str) -> String {
    let mut pretty = String::with_capacity(text.len() * 2);
    let mut inside = Inside::default();
    // Of each array and object that is open: whether it is an object.
    let mut open: Vec<bool> = Vec::new();
    let indent = |pretty: &mut String, open: &[bool]| {
        pretty.push('\n');
        let objects = open.iter().filter(|is_object| **is_object).count();
        pretty.extend(std::iter::repeat_n(' ', 2 * objects));
    };
    let mut is_empty = false;
    for c in text.chars() {
        if inside.next(c) {
            if is_empty && open.last() == Some(&true) {
                indent(&mut pretty, &open);
            }
            is_empty = false;
            pretty.push(c);
            continue;
        }
        match c {
            ' ' | '\n' | '\r' | '\t' => continue,
            '{' | '[' => {
                open.push(c == '{');
                pretty.push(c);
                is_empty = true;
                continue;
            }
            '}' | ']' => {
                let is_object = open.pop() == Some(true);
                if is_object && !is_empty {
                    indent(&mut pretty, &open);
                }
                pretty.push(c);
            }
            ',' => {
                pretty.push(',');
                match open.last() {
                    Some(true) => indent(&mut pretty, &open),
                    _ => pretty.push(' '),
                }
            }
            ':' => pretty.push_str(": "),
            other => pretty.push(other),
        }
        is_empty = false;
    }
    pretty
}

/// Whether one is inside a string, character by character.
#[derive(Default)]
struct Inside {
    string: bool,
    escaped: bool,
}

impl Inside {
    /// Whether `c`, the next character, belongs to a string, quotes included.
    fn next(&mut self, c: char) -> bool {
        if !self.string {
            self.string = c == '"';
            return self.string;
        }
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            '"' => self.string = false,
            _ => {}
        }
        true
    }
}

fn outside_strings(text: &str) -> impl Iterator<Item = char> {
    let mut inside = Inside::default();
    text.chars().filter(move |c| !inside.next(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_text_is_left_alone() {
        assert_eq!(compact(r#"{"a b":[1,"x \" y"]}"#), None);
        let spaced = "{ \"a b\" :\t[ 1 , \"x \\\" y\" ]\n}";
        assert_eq!(compact(spaced).as_deref(), Some(r#"{"a b":[1,"x \" y"]}"#));
    }

    #[test]
    fn objects_take_lines_and_arrays_do_not() {
        let text = r#"{"a":1,"b":{"c":"x, {y}","d":[]},"e":[1,{"f":null}],"g":{}}"#;
        let expected = "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": \"x, {y}\",\n    \"d\": []\n  },\n  \
                        \"e\": [1, {\n    \"f\": null\n  }],\n  \"g\": {}\n}";
        assert_eq!(pretty(text), expected);
        assert_eq!(pretty(&pretty(text)), expected);
        assert_eq!(pretty("[1,2]"), "[1, 2]");
        assert_eq!(pretty("7"), "7");
    }
}
