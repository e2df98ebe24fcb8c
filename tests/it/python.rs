//! Python as its users meet it: source and zips are uploaded and called over the wire; what cannot become an action is
//! refused with its own words. Packages come from `PyPI` when the tests run.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Reply, Tenant, shared, zip};

/// Uploads source; the reply.
fn put(tenant: &Tenant, name: &str, exec: Value, limits: Value) -> Reply {
    let mut body = json!({ "exec": exec, "limits": limits });
    body["exec"]["kind"] = json!("python:default");
    tenant.put(&format!("actions/{name}?overwrite=true"), &body)
}

/// Uploads source that must be taken. Calls may take a while where tests do.
#[track_caller]
fn deploy(tenant: &Tenant, name: &str, code: &str) {
    let limits = json!({ "timeout": 60_000 });
    put(tenant, name, json!({ "code": code }), limits).expect(200);
}

/// Uploads files that must be taken.
#[track_caller]
fn deploy_zip(tenant: &Tenant, name: &str, files: &[(&str, &[u8])]) {
    let exec = json!({ "code": zip(files), "binary": true });
    put(tenant, name, exec, json!({ "timeout": 60_000 })).expect(200);
}

/// What the uploader of `exec` is told.
#[track_caller]
fn refusal(tenant: &Tenant, exec: Value) -> String {
    let reply = put(tenant, "refused", exec, json!({}));
    assert_eq!(reply.status, 400, "{}", reply.shown());
    reply.json()["error"].as_str().unwrap().to_owned()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// The record of a blocking call, with its log as one text without the times.
#[track_caller]
fn call(tenant: &Tenant, name: &str, params: &Value) -> (Value, String) {
    let id = tenant.fire(name, params);
    let record = tenant.awaited(&id);
    let line = |line: &Value| {
        let line = line.as_str().unwrap();
        line.split_once("Z ")
            .map_or(line, |(_, text)| text)
            .to_owned()
    };
    let logs = record["logs"].as_array().unwrap();
    let log: Vec<String> = logs.iter().map(line).collect();
    (record["response"].clone(), log.join("\n"))
}

const CASES: &str = include_str!("../fixtures/python/cases.py");

#[test]
fn source_in_python_is_called_like_any_action() {
    let tenant = shared().tenant();
    deploy(&tenant, "cases", CASES);
    let ask = |what: &str| call(&tenant, "cases", &json!({ "do": what, "name": "Wörld ☃" }));

    let (response, log) = ask("greet");
    assert_eq!(response["result"], json!({ "greeting": "Hello Wörld ☃!" }));
    assert_eq!(response["status"], "success");
    has(
        &log,
        &[
            "stdout: greeting",
            "stderr: WARNING:root:logged",
            "without its line's end",
        ],
    );

    let (response, log) = ask("raise");
    assert_eq!(response["result"], json!({ "error": "no such luck" }));
    assert_eq!(response["status"], "application error");
    has(
        &log,
        &[
            "Traceback (most recent call last)",
            "__main__.py\", line ",
            "raise LookupError(\"no such luck\")",
        ],
    );
    assert!(!log.contains("<wisp>"), "{log}");

    assert_eq!(ask("async").0["result"], json!({ "values": [1, 2, 3] }));
    assert_eq!(ask("list").0["result"], json!([1, 2]));
}

#[test]
fn what_fails_in_python_says_why() {
    let tenant = shared().tenant();
    deploy(&tenant, "cases", CASES);
    for (what, status, text) in [
        ("stuck", "application error", "can no longer happen"),
        (
            "recursion",
            "application error",
            "maximum recursion depth exceeded",
        ),
        ("nested", "application error", "nested too deeply"),
        ("huge", "application error", "exceeded the allowed length"),
        ("set", "application error", "not JSON: Object of type set"),
        ("nan", "application error", "not JSON: Out of range float"),
        ("cycle", "application error", "not JSON: Circular reference"),
        (
            "text",
            "action developer error",
            "did not produce a valid JSON",
        ),
        ("exit", "action developer error", "exited"),
        ("thread", "application error", "can't start new thread"),
    ] {
        let (response, _) = call(&tenant, "cases", &json!({ "do": what }));
        has(&response.to_string(), &[status, text]);
    }
}

#[test]
fn the_library_of_python_is_there() {
    let tenant = shared().tenant();
    deploy(&tenant, "cases", CASES);
    let ask = |what: &str| call(&tenant, "cases", &json!({ "do": what, "name": "Wörld ☃" }));
    assert_eq!(ask("library").0["result"], json!({ "missing": [] }));
    let (http, log) = ask("http");
    let http = &http["result"];
    assert_eq!(http["info"], "OpenWhisk API", "{http} {log}");
    assert_eq!(http["posted"], 404, "{http}");
    assert_eq!(http["unauthorised"], json!([401, true, true]), "{http}");
    has(
        http["refused"].as_str().unwrap(),
        &["URLError", "169.254.169.254"],
    );
    assert_eq!(
        ask("values").0["result"],
        json!({
            "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "hmac": "9307b3b915efb5171ff14d8cb55fbcc798c6c0ef1456d66ded1a6aa723a58b7b",
            "berlin": "2024-07-01T12:00:00+02:00",
            "decimal": "0.3",
            "base64": "aGVsbG8=",
            "regex": ["a1", "b2"],
            "zlib": true,
            "file": "kept",
            "name": "main__",
        })
    );
}

#[test]
fn what_a_python_instance_finds_is_its_own_and_of_now() {
    let tenant = shared().tenant();
    let fresh = || {
        // A new revision is loaded into a new instance.
        deploy(&tenant, "own", CASES);
        let (response, _) = call(&tenant, "own", &json!({ "do": "random" }));
        response["result"].clone()
    };
    let (one, other) = (fresh(), fresh());
    for name in [
        "at_load",
        "random",
        "uuid",
        "urandom",
        "secret",
        "shuffled",
        "hash",
        "hash_of_bytes",
        "order",
        "temporary",
        "time",
        "activation",
    ] {
        assert_ne!(one[name], other[name], "{name}");
        assert!(!one[name].is_null(), "{name}");
    }
    assert_eq!((&one["calls"], &one["found"]), (&json!(1), &json!(true)));
    let again = call(&tenant, "own", &json!({ "do": "random" })).0["result"].clone();
    assert_eq!(again["calls"], 2, "a warm instance keeps its state");
    assert_ne!(again["activation"], other["activation"]);
    assert_eq!(again["namespace"], tenant.namespace);

    let limits = json!({ "timeout": 1000, "memory": 128 });
    put(&tenant, "limited", json!({ "code": CASES }), limits).expect(200);
    let (response, _) = call(&tenant, "limited", &json!({ "do": "loop" }));
    has(
        &response.to_string(),
        &["exceeded its time limits of 1000 milliseconds"],
    );
    let limits = json!({ "timeout": 60_000, "memory": 128 });
    put(&tenant, "limited", json!({ "code": CASES }), limits).expect(200);
    let (response, _) = call(&tenant, "limited", &json!({ "do": "memory" }));
    has(&response.to_string(), &["exhausted its memory"]);
}

#[test]
fn a_protocol_in_which_the_server_speaks_first_is_refused_by_name() {
    let tenant = shared().tenant();
    let code = "import ftplib\nftplib.FTP('127.0.0.1')\ndef main(a): return a\n";
    let body = json!({ "exec": { "kind": "python:3", "code": code } });
    let text = tenant.put("actions/refused", &body).expect(400).error();
    let part = "a protocol in which the server speaks first is not available";
    assert!(text.contains(part), "{text}");
}

#[test]
fn python_that_cannot_become_an_action_is_refused_with_its_own_words() {
    let tenant = shared().tenant();
    let source = |code: &str| refusal(&tenant, json!({ "code": code }));
    let files =
        |files: &[(&str, &[u8])]| refusal(&tenant, json!({ "code": zip(files), "binary": true }));

    has(
        &source("def main(args):\n    return {'a' 1}\n"),
        &["line 2", "SyntaxError", "^"],
    );
    has(
        &source("def main(args):\n\treturn {}\n        pass\n"),
        &["line 3", "TabError"],
    );
    has(
        &source("def boom():\n    raise ValueError('no luck')\nboom()\n"),
        &[
            "line 3, in <module>",
            "line 2, in boom",
            "ValueError: no luck",
        ],
    );
    has(
        &source("import numpy_of_mine\ndef main(a): return a\n"),
        &[
            "No module named 'numpy_of_mine'",
            "come along in the action's zip",
        ],
    );
    has(
        &source("import sqlite3\ndef main(a): return a\n"),
        &["No module named 'sqlite3': there are no files but"],
    );
    has(
        &source("def handler(args): return args\n"),
        &["no function `main`"],
    );
    has(&source("main = 5\n"), &["`main`", "no function", "int"]);
    has(&source("import sys\nsys.exit(3)\n"), &["ended itself", "3"]);
    has(
        &refusal(
            &tenant,
            json!({ "code": "def main(a): return a", "main": "other" }),
        ),
        &["no function `other`"],
    );

    has(
        &files(&[("app.py", b"def main(a): return a")]),
        &["__main__.py", "app.py"],
    );
    has(
        &files(&[
            ("__main__.py", b"import helper\n"),
            ("helper.py", b"x = \n"),
        ]),
        &["helper.py", "line 1", "SyntaxError"],
    );
    has(
        &files(&[
            ("__main__.py", b"import fast.core\ndef main(a): return a"),
            ("fast/__init__.py", b""),
            ("fast/core.cpython-313-x86_64-linux-gnu.so", b"\x7fELF"),
        ]),
        &[
            "fast.core",
            "C extension",
            "fast/core.cpython-313-x86_64-linux-gnu.so",
        ],
    );
}

#[test]
fn a_zip_brings_its_own_modules_and_files() {
    let tenant = shared().tenant();
    let main = b"import os, queue, deep.er, space.inner.leaf, lazy_c\nfrom vendored import V\n\
        import importlib.resources, pkgutil\n\
        def entry(args):\n    return {'queue': queue.mine, 'deep': deep.er.value, 'leaf': space.inner.leaf.value, 'v': V,\n\
        \x20       'open': open(os.path.join(os.path.dirname(__file__), 'data', 'a.txt')).read(),\n\
        \x20       'resource': importlib.resources.files('deep').joinpath('r.txt').read_text(),\n\
        \x20       'pkgutil': pkgutil.get_data('deep', 'r.txt').decode(), 'c': lazy_c.kind}\n";
    let files: &[(&str, &[u8])] = &[
        ("__main__.py", main),
        ("queue.py", b"mine = 'mine, not the library\\'s'"),
        ("deep/__init__.py", b"from . import er"),
        (
            "deep/er.py",
            b"from . import __name__ as above\nvalue = above + '!'",
        ),
        ("deep/r.txt", b"a resource"),
        ("space/inner/leaf.py", b"value = __name__"),
        ("data/a.txt", b"a file"),
        ("broken_template.py", b"{{ not python }}"),
        (
            "lazy_c.py",
            b"try:\n    from _lazy_c import kind\nexcept ImportError:\n    kind = 'python'",
        ),
        ("_lazy_c.so", b"\x7fELF"),
        (
            "virtualenv/bin/activate_this.py",
            b"raise Exception('never run')",
        ),
        (
            "virtualenv/lib/python3.11/site-packages/vendored/__init__.py",
            b"V = 'from the virtualenv'",
        ),
        (
            "virtualenv/lib/python3.11/site-packages/pip/__init__.py",
            b"raise Exception('left out')",
        ),
    ];
    let exec = json!({ "code": zip(files), "binary": true, "main": "entry" });
    put(&tenant, "zipped", exec, json!({ "timeout": 60_000 })).expect(200);
    let expected = json!({
        "queue": "mine, not the library's", "deep": "deep!", "leaf": "space.inner.leaf", "v": "from the virtualenv",
        "open": "a file", "resource": "a resource", "pkgutil": "a resource", "c": "python",
    });
    assert_eq!(call(&tenant, "zipped", &json!({})).0["result"], expected);
}

/// What `PyPI` has, as a zip of it would hold it. Some of these wheels carry C extensions beside their Python.
fn from_pypi(packages: &[&str]) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
        "--target",
    ]);
    pip.arg(folder.path()).args(packages);
    let done = pip
        .output()
        .expect("python3 with pip, which tests/run installs");
    assert!(
        done.status.success(),
        "pip: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let mut files = Vec::new();
    gather(folder.path(), folder.path(), &mut files);
    files
}

fn gather(root: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            files.push((name.to_owned(), fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn packages_of_pypi_work_from_a_zip() {
    let tenant = shared().tenant();
    let mut files = from_pypi(&[
        "jinja2==3.1.6",
        "PyYAML==6.0.3",
        "attrs==25.3.0",
        "python-dateutil==2.9.0.post0",
    ]);
    let main = include_bytes!("../fixtures/python/packages.py");
    files.push(("__main__.py".to_owned(), main.to_vec()));
    files.push((
        "templates/hello.txt".to_owned(),
        b"Hello {{ name|upper }}{% for n in numbers %} {{ n }}{% endfor %}".to_vec(),
    ));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    deploy_zip(&tenant, "packages", &files);
    let (response, log) = call(&tenant, "packages", &json!({ "name": "ada" }));
    let expected = json!({
        "jinja2": "Hello ADA 1 2 3",
        "version": "3.1.6",
        "yaml": { "a": [1, { "b": null }], "c": "2024-02-29" },
        "dumped": "x:\n- 1\n- y\n",
        "attrs": "Point(x=1, y=2)",
        "validated": "'x' must be <class 'int'> (got 'one' that is a <class 'str'>).",
        "dateutil": "2024-02-29T00:00:00",
        "parsed": "2003-09-25T10:49:41-03:00",
        "zone": "2024-07-01T12:00:00+02:00",
    });
    assert_eq!(response["result"], expected, "{log}");
}
