//! `/whisk.system`: the packages that every namespace finds there, put in at start out of this very program.
//!
//! `utils` and `samples` are guests, `alarms` is done by the server itself. What is put in carries the annotation
//! `installed`, a digest of what it was then. What is found at the next start decides what is done about it:
//!
//! - nothing: it is put in;
//! - what was put in, unchanged, and this program has another: it is replaced;
//! - anything else, be it that the operator changed it or made it: it is left alone, for good.
//!
//! Nothing waits for it: until it is done, which takes a second after the very first start, calls get 404.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::auth::SYSTEM_NAMESPACE;
use crate::invoke::{Upload, UploadError};
use crate::model::{
    Action, ActionLimits, Annotations, Builtin, Code, Digest, EntityName, Exec, Fqn, Json,
    Namespace, Package, Parameters, Timestamp, Version,
};
use crate::store::catalog::{Catalog, Found};
use crate::store::{self, Expect, Revision};

/// Says what an entity was when it was put in.
const INSTALLED: &str = "installed";

/// The kind of the guests.
const KIND: &str = "wasm:1";

/// How often a busy compiler or store is tried again, and the pause before.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_secs(1);

const CATALOG: &str = include_str!("../runtimes/system/catalog.json");

macro_rules! modules {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../runtimes/system/", $name)))),*]
    };
}

/// The modules that the catalog names.
const MODULES: &[(&str, &[u8])] = modules![
    "wasm/samples-cat.wasm"
    "wasm/samples-greeting.wasm"
    "wasm/samples-head.wasm"
    "wasm/samples-hello-world.wasm"
    "wasm/samples-print-params.wasm"
    "wasm/samples-word-count.wasm"
    "wasm/utils-cat.wasm"
    "wasm/utils-date.wasm"
    "wasm/utils-echo.wasm"
    "wasm/utils-head.wasm"
    "wasm/utils-hosturl.wasm"
    "wasm/utils-namespace.wasm"
    "wasm/utils-smash.wasm"
    "wasm/utils-sort.wasm"
    "wasm/utils-split.wasm"
];

/// The `[system]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether the packages are put in.
    pub(crate) packages: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { packages: true }
    }
}

/// What is to be put in.
#[derive(Debug, Deserialize)]
struct Contents {
    packages: Vec<Bundle>,
}

#[derive(Debug, Deserialize)]
struct Bundle {
    name: String,
    publish: bool,
    annotations: Map<String, Value>,
    actions: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    annotations: Map<String, Value>,
    /// A module, where it is a guest.
    #[serde(default)]
    code: Option<String>,
    /// What the server does itself, otherwise.
    #[serde(default)]
    builtin: Option<String>,
}

/// Why something is not put in.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("this program was built wrong: {0}")]
    Build(String),
}

impl Failed {
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Store(_) | Self::Upload(UploadError::Unavailable(_))
        )
    }
}

/// The feeds, with what `wsk` shows of them.
fn alarms() -> Bundle {
    let parameter = |name: &str, required: bool| json!({ "name": name, "required": required });
    let feed = |name: &str, description: &str, parameters: Vec<Value>| {
        let annotations = json!({
            "description": description,
            "feed": true,
            "parameters": parameters,
        });
        Entry {
            name: name.to_owned(),
            annotations: annotations.as_object().cloned().unwrap_or_default(),
            code: None,
            builtin: Some(format!("alarms/{name}")),
        }
    };
    let optional = |name| parameter(name, false);
    let annotations = json!({
        "description": "Alarms and periodic utility",
        "parameters": [optional("trigger_payload")],
    });
    Bundle {
        name: "alarms".to_owned(),
        publish: true,
        annotations: annotations.as_object().cloned().unwrap_or_default(),
        actions: vec![
            feed(
                "alarm",
                "Fire trigger when alarm occurs",
                vec![
                    parameter("cron", true),
                    optional("timezone"),
                    optional("startDate"),
                    optional("stopDate"),
                    optional("strict"),
                    optional("missed"),
                ],
            ),
            feed(
                "once",
                "Fire trigger once when alarm occurs",
                vec![parameter("date", true), optional("deleteAfterFire")],
            ),
            feed(
                "interval",
                "Fire trigger at specified interval",
                vec![
                    parameter("minutes", true),
                    optional("startDate"),
                    optional("stopDate"),
                    optional("missed"),
                ],
            ),
        ],
    }
}

fn contents() -> Result<Vec<Bundle>, Failed> {
    let catalog: Contents =
        serde_json::from_str(CATALOG).map_err(|error| Failed::Build(error.to_string()))?;
    // What needs no compiler comes first.
    Ok([alarms()].into_iter().chain(catalog.packages).collect())
}

/// Puts in what is missing and renews what is old. What cannot be put in is logged.
pub(crate) async fn install(catalog: &Catalog, uploads: &dyn Upload) {
    let result = async {
        let namespace =
            Namespace::parse(SYSTEM_NAMESPACE).map_err(|error| Failed::Build(error.to_string()))?;
        let installer = Installer {
            catalog,
            uploads,
            namespace,
        };
        let mut count = 0;
        for bundle in contents()? {
            count += installer.bundle(&bundle).await?;
        }
        Ok::<usize, Failed>(count)
    };
    match result.await {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "packages and actions were put into /whisk.system"),
        Err(error) => tracing::error!(%error, "the packages of /whisk.system are not complete"),
    }
}

struct Installer<'a> {
    catalog: &'a Catalog,
    uploads: &'a dyn Upload,
    namespace: Namespace,
}

/// What is to be done about an entity.
enum Plan {
    Leave,
    Write(Expect, Version, u64),
}

impl Installer<'_> {
    /// How many of the package and its actions were written.
    async fn bundle(&self, bundle: &Bundle) -> Result<usize, Failed> {
        let mut count = usize::from(self.patiently(|| self.package(bundle)).await?);
        for entry in &bundle.actions {
            count += usize::from(self.patiently(|| self.action(bundle, entry)).await?);
        }
        Ok(count)
    }

    /// Tries again while the store or the compiler is busy.
    async fn patiently<F: Future<Output = Result<bool, Failed>>>(
        &self,
        what: impl Fn() -> F,
    ) -> Result<bool, Failed> {
        let mut tries = 1;
        loop {
            match what().await {
                Err(failed) if failed.is_passing() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                other => return other,
            }
        }
    }

    fn fqn(&self, package: Option<&str>, name: &str) -> Result<Fqn, Failed> {
        let parse =
            |name: &str| EntityName::parse(name).map_err(|error| Failed::Build(error.to_string()));
        Ok(Fqn {
            namespace: self.namespace.clone(),
            package: package.map(parse).transpose()?,
            name: parse(name)?,
        })
    }

    async fn package(&self, bundle: &Bundle) -> Result<bool, Failed> {
        let fqn = self.fqn(None, &bundle.name)?;
        let annotations = annotations(&bundle.annotations);
        let publish = if bundle.publish { "public" } else { "private" };
        let digest = digest(publish, &Parameters::default(), &annotations);
        let found = self.catalog.get::<Package>(&fqn).await?;
        let plan = plan(found, &digest, |package| {
            let publish = match (package.publish, &package.binding) {
                (_, Some(_)) => "bound",
                (true, None) => "public",
                (false, None) => "private",
            };
            let is = self::digest(publish, &package.parameters, &package.annotations);
            (
                is,
                package.annotations.get(INSTALLED).cloned(),
                package.version,
                0,
            )
        });
        let Plan::Write(expect, version, _) = plan else {
            return Ok(false);
        };
        let package = Package {
            fqn,
            version,
            publish: bundle.publish,
            updated: Timestamp::now(),
            parameters: Parameters::default(),
            annotations: installed(annotations, &digest),
            binding: None,
        };
        self.catalog.put(package, None, expect).await?;
        Ok(true)
    }

    async fn action(&self, bundle: &Bundle, entry: &Entry) -> Result<bool, Failed> {
        let fqn = self.fqn(Some(&bundle.name), &entry.name)?;
        let code = entry.code.as_deref().map(module).transpose()?;
        let mut annotations = annotations(&entry.annotations);
        annotations.set("provide-api-key", Json::from(false));
        let (kind, what) = match (&code, &entry.builtin) {
            (Some(code), _) => (KIND, Digest::of(code.as_bytes()).to_string()),
            (None, Some(builtin)) => (crate::model::kind::BUILTIN, builtin.clone()),
            (None, None) => return Err(Failed::Build(format!("{fqn} does nothing"))),
        };
        annotations.set("exec", Json::from_serialize(kind));
        let digest = digest(&what, &Parameters::default(), &annotations);
        let found = self.catalog.get::<Action>(&fqn).await?;
        let plan = plan(found, &digest, |action| {
            let what = match &action.exec {
                Exec::Code(code) => code.code.to_string(),
                Exec::Builtin(builtin) => builtin.builtin.clone(),
                Exec::Sequence(_) => "sequence".to_owned(),
            };
            let is = self::digest(&what, &action.parameters, &action.annotations);
            let installed = action.annotations.get(INSTALLED).cloned();
            (is, installed, action.version, action.revision)
        });
        let Plan::Write(expect, version, revision) = plan else {
            return Ok(false);
        };
        let exec = match (&code, &entry.builtin) {
            (Some(code), _) => {
                let code: std::sync::Arc<str> = code.as_str().into();
                Exec::Code(Code {
                    http: false,
                    kind: KIND.to_owned(),
                    main: None,
                    binary: true,
                    code: Digest::of(code.as_bytes()),
                    code_size: u64::try_from(code.len()).unwrap_or(u64::MAX),
                    program: self
                        .uploads
                        .prepare(&self.namespace, KIND, None, code)
                        .await?,
                })
            }
            (None, builtin) => Exec::Builtin(Builtin {
                builtin: builtin.clone().unwrap_or_default(),
            }),
        };
        let action = Action {
            fqn,
            version,
            publish: false,
            updated: Timestamp::now(),
            exec,
            parameters: Parameters::default(),
            limits: ActionLimits::default(),
            annotations: installed(annotations, &digest),
            revision: revision + 1,
            reached: None,
        };
        self.catalog
            .put(action, code.map(Into::into), expect)
            .await?;
        Ok(true)
    }
}

/// What is to be done about what was found, given what is wanted and what that is of it: its digest now, the one it was put
/// in with, its version and its number.
fn plan<T>(
    found: Found<T>,
    wanted: &str,
    of: impl Fn(&T) -> (String, Option<Json>, Version, u64),
) -> Plan {
    match found {
        Found::Nothing => Plan::Write(Expect::Absent, Version::FIRST, 0),
        Found::Other => Plan::Leave,
        Found::Is(entity, revision) => {
            let (is, installed, version, number) = of(&entity);
            let installed = installed.map(|json| json.to_value());
            let is_ours = installed == Some(Value::String(is.clone()));
            let expect: fn(Revision) -> Expect = Expect::Revision;
            match is_ours && is != wanted {
                true => Plan::Write(expect(revision), version.bumped(), number),
                false => Plan::Leave,
            }
        }
    }
}

/// The module of that name as a client would send it.
fn module(name: &str) -> Result<String, Failed> {
    let found = MODULES.iter().find(|(one, _)| *one == name);
    let (_, bytes) = found.ok_or_else(|| Failed::Build(format!("no module {name}")))?;
    Ok(STANDARD.encode(bytes))
}

fn annotations(given: &Map<String, Value>) -> Annotations {
    let mut annotations = Annotations::default();
    for (key, value) in given {
        annotations.set(key.clone(), Json::from_serialize(value));
    }
    annotations
}

fn installed(mut annotations: Annotations, digest: &str) -> Annotations {
    annotations.set(INSTALLED, Json::from_serialize(digest));
    annotations
}

/// Of everything about an entity that somebody may have changed.
fn digest(what: &str, parameters: &Parameters, annotations: &Annotations) -> String {
    let mut noted: Vec<(&str, String)> = annotations
        .iter()
        .filter(|annotation| annotation.key != INSTALLED)
        .map(|annotation| (&*annotation.key, annotation.value.to_value().to_string()))
        .collect();
    noted.sort();
    let all = json!([what, parameters, noted]).to_string();
    Digest::of(all.as_bytes()).to_string()
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
