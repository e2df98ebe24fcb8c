//! `wisp new`: a folder with an action that builds, runs and can be changed.
//!
//! What is written is in `runtimes/LANGUAGE/template`, and with it the SDK's own sources, since no registry has them: a
//! project is complete, and builds without this repository.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Session;
use super::build::Language;
use super::failure::{Failure, Result};

/// Longest name: a folder's, a crate's and an action's at once.
const NAME_CHARS_MAX: usize = 64;

/// `wisp new …`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wisp new                      which languages there are
  wisp new rust hello           an action in ./hello
  wisp new go services/hello    an action called hello")]
pub(super) struct New {
    /// The language; all are listed when it is left out
    language: Option<Language>,
    /// Folder to make; its last part is the action's name
    #[arg(requires = "language")]
    folder: Option<PathBuf>,
}

/// What a language's action begins with.
struct Template {
    language: Language,
    name: &'static str,
    about: &'static str,
    /// Paths and texts; `{{name}}` stands for the action's name in both.
    files: &'static [(&'static str, &'static str)],
}

/// The text of a file below `runtimes/`.
macro_rules! runtimes {
    ($path:literal) => {
        include_str!(concat!("../../runtimes/", $path))
    };
}

const TEMPLATES: [Template; 8] = [
    Template {
        language: Language::Rust,
        name: "rust",
        about: "serde types, an attribute, the whole of crates.io",
        files: &[
            ("Cargo.toml", runtimes!("rust/template/Cargo.toml")),
            ("src/lib.rs", runtimes!("rust/template/src/lib.rs")),
            ("action.toml", runtimes!("rust/template/action.toml")),
            ("README.md", runtimes!("rust/template/README.md")),
            (".gitignore", runtimes!("rust/template/gitignore")),
            ("sdk/Cargo.toml", runtimes!("rust/Cargo.toml")),
            ("sdk/README.md", runtimes!("rust/README.md")),
            ("sdk/src/lib.rs", runtimes!("rust/src/lib.rs")),
            ("sdk/src/abi.rs", runtimes!("rust/src/abi.rs")),
            ("sdk/src/context.rs", runtimes!("rust/src/context.rs")),
            ("sdk/src/error.rs", runtimes!("rust/src/error.rs")),
            ("sdk/src/web.rs", runtimes!("rust/src/web.rs")),
            ("sdk/macros/Cargo.toml", runtimes!("rust/macros/Cargo.toml")),
            ("sdk/macros/src/lib.rs", runtimes!("rust/macros/src/lib.rs")),
        ],
    },
    Template {
        language: Language::Go,
        name: "go",
        about: "the usual compiler; instances stay warm",
        files: &[
            ("go.mod", runtimes!("go/template/go.mod.in")),
            ("main.go", runtimes!("go/template/main.go.in")),
            ("action.toml", runtimes!("go/template/action.toml")),
            ("README.md", runtimes!("go/template/README.md")),
            (".gitignore", runtimes!("go/template/gitignore")),
            ("wisp/go.mod", runtimes!("go/go.mod")),
            ("wisp/wisp.go", runtimes!("go/wisp.go")),
            ("wisp/reactor.go", runtimes!("go/reactor.go")),
            ("wisp/command.go", runtimes!("go/command.go")),
        ],
    },
    Template {
        language: Language::C,
        name: "c",
        about: "one header and clang: some kilobytes",
        files: &[
            ("action.c", runtimes!("c/template/action.c")),
            ("wisp.h", runtimes!("c/wisp.h")),
            ("action.toml", runtimes!("c/template/action.toml")),
            ("README.md", runtimes!("c/template/README.md")),
            (".gitignore", runtimes!("c/template/gitignore")),
        ],
    },
    Template {
        language: Language::AssemblyScript,
        name: "assemblyscript",
        about: "TypeScript's syntax, compiled; some kilobytes",
        files: &[
            (
                "assembly/index.ts",
                runtimes!("assemblyscript/template/index.ts"),
            ),
            (
                "assembly/wisp.ts",
                runtimes!("assemblyscript/assembly/wisp.ts"),
            ),
            (
                "assembly/json.ts",
                runtimes!("assemblyscript/assembly/json.ts"),
            ),
            (
                "package.json",
                runtimes!("assemblyscript/template/package.json"),
            ),
            (
                "action.toml",
                runtimes!("assemblyscript/template/action.toml"),
            ),
            ("README.md", runtimes!("assemblyscript/template/README.md")),
            (".gitignore", runtimes!("assemblyscript/template/gitignore")),
        ],
    },
    Template {
        language: Language::Zig,
        name: "zig",
        about: "one file and the zig compiler",
        files: &[
            ("src/main.zig", runtimes!("zig/template/src/main.zig")),
            ("src/wisp.zig", runtimes!("zig/wisp.zig")),
            ("action.toml", runtimes!("zig/template/action.toml")),
            ("README.md", runtimes!("zig/template/README.md")),
            (".gitignore", runtimes!("zig/template/gitignore")),
        ],
    },
    Template {
        language: Language::JavaScript,
        name: "javascript",
        about: "a file, uploaded as it is",
        files: &[
            ("index.js", runtimes!("javascript/template/index.js")),
            ("action.toml", runtimes!("javascript/template/action.toml")),
            ("README.md", runtimes!("javascript/template/README.md")),
        ],
    },
    Template {
        language: Language::Python,
        name: "python",
        about: "a file, uploaded as it is",
        files: &[
            ("action.py", runtimes!("python/template/action.py")),
            ("action.toml", runtimes!("python/template/action.toml")),
            ("README.md", runtimes!("python/template/README.md")),
        ],
    },
    Template {
        language: Language::Wat,
        name: "wat",
        about: "WebAssembly by hand: the ABI on one page",
        files: &[
            ("action.wat", runtimes!("wat/template/action.wat")),
            ("action.toml", runtimes!("wat/template/action.toml")),
            ("README.md", runtimes!("wat/template/README.md")),
        ],
    },
];

impl New {
    pub(super) fn run(&self, session: Session<'_>) -> Result<()> {
        let Some(language) = self.language else {
            list(session);
            return Ok(());
        };
        let template = TEMPLATES
            .iter()
            .find(|template| template.language == language);
        let template =
            template.ok_or_else(|| Failure::general("there is no template for this language"))?;
        let Some(folder) = &self.folder else {
            let failure = Failure::usage("a name is needed");
            return Err(failure.advise(format!("Example: wisp new {} hello", template.name)));
        };
        let name = name_of(folder)?;
        template.write(folder, name)?;
        let shown = folder.display();
        let what = json!({ "language": template.name, "name": name, "folder": shown.to_string() });
        session.output.done(&format!("made {shown}"), &what);
        session
            .output
            .line(&format!("\n  cd {shown}\n  wisp dev\n"));
        Ok(())
    }
}

fn list(session: Session<'_>) {
    let output = session.output;
    if output.json {
        let names = TEMPLATES.iter().map(|template| template.name);
        return output.value(&names.collect());
    }
    let rows = TEMPLATES.iter();
    let rows = rows.map(|template| [template.name.to_owned(), template.about.to_owned()]);
    output.table(["language", ""], &rows.collect::<Vec<_>>());
    output.line("\nwisp new LANGUAGE NAME makes a folder with an action in it.");
}

/// The action's name: one that a folder, a crate, a module and an action may have.
fn name_of(folder: &Path) -> Result<&str> {
    let name = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(letters)
        && name.len() <= NAME_CHARS_MAX;
    match fits {
        true => Ok(name),
        false => Err(Failure::usage(format!("'{name}' is no name for an action"))
            .advise("Lower-case letters, digits, - and _, a letter first, at most 64.")),
    }
}

impl Template {
    /// Writes everything into a folder that must not be there yet, or be empty.
    fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let bad = |path: &Path, error: std::io::Error| {
            Failure::general(format!("cannot write {}: {error}", path.display()))
        };
        match std::fs::read_dir(folder).map(Iterator::count) {
            Ok(0) => {}
            Ok(_) => {
                let failure =
                    Failure::general(format!("{} is there and not empty", folder.display()));
                return Err(failure.advise("Nothing was written. Choose another name."));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(bad(folder, error)),
        }
        for (path, text) in self.files {
            let path = folder.join(filled(path, name));
            let parent = path.parent().unwrap_or(folder);
            std::fs::create_dir_all(parent).map_err(|error| bad(parent, error))?;
            std::fs::write(&path, filled(text, name)).map_err(|error| bad(&path, error))?;
        }
        Ok(())
    }
}

/// A template's text with the action's name; `{{module}}` is how a compiler spells it.
fn filled(text: &str, name: &str) -> String {
    text.replace("{{name}}", name)
        .replace("{{module}}", &name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::cli::folder::Folder;

    #[test]
    fn every_language_has_a_template_that_is_a_project() {
        for language in Language::value_variants() {
            let root = tempfile::tempdir().unwrap();
            let template = TEMPLATES
                .iter()
                .find(|template| template.language == *language);
            let template = template.unwrap_or_else(|| panic!("{language:?} has none"));
            let spelt = language.to_possible_value().unwrap();
            assert_eq!(spelt.get_name(), template.name);
            let folder = root.path().join("my-action");
            template.write(&folder, "my-action").unwrap();
            let found = &Folder::find(&folder).unwrap()[0];
            assert_eq!(
                (found.name.as_str(), found.language),
                ("my-action", Some(*language))
            );
            for (path, _) in template.files {
                let text = std::fs::read_to_string(folder.join(filled(path, "my-action")));
                let text = text.unwrap();
                assert!(
                    !text.contains("{{name}}") && !text.contains("{{module}}"),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("mine"), "precious").unwrap();
        let failure = TEMPLATES[0].write(root.path(), "x").unwrap_err();
        assert!(failure.message.contains("not empty"), "{failure:?}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_must_do_for_everything_they_name() {
        for good in ["a", "hello-2_x", "sub/dir/hello"] {
            assert!(name_of(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "..", "Hello", "2x", "a b", "é", "a/", "-a"] {
            let fails = name_of(Path::new(bad)).is_err();
            assert!(fails || bad == "a/", "{bad}");
        }
    }
}
