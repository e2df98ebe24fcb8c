//! A folder with an action in it: what its `action.toml` says, and how it comes to a server.
//!
//! The examples have the same file, called `example.toml`. A folder may hold a `manifest.yaml` instead, when it is more than
//! one action; and where one action is one file, that file is enough. Deployed is through the wire, like anybody's.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Session;
use super::build::Language;
use super::client::{Answer, Client, EntityPath};
use super::code;
use super::entity::annotate;
use super::failure::{Failure, Result};
use super::pairs::keys_and_values;
use super::project;
use super::web::Mode;

/// What says how a folder's action is built and deployed.
pub(super) const FILES: [&str; 2] = ["action.toml", "example.toml"];

/// What a folder of several entities has.
const MANIFEST: &str = "manifest.yaml";

/// Files that are an action by themselves when a folder says nothing.
const SOURCES: [&str; 4] = ["index.js", "index.mjs", PYTHON, "action.wat"];

/// Where Python begins.
const PYTHON: &str = "__main__.py";

/// A folder's code when that is all of it.
const WHOLE: &str = ".";

/// What `action.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Folder {
    /// What it is deployed as; the folder's name when left out.
    pub(super) name: String,
    /// One line about it.
    pub(super) description: String,
    /// What it is written in; found from the files when left out.
    pub(super) language: Option<Language>,
    /// A command for the shell that builds it, in the place of the language's usual tool.
    pub(super) build: Option<String>,
    /// Its code, relative to the folder, as it is uploaded.
    code: Option<PathBuf>,
    /// What is deployed instead of one action, relative to the folder.
    manifest: Option<PathBuf>,
    /// Kind, when the code does not say.
    pub(super) kind: Option<String>,
    /// Entry point, for kinds that have one.
    pub(super) main: Option<String>,
    /// Whether and how it is served on the web: `true`, `false` or `"raw"`.
    web: Option<Served>,
    /// Parameters worth trying.
    pub(super) params: Map<String, Value>,
    /// Parameters that are bound to it.
    bind: Map<String, Value>,
    annotations: Map<String, Value>,
    limits: Map<String, Value>,
    #[serde(skip)]
    folder: PathBuf,
    /// Whether it is nothing but a file of code.
    #[serde(skip)]
    file: bool,
}

/// How `action.toml` says that an action is on the web.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Served {
    Plain(bool),
    Raw(Raw),
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
enum Raw {
    #[serde(rename = "raw")]
    Raw,
}

impl Folder {
    /// What is at `path`: an action's file or folder, or a folder of such folders.
    pub(super) fn find(path: &Path) -> Result<Vec<Self>> {
        if path.is_file() {
            return Ok(vec![Self::of_file(path)]);
        }
        if let Some(own) = Self::in_folder(path)? {
            return Ok(vec![own]);
        }
        let below = Self::below(path)?;
        if below.is_empty() {
            let failure = Failure::general(format!("there is no action in {}", path.display()));
            return Err(failure.advise(
                "An action's folder has an action.toml; `wisp new` makes one. Or name a file with code.",
            ));
        }
        Ok(below)
    }

    /// Every folder in `parent` that has a file about an action, by name.
    pub(super) fn below(parent: &Path) -> Result<Vec<Self>> {
        let unreadable = |error: std::io::Error| {
            Failure::general(format!("cannot read {}: {error}", parent.display()))
        };
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(parent).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if FILES.iter().any(|file| path.join(file).is_file()) {
                folders.push(path);
            }
        }
        folders.sort();
        let read = folders.iter().map(|folder| Self::in_folder(folder));
        read.filter_map(Result::transpose).collect()
    }

    /// What the folder itself says, if it says anything.
    fn in_folder(folder: &Path) -> Result<Option<Self>> {
        if let Some(file) = FILES
            .iter()
            .map(|file| folder.join(file))
            .find(|f| f.is_file())
        {
            return Self::read(&file, folder).map(Some);
        }
        let has = |name: &&str| folder.join(name).is_file();
        let source = SOURCES.iter().copied().find(has);
        let code = match has(&"package.json") || source.is_some() {
            true if is_package(folder, source) => Some(WHOLE),
            _ => source,
        };
        let found = Self {
            manifest: Some(MANIFEST).filter(has).map(PathBuf::from),
            code: code.map(PathBuf::from),
            ..Self::default()
        };
        let one = found.manifest.is_some() || found.code.is_some();
        Ok(one.then(|| found.named(folder)))
    }

    fn read(file: &Path, folder: &Path) -> Result<Self> {
        let bad = |why: String| Failure::general(format!("{}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        let read: Self = toml::from_str(&text).map_err(|error| bad(format!("\n{error}")))?;
        match (&read.code, &read.manifest) {
            (None, None) => Err(bad(
                "`code` is missing: the file that is uploaded".to_owned()
            )),
            (Some(_), Some(_)) => Err(bad("either `code` or `manifest`, not both".to_owned())),
            _ => Ok(read.named(folder)),
        }
    }

    /// An action that is nothing but a file.
    fn of_file(path: &Path) -> Self {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        Self {
            name: stem.unwrap_or_default().to_owned(),
            code: path.file_name().map(PathBuf::from),
            folder: path.parent().unwrap_or_else(|| Path::new("")).to_owned(),
            file: true,
            ..Self::default()
        }
    }

    fn named(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        if self.name.is_empty() {
            let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            let name = whole.file_name().and_then(|name| name.to_str());
            name.unwrap_or_default().clone_into(&mut self.name);
        }
        self
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        match self.folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.folder,
        }
    }

    /// The file that is uploaded, or the folder that is, zipped; none when it is a manifest's.
    pub(super) fn code(&self) -> Option<PathBuf> {
        Some(self.folder.join(self.code.as_ref()?))
    }

    /// Bytes of the file that is uploaded; none when it is anything else, or not there.
    pub(super) fn code_bytes(&self) -> u64 {
        let file = self.code().and_then(|code| code.metadata().ok());
        let file = file.filter(std::fs::Metadata::is_file);
        file.map_or(0, |file| file.len())
    }

    /// As [`Folder::code`], relative to the folder.
    pub(super) fn code_in_folder(&self) -> Option<&Path> {
        self.code.as_deref()
    }

    /// Whether it is nothing but a file of code, in a folder that may hold anything.
    pub(super) fn is_file(&self) -> bool {
        self.file
    }

    /// Whether it is a manifest.
    pub(super) fn is_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// Whether deploying it may have to wait for the engine of a language.
    pub(super) fn needs_engine(&self) -> bool {
        let extension = self.code.as_deref().and_then(Path::extension);
        let source = extension.is_some_and(|extension| extension != "wasm" && extension != "wat");
        self.is_manifest() || source || self.code().is_some_and(|code| code.is_dir())
    }

    /// Whether it is source in Python.
    pub(super) fn is_python(&self) -> bool {
        let extension = self.code.as_deref().and_then(Path::extension);
        let folder = self.code().filter(|code| code.is_dir());
        extension.is_some_and(|extension| extension == "py")
            || folder.is_some_and(|folder| folder.join(PYTHON).is_file())
    }

    /// What of it is not there yet and has to be built: its code.
    pub(super) fn missing(&self) -> Option<PathBuf> {
        self.code().filter(|code| !code.exists())
    }

    /// The `exec` of its action.
    pub(super) fn exec(&self) -> Result<Value> {
        let code = self.code().ok_or_else(|| {
            let what = self.path().display();
            Failure::usage(format!("{what} has a manifest: it is more than one action"))
        })?;
        if !code.exists() {
            let failure = Failure::general(format!("{} is not there", code.display()));
            return Err(failure.advise(format!(
                "Build it with `wisp build {}`.",
                self.path().display()
            )));
        }
        code::read(&code, self.kind.as_deref(), self.main.as_deref())
    }

    /// The body of a `PUT` of its action.
    pub(super) fn action(&self) -> Result<Value> {
        let mut annotations = self.annotations.clone();
        if !self.description.is_empty() {
            annotations.insert("description".to_owned(), json!(self.description));
        }
        let mut body = json!({
            "exec": self.exec()?,
            "annotations": keys_and_values(annotations),
        });
        let mode = match &self.web {
            None => None,
            Some(Served::Plain(true)) => Some(Mode::Yes),
            Some(Served::Plain(false)) => Some(Mode::No),
            Some(Served::Raw(Raw::Raw)) => Some(Mode::Raw),
        };
        for (key, value) in mode.into_iter().flat_map(Mode::annotations) {
            annotate(&mut body["annotations"], key, value);
        }
        if !self.bind.is_empty() {
            body["parameters"] = keys_and_values(self.bind.clone());
        }
        if !self.limits.is_empty() {
            body["limits"] = Value::Object(self.limits.clone());
        }
        Ok(body)
    }

    /// Creates or replaces what it has.
    pub(super) fn deploy(&self, session: Session<'_>, client: &Client<'_>) -> Result<()> {
        if let Some(manifest) = &self.manifest {
            return project::deploy(session, client, &self.folder.join(manifest));
        }
        let body = self.action()?;
        let name = EntityPath::parse(&self.name, "_")?;
        let path = client.path(&name.namespace, &name.in_collection("actions"));
        let query = [("overwrite", "true".to_owned())];
        let answer = client.upload(&self.name, &path, &query, &body);
        answer.and_then(Answer::success).map(drop)
    }
}

/// Whether a folder that says nothing is more than its one file of `source`: a package, or a file that needs others.
fn is_package(folder: &Path, source: Option<&str>) -> bool {
    let has = |name: &str| folder.join(name).exists();
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    match source {
        Some("action.wat") => false,
        Some(PYTHON) => super::pack::files(folder).is_ok_and(|files| {
            let code = |file: &PathBuf| file.extension().is_some_and(|found| found == "py");
            files.into_iter().filter(code).count() > 1
        }),
        Some(source) => {
            let text = read(source);
            let needs = ["'./", "\"./", "'../", "\"../"];
            has("package.json") || has("node_modules") || needs.iter().any(|it| text.contains(it))
        }
        // What it begins with says `main`.
        None => serde_json::from_str::<Value>(&read("package.json"))
            .is_ok_and(|package| package["main"].as_str().is_some_and(has)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_folder_says_what_it_is_or_shows_it() {
        let root = folder(&[
            ("a/action.toml", "code = \"x.wat\"\nname = \"first\""),
            ("b/example.toml", "manifest = \"manifest.yaml\""),
            ("c/index.js", ""),
            ("d/README.md", ""),
            ("e/index.js", "require('./lib')"),
            ("e/lib.js", ""),
            ("f/__main__.py", ""),
            ("f/helpers/one.py", ""),
            ("g/package.json", r#"{"main": "src/main.js"}"#),
            ("g/src/main.js", ""),
            ("h/package.json", r#"{"main": "built.js"}"#),
        ]);
        let found = |name: &str| Folder::find(&root.path().join(name));
        assert_eq!(found("a").unwrap()[0].name, "first");
        assert!(found("b").unwrap()[0].is_manifest());
        let script = &found("c").unwrap()[0];
        assert_eq!((script.name.as_str(), script.needs_engine()), ("c", true));
        assert!(found("d").unwrap_err().advice.unwrap().contains("wisp new"));
        for name in ["e", "f", "g"] {
            let whole = &found(name).unwrap()[0];
            assert_eq!(whole.code.as_deref(), Some(Path::new(WHOLE)), "{name}");
            assert_eq!(
                (whole.needs_engine(), whole.is_python()),
                (true, name == "f")
            );
        }
        assert!(found("h").is_err(), "nothing to begin with");
        let all = found("").unwrap();
        let names: Vec<&str> = all.iter().map(|folder| folder.name.as_str()).collect();
        assert_eq!(names, ["first", "b"], "only what says so among others");
        let file = &found("c/index.js").unwrap()[0];
        assert_eq!(file.name, "index");
    }

    #[test]
    fn what_is_wrong_in_it_is_named() {
        let table = [
            ("coed = 1", "coed"),
            ("description = \"x\"", "`code` is missing"),
            ("code = \"a\"\nmanifest = \"b\"", "not both"),
            ("code = \"a\"\nlanguage = \"cobol\"", "cobol"),
            ("code = \"a\"\nweb = \"rwa\"", "web"),
        ];
        for (text, word) in table {
            let root = folder(&[("x/action.toml", text)]);
            let message = Folder::find(&root.path().join("x")).unwrap_err().message;
            let all = message.contains("x/action.toml") && message.contains(word);
            assert!(all, "{text}: {message}");
        }
    }

    #[test]
    fn the_body_has_what_the_file_says() {
        let text = "code = \"a.wat\"\nweb = \"raw\"\ndescription = \"d\"\n[bind]\nkey = 1\n[limits]\ntimeout = 5";
        let root = folder(&[("action.toml", text), ("a.wat", "(module)")]);
        let found = Folder::find(root.path()).unwrap();
        let body = found[0].action().unwrap();
        assert_eq!(body["parameters"], json!([{"key": "key", "value": 1}]));
        assert_eq!(body["limits"], json!({"timeout": 5}));
        let annotations = body["annotations"].as_array().unwrap();
        assert!(
            annotations.contains(&json!({"key": "raw-http", "value": true})),
            "{body}"
        );
        assert!(
            annotations.contains(&json!({"key": "description", "value": "d"})),
            "{body}"
        );
    }
}
