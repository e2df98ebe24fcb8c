//! `hosturl`: `{path?, web?, ext?, trigger?}` → `{url}`, where an action, web action or trigger is called.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;

use wisp_system::{Answer, Value, guest, js};

const EXTENSIONS: [&str; 5] = [".html", ".http", ".json", ".svg", ".text"];

fn run(params: Value) -> Answer {
    let is_true = |key| params.get(key) == Some(&Value::Bool(true));
    let web = is_true("web");
    let trigger = js::truthy(params.get("trigger")).is_some();
    let ext = js::truthy(params.get("ext")).map(js::text);
    let ext = ext.unwrap_or_default();
    let path = js::truthy(params.get("path"));
    let is_packaged = |path: &Value| match path {
        Value::String(path) => Ok(path.contains('/')),
        _ => Err("An error has occurred: TypeError: args.path.indexOf is not a function"),
    };
    if web && trigger {
        return Err("triggers are not allowed for web actions.".into());
    } else if web && !ext.is_empty() {
        if !EXTENSIONS.contains(&ext.as_str()) {
            let known = r#"[".html", ".http", ".json", ".svg", ".text"]."#;
            return Err(String::from("extension for web action must be one of ") + known);
        }
    } else if trigger && is_packaged(js::present(params.get("path"), "indexOf")?)? {
        return Err("triggers are not allowed in packages.".into());
    }
    let host = guest::context("__OW_API_HOST").ok_or("__OW_API_HOST is not set")?;
    let namespace = guest::context("__OW_NAMESPACE").ok_or("__OW_NAMESPACE is not set")?;
    let (root, collection) = match (web, is_true("trigger")) {
        (true, _) => ("/api/v1/web/", ""),
        (false, true) => ("/api/v1/namespaces/", "/triggers"),
        (false, false) => ("/api/v1/namespaces/", "/actions"),
    };
    let mut url = host + root + &namespace + collection;
    if let Some(path) = path {
        url.push_str(match web && !is_packaged(path)? {
            true => "/default/",
            false => "/",
        });
        url.push_str(&js::text(path));
        if web {
            url.push_str(&ext);
        }
    }
    Ok(Value::object([("url", url.into())]))
}

wisp_system::export!(run);
