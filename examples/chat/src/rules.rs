//! Answers by rules: the first whose words stand in what was said turns the rest of it around.

/// What is looked for, and what is said; `*` is what followed, seen from the other side.
const RULES: [(&str, &str); 12] = [
    ("i need ", "Why do you need *? Would it really help you to get it?"),
    ("i am ", "How long have you been *? And do you think it is normal to be *?"),
    ("i'm ", "How long have you been *?"),
    ("i feel ", "Tell me more about such feelings. Do you often feel *?"),
    ("i want ", "What would it mean to you if you got *?"),
    ("i think ", "You think *. But are you sure of it?"),
    ("my ", "Your *. What else comes to mind when you think of it?"),
    ("you are ", "What makes you think I am *?"),
    ("because ", "Is that the real reason? What other reasons might there be?"),
    ("hello", "Hello. I am a few kilobytes of WebAssembly, and I have all the time in the world. What is on your mind?"),
    ("how ", "How do you suppose? Perhaps you can answer that yourself, word by word, as I do."),
    ("?", "Why do you ask that? What answer would please you most?"),
];

const OTHERWISE: [&str; 4] = [
    "Please go on. I send every word as soon as I have it.",
    "I see. And what does that tell you?",
    "Let us change focus a little. Tell me about your functions.",
    "That is quite interesting. Can you say more?",
];

/// What is answered to a text.
pub fn answer(said: &str) -> String {
    let said = said.trim().to_lowercase();
    for (words, answer) in RULES {
        if let Some((_, rest)) = said.split_once(words) {
            let rest = rest.split(['.', '!', '?', ',']).next().unwrap_or_default();
            return answer.replace('*', &turned(rest));
        }
    }
    OTHERWISE[said.len() % OTHERWISE.len()].to_owned()
}

/// `my work` to `your work`.
fn turned(text: &str) -> String {
    let words = text.split_whitespace().map(|word| match word {
        "i" | "me" => "you",
        "my" => "your",
        "am" => "are",
        "you" => "I",
        "your" => "my",
        other => other,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn what_is_said_is_turned_around() {
        assert_eq!(
            answer("Well, I want my functions to be fast!"),
            "What would it mean to you if you got your functions to be fast?"
        );
        assert!(answer("zzz").len() > 10);
    }
}
