//! One route of an API: what may be said of it, and the calls that make, read and remove it.

use serde_json::{Value, json};

use super::ResponseType;
use crate::cli::client::{Client, EntityPath};
use crate::cli::entity::annotation;
use crate::cli::failure::{Failure, Result};
use crate::cli::web;

/// Verbs an API may have.
const VERBS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/// What one route of an API is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Route {
    pub(in crate::cli) base: String,
    pub(in crate::cli) path: String,
    /// In capitals.
    pub(in crate::cli) verb: String,
    pub(in crate::cli) action: EntityPath,
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) response: ResponseType,
}

impl Route {
    /// What cannot be said of a route is refused here, in words, before a server is asked.
    pub(in crate::cli) fn check(&self) -> Result<()> {
        rooted(&self.path)?;
        verb(&self.verb)?;
        if !parameters(&self.base).is_empty() {
            let message = format!(
                "The base path '{}' cannot have parameters. Only the relative path supports path parameters.",
                self.base
            );
            return Err(Failure::usage(message));
        }
        if !parameters(&self.path).is_empty() && self.response != ResponseType::Http {
            let message = "A response type of 'http' is required when using path parameters.";
            return Err(Failure::usage(message));
        }
        if self.name.is_some() && !self.base.starts_with('/') {
            return Err(Failure::usage("An API name can only be specified once."));
        }
        Ok(())
    }

    /// As it is called in lists: `GET /base/path`.
    pub(in crate::cli) fn title(&self) -> String {
        let base = self.base.trim_end_matches('/');
        format!("{} {base}{}", self.verb, self.path)
    }

    /// What narrows a call to it.
    pub(in crate::cli) fn part(&self) -> [(&'static str, String); 3] {
        [
            ("basepath", self.base.clone()),
            ("relpath", self.path.clone()),
            ("operation", self.verb.clone()),
        ]
    }

    /// Creates it; what the server made of it.
    pub(in crate::cli) fn create(&self, client: &Client<'_>) -> Result<Value> {
        let action = web_action(client, &self.action)?;
        let namespace = action["namespace"].as_str().unwrap_or("_");
        let namespace = namespace.split('/').next().unwrap_or("_");
        let mut target = json!({
            "name": self.action.path,
            "namespace": namespace,
            "backendMethod": self.verb,
            "backendUrl": format!(
                "{}.{}",
                web::url(client, namespace, &self.action),
                self.response.name()
            ),
            "authkey": client.auth(),
        });
        if let Some(secret) = annotation(&action, web::SECRET) {
            target["secureKey"] = secret.clone();
        }
        let mut doc = json!({
            "namespace": "_",
            "gatewayBasePath": self.base,
            "gatewayPath": self.path,
            "gatewayMethod": self.verb,
            "action": target,
        });
        if self.base.starts_with('/') {
            doc["id"] = json!(format!("API:_:{}", self.base));
        }
        if let Some(name) = &self.name {
            doc["apiName"] = json!(name);
        }
        let parameters = parameters(&self.path);
        if !parameters.is_empty() {
            doc["pathParameters"] = parameters.into_iter().map(path_parameter).collect();
        }
        upload(client, doc, self.response)
    }
}

fn path_parameter(name: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "description": format!("Default description for '{name}'"),
        "required": true,
        "type": "string",
    })
}

/// Whether a path has segments that stand for any.
pub(in crate::cli) fn has_parameters(path: &str) -> bool {
    !parameters(path).is_empty()
}

/// Names between braces that are whole segments.
fn parameters(path: &str) -> Vec<&str> {
    let segments = path.split('/');
    let inner = segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    inner.filter(|name| !name.is_empty()).collect()
}

pub(super) fn rooted(path: &str) -> Result<()> {
    match path.starts_with('/') {
        true => Ok(()),
        false => Err(Failure::usage(format!("'{path}' must begin with '/'."))),
    }
}

/// A verb in capitals.
pub(in crate::cli) fn verb(text: &str) -> Result<String> {
    let verb = text.to_ascii_uppercase();
    match VERBS.contains(&verb.as_str()) {
        true => Ok(verb),
        false => {
            let all = VERBS.join(", ");
            let message = format!("'{text}' is not a valid API verb.  Valid values are: {all}");
            Err(Failure::usage(message))
        }
    }
}

/// The action, which must be on the web.
fn web_action(client: &Client<'_>, name: &EntityPath) -> Result<Value> {
    let path = client.path(&name.namespace, &name.in_collection("actions"));
    let action = client.get(&path, &[("code", "false".to_owned())]);
    let action = action.map_err(|failure| match failure.status {
        Some(404) => Failure {
            message: format!("API action '{}' does not exist", name.path),
            ..failure
        },
        _ => failure.while_trying(&format!("Unable to get action '{}'", name.path)),
    })?;
    match web::is_web(&action) {
        true => Ok(action),
        false => {
            let text = format!("API action '{}' is not a web action.", name.path);
            let advice = format!(
                "Issue 'wisp action update \"{}\" --web yes' to convert the action to a web action.",
                name.path
            );
            Err(Failure::general(text).advise(advice))
        }
    }
}

/// `…/apimgmt/{operation}.http`, the parameters all calls have, and those of this one.
fn call(
    client: &Client<'_>,
    method: &str,
    operation: &str,
    more: &[(&str, String)],
    body: Option<&Value>,
) -> Result<Value> {
    let space = client.auth().split(':').next().unwrap_or_default();
    let mut query = vec![
        ("accesstoken", client.gateway_token().to_owned()),
        ("spaceguid", space.to_owned()),
    ];
    query.extend(more.iter().cloned());
    let path = format!("{}/whisk.system/apimgmt/{operation}.http", client.web());
    client.send(method, &path, &query, body)?.success()
}

pub(super) fn upload(client: &Client<'_>, doc: Value, response: ResponseType) -> Result<Value> {
    let body = json!({ "apidoc": doc });
    let more = [("responsetype", response.name().to_owned())];
    let made = call(client, "POST", "createApi", &more, Some(&body));
    made.map_err(|f| f.while_trying("Unable to create API"))
}

/// `getApi`, of all APIs or of the part that `which` names.
pub(in crate::cli) fn fetch(client: &Client<'_>, which: &[(&str, String)]) -> Result<Vec<Value>> {
    let answer = call(client, "GET", "getApi", which, None)?;
    let apis = answer["apis"].as_array().into_iter().flatten();
    Ok(apis.map(|api| api["value"].clone()).collect())
}

/// `deleteApi`.
pub(in crate::cli) fn delete(client: &Client<'_>, which: &[(&str, String)]) -> Result<Value> {
    let deleted = call(client, "DELETE", "deleteApi", which, None);
    deleted.map_err(|f| f.while_trying("Unable to delete API"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_cannot_be_are_refused() {
        let route = |base: &str, path: &str, response| Route {
            base: base.to_owned(),
            path: path.to_owned(),
            verb: "GET".to_owned(),
            action: EntityPath::parse("a", "_").unwrap(),
            name: None,
            response,
        };
        assert!(route("/b", "/p/{id}", ResponseType::Http).check().is_ok());
        assert!(route("/b", "/p/{id}", ResponseType::Json).check().is_err());
        assert!(route("/{b}", "/p", ResponseType::Http).check().is_err());
        assert!(route("/b", "p", ResponseType::Json).check().is_err());
        assert_eq!(verb("pAtch").unwrap(), "PATCH");
        assert!(verb("fetch").is_err());
        assert_eq!(parameters("/a/{b}/c{d}/{}/{e}"), ["b", "e"]);
    }
}
