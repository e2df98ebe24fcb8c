//! How operations become JSON. What is said of many (answers, parameters, errors) is printed once, as a component, and
//! referred to.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::faults::Fault;
use super::operation::{Access, Answer, JSON, Operation, any_of, schema};

/// The security schemes: of tenants, and of the operator.
pub(super) const KEY: &str = "key";
pub(super) const SYSTEM_KEY: &str = "systemKey";

/// `components/responses`: answers that are the same are one.
#[derive(Debug, Default)]
pub(super) struct Responses(Vec<(String, Value)>);

impl Responses {
    /// A reference to `answer`.
    fn reference(&mut self, status: u16, answer: Value) -> Value {
        let known = self.0.iter().find(|(_, one)| *one == answer);
        let name = known.map_or_else(|| self.fresh(status), |(name, _)| name.clone());
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        if known.is_none() {
            self.0.push((name, answer));
        }
        reference
    }

    /// `NotFound`, `NotFound2`, …
    fn fresh(&self, status: u16) -> String {
        let reason = StatusCode::from_u16(status).ok();
        let reason = reason.and_then(|status| status.canonical_reason());
        let words = reason.unwrap_or("Status").chars();
        let base: String = words.filter(char::is_ascii_alphanumeric).collect();
        let is_of_base = |name: &str| {
            let number = name.strip_prefix(&base);
            number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
        };
        match self.0.iter().filter(|(name, _)| is_of_base(name)).count() {
            0 => base,
            count => format!("{base}{}", count + 1),
        }
    }

    /// All of them.
    pub(super) fn print(self) -> Value {
        Value::Object(self.0.into_iter().collect())
    }
}

impl Operation {
    /// As the document has it; its answers go to `responses`.
    pub(super) fn print(&self, responses: &mut Responses) -> Value {
        let mut printed = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": self.print_answers(responses),
            "security": match self.access {
                Access::Anyone => json!([]),
                Access::Maybe => json!([{}, { KEY: [] }]),
                Access::Tenant => json!([{ KEY: [] }]),
                Access::System => json!([{ SYSTEM_KEY: [] }]),
            },
        });
        if !self.details.is_empty() {
            printed["description"] = self.details.into();
        }
        if !self.parameters.is_empty() {
            let references = self.parameters.iter().map(|one| one.reference());
            printed["parameters"] = references.collect();
        }
        if let Some(body) = &self.body {
            printed["requestBody"] = json!({
                "description": body.says,
                "required": body.required,
                "content": { body.media: { "schema": body.schema } },
            });
        }
        printed
    }

    fn print_answers(&self, responses: &mut Responses) -> Value {
        let mut all: BTreeMap<u16, (Vec<&Answer>, Vec<&Fault>)> = BTreeMap::new();
        for answer in &self.answers {
            all.entry(answer.status).or_default().0.push(answer);
        }
        for fault in &self.faults {
            all.entry(fault.status()).or_default().1.push(fault);
        }
        let mut printed = Map::new();
        for (status, (answers, faults)) in all {
            let answer = self.print_answer(status, &answers, &faults);
            printed.insert(status.to_string(), responses.reference(status, answer));
        }
        if let Some(says) = self.any {
            let headers = references("headers", &["X-Request-ID"]);
            let any = json!({ "description": says, "headers": headers });
            printed.insert("default".to_owned(), any);
        }
        Value::Object(printed)
    }

    fn print_answer(&self, status: u16, answers: &[&Answer], faults: &[&Fault]) -> Value {
        let says = answers.iter().map(|answer| answer.says);
        let says: Vec<&str> = says.chain(faults.iter().map(|fault| fault.when)).collect();
        let mut headers = vec!["X-Request-ID"];
        let of_status = self.headers.iter().filter(|(of, _)| *of == status);
        headers.extend(of_status.map(|(_, name)| *name));
        let mut bodies: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (media, schema) in answers.iter().filter_map(|answer| answer.body.as_ref()) {
            bodies.entry(media).or_default().push(schema.clone());
        }
        if !faults.is_empty() {
            bodies.entry(JSON).or_default().push(schema("Error"));
            headers.extend(match status {
                401 => Some("WWW-Authenticate"),
                405 => Some("Allow"),
                429 | 503 => Some("Retry-After"),
                _ => None,
            });
        }
        let mut content = Map::new();
        for (media, mut schemas) in bodies {
            let schema = match schemas.len() {
                1 => schemas.remove(0),
                _ => any_of(schemas),
            };
            let mut body = json!({ "schema": schema });
            if media == JSON && !faults.is_empty() {
                let ids: Vec<&str> = faults.iter().map(|fault| fault.id).collect();
                body["examples"] = references("examples", &ids);
            }
            content.insert(media.to_owned(), body);
        }
        let mut printed = json!({
            "description": says.join(" "),
            "headers": references("headers", &headers),
        });
        if !content.is_empty() {
            printed["content"] = Value::Object(content);
        }
        printed
    }
}

/// An object of references to components of this `kind`, by their names.
fn references(kind: &str, names: &[&str]) -> Value {
    let reference = |name: &&str| {
        let target = json!({ "$ref": format!("#/components/{kind}/{name}") });
        ((*name).to_owned(), target)
    };
    Value::Object(names.iter().map(reference).collect())
}
