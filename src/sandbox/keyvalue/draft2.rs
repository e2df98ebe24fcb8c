//! What the second draft of `wasi:keyvalue` has otherwise: cursors are texts.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource};

use super::KeyValueError;
use super::store::{Bucket, Waiting, opened};
use crate::sandbox::host::Host;

/// A page of keys.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<String>,
}

/// Adds the listing of keys.
pub(super) fn add_keys(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut store = linker.instance("wasi:keyvalue/store@0.2.0-draft2")?;
    store.func_wrap_async(
        "[method]bucket.list-keys",
        |mut store: StoreContextMut<'_, Host>,
         (bucket, cursor): (Resource<Bucket>, Option<String>)|
         -> Waiting<'_, KeyResponse> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                let skip = match cursor.as_deref() {
                    None | Some("") => Some(0),
                    Some(text) => text.parse().ok(),
                };
                let Some(skip) = skip else {
                    let text = "the cursor is none that this store gave".to_owned();
                    return Ok((Err(KeyValueError::Other(text)),));
                };
                let page = at.keys(skip).await.map(|(keys, next)| KeyResponse {
                    keys,
                    cursor: next.map(|next| next.to_string()),
                });
                Ok((page,))
            })
        },
    )
}
