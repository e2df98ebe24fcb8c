use std::io::Write as _;

use base64::prelude::BASE64_STANDARD;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

const MAX: usize = 1 << 20;

fn source(code: &str) -> Source {
    Source {
        kind: "nodejs:20".to_owned(),
        ..code.into()
    }
}

fn packed(files: &[(&str, &[u8])]) -> String {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in files {
        if name.ends_with('/') {
            zip.add_directory(*name, SimpleFileOptions::default())
                .unwrap();
            continue;
        }
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(data).unwrap();
    }
    BASE64_STANDARD.encode(zip.finish().unwrap().into_inner())
}

/// The files of a package, as an engine reads it.
fn unpacked(mut bytes: &[u8]) -> Vec<(String, String)> {
    fn number(bytes: &mut &[u8]) -> usize {
        let (head, rest) = bytes.split_first_chunk().unwrap();
        *bytes = rest;
        u32::from_le_bytes(*head) as usize
    }
    fn text(bytes: &mut &[u8]) -> String {
        let len = number(bytes);
        let (text, rest) = bytes.split_at(len);
        *bytes = rest;
        String::from_utf8(text.to_vec()).unwrap()
    }
    let count = number(&mut bytes);
    let files = (0..count).map(|_| (text(&mut bytes), text(&mut bytes)));
    let files = files.collect();
    assert!(bytes.is_empty());
    files
}

fn built(code: &str) -> Vec<(String, String)> {
    unpacked(
        &build(Language::JavaScript, &source(code), MAX)
            .ok()
            .unwrap()
            .bytes,
    )
}

fn refused(code: &str, bytes_max: usize) -> String {
    build(Language::JavaScript, &source(code), bytes_max)
        .err()
        .unwrap()
        .to_string()
}

fn pair(name: &str, data: &str) -> (String, String) {
    (name.to_owned(), data.to_owned())
}

#[test]
fn text_is_one_file_however_it_is_sent() {
    let code = "function main() { return {}; }\n";
    let head = pair("", r#"{"kind":"nodejs:20","main":null,"zip":false}"#);
    let expected = vec![head, pair("index.js", code)];
    assert_eq!(built(code), expected);
    assert_eq!(built(&format!("\u{feff}{code}")), expected);
    assert_eq!(built(&BASE64_STANDARD.encode(code)), expected);
    let python = Source {
        kind: "python:3.11".to_owned(),
        main: Some("go".to_owned()),
        ..source("def go(args): pass")
    };
    let files = unpacked(&build(Language::Python, &python, MAX).ok().unwrap().bytes);
    assert_eq!(
        files[0].1,
        r#"{"kind":"python:3.11","main":"go","zip":false}"#
    );
    assert_eq!(files[1], pair("__main__.py", "def go(args): pass"));
}

#[test]
fn a_zip_is_its_files_without_folders_and_litter() {
    let code = packed(&[
        ("lib/", b""),
        ("./index.js", b"1"),
        ("lib\\a.js", b"2"),
        ("__MACOSX/._index.js", b"x"),
        ("lib/.DS_Store", b"x"),
        ("package.json", b"{}"),
    ]);
    assert_eq!(
        built(&code),
        [
            pair("", r#"{"kind":"nodejs:20","main":null,"zip":true}"#),
            pair("index.js", "1"),
            pair("lib/a.js", "2"),
            pair("package.json", "{}"),
        ]
    );
}

#[test]
fn what_is_no_source_is_refused_with_advice() {
    let many: Vec<String> = (0..=ENTRIES_MAX).map(|n| format!("f{n}")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (&**name, &b""[..])).collect();
    let rows: Vec<(String, &str)> = vec![
        (" \n".into(), "The code is empty"),
        ("PK\u{3}\u{4}\u{fffd}".into(), "damaged on its way"),
        (BASE64_STANDARD.encode([0xff; 30]), "neither a zip nor text"),
        (
            packed(&[("../x.js", b"")]),
            "path out of the archive: `../x.js`",
        ),
        (packed(&[("/x.js", b"")]), "path out of the archive"),
        (
            packed(&[("a.js", b""), ("./a.js", b"")]),
            "two entries called `a.js`",
        ),
        (packed(&many), "20001 entries; at most 20000"),
        (
            BASE64_STANDARD.encode("PK\u{3}\u{4}garbage"),
            "The zip cannot be read",
        ),
        (
            packed(&[("bomb", &vec![0; 8 << 20])]),
            "8388608 bytes when it is unpacked",
        ),
    ];
    for (code, part) in rows {
        let text = refused(&code, MAX);
        assert!(text.contains(part), "{text}");
    }
    assert!(refused("x()", 2).contains("3 bytes when it is unpacked; at most 2"));
    let bomb = packed(&[("bomb", &vec![0; 8 << 20])]);
    assert!(refused(&bomb, 64 << 20).contains("zip bomb"));
}

#[test]
fn names_that_are_no_utf8_and_links_are_named() {
    let raw = packed(&[("ab.js", b"x")]);
    let mut bytes = BASE64_STANDARD.decode(raw).unwrap();
    while let Some(at) = bytes.windows(5).position(|window| window == b"ab.js") {
        bytes[at] = 0xff;
    }
    let text = refused(&BASE64_STANDARD.encode(&bytes), MAX);
    assert!(text.contains("no UTF-8: `\\xffb.js`"), "{text}");

    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.add_symlink("node_modules/.bin/tsc", "../tsc", options)
        .unwrap();
    zip.start_file("index.js", options).unwrap();
    zip.add_symlink("lib/a.js", "/etc/passwd", options).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    let text = refused(&BASE64_STANDARD.encode(bytes), MAX);
    assert!(text.contains("`lib/a.js` is a symbolic link"), "{text}");
}
