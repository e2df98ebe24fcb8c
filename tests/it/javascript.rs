//! JavaScript: what programs find, and what becomes of those that go wrong.

use serde_json::{Value, json};

use crate::harness::{Reply, Tenant, shared, zip};

/// Uploads a program of one file.
#[track_caller]
fn put(tenant: &Tenant, name: &str, code: &str) {
    let body = json!({ "exec": { "kind": "nodejs:20", "code": code } });
    tenant
        .put(&format!("actions/{name}?overwrite=true"), &body)
        .expect(200);
}

/// What a program of one file answers.
#[track_caller]
fn answer(tenant: &Tenant, code: &str, params: &Value) -> Value {
    put(tenant, "asked", code);
    tenant.result("asked", params).expect(200).json()
}

#[track_caller]
fn zipped(tenant: &Tenant, files: &[(&str, &str)], main: Option<&str>) -> Reply {
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()))
        .collect();
    let body = json!({ "exec": { "kind": "nodejs:20", "code": zip(&files), "binary": true, "main": main } });
    tenant.put("actions/zipped?overwrite=true", &body)
}

/// The words of a refused upload.
#[track_caller]
fn refused(tenant: &Tenant, code: &str) -> String {
    let body = json!({ "exec": { "kind": "nodejs:20", "code": code } });
    tenant.put("actions/refused", &body).expect(400).error()
}

/// Status and result of a call that did not succeed.
#[track_caller]
fn failure(tenant: &Tenant, code: &str) -> (String, Value) {
    put(tenant, "fails", code);
    let record = tenant.invoke("fails", &json!({})).expect(502).json();
    let status = record["response"]["status"].as_str().expect("a status");
    (
        status.to_owned(),
        record["response"]["result"]["error"].clone(),
    )
}

#[test]
fn results_are_json_whatever_the_program_returns() {
    let tenant = shared().tenant();
    let rows = [
        ("function main() {}", json!({})),
        (
            "function main() { return [1, { a: null }]; }",
            json!([1, { "a": null }]),
        ),
        (
            "const main = async (p) => ({ p });",
            json!({ "p": { "x": "é€😀" } }),
        ),
        (
            "exports.main = (p) => ({ then: undefined, x: p.x });",
            json!({ "x": "é€😀" }),
        ),
        (
            "function main() { return { d: new Date(0), u: undefined, n: NaN }; }",
            json!({ "d": "1970-01-01T00:00:00.000Z", "n": null }),
        ),
        (
            "function main() { return new Promise((ok) => setTimeout(() => ok({ late: true }), 5)); }",
            json!({ "late": true }),
        ),
        (
            "function main() { return { then(ok) { ok({ thenable: 1 }); } }; }",
            json!({ "thenable": 1 }),
        ),
        (
            "export function main(p) { return { module: p.x }; }",
            json!({ "module": "é€😀" }),
        ),
        (
            "const x = await Promise.resolve(5); export default () => ({ x });",
            json!({ "x": 5 }),
        ),
    ];
    for (code, expected) in rows {
        assert_eq!(
            answer(&tenant, code, &json!({ "x": "é€😀" })),
            expected,
            "{code}"
        );
    }
}

#[test]
fn what_json_cannot_hold_is_an_error_with_words() {
    let tenant = shared().tenant();
    let rows = [
        (
            "function main() { const a = {}; a.a = a; return a; }",
            "cannot be turned into JSON",
        ),
        (
            "function main() { return { a: 1n }; }",
            "cannot be turned into JSON",
        ),
        (
            "function main() { return () => 1; }",
            "did not return a dictionary or array",
        ),
        (
            "function main() { return 'text'; }",
            "did not produce a valid JSON",
        ),
        (
            "function main() { return null; }",
            "did not produce a valid JSON",
        ),
        (
            "function main() { return new Promise(() => {}); }",
            "never finished",
        ),
        (
            "async function main() { await new Promise(() => {}); }",
            "never finished",
        ),
        (
            "function main() { return { a: 'x'.repeat(2e6) }; }",
            "exceeded the allowed length",
        ),
        (
            "function main() { let o = {}; const top = o; for (let i = 0; i < 1e5; i++) o = o.a = {}; return top; }",
            "cannot be turned into JSON",
        ),
    ];
    for (code, part) in rows {
        let (_, error) = failure(&tenant, code);
        assert!(
            error.as_str().is_some_and(|text| text.contains(part)),
            "{code}: {error}"
        );
    }
}

#[test]
fn errors_of_the_program_are_its_answer_and_their_stack_is_in_the_log() {
    let tenant = shared().tenant();
    let (status, error) = failure(
        &tenant,
        "function main() {\n  throw new TypeError('boom');\n}",
    );
    assert_eq!(
        (status.as_str(), error),
        (
            "application error",
            json!("An error has occurred: TypeError: boom")
        )
    );
    let (_, error) = failure(
        &tenant,
        "async function main() { throw Object.assign(new Error('boom'), { code: 7 }); }",
    );
    assert_eq!(
        (&error["message"], &error["code"]),
        (&json!("boom"), &json!(7))
    );
    let (_, error) = failure(
        &tenant,
        "const main = () => Promise.reject({ statusCode: 404 });",
    );
    assert_eq!(error, json!({ "statusCode": 404 }));
    let (_, error) = failure(&tenant, "const main = () => Promise.reject();");
    assert_eq!(error, json!({}));

    put(
        &tenant,
        "logs",
        "function main() {\n  throw new TypeError('boom');\n}",
    );
    let record = tenant.invoke("logs", &json!({})).expect(502).json();
    let logs = tenant.awaited(record["activationId"].as_str().unwrap())["logs"].to_string();
    assert!(logs.contains("stderr: TypeError: boom"), "{logs}");
    assert!(logs.contains("at main (/action/index.js:2:"), "{logs}");
    let text = refused(
        &tenant,
        "throw new Error('outer', { cause: new TypeError('inner') }); function main() {}",
    );
    assert!(text.contains("[cause]: TypeError: inner"), "{text}");
    // What is put around a file counts for nothing.
    let text = refused(&tenant, "null.x; function main() {}");
    assert!(text.contains("(/action/index.js:1:1)"), "{text}");
}

#[test]
fn the_log_of_a_result_that_is_no_object_shows_its_beginning() {
    let tenant = shared().tenant();
    failure(&tenant, "function main() { return 'x'.repeat(100000); }");
    let record = tenant.invoke("fails", &json!({})).expect(502).json();
    let logs = tenant.awaited(record["activationId"].as_str().unwrap())["logs"].to_string();
    assert!(logs.contains("has type \\\"string\\\": 'xxx"), "{logs}");
    assert!(logs.len() < 1000, "{} bytes", logs.len());
}

#[test]
fn what_nobody_catches_ends_the_instance_and_the_next_call_has_a_fresh_one() {
    let tenant = shared().tenant();
    let rows = [
        "new Promise(() => setTimeout(() => { throw new Error('in a timer'); }, 1))",
        "(Promise.reject(new Error('nobody listens')), {})",
        "process.exit(3)",
        "process.abort()",
    ];
    for row in rows {
        let code = format!(
            "let runs = 0; function main(p) {{ runs++; if (p.fine) return {{ runs }}; return {row}; }}"
        );
        put(&tenant, "ends", &code);
        let record = tenant.invoke("ends", &json!({})).expect(502).json();
        assert_eq!(
            record["response"]["status"], "action developer error",
            "{row}"
        );
        let next = tenant
            .result("ends", &json!({ "fine": true }))
            .expect(200)
            .json();
        assert_eq!(next, json!({ "runs": 1 }), "{row}");
    }
}

#[test]
fn recursion_goes_as_deep_as_programs_go() {
    let tenant = shared().tenant();
    let code = "let runs = 0;
        const sum = n => n ? n + sum(n - 1) : 0;
        const nest = n => n ? [nest(n - 1)] : [];
        class Node { constructor(n) { this.next = n ? new Node(n - 1) : null; } depth() { return this.next ? 1 + this.next.depth() : 0; } }
        function main() {
          runs++;
          return { runs, sum: sum(3000), nest: JSON.stringify(nest(500)).length, depth: new Node(1000).depth() };
        }";
    put(&tenant, "deep", code);
    for runs in 1..=3 {
        let found = tenant.result("deep", &json!({})).expect(200).json();
        let expected = json!({ "runs": runs, "sum": 4_501_500, "nest": 1002, "depth": 1000 });
        assert_eq!(found, expected);
    }
}

#[test]
fn deep_recursion_is_a_range_error_and_the_instance_lives_on() {
    let tenant = shared().tenant();
    let rows = [
        "const f = (n) => f(n + 1) + 1; f(0)",
        "class A { constructor() { new A(); } } new A()",
        "const o = { get x() { return this.x; } }; o.x",
        "JSON.parse('['.repeat(100000))",
        "const f = () => 'a'.replace(/a/, f); f()",
        "const f = () => [2, 1].sort(f); f()",
        "const a = []; let c = a; for (let i = 0; i < 50000; i++) { const n = []; c.push(n); c = n; } String(a)",
        "eval('('.repeat(50000))",
        "eval('['.repeat(50000))",
        "eval('{'.repeat(50000))",
        "new RegExp('('.repeat(50000) + ')'.repeat(50000))",
        "const f = async () => { await f(); }; throw new RangeError()",
    ];
    for row in rows {
        let code = format!(
            "let runs = 0; function main() {{ runs++; try {{ {row}; }} catch (e) {{ return {{ runs, range: e instanceof RangeError || e instanceof SyntaxError }}; }} return {{ runs }}; }}"
        );
        put(&tenant, "deep", &code);
        for runs in 1..=2 {
            let found = tenant.result("deep", &json!({})).expect(200).json();
            assert_eq!(found, json!({ "runs": runs, "range": true }), "{row}");
        }
    }
}

#[test]
fn a_program_that_takes_all_memory_is_told_or_ended_and_nobody_else_notices() {
    let tenant = shared().tenant();
    put(
        &tenant,
        "bomb",
        "function main() { const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1)); }",
    );
    tenant.invoke("bomb", &json!({})).expect(502);
    put(
        &tenant,
        "text",
        "function main() { let s = 'x'; for (;;) s += s; }",
    );
    tenant.invoke("text", &json!({})).expect(502);
    assert_eq!(
        answer(
            &tenant,
            "function main() { return { fine: true }; }",
            &json!({})
        ),
        json!({ "fine": true })
    );
}

#[test]
fn loops_end_with_the_actions_time() {
    let tenant = shared().tenant();
    for code in [
        "function main() { for (;;); }",
        "async function main() { for (;;) await null; }",
        "function main() { return new Promise(() => setInterval(() => {}, 1)); }",
        "function main() { return new Promise(() => { const next = () => setImmediate(next); next(); }); }",
    ] {
        let body =
            json!({ "exec": { "kind": "nodejs:20", "code": code }, "limits": { "timeout": 200 } });
        tenant
            .put("actions/loops?overwrite=true", &body)
            .expect(200);
        let record = tenant.invoke("loops", &json!({})).expect(502).json();
        let error = record["response"]["result"]["error"]
            .as_str()
            .expect("a text")
            .to_owned();
        assert!(
            error.contains("exceeded its time limits"),
            "{code}: {error}"
        );
    }
}

#[test]
fn uploads_are_refused_with_the_file_and_the_line() {
    let tenant = shared().tenant();
    let rows: [(&str, &[&str]); 9] = [
        (
            "function main() {\n  let x = ;\n}",
            &["SyntaxError", "index.js:2:"],
        ),
        (
            "const a = 1;\n\nnull.x;\nfunction main() {}",
            &["TypeError", "index.js:3:"],
        ),
        ("exports.other = 1;", &["'main' is not a function"]),
        (
            "export const a = 1;\nthrow new Error('module top');",
            &["module top", "index.js:2:"],
        ),
        ("export const a = 1;\nexport const a = 2;", &["SyntaxError"]),
        (
            "const net = require('net');\nfunction main() {}",
            &["'node:net' does not exist here", "index.js:1:"],
        ),
        (
            "import cluster from 'node:cluster'; export const main = () => ({});",
            &["'node:cluster' does not exist here"],
        ),
        (
            "const x = require('left-pad'); function main() {}",
            &["Cannot find module 'left-pad'"],
        ),
        (
            "await new Promise(() => {}); export const main = () => ({});",
            &["never ends"],
        ),
    ];
    for (code, parts) in rows {
        let text = refused(&tenant, code);
        for part in parts {
            assert!(text.contains(part), "{code}: {text}");
        }
    }
    let rows: [(&[(&str, &str)], &str); 5] = [
        (
            &[("other.js", "")],
            "must contain either package.json or index.js",
        ),
        (&[("package.json", "{\"main\": \"gone.js\"}")], "gone.js"),
        (
            &[
                ("index.js", "require('./build/fast.node')"),
                ("build/fast.node", "ELF"),
            ],
            "native addon 'build/fast.node'",
        ),
        (
            &[("index.js", "require('./b')"), ("b.js", "\nlet x = = 1")],
            "b.js:2:",
        ),
        (
            &[
                ("package.json", "{not json"),
                ("index.js", "exports.main = () => ({})"),
            ],
            "package.json",
        ),
    ];
    for (files, part) in rows {
        let text = zipped(&tenant, files, None).expect(400).error();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_package_requires_and_imports_its_files_as_node_does() {
    let tenant = shared().tenant();
    let files = [
        ("package.json", r##"{"main": "lib/start.js", "imports": {"#own": "./lib/own.js"}}"##),
        ("lib/start.js", "const { join } = require('node:path'), fs = require('fs');
            exports.main = async () => ({
              index: require('./folder').name, json: require('../data.json').q, own: require('#own'),
              pkg: require('pkg'), sub: require('pkg/feature/x'), scoped: require('@a/b').v, old: require('old'),
              module: (await import('./late.mjs')).default, text: fs.readFileSync(join(__dirname, 'note.txt'), 'utf8'),
              names: fs.readdirSync(__dirname), same: require('./own') === require('./own.js'), id: module.id });"),
        ("lib/folder/index.js", "exports.name = 'folder';"),
        ("lib/own.js", "module.exports = { own: 1 };"),
        ("lib/late.mjs", "import cjs, { own } from './own.js'; import pkg from 'pkg'; export default { own, same: cjs.own, pkg, url: import.meta.url };"),
        ("lib/note.txt", "a note"),
        ("data.json", "{\"q\": 9}"),
        ("node_modules/pkg/package.json", r#"{"exports": {".": {"import": "./m.mjs", "require": "./c.js"}, "./feature/*": "./f/*.js"}}"#),
        ("node_modules/pkg/m.mjs", "export default 'imported';"),
        ("node_modules/pkg/c.js", "module.exports = 'required';"),
        ("node_modules/pkg/f/x.js", "module.exports = 'feature';"),
        ("node_modules/@a/b/index.js", "exports.v = 'scoped';"),
        ("node_modules/old/package.json", r#"{"main": "./dist"}"#),
        ("node_modules/old/dist/index.js", "module.exports = 'old';"),
    ];
    zipped(&tenant, &files, None).expect(200);
    let found = tenant.result("zipped", &json!({})).expect(200).json();
    assert_eq!(
        found,
        json!({ "index": "folder", "json": 9, "own": { "own": 1 }, "pkg": "required", "sub": "feature", "scoped": "scoped",
                "old": "old", "module": { "own": 1, "same": 1, "pkg": "imported", "url": "file:///action/lib/late.mjs" },
                "text": "a note", "names": ["folder", "late.mjs", "note.txt", "own.js", "start.js"], "same": true,
                "id": "/action/lib/start.js" })
    );
    zipped(
        &tenant,
        &[
            ("index.js", ""),
            ("lib/h.js", "exports.go = () => ({ went: true });"),
        ],
        Some("lib/h.go"),
    )
    .expect(200);
    assert_eq!(
        tenant.result("zipped", &json!({})).expect(200).json(),
        json!({ "went": true })
    );
}

#[test]
fn nothing_random_is_frozen() {
    let tenant = shared().tenant();
    let code = "const top = Math.random(); const id = crypto.randomUUID(); const at = Date.now();
        function main() { return { top, id, at, each: Math.random(), bytes: require('crypto').randomBytes(8).toString('hex') }; }";
    for name in ["first", "second"] {
        put(&tenant, name, code);
    }
    let first = tenant.result("first", &json!({})).expect(200).json();
    let second = tenant.result("second", &json!({})).expect(200).json();
    let again = tenant.result("first", &json!({})).expect(200).json();
    for name in ["top", "id", "each", "bytes"] {
        assert_ne!(first[name], second[name], "{name} of two instances");
    }
    assert_ne!(first["each"], again["each"]);
    // This server was started long after the engine was built.
    let year_2025 = 1_735_689_600_000_u64;
    assert!(
        first["at"].as_u64().is_some_and(|at| at > year_2025),
        "{first}"
    );
}

#[test]
fn the_console_writes_as_in_node() {
    let tenant = shared().tenant();
    let code = "function main() {
        console.log('%s is %d and %j', 'a', 42, { b: 1 }, [1, [2]]);
        console.info({ map: new Map([[1, { a: 1 }]]), set: new Set(['x']), when: new Date(0), f() {}, nothing: null });
        console.warn(new Error('shown').message); console.error('two\\nlines'); process.stdout.write('raw\\n');
        console.group('in'); console.log('deeper'); console.groupEnd(); console.assert(false, 'not so');
        return {}; }";
    put(&tenant, "console", code);
    let record = tenant.invoke("console", &json!({})).expect(200).json();
    let logs = tenant.awaited(record["activationId"].as_str().unwrap())["logs"].clone();
    let lines: Vec<&str> = logs
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().split_once("Z ").unwrap().1)
        .collect();
    assert_eq!(
        lines,
        [
            "stdout: a is 42 and {\"b\":1} [ 1, [ 2 ] ]",
            "stdout: {",
            "stdout:   map: Map(1) { 1 => { a: 1 } },",
            "stdout:   set: Set(1) { 'x' },",
            "stdout:   when: 1970-01-01T00:00:00.000Z,",
            "stdout:   f: [Function: f],",
            "stdout:   nothing: null",
            "stdout: }",
            "stderr: shown",
            "stderr: two",
            "stderr: lines",
            "stdout: raw",
            "stdout: in",
            "stdout:   deeper",
            "stderr: Assertion failed: not so",
        ]
    );
}
