//! `wisp build`: an action's folder to the code that is uploaded, by the usual tool of its language.
//!
//! A language is what `action.toml` says, else what the files show. Its tool is looked for before it is started: when it is
//! missing, what to install is said. Tools write to standard error, so that standard output stays this program's own.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::json;

use super::Session;
use super::failure::{Failure, Result};
use super::folder::Folder;
use super::pack::pack;
use crate::config::Environment;

/// `wisp build …`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wisp build             the action in this folder
  wisp build functions   every action in the folders below

The folder's action.toml says what its code is called and, if need be, how it is built:
  code = \"hello.wasm\"
  build = \"make hello.wasm\"
JavaScript and Python are zipped: code = \"hello.zip\" makes one, code = \".\" does without a file.

Other tools than the usual are named by WISP_CARGO, WISP_CC and WISP_ZIG, each with its first arguments.")]
pub(super) struct Build {
    /// Folder of the action, or of folders of actions
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

impl Build {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        for folder in Folder::find(&self.folder)? {
            build(session, &folder)?;
            let Some(code) = folder.code() else {
                session.output.ok(&format!(
                    "{} has a manifest, and nothing to build",
                    folder.name
                ));
                continue;
            };
            let size = match code.is_dir() {
                true => u64::try_from(pack(&code)?.len()).unwrap_or(u64::MAX),
                false => std::fs::metadata(&code).map_or(0, |code| code.len()),
            };
            let shown = code.display().to_string();
            let what = json!({ "name": folder.name, "code": shown, "bytes": size });
            let text = format!("built {}: {shown}, {size} bytes", folder.name);
            session.output.done(&text, &what);
        }
        Ok(())
    }
}

/// Makes the folder's code, if anything is to be done for it.
pub(super) fn build(session: Session<'_>, folder: &Folder) -> Result<()> {
    let Some(code) = folder.code_in_folder() else {
        return Ok(());
    };
    let steps = match (&folder.build, language(folder)) {
        (Some(command), _) => vec![Step::shell(command)],
        (None, Some(language)) => language.steps(folder.path(), code, session.environment)?,
        (None, None) => Vec::new(),
    };
    for step in &steps {
        step.run(session, folder.path())
            .map_err(|f| f.while_trying(&format!("Unable to build {}", folder.name)))?;
    }
    if packs(folder) {
        let zip = pack(folder.path())?;
        let file = folder.path().join(code);
        std::fs::write(&file, zip).map_err(|error| {
            Failure::general(format!("cannot write '{}': {error}", file.display()))
        })?;
    }
    match folder.missing() {
        None => Ok(()),
        Some(code) if steps.is_empty() => {
            Err(Failure::general(format!("{} is not there", code.display()))
                .advise("Say in action.toml how it is made, with `language` or `build`."))
        }
        Some(code) => Err(Failure::general(format!(
            "{} was built, but there is no {}",
            folder.name,
            code.display()
        ))
        .advise("`code` in action.toml names the file that the build makes.")),
    }
}

/// Whether the folder's code is made by a build, and nobody's to write.
pub(super) fn makes_code(folder: &Folder) -> bool {
    let compiled = match language(folder) {
        Some(Language::JavaScript) => has_build_script(folder.path()),
        Some(Language::Python | Language::Wat) | None => false,
        Some(_) => true,
    };
    folder.code_in_folder().is_some() && (folder.build.is_some() || compiled || packs(folder))
}

/// Whether its code is the zip of its own files.
fn packs(folder: &Folder) -> bool {
    let code = folder.code_in_folder().and_then(Path::extension);
    let is_source = matches!(
        language(folder),
        Some(Language::JavaScript | Language::Python)
    );
    folder.build.is_none() && is_source && code.is_some_and(|extension| extension == "zip")
}

fn language(folder: &Folder) -> Option<Language> {
    match folder.is_file() {
        true => None,
        false => folder.language.or_else(|| Language::of(folder.path())),
    }
}

/// What an action is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub(super) enum Language {
    Rust,
    Go,
    C,
    AssemblyScript,
    Zig,
    JavaScript,
    Python,
    Wat,
}

/// One call of a tool.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    words: Vec<String>,
    environment: &'static [(&'static str, &'static str)],
    /// What to do when there is no such program.
    install: &'static str,
    /// What may be the matter when it fails.
    advice: &'static str,
}

impl Language {
    /// What the files of a folder show.
    fn of(folder: &Path) -> Option<Self> {
        let has = |name: &str| folder.join(name).exists();
        let table = [
            ("Cargo.toml", Self::Rust),
            ("go.mod", Self::Go),
            ("assembly", Self::AssemblyScript),
            ("package.json", Self::JavaScript),
            ("build.zig", Self::Zig),
            ("index.js", Self::JavaScript),
            ("index.mjs", Self::JavaScript),
            ("__main__.py", Self::Python),
        ];
        let found = table.iter().find(|(file, _)| has(file));
        found.map(|(_, language)| *language)
    }

    /// What is done to make `code` of what is in `folder`.
    fn steps(self, folder: &Path, code: &Path, environment: &Environment) -> Result<Vec<Step>> {
        let code = code.to_string_lossy();
        Ok(match self {
            Self::Rust => vec![rust(&code, environment)],
            Self::Go => vec![go(&code)],
            Self::C => vec![c(folder, &code, environment)?],
            Self::Zig => vec![zig(&code, environment)],
            Self::AssemblyScript => npm(folder),
            Self::JavaScript if has_build_script(folder) => npm(folder),
            Self::JavaScript if lacks_packages(folder) => vec![npm_step(
                "npm install --omit=dev --no-audit --no-fund --loglevel=error",
            )],
            Self::JavaScript | Self::Python | Self::Wat => Vec::new(),
        })
    }
}

fn rust(code: &str, environment: &Environment) -> Step {
    // Cargo puts what it makes for a target into a folder of its name.
    let target = code.split('/').find(|part| part.starts_with("wasm32-"));
    let target = target.unwrap_or("wasm32-wasip1");
    let mut words = environment.tool("WISP_CARGO", &["cargo"]);
    words.extend(["build", "--release", "--target", target].map(str::to_owned));
    Step {
        words,
        environment: &[],
        install: "Install Rust from https://rustup.rs, then: rustup target add wasm32-wasip1",
        advice: "If it cannot find `core` or `std`: rustup target add wasm32-wasip1, or what `--target` names above.",
    }
}

fn go(code: &str) -> Step {
    let words = [
        "go",
        "build",
        "-trimpath",
        "-ldflags=-s -w",
        "-buildmode=c-shared",
        "-o",
        code,
        ".",
    ];
    Step {
        words: words.map(str::to_owned).to_vec(),
        environment: &[("GOOS", "wasip1"), ("GOARCH", "wasm")],
        install: "Install Go 1.24 or later from https://go.dev/dl",
        advice: "Go 1.24 or later is needed: `go version` says what this is.",
    }
}

fn c(folder: &Path, code: &str, environment: &Environment) -> Result<Step> {
    let flags = [
        "--target=wasm32",
        "-Os",
        "-Wall",
        "-nostdlib",
        "-Wl,--no-entry",
        "-Wl,--strip-all",
        "-Wl,-z,stack-size=16384",
        "-o",
        code,
    ];
    let mut words = environment.tool("WISP_CC", &["clang"]);
    words.extend(flags.map(str::to_owned));
    words.extend(sources(folder, "c")?);
    Ok(Step {
        words,
        environment: &[],
        install: "Install clang and its linker lld; on Debian: apt install clang lld",
        advice: "If the linker is missing, install lld; another clang is named by WISP_CC.",
    })
}

fn zig(code: &str, environment: &Environment) -> Step {
    let flags = [
        "build-exe",
        "src/main.zig",
        "-target",
        "wasm32-freestanding",
        "-fno-entry",
        "-rdynamic",
        "-OReleaseSmall",
        "--stack",
        "65536",
    ];
    let mut words = environment.tool("WISP_ZIG", &["zig"]);
    words.extend(flags.map(str::to_owned));
    words.push(format!("-femit-bin={code}"));
    Step {
        words,
        environment: &[],
        install: "Install Zig from https://ziglang.org/download, or: pip install ziglang, and WISP_ZIG='python3 -m ziglang'",
        advice: "",
    }
}

/// The sources of a folder, in the order of their names.
fn sources(folder: &Path, extension: &str) -> Result<Vec<String>> {
    let unreadable = |error: std::io::Error| {
        Failure::general(format!("cannot read {}: {error}", folder.display()))
    };
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = PathBuf::from(entry.map_err(unreadable)?.file_name());
        if path.extension().is_some_and(|found| found == extension) {
            sources.push(path.to_string_lossy().into_owned());
        }
    }
    sources.sort();
    match sources.is_empty() {
        true => Err(Failure::general(format!(
            "there is no .{extension} file in {}",
            folder.display()
        ))),
        false => Ok(sources),
    }
}

/// What npm does: dependencies when they are not there, then the script `build`.
fn npm(folder: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    if !folder.join("node_modules").is_dir() {
        let words = "npm install --no-audit --no-fund --loglevel=error";
        steps.push(npm_step(words));
    }
    steps.push(npm_step("npm run build --silent"));
    steps
}

fn npm_step(words: &str) -> Step {
    Step {
        words: words.split(' ').map(str::to_owned).collect(),
        environment: &[],
        install: "Install Node.js, which brings npm, from https://nodejs.org",
        advice: "",
    }
}

/// Whether a `package.json` names packages and none are there.
fn lacks_packages(folder: &Path) -> bool {
    let text = std::fs::read(folder.join("package.json")).unwrap_or_default();
    let package = serde_json::from_slice::<serde_json::Value>(&text).unwrap_or_default();
    let wanted = package["dependencies"].as_object();
    wanted.is_some_and(|wanted| !wanted.is_empty()) && !folder.join("node_modules").is_dir()
}

/// Whether a `package.json` knows how to build; one that is no JSON is npm's to complain about.
fn has_build_script(folder: &Path) -> bool {
    let text = std::fs::read(folder.join("package.json")).unwrap_or_default();
    match serde_json::from_slice::<serde_json::Value>(&text) {
        Ok(package) => package["scripts"]["build"].is_string(),
        Err(_) => !text.is_empty(),
    }
}

impl Step {
    /// A line for the shell.
    fn shell(line: &str) -> Self {
        Self {
            words: ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
            environment: &[],
            install: "",
            advice: "",
        }
    }

    fn run(&self, session: Session<'_>, folder: &Path) -> Result<()> {
        let Some((program, arguments)) = self.words.split_first() else {
            return Err(Failure::usage("the command that builds it is empty"));
        };
        if session.globals.verbose || session.globals.debug {
            session.output.note(&self.words.join(" "));
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(self.environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()));
        let failed = |why: String| Failure::general(why).advise(self.advice);
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!(
                "`{}` failed with {status}",
                self.words.join(" ")
            ))),
            Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_dir() => Err(
                Failure::general(format!("there is no folder {}", folder.display())),
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::general(format!(
                "{program} is needed and is not installed"
            ))
            .advise(self.install)),
            Err(error) => Err(failed(format!("{program} cannot be started: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(language: Language, files: &[(&str, &str)], code: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let environment = Environment::of([("WISP_CC", "clang-22 -v")]);
        let steps = language
            .steps(folder.path(), Path::new(code), &environment)
            .unwrap();
        steps.iter().map(|step| step.words.join(" ")).collect()
    }

    #[test]
    fn tools_are_called_as_by_hand() {
        let rust = steps(Language::Rust, &[], "target/wasm32-wasip2/release/a.wasm");
        assert_eq!(rust, ["cargo build --release --target wasm32-wasip2"]);
        let c = steps(
            Language::C,
            &[("b.c", ""), ("a.c", ""), ("a.h", "")],
            "x.wasm",
        );
        assert!(c[0].starts_with("clang-22 -v --target=wasm32 "), "{c:?}");
        assert!(c[0].ends_with("-o x.wasm a.c b.c"), "{c:?}");
        let script = [("package.json", "{\"scripts\": {\"build\": \"x\"}}")];
        let bundled = steps(Language::JavaScript, &script, "x.js");
        assert_eq!(bundled[1], "npm run build --silent");
        let plain = [("package.json", "{}")];
        assert!(steps(Language::JavaScript, &plain, "x.js").is_empty());
    }

    #[test]
    fn a_c_action_without_a_source_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let failure = sources(folder.path(), "c").unwrap_err();
        assert!(
            failure.message.contains("there is no .c file"),
            "{failure:?}"
        );
    }
}
