//! The files of a project as they are written: `manifest.yaml` and `deployment.yaml`, in the format of wskdeploy.
//!
//! Only what the text says; what it means is worked out in `wanted`. A key nobody knows is refused with its line.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cli::failure::{Failure, Result, yaml_error};

/// Largest manifest: a hundred times the largest anybody wrote by hand.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Names, and what they stand for.
pub(super) type Named<T> = BTreeMap<String, T>;

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Document {
    pub(super) project: Project,
    #[serde(deserialize_with = "entries")]
    pub(super) packages: Named<Package>,
}

/// `project:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Project {
    pub(super) name: String,
    #[serde(deserialize_with = "entries")]
    pub(super) packages: Named<Package>,
    #[serde(deserialize_with = "or_none")]
    pub(super) inputs: Named<Value>,
    pub(super) namespace: Value,
    pub(super) credential: Value,
    #[serde(rename = "apiHost")]
    pub(super) api_host: Value,
    #[serde(rename = "apigwAccessToken")]
    pub(super) gateway_token: Value,
    #[serde(rename = "version")]
    _version: Value,
    #[serde(rename = "config")]
    _config: Value,
}

/// One package of `packages:`; `default` is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Package {
    pub(super) public: bool,
    pub(super) description: String,
    #[serde(deserialize_with = "or_none")]
    pub(super) inputs: Named<Value>,
    #[serde(deserialize_with = "or_none")]
    pub(super) annotations: Named<Value>,
    #[serde(deserialize_with = "entries")]
    pub(super) actions: Named<Action>,
    #[serde(deserialize_with = "entries")]
    pub(super) sequences: Named<Sequence>,
    #[serde(deserialize_with = "entries")]
    pub(super) triggers: Named<Trigger>,
    #[serde(deserialize_with = "entries")]
    pub(super) rules: Named<Rule>,
    #[serde(deserialize_with = "or_none")]
    pub(super) apis: Named<Named<Named<Named<Operation>>>>,
    #[serde(deserialize_with = "entries")]
    pub(super) dependencies: Named<Dependency>,
    pub(super) feeds: Value,
    pub(super) namespace: Value,
    pub(super) credential: Value,
    #[serde(rename = "apiHost")]
    pub(super) api_host: Value,
    #[serde(rename = "apigwAccessToken")]
    pub(super) gateway_token: Value,
    #[serde(rename = "name")]
    _name: Value,
    #[serde(rename = "version")]
    _version: Value,
    #[serde(rename = "license")]
    _license: Value,
    #[serde(rename = "repositories")]
    _repositories: Value,
}

/// One of `actions:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Action {
    pub(super) function: String,
    pub(super) location: String,
    pub(super) code: Option<String>,
    pub(super) runtime: String,
    pub(super) main: String,
    pub(super) web: Value,
    #[serde(rename = "web-export")]
    pub(super) web_export: Value,
    pub(super) conductor: bool,
    pub(super) description: String,
    #[serde(deserialize_with = "or_none")]
    pub(super) inputs: Named<Value>,
    #[serde(deserialize_with = "or_none")]
    pub(super) annotations: Named<Value>,
    #[serde(deserialize_with = "or_none")]
    pub(super) limits: Named<Value>,
    pub(super) docker: Value,
    pub(super) native: bool,
    pub(super) include: Value,
    pub(super) exclude: Value,
    pub(super) namespace: Value,
    pub(super) credential: Value,
    #[serde(rename = "exposedUrl")]
    pub(super) exposed_url: Value,
    #[serde(rename = "outputs")]
    _outputs: Value,
    #[serde(rename = "version")]
    _version: Value,
}

/// One of `sequences:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sequence {
    pub(super) actions: Components,
    pub(super) web: Value,
    #[serde(deserialize_with = "or_none")]
    pub(super) annotations: Named<Value>,
}

/// `first, second`, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Components {
    Text(String),
    List(Vec<String>),
}

impl Default for Components {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Components {
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => text.split(',').map(str::trim).collect(),
            Self::List(names) => names.iter().map(|name| name.trim()).collect(),
        }
    }
}

/// One of `triggers:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Trigger {
    pub(super) feed: String,
    /// What `feed` was called before.
    pub(super) source: String,
    pub(super) description: String,
    #[serde(deserialize_with = "or_none")]
    pub(super) inputs: Named<Value>,
    #[serde(deserialize_with = "or_none")]
    pub(super) annotations: Named<Value>,
    pub(super) namespace: Value,
    pub(super) credential: Value,
}

/// One of `rules:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) trigger: String,
    pub(super) action: String,
    pub(super) description: String,
    #[serde(deserialize_with = "or_none")]
    pub(super) annotations: Named<Value>,
    #[serde(rename = "rule")]
    _rule: Value,
}

/// What a path of an API calls: `GET`, or `{method: GET, response: http}`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Operation {
    Method(String),
    Full {
        method: String,
        response: Option<String>,
    },
}

/// One of `dependencies:`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Dependency {
    pub(super) location: String,
    #[serde(deserialize_with = "or_none")]
    pub(super) inputs: Named<Value>,
    #[serde(deserialize_with = "or_none")]
    pub(super) annotations: Named<Value>,
    #[serde(rename = "version")]
    _version: Value,
}

/// `key:` with nothing behind it says what no key says.
fn or_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// As [`or_none`], and so has every name in it.
fn entries<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Named<T>, D::Error> {
    let all: Named<Option<T>> = or_none(deserializer)?;
    let all = all.into_iter();
    Ok(all
        .map(|(name, entry)| (name, entry.unwrap_or_default()))
        .collect())
}

impl Document {
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        let document: Option<Self> =
            serde_saphyr::from_str(text).map_err(|error| yaml_error(&error))?;
        let document = document.unwrap_or_default();
        match document.packages.is_empty() || document.project.packages.is_empty() {
            true => Ok(document),
            false => Err("packages stand at the top and under project: one of them".to_owned()),
        }
    }

    /// The text of the file and what it says.
    pub(super) fn read(path: &Path) -> Result<(String, Self)> {
        let bad = |why: String| Failure::general(format!("{}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?;
        if size.len() > FILE_BYTES_MAX {
            return Err(bad(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let document = Self::parse(&text).map_err(bad)?;
        Ok((text, document))
    }

    /// The packages, wherever they stand.
    pub(super) fn all(&self) -> &Named<Package> {
        match self.packages.is_empty() {
            true => &self.project.packages,
            false => &self.packages,
        }
    }
}
