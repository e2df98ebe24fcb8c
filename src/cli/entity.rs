//! What all kinds of entities have in common: how they are listed, what is shown of one, how it is summed up.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Answer, Client, EntityPath};
use super::failure::{Failure, Result};
use super::{Page, Session};

/// Which entities to list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this namespace, as `/name`; the key's own when left out
    namespace: Option<String>,
    #[command(flatten)]
    page: Page,
    /// By name, not by age
    #[arg(short, long)]
    name_sort: bool,
}

impl List {
    /// The rows of a collection.
    pub(super) fn fetch(&self, client: &Client<'_>, collection: &str) -> Result<Vec<Value>> {
        let namespace = namespace_of(self.namespace.as_deref(), client)?;
        let path = client.path(&namespace, collection);
        let rows = client.list(&path, &self.page.query());
        let mut rows = rows.map_err(|f| {
            f.while_trying(&format!(
                "Unable to obtain the list of {collection} for namespace '{namespace}'"
            ))
        })?;
        if self.name_sort {
            rows.sort_by_key(full_name);
        }
        Ok(rows)
    }

    /// Lists those of a collection as `wsk` does: name, and whether it is shared.
    pub(super) fn run(&self, session: Session<'_>, collection: &str) -> Result<()> {
        let client = Client::new(session)?;
        let rows = self.fetch(&client, collection)?;
        if session.output.json {
            session.output.value(&Value::Array(rows));
            return Ok(());
        }
        let rows: Vec<[String; 2]> = rows.iter().map(row).collect();
        session.output.table([collection, ""], &rows);
        Ok(())
    }
}

/// The namespace `said` names: `/name` or `name`, else the client's own.
pub(super) fn namespace_of(said: Option<&str>, client: &Client<'_>) -> Result<String> {
    let Some(said) = said else {
        return Ok(client.namespace().to_owned());
    };
    let name = said.trim_matches('/');
    if name.is_empty() || name.contains('/') {
        let message = format!("'{said}' is no namespace: use /NAMESPACE");
        return Err(Failure::usage(message));
    }
    Ok(name.to_owned())
}

/// Which entity to show, and what of it.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Its name
    pub(super) name: String,
    /// Only this field
    pub(super) field: Option<String>,
    /// Only a summary: description and parameters; * is bound, ** is bound and final
    #[arg(short, long)]
    pub(super) summary: bool,
}

/// An entity, or one field of it.
pub(super) fn show(
    session: Session<'_>,
    noun: &str,
    name: &EntityPath,
    entity: &Value,
    field: Option<&str>,
) -> Result<()> {
    let output = session.output;
    let Some(field) = field else {
        output.ok(&format!("got {noun} {}", name.path));
        output.value(entity);
        return Ok(());
    };
    let value = entity.get(field).ok_or_else(|| {
        let failure = Failure::general(format!("Invalid field filter '{field}'."));
        failure.while_trying(&format!("Unable to get {noun} '{}'", name.path))
    })?;
    output.ok(&format!(
        "got {noun} {}, displaying field {field}",
        name.path
    ));
    output.value(value);
    Ok(())
}

/// `GET {collection}/{name}`.
pub(super) fn get(client: &Client<'_>, noun: &str, name: &EntityPath) -> Result<Value> {
    let path = client.path(&name.namespace, &name.in_collection(&format!("{noun}s")));
    let attempt = format!("Unable to get {noun} '{}'", name.path);
    client.get(&path, &[]).map_err(|f| f.while_trying(&attempt))
}

/// Which way a `PUT` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// There must not be one.
    Create,
    /// There may be one.
    Update,
}

impl Put {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
        }
    }

    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Update => "updated",
        }
    }

    pub(super) fn query(self) -> [(&'static str, String); 1] {
        [("overwrite", (self == Self::Update).to_string())]
    }
}

/// `PUT {collection}/{name}`; the entity as it is now.
pub(super) fn put(
    client: &Client<'_>,
    put: Put,
    noun: &str,
    name: &EntityPath,
    body: &Value,
) -> Result<Value> {
    let path = client.path(&name.namespace, &name.in_collection(&format!("{noun}s")));
    let answer = client.send("PUT", &path, &put.query(), Some(body));
    let attempt = format!("Unable to {} {noun} '{}'", put.verb(), name.path);
    answer
        .and_then(Answer::success)
        .map_err(|f| f.while_trying(&attempt))
}

/// `DELETE {collection}/{name}`; the entity as it was.
pub(super) fn delete(client: &Client<'_>, noun: &str, name: &EntityPath) -> Result<Value> {
    let path = client.path(&name.namespace, &name.in_collection(&format!("{noun}s")));
    let answer = client.send("DELETE", &path, &[], None);
    let attempt = format!("Unable to delete {noun} '{}'", name.path);
    answer
        .and_then(Answer::success)
        .map_err(|f| f.while_trying(&attempt))
}

/// `/namespace[/package]/name`.
pub(super) fn full_name(entity: &Value) -> String {
    let text = |field: &str| entity[field].as_str().unwrap_or("?").to_owned();
    format!("/{}/{}", text("namespace"), text("name"))
}

/// `private` or `shared`.
pub(super) fn visibility(entity: &Value) -> &'static str {
    match entity["publish"] {
        Value::Bool(true) => "shared",
        _ => "private",
    }
}

fn row(entity: &Value) -> [String; 2] {
    [full_name(entity), visibility(entity).to_owned()]
}

/// The value of an annotation.
pub(super) fn annotation<'e>(entity: &'e Value, key: &str) -> Option<&'e Value> {
    let annotations = entity["annotations"].as_array().into_iter().flatten();
    let mut found = annotations.filter(|annotation| annotation["key"] == key);
    found.next_back().map(|annotation| &annotation["value"])
}

/// Sets an annotation among those of a wire list, and takes away any other of its key.
pub(super) fn annotate(annotations: &mut Value, key: &str, value: Value) {
    if !annotations.is_array() {
        *annotations = json!([]);
    }
    if let Some(all) = annotations.as_array_mut() {
        all.retain(|annotation| annotation["key"] != key);
        all.push(json!({ "key": key, "value": value }));
    }
}

/// As `wsk … get --summary` has it: what it is for, and what parameters it takes.
pub(super) fn summary(kind: &str, name: &str, entity: &Value) -> String {
    let names = |list: &Value, field: &str| {
        let all = list.as_array().into_iter().flatten();
        let all = all.filter_map(|one| one[field].as_str().map(str::to_owned));
        all.collect::<Vec<String>>()
    };
    let bound = names(&entity["parameters"], "key");
    let described = annotation(entity, "parameters").map(|list| names(list, "name"));
    let mut all: Vec<String> = bound.clone();
    all.extend(described.unwrap_or_default());
    all.sort();
    all.dedup();
    let mark = match annotation(entity, "final") {
        Some(Value::Bool(true)) => "**",
        _ => "*",
    };
    let marked = all.iter().map(|name| match bound.contains(name) {
        true => format!("{mark}{name}"),
        false => name.clone(),
    });
    let parameters = match all.is_empty() {
        true => "none defined".to_owned(),
        false => marked.collect::<Vec<_>>().join(", "),
    };
    let description = annotation(entity, "description").and_then(Value::as_str);
    let about = match (description, all.split_last()) {
        (Some(text), _) if !text.is_empty() => format!(": {text}"),
        (_, None) => String::new(),
        (_, Some((only, []))) => format!(": Returns a result based on parameter {only}"),
        (_, Some((last, rest))) => {
            let rest = rest.join(", ");
            format!(": Returns a result based on parameters {rest} and {last}")
        }
    };
    format!("{kind} {name}{about}\n   (parameters: {parameters})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_mark_what_is_bound() {
        let entity = json!({
            "parameters": [{"key": "b", "value": 1}],
            "annotations": [
                {"key": "parameters", "value": [{"name": "a", "description": "x"}, {"name": "b"}]},
                {"key": "final", "value": true},
            ],
        });
        let text = summary("action", "/_/x", &entity);
        let expected =
            "action /_/x: Returns a result based on parameters a and b\n   (parameters: a, **b)";
        assert_eq!(text, expected);
        let bare = summary(
            "trigger",
            "/_/t",
            &json!({"annotations": [{"key": "description", "value": "Ticks"}]}),
        );
        assert_eq!(bare, "trigger /_/t: Ticks\n   (parameters: none defined)");
    }

    #[test]
    fn an_annotation_is_set_once() {
        let mut all = json!([{"key": "a", "value": 1}, {"key": "b", "value": 2}]);
        annotate(&mut all, "a", json!(3));
        assert_eq!(
            all,
            json!([{"key": "b", "value": 2}, {"key": "a", "value": 3}])
        );
        let mut none = Value::Null;
        annotate(&mut none, "a", json!(3));
        assert_eq!(none, json!([{"key": "a", "value": 3}]));
    }
}
