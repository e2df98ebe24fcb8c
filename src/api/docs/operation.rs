//! One operation, as the tables of this folder say it. How it is printed is in `print`.

use serde_json::{Value, json};

use super::faults::Fault;
use super::parameters::Parameter;

/// `application/json`.
pub(super) const JSON: &str = "application/json";

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone, and who they are makes no difference.
    Anyone,
    /// Anyone, unless what they ask for requires a key.
    Maybe,
    /// Holders of a key.
    Tenant,
    /// The holder of the system's key.
    System,
}

/// What may come back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) says: &'static str,
    /// Media type and schema, where there is a body.
    pub(super) body: Option<(&'static str, Value)>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) says: &'static str,
    pub(super) required: bool,
    pub(super) media: &'static str,
    pub(super) schema: Value,
}

/// One method of one path.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) details: &'static str,
    pub(super) access: Access,
    pub(super) parameters: Vec<&'static Parameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    /// Headers of answers: status and the name of the component.
    pub(super) headers: Vec<(u16, &'static str)>,
    pub(super) faults: Vec<Fault>,
    pub(super) any: Option<&'static str>,
}

/// A reference to a component schema.
pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An array of a component schema.
pub(super) fn array_of(name: &str) -> Value {
    json!({ "type": "array", "items": schema(name) })
}

/// Any of several schemas.
pub(super) fn any_of(all: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": all.into_iter().collect::<Vec<_>>() })
}

impl Operation {
    /// `method` (in capitals) of `path`; `id` is unique, `summary` one sentence.
    pub(super) fn new(
        (method, path): (&'static str, &'static str),
        tag: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            id,
            tag,
            summary,
            details: "",
            access: Access::Tenant,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            headers: Vec::new(),
            faults: Vec::new(),
            any: None,
        }
    }

    /// What else is to be known.
    pub(super) fn details(mut self, text: &'static str) -> Self {
        self.details = text;
        self
    }

    /// Who may; holders of a key, when nothing is said.
    pub(super) fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Parameters.
    pub(super) fn takes(mut self, parameters: &[&'static Parameter]) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// A JSON body without which the request is refused.
    pub(super) fn needs(self, says: &'static str, schema: Value) -> Self {
        self.body(says, true, JSON, schema)
    }

    /// A JSON body that may be left out.
    pub(super) fn may_have(self, says: &'static str, schema: Value) -> Self {
        self.body(says, false, JSON, schema)
    }

    /// A body of `media`.
    pub(super) fn body(
        mut self,
        says: &'static str,
        required: bool,
        media: &'static str,
        schema: Value,
    ) -> Self {
        self.body = Some(Body {
            says,
            required,
            media,
            schema,
        });
        self
    }

    /// An answer with a JSON body.
    pub(super) fn answers(self, status: u16, says: &'static str, schema: Value) -> Self {
        self.answers_as(status, says, JSON, schema)
    }

    /// An answer with a body of `media`. Several of one status are several that may come.
    pub(super) fn answers_as(
        mut self,
        status: u16,
        says: &'static str,
        media: &'static str,
        schema: Value,
    ) -> Self {
        self.answers.push(Answer {
            status,
            says,
            body: Some((media, schema)),
        });
        self
    }

    /// An answer without a body.
    pub(super) fn answers_empty(mut self, status: u16, says: &'static str) -> Self {
        self.answers.push(Answer {
            status,
            says,
            body: None,
        });
        self
    }

    /// Whatever else may come: for what tenants write themselves.
    pub(super) fn answers_anything(mut self, says: &'static str) -> Self {
        self.any = Some(says);
        self
    }

    /// A header that answers of `status` have.
    pub(super) fn header(mut self, status: u16, name: &'static str) -> Self {
        self.headers.push((status, name));
        self
    }

    /// Errors.
    pub(super) fn refuses(mut self, faults: &[Fault]) -> Self {
        for fault in faults {
            if self.faults.iter().all(|known| known.id != fault.id) {
                self.faults.push(*fault);
            }
        }
        self
    }
}
