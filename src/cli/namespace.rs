//! `wisp namespace` and `wisp list`: whose key this is, and what is in a namespace.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::entity::{full_name, visibility};
use super::failure::Result;
use super::{Session, action, rule};

/// What a namespace may hold, in the order it is shown.
const COLLECTIONS: [&str; 4] = ["packages", "actions", "triggers", "rules"];

/// `wisp namespace …`
#[derive(Debug, Subcommand)]
pub(super) enum Namespace {
    /// Print the namespace of the key
    List,
    /// List everything in a namespace
    Get(Contents),
}

/// What of a namespace to list.
#[derive(Debug, Args)]
pub(super) struct Contents {
    /// Which, as `/name`; the key's own when left out
    namespace: Option<String>,
    /// By name, not by age
    #[arg(short, long)]
    name_sort: bool,
}

impl Namespace {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::List => list(session),
            Self::Get(contents) => contents.run(session),
        }
    }
}

fn list(session: Session<'_>) -> Result<()> {
    let client = Client::new(session)?;
    let names = own(&client)?;
    let output = session.output;
    if output.json {
        output.value(&json!(names));
        return Ok(());
    }
    output.line(&output.bold("namespaces"));
    names.iter().for_each(|name| output.line(name));
    Ok(())
}

/// The namespaces of the key: one.
pub(super) fn own(client: &Client<'_>) -> Result<Vec<String>> {
    let names = client
        .list(&client.namespaces(), &[])
        .map_err(|f| f.while_trying("Unable to obtain the list of available namespaces"))?;
    Ok(names
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

impl Contents {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let client = Client::new(session)?;
        let said = self.namespace.as_deref().map(|name| name.trim_matches('/'));
        let namespace = match said.unwrap_or_else(|| client.namespace()) {
            "" | "_" => own(&client)?
                .into_iter()
                .next()
                .unwrap_or_else(|| "_".to_owned()),
            name => name.to_owned(),
        };
        let mut found = Map::new();
        for collection in COLLECTIONS {
            let rows = self.fetch(&client, &namespace, collection).map_err(|f| {
                f.while_trying(&format!(
                    "Unable to obtain the list of entities for namespace '{namespace}'"
                ))
            })?;
            found.insert(collection.to_owned(), Value::Array(rows));
        }
        let output = session.output;
        if output.json {
            output.value(&Value::Object(found));
            return Ok(());
        }
        output.line(&format!(
            "Entities in namespace: {}",
            output.bold(&namespace)
        ));
        for collection in COLLECTIONS {
            let rows = found[collection].as_array().into_iter().flatten();
            let rows: Vec<[String; 3]> = rows.map(|row| cells(collection, row)).collect();
            output.table([collection, "", ""], &rows);
        }
        Ok(())
    }

    fn fetch(&self, client: &Client<'_>, namespace: &str, collection: &str) -> Result<Vec<Value>> {
        let query = [("limit", "0".to_owned()), ("skip", "0".to_owned())];
        let mut rows = match client.list(&client.path(namespace, collection), &query) {
            Ok(rows) => rows,
            // A server without this collection has nothing in it.
            Err(failure) if failure.status == Some(404) => return Ok(Vec::new()),
            Err(failure) => return Err(failure),
        };
        if collection == "rules" {
            rows = rule::with_status(client, rows)?;
        }
        if self.name_sort {
            rows.sort_by_key(full_name);
        }
        Ok(rows)
    }
}

fn cells(collection: &str, row: &Value) -> [String; 3] {
    match collection {
        "actions" => action::row(row),
        "rules" => rule::row(row),
        _ => [full_name(row), visibility(row).to_owned(), String::new()],
    }
}
