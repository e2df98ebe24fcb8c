//! Documents of APIs: Swagger 2.0, as OpenWhisk's own tools write and read it, and what of it says where a request goes.
//!
//! A document is made of one endpoint after another ([`add`], [`remove`]) or comes whole. Either way it is only taken
//! when it can be served ([`Api::read`]): every operation leads to a web action, and it asks for nothing that would not
//! be done, such as keys or rate limits.

use axum::http::{HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::api::web;

/// Longest base path, bytes.
const BASE_BYTES_MAX: usize = 256;

/// Stands at the end of a target that is to get the path of the request.
const REQUEST_PATH: &str = "$(request.path)";

/// Where a document says what is done with requests.
const CONFIGURATION: &str = "x-ibm-configuration";

/// As [`CONFIGURATION`], and before it.
const OTHER_CONFIGURATION: &str = "x-gateway-configuration";

/// What sets a header, before its name.
const HEADER_VARIABLE: &str = "message.headers.";

/// The methods an operation can have.
const METHODS: [(&str, Method); 7] = [
    ("get", Method::GET),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("delete", Method::DELETE),
    ("patch", Method::PATCH),
    ("head", Method::HEAD),
    ("options", Method::OPTIONS),
];

/// What a document may say that would have to be enforced and is not.
const NOT_ENFORCED: [&str; 4] = [
    "security",
    "securityDefinitions",
    "x-gateway-rate-limit",
    "x-ibm-rate-limit",
];

/// What a name may hold that a path may not.
const IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'/');

type Outcome<T> = Result<T, String>;

/// One endpoint, as a client describes it.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) path: String,
    /// In lower case.
    pub(super) method: String,
    pub(super) namespace: String,
    /// Empty when the action is in none.
    pub(super) package: String,
    pub(super) action: String,
    /// `http`, `json`, …: what is taken of the action's result.
    pub(super) response_type: String,
    /// Scheme and host of the action's URL.
    pub(super) origin: String,
    pub(super) secret: Option<Value>,
    pub(super) parameters: Option<Value>,
}

impl Endpoint {
    /// `verb` and the pieces of the path, capitalised.
    fn operation_id(&self) -> String {
        operation_id(&self.method, &self.path)
    }

    fn url(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, IN_PATH).to_string();
        let package = match self.package.as_str() {
            "" => "default".to_owned(),
            package => encoded(package),
        };
        let (namespace, action) = (encoded(&self.namespace), encoded(&self.action));
        let (origin, kind) = (&self.origin, &self.response_type);
        format!(
            "{origin}{}{namespace}/{package}/{action}.{kind}",
            web::PREFIX
        )
    }
}

/// The id of an operation: characters that are neither letters, digits, `-` nor `_` part words.
fn operation_id(method: &str, path: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = path.split(|c| !is_kept(c));
    words.fold(method.to_ascii_lowercase(), |mut id, word| {
        let bare = word.trim_start_matches('-');
        id.extend(word.chars().take(word.len() - bare.len()));
        let mut letters = bare.chars();
        id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        id.extend(letters.map(|c| c.to_ascii_lowercase()));
        id
    })
}

/// Whether an operation can have this method, in lower case.
pub(super) fn is_method(name: &str) -> bool {
    METHODS.iter().any(|(known, _)| *known == name)
}

/// A document without endpoints.
pub(super) fn empty(base: &str, name: Option<&str>) -> Value {
    json!({
        "swagger": "2.0",
        "info": { "title": name.unwrap_or(base), "version": "1.0.0" },
        "basePath": base,
        "paths": {},
        CONFIGURATION: { "assembly": {}, "cors": { "enabled": true } },
    })
}

/// Adds `endpoint`, or puts it in the place of the one with its path and method.
pub(super) fn add(document: &mut Value, endpoint: &Endpoint) -> Outcome<()> {
    let id = endpoint.operation_id();
    let mut operation = json!({
        "operationId": id,
        "x-openwhisk": {
            "url": endpoint.url(),
            "namespace": endpoint.namespace,
            "package": endpoint.package,
            "action": endpoint.action,
        },
        "responses": { "default": { "description": "Default response" } },
    });
    if let Some(parameters) = &endpoint.parameters {
        operation["parameters"] = parameters.clone();
    }
    let path = object(document, "paths")?
        .entry(&endpoint.path)
        .or_insert_with(|| json!({}));
    let path = path.as_object_mut().ok_or("a path is no object")?;
    path.insert(endpoint.method.clone(), operation);
    let gets_path = endpoint.response_type == "http";
    let target = endpoint.url() + if gets_path { REQUEST_PATH } else { "" };
    let mut execute = vec![json!({ "invoke": { "target-url": target, "verb": "keep" } })];
    if let Some(secret) = &endpoint.secret {
        let variable = format!("{HEADER_VARIABLE}X-Require-Whisk-Auth");
        let action = json!({ "set": variable, "value": secret });
        execute.push(json!({ "set-variable": { "actions": [action] } }));
    }
    let case = json!({ "operations": [id], "execute": execute });
    let cases = cases(document)?;
    match cases.iter_mut().find(|case| case["operations"][0] == *id) {
        Some(known) => *known = case,
        None => cases.push(case),
    }
    Ok(())
}

/// Removes an operation, or all of a path; says what is not there.
pub(super) fn remove(document: &mut Value, path: &str, method: Option<&str>) -> Outcome<()> {
    let paths = object(document, "paths")?;
    let operations = paths.get_mut(path).and_then(Value::as_object_mut);
    let gone: Vec<Value> = match (operations, method) {
        (None, None) => return Err(format!("path '{path}' does not exist in the API")),
        (Some(operations), None) => operations.values().cloned().collect(),
        (operations, Some(method)) => {
            let operation = operations.and_then(|operations| operations.remove(method));
            let missing = || {
                let what = format!("path '{path}' with operation '{method}'");
                what + " does not exist in the API"
            };
            vec![operation.ok_or_else(missing)?]
        }
    };
    let is_empty = |path: &Value| path.as_object().is_none_or(Map::is_empty);
    if method.is_none() || paths.get(path).is_some_and(is_empty) {
        paths.remove(path);
    }
    let is_gone = |case: &Value| {
        let id = &case["operations"][0];
        id.is_string() && gone.iter().any(|operation| operation["operationId"] == *id)
    };
    if let Ok(cases) = cases(document) {
        cases.retain(|case| !is_gone(case));
    }
    Ok(())
}

/// Whether nothing is left to serve.
pub(super) fn is_empty(document: &Value) -> bool {
    document["paths"].as_object().is_none_or(Map::is_empty)
}

fn object<'a>(parent: &'a mut Value, key: &str) -> Outcome<&'a mut Map<String, Value>> {
    let parent = parent.as_object_mut();
    let child = parent.map(|parent| parent.entry(key).or_insert_with(|| json!({})));
    let child = child.and_then(Value::as_object_mut);
    child.ok_or_else(|| format!("the document's '{key}' is no object"))
}

/// Where the document says what each operation invokes.
fn cases(document: &mut Value) -> Outcome<&mut Vec<Value>> {
    let key = match document.get(OTHER_CONFIGURATION) {
        Some(_) => OTHER_CONFIGURATION,
        None => CONFIGURATION,
    };
    object(document, key)?;
    let configuration = &mut document[key];
    object(configuration, "assembly")?;
    let execute = &mut configuration["assembly"]["execute"];
    if execute.is_null() {
        *execute = json!([]);
    }
    let execute = execute.as_array_mut().ok_or("'execute' is no array")?;
    let switch = execute
        .iter()
        .position(|one| one.get("operation-switch").is_some());
    let switch = switch.unwrap_or_else(|| {
        execute.push(json!({ "operation-switch": { "case": [] } }));
        execute.len() - 1
    });
    let switch = execute[switch].get_mut("operation-switch");
    let cases = switch.and_then(|switch| switch.get_mut("case"));
    let cases = cases.and_then(Value::as_array_mut);
    cases.ok_or_else(|| "'operation-switch' has no array 'case'".to_owned())
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Backend {
    /// The path of a web action.
    pub(super) target: String,
    /// Whether the path of the request follows it.
    pub(super) gets_path: bool,
    /// The method it is asked with, when not the request's own.
    pub(super) method: Option<Method>,
    /// Headers that are set on the way.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// A segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// `{name}`: whatever stands there.
    Any,
    Literal(String),
}

/// A path and what can be done with it.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) path: Vec<Segment>,
    pub(super) operations: Vec<(Method, Backend)>,
}

/// A document, as far as it says where requests go.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) base: Vec<String>,
    pub(super) cors: bool,
    pub(super) routes: Vec<Route>,
}

impl Api {
    /// Reads a document; says why it cannot be served.
    pub(super) fn read(document: &Value) -> Outcome<Self> {
        let is_said = |key: &&&str| match document.get(**key) {
            None | Some(Value::Null) => false,
            Some(Value::Object(all)) => !all.is_empty(),
            Some(Value::Array(all)) => !all.is_empty(),
            Some(_) => true,
        };
        if let Some(key) = NOT_ENFORCED.iter().find(is_said) {
            return Err(format!(
                "'{key}' is not supported: what it asks for would not be enforced"
            ));
        }
        let base = document["basePath"].as_str().unwrap_or_default();
        check_path(base, "basePath")?;
        if base.len() > BASE_BYTES_MAX || base.contains(['{', '}']) {
            return Err(format!(
                "basePath '{base}' must have at most {BASE_BYTES_MAX} bytes and no parameters"
            ));
        }
        let paths = document["paths"]
            .as_object()
            .ok_or("'paths' is no object")?;
        let configuration = configuration(document);
        let routes = paths.iter().map(|(path, operations)| {
            check_path(path, "path")?;
            let operations = operations.as_object();
            let operations = operations.ok_or_else(|| format!("path '{path}' is no object"))?;
            let operations = METHODS.iter().filter_map(|(name, method)| {
                let operation = operations.get(*name)?;
                let backend = backend(configuration, path, name, operation);
                Some(backend.map(|backend| (method.clone(), backend)))
            });
            Ok(Route {
                path: segments(path),
                operations: operations.collect::<Outcome<_>>()?,
            })
        });
        Ok(Self {
            base: base
                .split('/')
                .filter(|one| !one.is_empty())
                .map(str::to_owned)
                .collect(),
            cors: configuration["cors"]["enabled"] != false,
            routes: routes.collect::<Outcome<_>>()?,
        })
    }
}

/// What `path` consists of.
fn segments(path: &str) -> Vec<Segment> {
    let all = path.split('/').filter(|one| !one.is_empty());
    all.map(|one| {
        if one.starts_with('{') && one.ends_with('}') {
            Segment::Any
        } else {
            Segment::Literal(one.to_owned())
        }
    })
    .collect()
}

fn check_path(path: &str, what: &str) -> Outcome<()> {
    let is_bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '#');
    if !path.starts_with('/') || path.contains(is_bad) {
        return Err(format!(
            "{what} '{path}' must start with '/' and have neither spaces, '?' nor '#'"
        ));
    }
    Ok(())
}

fn configuration(document: &Value) -> &Value {
    let other = document.get(OTHER_CONFIGURATION);
    other.unwrap_or_else(|| &document[CONFIGURATION])
}

/// Where an operation goes: by the assembly of the document, else by its own `x-openwhisk`.
fn backend(configuration: &Value, path: &str, verb: &str, operation: &Value) -> Outcome<Backend> {
    let execute = steps(&configuration["assembly"]["execute"]);
    let switches = execute.iter().map(|step| &step["operation-switch"]["case"]);
    let mut cases = switches.flat_map(steps);
    let id = &operation["operationId"];
    let is_it = |one: &Value| {
        (one.is_string() && one == id) || (one["verb"] == verb && one["path"] == path)
    };
    let own = cases.find(|case| steps(&case["operations"]).iter().any(is_it));
    let own = own.map_or(&[][..], |case| steps(&case["execute"]));
    let all = || own.iter().chain(execute);
    let invoke = all()
        .map(|step| &step["invoke"])
        .find(|invoke| invoke.is_object());
    let url = invoke.map(|invoke| &invoke["target-url"]);
    let url = url
        .unwrap_or_else(|| &operation["x-openwhisk"]["url"])
        .as_str();
    let url = url.ok_or_else(|| format!("operation '{verb} {path}' has no 'target-url'"))?;
    let (target, gets_path) = target(url)?;
    let method = match invoke.and_then(|invoke| invoke["verb"].as_str()) {
        None | Some("keep") => None,
        Some(name) => {
            let known = METHODS
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            Some(
                known
                    .ok_or_else(|| format!("'{name}' is no verb"))?
                    .1
                    .clone(),
            )
        }
    };
    let actions = all().flat_map(|step| steps(&step["set-variable"]["actions"]));
    Ok(Backend {
        target,
        gets_path,
        method,
        headers: actions.map(header).collect::<Outcome<_>>()?,
    })
}

fn steps(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The path of the web action at `url`, and whether it gets the path of the request.
fn target(url: &str) -> Outcome<(String, bool)> {
    let (url, gets_path) = match url.strip_suffix(REQUEST_PATH) {
        Some(url) => (url, true),
        None => (url, false),
    };
    let wrong = || format!("target-url '{url}' is not the URL of a web action (…/api/v1/web/…)");
    let (_, rest) = url.split_once("://").ok_or_else(wrong)?;
    let at = rest.find(web::PREFIX).ok_or_else(wrong)?;
    let (_, path) = rest.split_at(at);
    let path: String = path
        .chars()
        .map(|c| {
            if c == ' ' {
                "%20".into()
            } else {
                c.to_string()
            }
        })
        .collect();
    if path.contains(['?', '#', '$']) || !web::is_address(&path) {
        return Err(wrong());
    }
    Ok((path, gets_path))
}

/// The header that an action of `set-variable` sets.
fn header(action: &Value) -> Outcome<(HeaderName, HeaderValue)> {
    let variable = action["set"].as_str().unwrap_or_default();
    let name = variable.strip_prefix(HEADER_VARIABLE);
    let name = name.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    let name = name.filter(|name| !web::is_of_connection(name));
    let name = name.ok_or_else(|| format!("set-variable cannot set '{variable}'"))?;
    let value = match &action["value"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let value = HeaderValue::from_str(&value);
    let value = value.map_err(|_| format!("set-variable cannot give '{name}' this value"))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_ids_are_verb_and_capitalised_pieces() {
        for (path, id) in [
            ("/rel", "getRel"),
            ("/", "get"),
            ("/a/bC/{d}", "getABcD"),
            ("/a.b/c-D_e", "getABC-d_e"),
            ("/-x", "get-X"),
        ] {
            assert_eq!(operation_id("GET", path), id, "{path}");
        }
    }

    #[test]
    fn targets_are_web_actions() {
        for (url, path, gets_path) in [
            (
                "https://h/api/v1/web/g/default/a.json",
                "/api/v1/web/g/default/a.json",
                false,
            ),
            (
                "http://h:1/x/api/v1/web/g/p/a b.http$(request.path)",
                "/api/v1/web/g/p/a%20b.http",
                true,
            ),
        ] {
            assert_eq!(target(url), Ok((path.to_owned(), gets_path)));
        }
        for url in [
            "",
            "https://h/",
            "/api/v1/web/g/p/a",
            "https://h/api/v1/web/g/a",
            "https://h/api/v1/web/g/p/a?x",
        ] {
            assert!(target(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_would_not_be_enforced_is_not_taken() {
        let mut document = empty("/b", None);
        assert!(Api::read(&document).is_ok());
        document["securityDefinitions"] = json!({ "key": { "type": "apiKey" } });
        assert!(Api::read(&document).is_err_and(|why| why.contains("securityDefinitions")));
    }
}
