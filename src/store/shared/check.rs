//! Whether a node has the keys that the cluster's parameters are encrypted with.
//!
//! A key of Redis holds a text that the cluster's key has encrypted: a node that cannot open it is refused at its start. Whoever
//! opens it with another than its first key writes it anew with the first. So keys are changed in two rounds: first every
//! node gets the new key behind the old one, then every node gets it in front.

use super::Shared;
use crate::link::{Script, cmd};
use crate::store::seal::Seal;

/// How often it is tried again because another node was faster.
const TRIES_MAX: usize = 10;

/// KEYS check; ARGV what was there (empty: nothing), what is to be.
static REPLACE: Script = Script::new(
    "if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[2]) return 1",
);

impl Shared {
    /// Compares the keys with those of the cluster, and notes the first of them.
    ///
    /// # Errors
    /// With what is wrong and what to do.
    pub(crate) async fn check_keys(&self, seal: &Seal) -> Result<(), String> {
        let key = self.keys.check();
        let failed = |error: crate::link::Error| format!("{key}: {error}");
        for _ in 0..TRIES_MAX {
            let mut get = cmd("GET");
            get.arg(&key);
            let noted: Option<Vec<u8>> = self.link.query(&get).await.map_err(failed)?;
            let (opens, is_first) = match &noted {
                Some(noted) => seal.opens_check(noted),
                None => (true, false),
            };
            if !opens {
                return Err(format!(
                    "this cluster is encrypted with a key that is not configured here ({} are). All nodes \
                     have the same: give it with keys or keys_file in the [encryption] section, or WISP_ENCRYPTION_KEYS; it \
                     may come after a new one, once every node has that. If it is lost, so are the values: remove the key \
                     {key} from Redis to start without them",
                    seal.count()
                ));
            }
            let new = seal.new_check();
            let Some(new) = new.map_err(|error| error.to_string())? else {
                return Ok(());
            };
            if is_first {
                return Ok(());
            }
            let mut replace = REPLACE.call(&[&key]);
            replace.arg(noted.unwrap_or_default()).arg(new);
            let replaced = self.link.call::<bool>(&REPLACE, &replace).await;
            if replaced.map_err(failed)? {
                return Ok(());
            }
        }
        Err(format!(
            "{key}: other nodes change it all the time: do they have the same first key?"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::link::test_server;
    use crate::store::seal::Config;
    use crate::store::{embedded, shared};

    fn seal(keys: &[u8]) -> Seal {
        use base64::Engine as _;
        let words = keys.iter().map(|key| [*key; 32]);
        let words: Vec<_> = words
            .map(|key| base64::engine::general_purpose::STANDARD.encode(key))
            .collect();
        let config = Config {
            keys: Some(words.join(" ")),
            ..Config::default()
        };
        Seal::of(&config).unwrap()
    }

    #[tokio::test]
    async fn a_node_with_other_keys_is_refused_and_keys_can_be_changed() {
        let (link, config) = test_server::link().await;
        let limits = embedded::Config::default();
        let (_store, shared, _keeper) =
            shared::open(link, &config.prefix, &limits, ("node", Arc::default()));
        // Without keys there is nothing to compare.
        shared.check_keys(&seal(&[])).await.unwrap();
        shared.check_keys(&seal(&[1])).await.unwrap();
        for wrong in [&[][..], &[2], &[2, 3]] {
            let refused = shared.check_keys(&seal(wrong)).await.unwrap_err();
            assert!(refused.contains("not configured here"), "{refused}");
            assert!(refused.contains(&format!("({} are)", wrong.len())));
        }
        shared.check_keys(&seal(&[1, 2])).await.unwrap();
        // First everywhere behind the old one, then in front: now it is the cluster's.
        shared.check_keys(&seal(&[2, 1])).await.unwrap();
        shared.check_keys(&seal(&[2])).await.unwrap();
        assert!(shared.check_keys(&seal(&[1])).await.is_err());
    }
}
