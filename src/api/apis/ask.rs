//! What clients ask of the API management, and in which words they are told that they asked badly: those of the actions
//! that OpenWhisk has for it.

use serde_json::{Map, Value};

use super::Refused;
use super::document::{self, Endpoint};
use crate::api::error::Error;
use crate::api::web;
use crate::model::{Json, Namespace};

/// What can be taken of an action's result.
const RESPONSE_TYPES: [&str; 5] = ["http", "json", "html", "svg", "text"];

type Outcome<T> = Result<T, String>;

/// The parameters of a request: the query, and the JSON body over it.
pub(super) struct Asked(Map<String, Value>);

/// An API, or a part of one, to be made.
#[derive(Debug)]
pub(super) struct Creation {
    pub(super) base: String,
    what: Made,
}

#[derive(Debug)]
enum Made {
    /// All of it.
    Document(Value),
    /// One endpoint, in an API of this name.
    Endpoint(Box<Endpoint>, Option<String>),
}

/// Which APIs are wanted.
pub(super) struct Listing {
    /// A base path or a title.
    pub(super) name: Option<String>,
    pub(super) skip: usize,
    pub(super) limit: usize,
}

/// What is to go.
pub(super) struct Deletion {
    /// A base path or a title.
    pub(super) name: String,
    /// Only this path.
    pub(super) path: Option<String>,
    /// Only this operation of it, in lower case.
    pub(super) method: Option<String>,
}

impl Asked {
    /// Reads the query and the body.
    pub(super) fn read(query: &str, body: &[u8]) -> Result<Self, Refused> {
        let query = web::pairs(query).into_iter();
        let query = query.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())));
        let mut all: Map<_, _> = query.collect();
        if !body.is_empty() {
            let body = Json::parse_object(body).map_err(Error::malformed)?;
            if let Value::Object(fields) = body.to_value() {
                all.extend(fields);
            }
        }
        Ok(Self(all))
    }

    /// A parameter, if it is anything.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| is_truthy(value))
    }

    fn text(&self, name: &str) -> Outcome<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("{name} is not a string.")),
        }
    }

    /// What is to be made, for `own`.
    pub(super) fn creation(&self, own: &Namespace) -> Outcome<Creation> {
        let doc = self.get("apidoc").ok_or("apidoc is required.")?;
        let unparsed = "apidoc field cannot be parsed. Ensure it is valid JSON.";
        let doc = object(doc, unparsed, |kind| {
            format!("apidoc field is of type {kind} and should be a JSON object or a JSON string.")
        })?;
        let has = |name: &str| is_truthy(&doc[name]);
        if !has("namespace") {
            return Err("apidoc is missing the namespace field".to_owned());
        }
        if has("swagger") {
            if has("gatewayBasePath") {
                return Err("swagger and gatewayBasePath are mutually exclusive and cannot be specified together.".to_owned());
            }
            return whole(&doc["swagger"]);
        }
        for name in ["gatewayBasePath", "gatewayPath", "gatewayMethod"] {
            if !has(name) {
                return Err(format!("apidoc is missing the {name} field"));
            }
        }
        if !has("action") {
            return Err("apidoc is missing the action field.".to_owned());
        }
        for name in [
            "backendMethod",
            "backendUrl",
            "namespace",
            "name",
            "authkey",
        ] {
            if !is_truthy(&doc["action"][name]) {
                return Err(format!("action is missing the {name} field."));
            }
        }
        self.endpoint(&doc, own)
            .map_err(|why| format!("API creation failure: {why}"))
    }

    fn endpoint(&self, doc: &Value, own: &Namespace) -> Outcome<Creation> {
        let action = &doc["action"];
        let method = string(doc, "gatewayMethod")?.to_ascii_lowercase();
        if !document::is_method(&method) {
            return Err(format!("'{method}' is not a verb that an API can have."));
        }
        let response_type = match self.text("responsetype")? {
            Some(given) => given,
            // The npm client says it in the address alone.
            None => extension(string(action, "backendUrl")?).to_owned(),
        };
        if !RESPONSE_TYPES.contains(&response_type.as_str()) {
            let known = RESPONSE_TYPES.join(", ");
            return Err(format!(
                "response type '{response_type}' is none of {known}."
            ));
        }
        let namespace = match string(action, "namespace")? {
            "_" => own.as_str(),
            other => other,
        };
        let (package, name) = action_name(string(action, "name")?);
        let endpoint = Endpoint {
            path: string(doc, "gatewayPath")?.to_owned(),
            method,
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            action: name.to_owned(),
            response_type,
            origin: origin(string(action, "backendUrl")?)?.to_owned(),
            secret: Some(&action["secureKey"])
                .filter(|key| is_truthy(key))
                .cloned(),
            parameters: doc
                .get("pathParameters")
                .filter(|all| is_truthy(all))
                .cloned(),
        };
        let title = doc["apiName"].as_str().filter(|name| !name.is_empty());
        Ok(Creation {
            base: string(doc, "gatewayBasePath")?.to_owned(),
            what: Made::Endpoint(Box::new(endpoint), title.map(str::to_owned)),
        })
    }

    /// Which APIs are wanted.
    pub(super) fn listing(&self) -> Outcome<Listing> {
        let number = |name: &str| match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let text = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                let number = text.parse::<usize>();
                number
                    .map(Some)
                    .map_err(|_| format!("{name} '{text}' is not a number."))
            }
        };
        let format = self.text("outputFormat")?.unwrap_or_default();
        if !matches!(
            format.to_ascii_lowercase().as_str(),
            "" | "apigw" | "swagger"
        ) {
            return Err("Invalid outputFormat value. Valid values are: apigw, swagger".to_owned());
        }
        Ok(Listing {
            name: self.text("basepath")?,
            skip: number("skip")?.unwrap_or(0),
            // As everywhere, 0 is as many as there are.
            limit: number("limit")?
                .filter(|limit| *limit > 0)
                .unwrap_or(usize::MAX),
        })
    }

    /// What is to go.
    pub(super) fn deletion(&self) -> Outcome<Deletion> {
        let name = self.text("basepath")?.ok_or("basepath is required.")?;
        let (path, method) = (self.text("relpath")?, self.text("operation")?);
        if path.is_none() && method.is_some() {
            return Err("When specifying an operation, the path is required.".to_owned());
        }
        Ok(Deletion {
            name,
            path,
            method: method.map(|method| method.to_ascii_lowercase()),
        })
    }
}

impl Creation {
    /// The document that comes of it, where `known` is what there is.
    pub(super) fn applied(&self, known: Option<Value>) -> Outcome<Value> {
        match &self.what {
            Made::Document(document) => Ok(document.clone()),
            Made::Endpoint(endpoint, title) => {
                let empty = || document::empty(&self.base, title.as_deref());
                let mut document = known.unwrap_or_else(empty);
                document::add(&mut document, endpoint)?;
                Ok(document)
            }
        }
    }
}

/// What the address of a web action says it answers: its extension, if that is one.
fn extension(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let segment = path.trim_end_matches("$(request.path)").rsplit('/').next();
    let last = segment.and_then(|name| name.rsplit_once('.'));
    last.map(|(_, last)| last)
        .filter(|last| RESPONSE_TYPES.contains(last))
        .unwrap_or("json")
}

/// A document that came whole.
fn whole(swagger: &Value) -> Outcome<Creation> {
    let unparsed = "swagger field cannot be parsed. Ensure it is valid JSON.";
    let document = object(swagger, unparsed, |kind| {
        format!("swagger field is {kind} and should be an object or a JSON string.")
    })?;
    for name in ["basePath", "paths", "info"] {
        if !is_truthy(&document[name]) {
            return Err(format!("swagger is missing the {name} field."));
        }
    }
    let base = document["basePath"].as_str();
    let base = base.ok_or("API creation failure: the swagger's basePath is not a string.")?;
    Ok(Creation {
        base: base.to_owned(),
        what: Made::Document(document),
    })
}

/// As JavaScript sees it.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// An object, or one in a string.
fn object(value: &Value, unparsed: &str, wrong: impl Fn(&str) -> String) -> Outcome<Value> {
    match value {
        Value::Object(_) | Value::Array(_) => Ok(value.clone()),
        Value::String(text) => serde_json::from_str(text).map_err(|_| unparsed.to_owned()),
        Value::Number(_) => Err(wrong("number")),
        Value::Bool(_) | Value::Null => Err(wrong("boolean")),
    }
}

fn string<'a>(parent: &'a Value, name: &str) -> Outcome<&'a str> {
    let text = parent[name].as_str();
    text.ok_or_else(|| format!("{name} is not a string."))
}

/// Package, or nothing, and name in `/ns/pkg/action`, `pkg/action` or `action`.
fn action_name(full: &str) -> (&str, &str) {
    let bare = full.strip_prefix('/').unwrap_or(full);
    let mut parts = bare.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let package = match (parts.next(), parts.next()) {
        (Some(package), Some(_)) => package,
        (Some(package), None) if !full.starts_with('/') => package,
        _ => "",
    };
    (package, name)
}

/// Scheme and host of a web action's URL.
fn origin(url: &str) -> Outcome<&str> {
    let origin = url.split_once(web::PREFIX).map(|(origin, _)| origin);
    let is_origin = |origin: &&str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some_and(|host| !host.is_empty() && !host.contains([' ', '?', '#', '$']))
    };
    let origin = origin.filter(is_origin);
    origin.ok_or_else(|| {
        format!("API swagger generation error: backendUrl '{url}' is not the URL of a web action.")
    })
}
