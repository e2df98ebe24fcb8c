use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Params {
    name: Option<String>,
}

#[derive(Serialize)]
struct Greeting {
    greeting: String,
}

#[wisp_action::main]
fn main(params: Params) -> wisp_action::Result<Greeting> {
    let name = params.name.as_deref().unwrap_or("stranger");
    wisp_action::log!("greeting {name}");
    if name.is_empty() {
        wisp_action::bail!("name must not be empty");
    }
    Ok(Greeting {
        greeting: format!("Hello, {name}!"),
    })
}

#[cfg(test)]
mod tests {
    use super::{main, Params};

    #[test]
    fn somebody_without_a_name_is_a_stranger() {
        let greeting = main(Params { name: None }).unwrap();
        assert_eq!(greeting.greeting, "Hello, stranger!");
    }
}
