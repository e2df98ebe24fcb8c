//! `wasi:keyvalue/store`, `atomics` and `batch`, as far as its drafts agree.
//!
//! A bucket is opened by name; the empty name and `default` are the same. All of them are the namespace's.

use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use super::{KeyValueError, Result};
use crate::model::Namespace;
use crate::model::keyvalue::{Pairs, Place};
use crate::sandbox::host::Host;

/// Keys of one batch; a guest with more makes several.
const BATCH_MAX: usize = 1000;

/// A bucket that a guest has open.
pub(super) struct Bucket {
    pairs: Arc<dyn Pairs>,
    namespace: Namespace,
    name: String,
}

impl Bucket {
    pub(super) async fn keys(&self, skip: usize) -> Result<(Vec<String>, Option<usize>)> {
        let keys = self.pairs.keys(&self.namespace, &self.name, skip);
        Ok(keys.await?)
    }

    fn at<'a>(&'a self, key: &'a str) -> Place<'a> {
        Place {
            namespace: &self.namespace,
            bucket: &self.name,
            key,
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.pairs.get(self.at(key)).await?)
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.pairs.exists(self.at(key)).await?)
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        Ok(self.pairs.set(self.at(key), value).await?)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        Ok(self.pairs.delete(self.at(key)).await?)
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        Ok(self.pairs.increment(self.at(key), delta).await?)
    }
}

/// The functions of this interface: always one value, and it may be an error of the interface's.
pub(super) type Answer<T> = wasmtime::Result<(Result<T>,)>;
pub(super) type Waiting<'a, T> = Box<dyn Future<Output = Answer<T>> + Send + 'a>;

/// The bucket behind a handle.
pub(super) fn opened(
    store: &mut StoreContextMut<'_, Host>,
    bucket: &Resource<Bucket>,
) -> wasmtime::Result<Arc<Bucket>> {
    let table = store.data_mut().resources();
    Ok(Arc::clone(
        table.get(&Resource::<Arc<Bucket>>::new_borrow(bucket.rep()))?,
    ))
}

fn open(
    host: &mut Host,
    pairs: Option<&Arc<dyn Pairs>>,
    identifier: &str,
) -> wasmtime::Result<Result<Resource<Bucket>>> {
    let (Some(pairs), Some(serves)) = (pairs, host.serves()) else {
        return Ok(Err(KeyValueError::NoSuchStore));
    };
    let name = match pairs.bucket(identifier) {
        Ok(name) => name,
        Err(refused) => return Ok(Err(refused.into())),
    };
    let bucket = Arc::new(Bucket {
        pairs: Arc::clone(pairs),
        namespace: serves.namespace.clone(),
        name,
    });
    let handle = host.resources().push(bucket)?;
    Ok(Ok(Resource::new_own(handle.rep())))
}

/// Adds everything but the listing of keys, whose cursor is another type in each draft.
pub(super) fn add_to_linker(
    linker: &mut Linker<Host>,
    version: &str,
    pairs: Option<&Arc<dyn Pairs>>,
) -> wasmtime::Result<()> {
    let mut store = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
    store.resource(
        "bucket",
        ResourceType::host::<Bucket>(),
        |mut store, rep| {
            let table = store.data_mut().resources();
            table.delete(Resource::<Arc<Bucket>>::new_own(rep))?;
            Ok(())
        },
    )?;
    let pairs = pairs.cloned();
    store.func_wrap(
        "open",
        move |mut store: StoreContextMut<'_, Host>, (identifier,): (String,)| {
            Ok((open(store.data_mut(), pairs.as_ref(), &identifier)?,))
        },
    )?;
    add_methods(&mut store)?;
    add_batch(&mut linker.instance(&format!("wasi:keyvalue/batch@{version}"))?)?;
    let mut atomics = linker.instance(&format!("wasi:keyvalue/atomics@{version}"))?;
    if version == "0.2.0-draft" {
        atomics.func_wrap_async("increment", |store, params: (_, _, u64)| {
            increment::<u64>(store, params)
        })?;
    } else {
        atomics.func_wrap_async("increment", |store, params: (_, _, i64)| {
            increment::<i64>(store, params)
        })?;
    }
    Ok(())
}

/// One key of a bucket.
type Key = (Resource<Bucket>, String);

fn add_methods(store: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    store.func_wrap_async(
        "[method]bucket.get",
        |mut store: StoreContextMut<'_, Host>,
         (bucket, key): Key|
         -> Waiting<'_, Option<Vec<u8>>> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((at.get(&key).await,))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.exists",
        |mut store: StoreContextMut<'_, Host>, (bucket, key): Key| -> Waiting<'_, bool> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((at.exists(&key).await,))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.set",
        |mut store: StoreContextMut<'_, Host>,
         (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)|
         -> Waiting<'_, ()> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((at.set(&key, &value).await,))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.delete",
        |mut store: StoreContextMut<'_, Host>, (bucket, key): Key| -> Waiting<'_, ()> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((at.delete(&key).await,))
            })
        },
    )
}

fn too_many(count: usize) -> Result<()> {
    if count > BATCH_MAX {
        return Err(KeyValueError::Other(format!(
            "{count} keys in one batch; at most {BATCH_MAX} are allowed"
        )));
    }
    Ok(())
}

/// Each key with its value, or nothing.
type Many = Vec<Option<(String, Vec<u8>)>>;

async fn get_many(at: &Bucket, keys: Vec<String>) -> Result<Many> {
    too_many(keys.len())?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let value = at.get(&key).await?;
        found.push(value.map(|value| (key, value)));
    }
    Ok(found)
}

async fn set_many(at: &Bucket, pairs: Vec<(String, Vec<u8>)>) -> Result<()> {
    too_many(pairs.len())?;
    for (key, value) in pairs {
        at.set(&key, &value).await?;
    }
    Ok(())
}

async fn delete_many(at: &Bucket, keys: Vec<String>) -> Result<()> {
    too_many(keys.len())?;
    for key in keys {
        at.delete(&key).await?;
    }
    Ok(())
}

fn add_batch(batch: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    type Keys = (Resource<Bucket>, Vec<String>);
    batch.func_wrap_async(
        "get-many",
        |mut store: StoreContextMut<'_, Host>, (bucket, keys): Keys| -> Waiting<'_, Many> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((get_many(&at, keys).await,))
            })
        },
    )?;
    batch.func_wrap_async(
        "set-many",
        |mut store: StoreContextMut<'_, Host>,
         (bucket, pairs): (Resource<Bucket>, Vec<(String, Vec<u8>)>)|
         -> Waiting<'_, ()> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((set_many(&at, pairs).await,))
            })
        },
    )?;
    batch.func_wrap_async(
        "delete-many",
        |mut store: StoreContextMut<'_, Host>, (bucket, keys): Keys| -> Waiting<'_, ()> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                Ok((delete_many(&at, keys).await,))
            })
        },
    )
}

fn increment<N>(
    mut store: StoreContextMut<'_, Host>,
    (bucket, key, delta): (Resource<Bucket>, String, N),
) -> Waiting<'_, N>
where
    N: TryInto<i64> + TryFrom<i64> + Send + 'static,
{
    Box::new(async move {
        let at = opened(&mut store, &bucket)?;
        let range = || KeyValueError::Other("the number is out of range".to_owned());
        let delta: Option<i64> = delta.try_into().ok();
        let sum = match delta {
            Some(delta) => at.increment(&key, delta).await,
            None => Err(range()),
        };
        Ok((sum.and_then(|sum| N::try_from(sum).map_err(|_| range())),))
    })
}

/// A page of keys, with the cursor of the first draft.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// Adds the listing of keys of the first draft.
pub(super) fn add_keys(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut store = linker.instance("wasi:keyvalue/store@0.2.0-draft")?;
    store.func_wrap_async(
        "[method]bucket.list-keys",
        |mut store: StoreContextMut<'_, Host>,
         (bucket, cursor): (Resource<Bucket>, Option<u64>)|
         -> Waiting<'_, KeyResponse> {
            Box::new(async move {
                let at = opened(&mut store, &bucket)?;
                let skip = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
                let page = at.keys(skip).await.map(|(keys, next)| KeyResponse {
                    keys,
                    cursor: next.and_then(|next| u64::try_from(next).ok()),
                });
                Ok((page,))
            })
        },
    )
}
