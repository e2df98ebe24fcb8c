//! A tenant: a namespace of its own, and what it does with actions.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::eventually;
use super::http::{Client, Reply, Request};
use super::server::SYSTEM_KEY;

/// A namespace and its key.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) key: String,
}

impl Tenant {
    pub(crate) fn new(client: Client, namespace: &str, key: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            key: key.to_owned(),
        }
    }

    /// A name no other test has.
    pub(crate) fn fresh_name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("tenant-{}-{count}", std::process::id())
    }

    /// Makes `namespace` through the admin API.
    #[track_caller]
    pub(crate) fn make(client: Client, namespace: &str) -> Self {
        Self::make_by(SYSTEM_KEY, client, namespace)
    }

    /// As [`Tenant::make`], where the system's key is another.
    #[track_caller]
    pub(crate) fn make_by(system_key: &str, client: Client, namespace: &str) -> Self {
        let path = format!("/admin/v1/namespaces/{namespace}");
        let reply = client.send(&Request::new("PUT", &path).key(system_key));
        assert!(
            matches!(reply.status, 200 | 201),
            "making {namespace}: {}",
            reply.shown()
        );
        let key = reply.json()["key"].as_str().expect("its key").to_owned();
        Self::new(client, namespace, &key)
    }

    /// Sets limits through the admin API.
    #[track_caller]
    pub(crate) fn limits(&self, limits: &Value) {
        let path = format!("/admin/v1/namespaces/{}/limits", self.namespace);
        let request = Request::new("PUT", &path).key(SYSTEM_KEY).json(limits);
        self.client.send(&request).expect(200);
    }

    /// `method` on a path below `/api/v1/namespaces/_/`, or on an absolute one.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/api/v1/namespaces/_/{path}"),
        };
        Request::new(method, &path).key(&self.key)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.client.send(&self.request("GET", path))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.client.send(&self.request("DELETE", path))
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Reply {
        self.client.send(&self.request("PUT", path).json(body))
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.client.send(&self.request("POST", path).json(body))
    }

    /// Uploads `code`, failing unless it is taken.
    #[track_caller]
    pub(crate) fn put_action(&self, name: &str, code: &str) -> Value {
        self.put_action_with(name, code, json!({}))
    }

    /// As [`Tenant::put_action`], with more in the body than the code.
    #[track_caller]
    pub(crate) fn put_action_with(&self, name: &str, code: &str, more: Value) -> Value {
        let mut body = more;
        body["exec"] = json!({ "kind": "wasm:1", "code": code });
        let reply = self.put(&format!("actions/{name}?overwrite=true"), &body);
        reply.expect(200).json()
    }

    /// A blocking call for the whole activation.
    #[track_caller]
    pub(crate) fn invoke(&self, name: &str, params: &Value) -> Reply {
        self.post(&format!("actions/{name}?blocking=true"), params)
    }

    /// A blocking call for the result alone.
    #[track_caller]
    pub(crate) fn result(&self, name: &str, params: &Value) -> Reply {
        self.post(&format!("actions/{name}?blocking=true&result=true"), params)
    }

    /// A call that waits for nothing: the activation's id.
    #[track_caller]
    pub(crate) fn fire(&self, name: &str, params: &Value) -> String {
        let reply = self.post(&format!("actions/{name}"), params).expect(202);
        id_of(&reply)
    }

    /// The record of an activation, which must be there.
    #[track_caller]
    pub(crate) fn activation(&self, id: &str) -> Value {
        self.get(&format!("activations/{id}")).expect(200).json()
    }

    /// The record of an activation, once it is there.
    #[track_caller]
    pub(crate) fn awaited(&self, id: &str) -> Value {
        eventually(&format!("a record of {id}"), || {
            let reply = self.get(&format!("activations/{id}"));
            (reply.status == 200).then(|| reply.json())
        })
    }
}

/// The `activationId` of a reply.
#[track_caller]
pub(crate) fn id_of(reply: &Reply) -> String {
    let id = reply.json()["activationId"].as_str().map(str::to_owned);
    id.unwrap_or_else(|| panic!("no activation id: {}", reply.shown()))
}

/// The value of an annotation of an entity or an activation.
pub(crate) fn annotation<'a>(entity: &'a Value, key: &str) -> Option<&'a Value> {
    let all = entity["annotations"].as_array()?;
    all.iter()
        .find(|one| one["key"] == key)
        .map(|one| &one["value"])
}
