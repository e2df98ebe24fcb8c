//! What an API does, read from its document.

use serde_json::{Map, Value};

/// A path and a verb of an API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Operation {
    pub(in crate::cli) base: String,
    pub(in crate::cli) path: String,
    /// In small letters.
    pub(in crate::cli) verb: String,
    /// Friendly name of the API.
    pub(super) name: String,
    /// Empty when it calls none of ours.
    pub(in crate::cli) action: String,
    /// Where it is sent on to, when the server says so.
    pub(in crate::cli) target: String,
    pub(super) url: String,
}

impl Operation {
    pub(super) fn made(&self) -> String {
        let Self {
            path, verb, url, ..
        } = self;
        let base = self.base.trim_end_matches('/');
        let action = match self.action.as_str() {
            "" => String::new(),
            action => format!(" for action {action}"),
        };
        format!("created API {base}{path} {verb}{action}\n{url}")
    }
}

/// Every path and verb of an API as the server has it.
pub(in crate::cli) fn operations(api: &Value) -> Vec<Operation> {
    let doc = &api["apidoc"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let url = text(&api["gwApiUrl"]);
    let none = Map::new();
    let paths = doc["paths"].as_object().unwrap_or(&none);
    let mut all = Vec::new();
    for (path, verbs) in paths {
        let verbs = verbs.as_object().unwrap_or(&none).iter();
        let verbs = verbs.filter(|(verb, _)| super::verb(verb).is_ok());
        for (verb, operation) in verbs {
            let target = &operation["x-openwhisk"];
            let segments = ["namespace", "package", "action"].map(|field| text(&target[field]));
            // `default` is how addresses say that there is no package.
            let said = |(at, segment): &(usize, &String)| {
                !segment.is_empty() && (*at != 1 || *segment != "default")
            };
            let segments = segments.iter().enumerate().filter(said);
            all.push(Operation {
                base: text(&doc["basePath"]),
                path: path.clone(),
                verb: verb.clone(),
                name: text(&doc["info"]["title"]),
                action: segments.map(|(_, segment)| format!("/{segment}")).collect(),
                target: text(&target["url"]),
                url: format!("{}{path}", url.trim_end_matches('/')),
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_read_from_swagger() {
        let api = json!({"gwApiUrl": "http://h/api/t/shop/", "apidoc": {
            "basePath": "/shop", "info": {"title": "Shop"},
            "paths": {"/orders": {
                "parameters": [],
                "get": {"x-openwhisk": {"namespace": "g", "package": "p", "action": "a"}},
                "post": {},
            }},
        }});
        let all = operations(&api);
        assert_eq!(all.len(), 2);
        let text = "created API /shop/orders get for action /g/p/a\nhttp://h/api/t/shop/orders";
        assert_eq!(all[0].made(), text);
        assert_eq!(all[1].action, "");
    }
}
