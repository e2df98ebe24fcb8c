//! The attribute of [`wisp-action`](https://docs.rs/wisp-action); use it through that crate, which documents it.
//!
//! It leaves the function as it is and puts `wisp_action::export!` behind it.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Makes a function the action. Documented as `wisp_action::main`.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, function: TokenStream) -> TokenStream {
    match export(&arguments, &function) {
        Ok(export) => {
            let mut all = function;
            all.extend(export);
            all
        }
        Err(message) => {
            // The function stays, so that this is the only error.
            let error = format!("::core::compile_error!({message:?});");
            let mut all = function;
            all.extend(error.parse::<TokenStream>().expect("it is an item"));
            all
        }
    }
}

fn export(arguments: &TokenStream, function: &TokenStream) -> Result<TokenStream, String> {
    let raw = match arguments.to_string().as_str() {
        "" => false,
        "raw" => true,
        other => {
            return Err(format!(
                "#[wisp_action::main] takes nothing, or `raw` for bytes in and bytes out; not `{other}`"
            ));
        }
    };
    let Signature { name, parameters } = Signature::of(function)?;
    let callee = match (raw, parameters) {
        (true, 1) => format!("raw: {name}"),
        (false, 1) => name,
        (false, 0) => format!("|_: ::wisp_action::Ignored| {name}()"),
        (true, _) => return Err("a raw action takes one parameter, `&[u8]`".to_owned()),
        (false, count) => {
            return Err(format!(
                "an action takes one parameter, or none; this takes {count}. Put them into a struct that implements \
                 `serde::Deserialize`: its fields are the parameters by name"
            ));
        }
    };
    let export = format!("::wisp_action::export!({callee});");
    Ok(export.parse().expect("it is an item"))
}

/// What matters of a function.
struct Signature {
    name: String,
    parameters: usize,
}

impl Signature {
    fn of(function: &TokenStream) -> Result<Self, String> {
        let mut tokens = function.clone().into_iter();
        let not_a_function = || "#[wisp_action::main] belongs on a function".to_owned();
        loop {
            match tokens.next().ok_or_else(not_a_function)? {
                TokenTree::Ident(word) if word.to_string() == "fn" => break,
                TokenTree::Ident(word) if word.to_string() == "async" => {
                    return Err(
                        "an action is not async: an instance runs one activation at a time, and waiting in it costs \
                         the server no thread"
                            .to_owned(),
                    );
                }
                TokenTree::Ident(word)
                    if ["struct", "enum", "impl", "mod", "trait", "const", "static"]
                        .contains(&word.to_string().as_str()) =>
                {
                    return Err(not_a_function());
                }
                _ => {}
            }
        }
        let name = match tokens.next() {
            Some(TokenTree::Ident(name)) => name.to_string(),
            _ => return Err(not_a_function()),
        };
        match tokens.next() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
                Ok(Self {
                    name,
                    parameters: count(group.stream()),
                })
            }
            _ => Err("an action has no generic parameters: it must be clear what it takes".to_owned()),
        }
    }
}

/// How many parameters stand in a list: those separated by commas that are in no angle brackets.
fn count(list: TokenStream) -> usize {
    let (mut count, mut depth, mut open, mut before) = (0, 0_usize, false, ' ');
    for token in list {
        let sign = match &token {
            TokenTree::Punct(sign) => sign.as_char(),
            _ => ' ',
        };
        match sign {
            '<' => depth += 1,
            // Not the end of an arrow.
            '>' if before != '-' => depth = depth.saturating_sub(1),
            _ => {}
        }
        before = sign;
        if sign == ',' && depth == 0 {
            open = false;
        } else if !open {
            open = true;
            count += 1;
        }
    }
    count
}
