//! `wisp namespace`: whose key this is, and what is in it.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Session;
use super::client::Client;
use super::failure::Result;

/// What a namespace may hold, in the order it is shown.
const COLLECTIONS: [&str; 4] = ["packages", "actions", "triggers", "rules"];

/// `wisp namespace …`
#[derive(Debug, Subcommand)]
pub(super) enum Namespace {
    /// Print the namespace of the key
    List,
    /// List everything in a namespace
    Get {
        /// Which, as `/name`; the key's own when left out
        namespace: Option<String>,
    },
}

impl Namespace {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        match self {
            Self::List => list(session),
            Self::Get { namespace } => get(session, namespace.as_deref()),
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

fn get(session: Session<'_>, namespace: Option<&str>) -> Result<()> {
    let client = Client::new(session)?;
    let namespace = match namespace.map(|name| name.trim_matches('/')) {
        Some(name) if !name.is_empty() && name != "_" => name.to_owned(),
        _ => own(&client)?
            .into_iter()
            .next()
            .unwrap_or_else(|| "_".to_owned()),
    };
    let query = [("limit", "0".to_owned()), ("skip", "0".to_owned())];
    let mut found = Map::new();
    for collection in COLLECTIONS {
        let rows = client.list(&client.path(&namespace, collection), &query);
        match rows {
            Ok(rows) => drop(found.insert(collection.to_owned(), Value::Array(rows))),
            // A server without this collection has nothing in it.
            Err(failure) if failure.status == Some(404) => {}
            Err(failure) => {
                let what =
                    format!("Unable to obtain the list of entities for namespace '{namespace}'");
                return Err(failure.while_trying(&what));
            }
        }
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
    for (collection, rows) in &found {
        output.line(&output.bold(collection));
        for row in rows.as_array().into_iter().flatten() {
            let text = |field: &str| row[field].as_str().unwrap_or("?");
            output.line(&format!("/{}/{}", text("namespace"), text("name")));
        }
    }
    Ok(())
}
