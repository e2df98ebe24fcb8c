//! What JavaScript programs find of Node's modules and the Web's globals. Each row is a piece of code and what it is worth.

use serde_json::{Value, json};

use crate::harness::shared;

/// Runs all rows in one action; each is an expression that may await.
#[track_caller]
fn worth(rows: &[(&str, Value)]) {
    let tenant = shared().tenant();
    let parts: Vec<String> = rows
        .iter()
        .map(|(code, _)| format!("async () => ({code})"))
        .collect();
    let code = format!(
        "const rows = [{}]; async function main() {{ const found = [];
           for (const row of rows) {{ try {{ found.push(await row()); }} catch (e) {{ found.push(`${{e.stack}}`); }} }}
           return {{ found }}; }}",
        parts.join(",\n")
    );
    let body = json!({ "exec": { "kind": "nodejs:20", "code": code } });
    tenant.put("actions/rows", &body).expect(200);
    let found = tenant.result("rows", &json!({})).expect(200).json();
    for (index, (code, expected)) in rows.iter().enumerate() {
        assert_eq!(&found["found"][index], expected, "{code}");
    }
}

#[test]
fn bytes_and_text_become_one_another() {
    worth(&[
        (
            "Buffer.from('héllo €').toString('base64')",
            json!("aMOpbGxvIOKCrA=="),
        ),
        (
            "Buffer.from('aMOpbGxv', 'base64').toString()",
            json!("héllo"),
        ),
        (
            "Buffer.from('-_8', 'base64url').toString('hex')",
            json!("fbff"),
        ),
        ("Buffer.from('ff00zz', 'hex').length", json!(2)),
        (
            "Buffer.concat([Buffer.from([1, 2]), Buffer.alloc(2, 7)]).toString('hex')",
            json!("01020707"),
        ),
        ("Buffer.byteLength('€')", json!(3)),
        (
            "JSON.stringify(Buffer.from('a'))",
            json!("{\"type\":\"Buffer\",\"data\":[97]}"),
        ),
        (
            "(() => { const b = Buffer.alloc(4); return [b.write('a€€'), b.toString('hex')]; })()",
            json!([4, "61e282ac"]),
        ),
        ("Buffer.from('abc').readUInt16BE(1)", json!(25187)),
        ("Buffer.from('xyz').equals(Buffer.from('xyz'))", json!(true)),
        (
            "new TextDecoder().decode(new Uint8Array([0xe2, 0x82, 0xac, 0xff]))",
            json!("€\u{fffd}"),
        ),
        (
            "(() => { const d = new TextDecoder(); return d.decode(new Uint8Array([0xe2, 0x82]), { stream: true }) + d.decode(new Uint8Array([0xac])); })()",
            json!("€"),
        ),
        (
            "(() => { try { new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([0xff])); } catch (e) { return e.name; } })()",
            json!("TypeError"),
        ),
        (
            "[...new TextEncoder().encode('\\ud800')]",
            json!([0xef, 0xbf, 0xbd]),
        ),
        ("atob(btoa('hi'))", json!("hi")),
        (
            "new (require('string_decoder').StringDecoder)('utf8').write(Buffer.from([0xe2, 0x82]))",
            json!(""),
        ),
    ]);
}

#[test]
fn digests_and_randomness_are_right() {
    worth(&[
        ("require('crypto').createHash('md5').update('abc').digest('hex')", json!("900150983cd24fb0d6963f7d28e17f72")),
        ("require('crypto').createHash('sha1').update('a').update('bc').digest('hex')", json!("a9993e364706816aba3e25717850c26c9cd0d89d")),
        ("require('node:crypto').createHash('SHA256').update(Buffer.from('abc')).digest('base64')", json!("ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=")),
        ("require('crypto').createHmac('sha256', 'key').update('The quick brown fox jumps over the lazy dog').digest('hex')",
         json!("f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8")),
        ("require('crypto').createHash('sha512').update('').digest('hex').slice(0, 16)", json!("cf83e1357eefb8bd")),
        ("Buffer.from(await crypto.subtle.digest('SHA-384', new TextEncoder().encode('abc'))).toString('hex').slice(0, 16)", json!("cb00753f45a35e8b")),
        ("require('crypto').pbkdf2Sync('password', 'salt', 2, 20, 'sha1').toString('hex')", json!("ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957")),
        ("/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())", json!(true)),
        ("crypto.getRandomValues(new Uint32Array(4)).some((n) => n !== 0)", json!(true)),
        ("require('crypto').timingSafeEqual(Buffer.from('a'), Buffer.from('a'))", json!(true)),
        ("await (async () => { const k = await crypto.subtle.importKey('raw', Buffer.from('key'), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify']);
            return crypto.subtle.verify('HMAC', k, await crypto.subtle.sign('HMAC', k, Buffer.from('x')), Buffer.from('x')); })()", json!(true)),
        ("(() => { try { require('crypto').createHash('md4'); } catch (e) { return e.message; } })()", json!("Digest method not supported: md4")),
    ]);
}

#[test]
fn urls_paths_and_queries_are_read() {
    worth(&[
        (
            "new URL('../x?q=1#h', 'https://u:p@host.example:8443/a/b').href",
            json!("https://u:p@host.example:8443/x?q=1#h"),
        ),
        (
            "new URL('http://exämple.com/ü').href",
            json!("http://xn--exmple-cua.com/%C3%BC"),
        ),
        (
            "(() => { const u = new URL('http://a/?x=1'); u.searchParams.append('y', 'a b'); u.pathname = '/z'; u.port = 81; return String(u); })()",
            json!("http://a:81/z?x=1&y=a+b"),
        ),
        (
            "(() => { try { new URL('nope'); } catch (e) { return [e.name, e.code]; } })()",
            json!(["TypeError", "ERR_INVALID_URL"]),
        ),
        (
            "[...new URLSearchParams('a=1&a=2&b=%C3%A4')]",
            json!([["a", "1"], ["a", "2"], ["b", "ä"]]),
        ),
        (
            "require('url').parse('http://u:p@h:1/p?q=1', true).query",
            json!({ "q": "1" }),
        ),
        (
            "require('url').fileURLToPath('file:///a%20b')",
            json!("/a b"),
        ),
        (
            "require('path').relative('/a/b/c', '/a/d')",
            json!("../../d"),
        ),
        (
            "require('querystring').stringify({ a: [1, 2], b: 'ä' })",
            json!("a=1&a=2&b=%C3%A4"),
        ),
    ]);
}

#[test]
fn files_of_tmp_are_the_instances_own() {
    worth(&[
        (
            "(() => { const fs = require('fs'); fs.writeFileSync('/tmp/a', 'one'); fs.appendFileSync('/tmp/a', ' two'); return [fs.readFileSync('/tmp/a', 'utf8'), fs.statSync('/tmp/a').size, fs.existsSync('/tmp/b')]; })()",
            json!(["one two", 7, false]),
        ),
        (
            "(() => { const fs = require('fs'); fs.mkdirSync('/tmp/d/e', { recursive: true }); fs.renameSync('/tmp/a', '/tmp/d/e/a'); const names = fs.readdirSync('/tmp/d', { recursive: true }); fs.rmSync('/tmp/d', { recursive: true }); return [names, fs.existsSync('/tmp/d')]; })()",
            json!([["e", "e/a"], false]),
        ),
        (
            "(() => { try { require('fs').readFileSync('/tmp/gone'); } catch (e) { return [e.code, e.syscall, e.path]; } })()",
            json!(["ENOENT", "open", "/tmp/gone"]),
        ),
        (
            "(() => { try { require('fs').writeFileSync('/action/x', ''); } catch (e) { return e.code; } })()",
            json!("EROFS"),
        ),
        (
            "await (async () => { const fs = require('fs/promises'); await fs.writeFile('/tmp/p', Buffer.from('bytes')); return (await fs.readFile('/tmp/p')).toString(); })()",
            json!("bytes"),
        ),
        (
            "await new Promise((ok) => require('fs').readFile('/tmp/p', 'latin1', (e, text) => ok(text)))",
            json!("bytes"),
        ),
        (
            "await (async () => { const fs = require('fs'), { pipeline } = require('stream/promises'); await pipeline(fs.createReadStream('/tmp/p'), fs.createWriteStream('/tmp/q')); return fs.readFileSync('/tmp/q', 'utf8'); })()",
            json!("bytes"),
        ),
        ("process.cwd()", json!("/action")),
    ]);
}

#[test]
fn streams_events_timers_and_the_rest_of_node_are_there() {
    worth(&[
        ("await (async () => { const { Readable, Transform } = require('stream'); const out = []; const up = new Transform({ transform(c, e, d) { d(null, String(c).toUpperCase()); } });
            for await (const c of Readable.from(['a', 'b']).pipe(up)) out.push(String(c)); return out; })()", json!(["AB"])),
        ("(() => { const E = require('events'); const e = new E(); const seen = []; e.once('x', (v) => seen.push(v)); e.emit('x', 1); e.emit('x', 2); return seen; })()", json!([1])),
        ("await (async () => { const order = []; setImmediate(() => order.push('immediate')); setTimeout(() => order.push('timer'), 2); process.nextTick(() => order.push('tick')); queueMicrotask(() => order.push('micro')); await require('timers/promises').setTimeout(10); return order; })()", json!(["tick", "micro", "immediate", "timer"])),
        ("await require('util').promisify(setTimeout)(1, 'later')", json!("later")),
        ("require('util').format('%s %o %%', 'a', [1])", json!("a [ 1, [length]: 1 ] %")),
        ("require('util').isDeepStrictEqual(new Map([[1, { a: 1 }]]), new Map([[1, { a: 1 }]]))", json!(true)),
        ("(() => { try { require('assert').deepStrictEqual({ a: 1 }, { a: 2 }); } catch (e) { return e.code; } })()", json!("ERR_ASSERTION")),
        ("require('zlib').gunzipSync(require('zlib').gzipSync('again '.repeat(3))).toString()", json!("again again again ")),
        ("[require('os').EOL, typeof require('os').tmpdir()]", json!(["\n", "string"])),
        ("process.hrtime.bigint() > 0n && process.hrtime().length === 2 && performance.now() >= 0", json!(true)),
        ("Object.keys(process.env).filter((name) => name === '__OW_ACTIVATION_ID')", json!(["__OW_ACTIVATION_ID"])),
        ("(() => { process.env.MINE = 1; const mine = process.env.MINE; delete process.env.MINE; return [mine, 'MINE' in process.env]; })()", json!(["1", false])),
        ("(() => { try { require('child_process'); } catch (e) { return e.message.split('\\n')[0]; } })()", json!("The module 'node:child_process' does not exist here: an action has no processes.")),
    ]);
}

#[test]
fn every_module_that_is_documented_is_there_and_every_other_is_named() {
    let there = "assert buffer console constants crypto diagnostics_channel events fs fs/promises http https module os path perf_hooks \
                 process punycode querystring stream stream/promises stream/web string_decoder timers timers/promises tty url util \
                 util/types zlib";
    let missing = "child_process cluster worker_threads net tls dgram dns http2 async_hooks readline repl vm v8 inspector wasi sqlite";
    let list = |names: &str| json!(names.split_whitespace().collect::<Vec<_>>()).to_string();
    worth(&[
        (
            &format!(
                "{}.filter((name) => {{ const it = require(name); return it !== require('node:' + name) || !Object.keys(it).length; }})",
                list(there)
            ),
            json!([]),
        ),
        (
            &format!(
                "(await Promise.all({}.map(async (name) => [name, Object.keys(await import('node:' + name)).includes('default')]))).filter(([, is]) => !is)",
                list(there)
            ),
            json!([]),
        ),
        (
            &format!(
                "{}.filter((name) => {{ try {{ require(name); }} catch (e) {{ return !e.message.startsWith(`The module 'node:${{name}}' does not exist here: `); }} return true; }})",
                list(missing)
            ),
            json!([]),
        ),
        (
            "await import('node:async_hooks').catch((e) => e.message.split('\\n')[0])",
            json!(
                "The module 'node:async_hooks' does not exist here: the engine does not follow calls across promises."
            ),
        ),
        (
            "(() => { try { return new Intl.NumberFormat('de'); } catch (e) { return String(e); } })()",
            json!("ReferenceError: Intl is not defined"),
        ),
        (
            "[typeof Intl, (1234.5).toLocaleString()]",
            json!(["undefined", "1234.5"]),
        ),
        (
            "'log info warn error debug trace dir table group groupEnd time timeEnd timeLog count countReset assert'.split(' ').filter((name) => typeof console[name] !== 'function')",
            json!([]),
        ),
    ]);
}

#[test]
fn the_webs_globals_are_there() {
    worth(&[
        (
            "(() => { const a = { m: new Map([[1, new Set([2])]]), d: new Date(0) }; a.self = a; const b = structuredClone(a); return [b !== a, b.self === b, [...b.m.get(1)]]; })()",
            json!([true, true, [2]]),
        ),
        (
            "(() => { try { structuredClone(() => 1); } catch (e) { return e.name; } })()",
            json!("DataCloneError"),
        ),
        (
            "(() => { const c = new AbortController(); let seen; c.signal.onabort = () => { seen = c.signal.reason.name; }; c.abort(); return seen; })()",
            json!("AbortError"),
        ),
        (
            "(() => { const t = new EventTarget(); let n = 0; t.addEventListener('x', () => n++, { once: true }); t.dispatchEvent(new Event('x')); t.dispatchEvent(new Event('x')); return n; })()",
            json!(1),
        ),
        (
            "[...new Headers({ B: '1', a: '2' })]",
            json!([["a", "2"], ["b", "1"]]),
        ),
        (
            "await new Response('{\"x\": 1}', { headers: { 'content-type': 'application/json' } }).json()",
            json!({ "x": 1 }),
        ),
        (
            "await new Request('http://a/', { method: 'POST', body: new URLSearchParams({ a: '1' }) }).text()",
            json!("a=1"),
        ),
        (
            "await (async () => { const s = new ReadableStream({ start(c) { c.enqueue('a'); c.enqueue('b'); c.close(); } }); const out = []; for await (const v of s.pipeThrough(new TransformStream())) out.push(v); return out; })()",
            json!(["a", "b"]),
        ),
        (
            "await new Blob(['ab', new Uint8Array([99])]).text()",
            json!("abc"),
        ),
        (
            "await (await fetch('data:text/plain;base64,aGk=')).text()",
            json!("hi"),
        ),
        (
            "await fetch('ftp://a/').catch((e) => [e.name, e.message])",
            json!(["TypeError", "fetch failed"]),
        ),
        ("typeof WebAssembly", json!("undefined")),
    ]);
}

#[test]
fn requests_go_out_on_the_policy_of_the_server() {
    let api = "process.env.__OW_API_HOST";
    let row = |code: &str| code.replace("API", api);
    let codes = [
        row(
            "await (async () => { const r = await fetch(API + '/ping'); return [r.status, await r.text()]; })()",
        ),
        row("(await (await fetch(new Request(API + '/'))).json()).support !== undefined"),
        row(
            "await (async () => { let n = 0; for await (const part of (await fetch(API + '/')).body) n += part.length; return n > 100; })()",
        ),
        row("(await Promise.all([1, 2, 3].map(() => fetch(API + '/ping')))).map((r) => r.status)"),
        row(
            "(await fetch(API + '/api/v1/namespaces', { headers: { authorization: 'Basic x' } })).status",
        ),
        row(
            "await new Promise((ok, no) => require('http').get(API + '/ping', (r) => { let text = ''; r.on('data', (part) => { text += part; }); r.on('end', () => ok([r.statusCode, text])); }).on('error', no))",
        ),
        row("await fetch(API + '/ping', { signal: AbortSignal.abort() }).catch((e) => e.name)"),
        row("await fetch('http://10.0.0.1/').catch((e) => e.message)"),
        row(
            "await new Promise((ok) => require('http').get('http://10.0.0.1/', ok).on('error', (e) => ok(typeof e.code)))",
        ),
    ];
    worth(&[
        (&codes[0], json!([200, "pong"])),
        (&codes[1], json!(true)),
        (&codes[2], json!(true)),
        (&codes[3], json!([200, 200, 200])),
        (&codes[4], json!(401)),
        (&codes[5], json!([200, "pong"])),
        (&codes[6], json!("AbortError")),
        (&codes[7], json!("fetch failed")),
        (&codes[8], json!("string")),
    ]);
}
