//! `wasi:config`: the action's bound parameters, text as it is and everything else as JSON.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::model::Json;
use crate::sandbox::host::Host;

/// The interface under the names of its drafts.
const NAMES: [&str; 4] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/runtime@0.2.0-draft",
];

/// What it could answer in place of a value; it never does.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Answer<T> = wasmtime::Result<(Result<T, ConfigError>,)>;

fn text(value: &Json) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

fn all(host: &Host) -> Vec<(String, String)> {
    let Some(serves) = host.serves() else {
        return Vec::new();
    };
    let parameters = serves.action.parameters.0.iter();
    let parameters = parameters.map(|bound| (bound.key.clone(), text(&bound.value)));
    parameters.collect()
}

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap(
            "get",
            |store: StoreContextMut<'_, Host>, (key,): (String,)| -> Answer<Option<String>> {
                let serves = store.data().serves();
                let bound = serves.map_or(&[][..], |serves| &serves.action.parameters.0);
                let found = bound.iter().find(|bound| bound.key == key);
                Ok((Ok(found.map(|bound| text(&bound.value))),))
            },
        )?;
        interface.func_wrap(
            "get-all",
            |store: StoreContextMut<'_, Host>, (): ()| -> Answer<Vec<(String, String)>> {
                Ok((Ok(all(store.data())),))
            },
        )?;
    }
    Ok(())
}
