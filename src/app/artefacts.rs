//! Compiled code in Redis, for machines that are alike. What is in it is for the sandbox to verify.
//!
//! An artefact is a hash of pieces under a name of its own for each time it is written, and a key that says which is the
//! present one: two nodes that write at one time do not mix. All of it goes by itself after a while; when there is too much, the
//! oldest goes first.

use async_trait::async_trait;

use crate::link::{self, Batch, Link, Script, Value, cmd};
use crate::sandbox::Artefacts;

/// Sent and read in pieces of this size, so that others' commands get in between.
const PIECE_BYTES: usize = 1 << 20;
/// How long it is kept, seconds: a week after it was compiled.
const KEEP_S: u64 = 7 * 24 * 60 * 60;
/// Bytes of all together.
const BYTES_MAX: usize = 512 << 20;

/// Makes room: KEYS times, sizes; ARGV name, bytes, most bytes, how long they are kept (s). Answers names to be removed.
static ROOM: Script = Script::new(
    "local t = redis.call('TIME') \
     local now, n, max = tonumber(t[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) \
     local total = tonumber(redis.call('HGET', KEYS[2], '#') or '0') \
     local gone = {} \
     local function drop(name) \
       total = total - tonumber(redis.call('HGET', KEYS[2], name) or '0') \
       redis.call('ZREM', KEYS[1], name) redis.call('HDEL', KEYS[2], name) \
       gone[#gone + 1] = name \
     end \
     for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[4]), 'LIMIT', 0, 100)) do drop(name) end \
     while total + n > max and #gone < 1000 do \
       local oldest = redis.call('ZRANGE', KEYS[1], 0, 0) \
       if not oldest[1] then total = 0 break end \
       drop(oldest[1]) \
     end \
     redis.call('ZADD', KEYS[1], now, ARGV[1]) \
     redis.call('HSET', KEYS[2], ARGV[1], n, '#', total + n) \
     return gone",
);

/// See the module.
pub(super) struct InRedis {
    pub(super) link: Link,
    pub(super) prefix: String,
}

#[async_trait]
impl Artefacts for InRedis {
    async fn get(&self, name: &str) -> Option<Vec<u8>> {
        let got = self.read(name).await;
        got.inspect_err(
            |error| tracing::debug!(%error, name, "shared compiled code cannot be read"),
        )
        .ok()
        .flatten()
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        if let Err(error) = self.write(name, &bytes).await {
            tracing::debug!(%error, name, "compiled code could not be shared");
        }
    }
}

impl InRedis {
    fn key(&self, name: &str) -> String {
        format!("{}:a:{name}", self.prefix)
    }

    async fn read(&self, name: &str) -> link::Result<Option<Vec<u8>>> {
        let present: Option<String> = self.link.query(cmd("GET").arg(self.key(name))).await?;
        let Some((name, count)) = present.as_deref().and_then(|text| text.rsplit_once(' ')) else {
            return Ok(None);
        };
        let (key, mut bytes) = (self.key(name), Vec::new());
        for piece in 0..count.parse::<usize>().unwrap_or(0) {
            let mut get = cmd("HGET");
            get.arg(&key).arg(piece);
            let Some(piece) = self.link.query::<Option<Vec<u8>>>(&get).await? else {
                return Ok(None);
            };
            bytes.extend(piece);
            if bytes.len() > BYTES_MAX {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }

    async fn write(&self, name: &str, bytes: &[u8]) -> link::Result<()> {
        let own = format!("{name}.{:016x}", fastrand::u64(..));
        let of_all = |what: &str| format!("{}:a:{{index}}:{what}", self.prefix);
        let mut room = ROOM.call(&[of_all("times"), of_all("sizes")]);
        room.arg(&own).arg(bytes.len()).arg(BYTES_MAX).arg(KEEP_S);
        let gone: Vec<String> = self.link.call(&ROOM, &room).await?;
        let mut batch = Batch::default();
        for name in gone {
            batch.push(cmd("UNLINK").arg(self.key(&name)).clone());
        }
        for answer in self.link.run(&batch).await? {
            answer?;
        }
        let key = self.key(&own);
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let mut batch = Batch::default();
            batch.push(cmd("HSET").arg(&key).arg(index).arg(piece).clone());
            batch.push(cmd("EXPIRE").arg(&key).arg(KEEP_S).clone());
            for answer in self.link.run(&batch).await? {
                answer?;
            }
        }
        let mut present = cmd("SET");
        let count = bytes.len().div_ceil(PIECE_BYTES);
        present.arg(self.key(name)).arg(format!("{own} {count}"));
        present.arg("EX").arg(KEEP_S);
        self.link.query::<Value>(&present).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::test_server;

    #[tokio::test]
    async fn what_is_put_is_found_whole_and_the_last_one_counts() {
        let (link, config) = test_server::link().await;
        let place = InRedis {
            link: link.clone(),
            prefix: config.prefix.clone(),
        };
        assert_eq!(place.get("s:a").await, None);
        let large: Vec<u8> = (0..PIECE_BYTES * 2 + 7)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        place.put("s:a", large.clone()).await;
        assert!(place.get("s:a").await.as_ref() == Some(&large));
        place.put("s:a", vec![1]).await;
        assert_eq!(place.get("s:a").await, Some(vec![1]));
        // Half of one is none.
        place.put("s:b", large).await;
        let own: String = link.query(cmd("GET").arg(place.key("s:b"))).await.unwrap();
        let own = own.split(' ').next().unwrap().to_owned();
        link.query::<Value>(cmd("HDEL").arg(place.key(&own)).arg(1))
            .await
            .unwrap();
        assert_eq!(place.get("s:b").await, None);
        let left: u64 = link.query(cmd("TTL").arg(place.key(&own))).await.unwrap();
        assert!((1..=KEEP_S).contains(&left));
    }

    #[tokio::test]
    async fn the_oldest_goes_when_there_is_too_much() {
        let (link, config) = test_server::link().await;
        let keys = [
            format!("{}:t", config.prefix),
            format!("{}:s", config.prefix),
        ];
        let room = async |name: &str, bytes: u64| -> Vec<String> {
            let mut call = ROOM.call(&keys);
            call.arg(name).arg(bytes).arg(100).arg(60);
            link.call(&ROOM, &call).await.unwrap()
        };
        assert!(room("a", 60).await.is_empty());
        assert!(room("b", 40).await.is_empty());
        assert_eq!(room("c", 50).await, ["a"]);
        assert!(room("d", 10).await.is_empty());
        assert_eq!(room("e", 1).await, ["b"]);
    }
}
