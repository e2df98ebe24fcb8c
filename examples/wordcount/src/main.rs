//! Counts words: a plain WASI command that knows nothing of Wisp. Parameters come on stdin, the result goes to stdout,
//! the log to stderr, and an exit status other than 0 is a failure.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize)]
struct Params {
    text: String,
    #[serde(default = "five")]
    top: usize,
}

fn five() -> usize {
    5
}

#[derive(Serialize)]
struct Count {
    lines: usize,
    words: usize,
    characters: usize,
    top: Vec<Word>,
}

#[derive(Serialize)]
struct Word {
    word: String,
    count: usize,
}

fn main() -> ExitCode {
    let params: Params = match serde_json::from_reader(std::io::stdin()) {
        Ok(params) => params,
        Err(error) => {
            println!(
                "{}",
                json!({ "error": format!("text is needed, a string: {error}") })
            );
            return ExitCode::FAILURE;
        }
    };
    eprintln!("counting {} bytes", params.text.len());
    println!("{}", json!(count(&params)));
    ExitCode::SUCCESS
}

fn count(params: &Params) -> Count {
    let mut words = BTreeMap::<String, usize>::new();
    for word in params.text.split_whitespace() {
        let word = word
            .trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase();
        if !word.is_empty() {
            *words.entry(word).or_default() += 1;
        }
    }
    let total = words.values().sum();
    let mut top: Vec<Word> = words
        .into_iter()
        .map(|(word, count)| Word { word, count })
        .collect();
    top.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
    top.truncate(params.top);
    Count {
        lines: params.text.lines().count(),
        words: total,
        characters: params.text.chars().count(),
        top,
    }
}

#[cfg(test)]
mod tests {
    use super::{Params, count};

    #[test]
    fn words_are_counted_whatever_their_case_and_the_marks_around_them() {
        let text = "The cat saw the dog.\n\"The dog!\"".into();
        let count = count(&Params { text, top: 2 });
        assert_eq!((count.lines, count.words, count.characters), (2, 7, 31));
        let top: Vec<_> = count
            .top
            .iter()
            .map(|w| (w.word.as_str(), w.count))
            .collect();
        assert_eq!(top, [("the", 3), ("dog", 2)]);
    }
}
