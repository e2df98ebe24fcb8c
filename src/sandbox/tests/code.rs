//! Packings of an upload, and what is refused of them.

use std::io::{Cursor, Write};

use base64::Engine as _;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::sandbox::code::unpack;

const WAT: &str = "(module (memory (export \"memory\") 1))";
const MAX: usize = 1 << 20;

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn refusal(code: &str) -> String {
    unpack(code, MAX).unwrap_err().to_string()
}

#[test]
fn every_packing_of_a_module_gives_the_same_bytes() {
    let wasm = wat::parse_str(WAT).unwrap();
    let codes = [
        WAT.to_owned(),
        format!("  ;; a comment\n(; (; nested ;) ;) \n{WAT}\n"),
        "( module (memory (export \"memory\") 1))".to_owned(),
        encode(&wasm),
        encode(&wasm).trim_end_matches('=').to_owned(),
        encode(&wasm)
            .as_bytes()
            .chunks(20)
            .map(|line| format!("{}\n", str::from_utf8(line).unwrap()))
            .collect(),
        encode(WAT.as_bytes()),
        encode(&zipped(&[("README", b"hello"), ("dir/a.wasm", &wasm)])),
        encode(&zipped(&[
            ("a.wat", WAT.as_bytes()),
            ("__MACOSX/._a.wat", b"x"),
        ])),
    ];
    for code in codes {
        assert_eq!(unpack(&code, MAX).unwrap(), wasm, "{code}");
    }
}

#[test]
fn bytes_sent_as_text_are_refused_with_advice() {
    let wasm = wat::parse_str(
        "(module (func (export \"f\") (result f64) f64.const 1.7976931348623157e308))",
    )
    .unwrap();
    let mangled = String::from_utf8_lossy(&wasm).into_owned();
    for code in [
        mangled.as_str(),
        "\0asm\u{1}\0\0\0",
        "PK\u{3}\u{4}\u{fffd}\0",
    ] {
        assert!(
            refusal(code).contains("Send the module as base64"),
            "{code:?}"
        );
    }
}

#[test]
fn what_is_no_module_is_refused_with_what_it_is() {
    let js = "function main() { return {} }";
    for (code, words) in [
        ("", "is empty"),
        (" \n", "is empty"),
        (js, "neither WAT text nor base64"),
        (encode(js.as_bytes()).as_str(), "begins with `function`"),
        ("(module (memroy 1))", "does not assemble"),
        ("(modules)", "neither WAT text nor base64"),
        (encode(b"PK\x03\x04rubbish").as_str(), "zip cannot be read"),
    ] {
        assert!(refusal(code).contains(words), "{code}: {}", refusal(code));
    }
}

#[test]
fn a_zip_has_exactly_one_module_and_no_path_out() {
    let wasm = wat::parse_str(WAT).unwrap();
    for (members, words) in [
        (vec![("a.txt", b"x".as_slice())], "no .wasm or .wat"),
        (
            vec![("a.wasm", &wasm[..]), ("b/c.wat", b"x")],
            "`a.wasm`, `b/c.wat`",
        ),
        (vec![("../a.wasm", &wasm[..])], "out of the archive"),
        (vec![("/etc/a.wasm", &wasm[..])], "out of the archive"),
        (
            vec![("a.wasm", &wasm[..]), ("x/../../y", b"x")],
            "out of the archive",
        ),
        (vec![("c:\\a.wasm", &wasm[..])], "out of the archive"),
        (
            vec![("a.wasm", b"no module".as_slice())],
            "begins with `no modul`",
        ),
    ] {
        let text = refusal(&encode(&zipped(&members)));
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_zip_bomb_is_not_unpacked() {
    let zeros = vec![0_u8; 4 << 20];
    let bomb = encode(&zipped(&[("a.wasm", &zeros)]));
    assert!(bomb.len() < 10_000);
    let text = unpack(&bomb, 64 << 20).unwrap_err().to_string();
    assert!(text.contains("zip bomb"), "{text}");
    let text = unpack(&bomb, 1000).unwrap_err().to_string();
    assert!(text.contains("more than 1000 bytes"), "{text}");
}

#[test]
fn a_module_over_the_limit_is_refused() {
    let code = encode(&[b"\0asm".as_slice(), &[0; 100]].concat());
    let text = unpack(&code, 50).unwrap_err().to_string();
    assert!(text.contains("104 bytes; at most 50"), "{text}");
    assert!(unpack(&"A".repeat(4 << 20), 50).is_err());
}
