//! Code: kept once, by its digest, as long as an entity or an item of any namespace refers to it.
//!
//! Code and who holds it have one hash tag, entities another, so no script sees both. Every reference is a *hold* with a
//! name made for it alone, and is taken and let go in steps that may each be the last before a crash:
//!
//! 1. the namespace notes that it is about to take the hold (`+`), until when;
//! 2. the hold is taken, if the code is there;
//! 3. the entity is written with the name of its hold, if the note is still there, which goes; the hold of what was there
//!    before is noted as to be let go (`-`), all in one script;
//! 4. what is noted as to be let go is let go, the code goes with its last hold, and the note goes.
//!
//! The sweep turns notes that are past their time into ones to be let go, and lets go. So no code goes that an entity
//! refers to, and none stays that nobody does.

use std::sync::Arc;
use std::time::Duration;

use crate::link::{Batch, Script, Value, cmd};
use crate::model::{Digest, Namespace};
use crate::store::{Error, Result};

use super::Redis;
use super::answer::{Parts, corrupt, failed};
use super::keys::All;

/// Code is sent and read in pieces of this size, so that others' commands get in between.
const PIECE_BYTES: usize = 1 << 20;
/// Longest time between taking a hold and writing who refers to it.
const CONFIRM_MAX: Duration = Duration::from_secs(120);
/// How often an upload begins anew because the code went while it was sent.
const UPLOADS_MAX: usize = 3;
/// Notes dealt with in one step of the sweep.
const SWEEP_COUNT: usize = 100;

/// KEYS holds; ARGV note, how long.
static NOTE: Script = Script::new(
    "local t = redis.call('TIME') \
     redis.call('ZADD', KEYS[1], t[1] * 1000 + tonumber(ARGV[2]), ARGV[1])",
);

/// KEYS code, holders; ARGV hold, pieces or 0. Whether the code is there, whole.
static HOLD: Script = Script::new(
    "local count = redis.call('HLEN', KEYS[1]) \
     if ARGV[2] == '0' then \
       if count == 0 or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end \
     elseif count ~= tonumber(ARGV[2]) then return 0 end \
     redis.call('SADD', KEYS[2], ARGV[1]) redis.call('PERSIST', KEYS[1]) return 1",
);

/// KEYS code, holders; ARGV number of the piece, piece. What nobody comes to hold goes by itself.
static PIECE: Script = Script::new(
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) \
     if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('EXPIRE', KEYS[1], 3600) end",
);

/// KEYS code, holders; ARGV hold.
static RELEASE: Script = Script::new(
    "#!lua flags=allow-oom\n\
     redis.call('SREM', KEYS[2], ARGV[1]) \
     if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('UNLINK', KEYS[1]) end",
);

/// KEYS code, holders. The number of pieces and the first, where somebody holds the code.
static READ: Script = Script::new(
    "if redis.call('EXISTS', KEYS[2]) == 0 then return {} end \
     return {redis.call('HLEN', KEYS[1]), redis.call('HGET', KEYS[1], '0')}",
);

/// KEYS holds; ARGV digest and hold.
static ABANDON: Script = Script::new(
    "#!lua flags=allow-oom\n\
     if redis.call('ZREM', KEYS[1], '+' .. ARGV[1]) == 1 then redis.call('ZADD', KEYS[1], 0, '-' .. ARGV[1]) end",
);

/// KEYS holds; ARGV count. Holds to be let go now.
static DUE: Script = Script::new(
    "#!lua flags=allow-oom\n\
     local t = redis.call('TIME') \
     local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t[1] * 1000, 'LIMIT', 0, ARGV[1]) \
     for i, note in ipairs(due) do \
       if string.sub(note, 1, 1) == '+' then \
         redis.call('ZREM', KEYS[1], note) \
         due[i] = '-' .. string.sub(note, 2) \
         redis.call('ZADD', KEYS[1], 0, due[i]) \
       end \
     end \
     return due",
);

/// The name of a reference to code, as scripts have it; empty for none.
pub(super) type Hold = String;

impl Redis {
    /// Takes a hold on code for what is about to be written; `None` when the code is not given and not there.
    pub(super) async fn hold(
        &self,
        namespace: &Namespace,
        digest: &Digest,
        code: Option<&str>,
    ) -> Result<Option<Hold>> {
        let hold = format!("{:016x}", fastrand::u64(..));
        let holds = self.keys.holds(namespace);
        let mut note = NOTE.call(&[&holds]);
        note.arg(format!("+{digest}{hold}"))
            .arg(millis(CONFIRM_MAX));
        let mut batch = Batch::default();
        let mut known = cmd("SADD");
        known.arg(self.keys.all(All::Holds)).arg(namespace.as_str());
        batch.push(known);
        batch.call(&NOTE, note);
        self.run(&batch, &holds).await?;

        let pieces: Vec<&[u8]> = match code {
            Some("") => vec![b""],
            Some(code) => code.as_bytes().chunks(PIECE_BYTES).collect(),
            None => Vec::new(),
        };
        let (key, holders) = (self.keys.code(digest), self.keys.holders(digest));
        let mut take = HOLD.call(&[&key, &holders]);
        take.arg(&hold).arg(pieces.len());
        for _ in 0..UPLOADS_MAX {
            if self.call::<bool>(&HOLD, &take, &key).await? {
                return Ok(Some(hold));
            }
            if pieces.is_empty() {
                break;
            }
            for (index, piece) in pieces.iter().enumerate() {
                let mut send = PIECE.call(&[&key, &holders]);
                send.arg(index).arg(*piece);
                self.call::<Value>(&PIECE, &send, &key).await?;
            }
        }
        if self.call::<bool>(&HOLD, &take, &key).await? {
            return Ok(Some(hold));
        }
        self.abandon(namespace, digest, &hold).await;
        match code {
            None => Ok(None),
            Some(_) => Err(corrupt(
                &key,
                "it has other pieces than were sent; delete it",
            )),
        }
    }

    /// Lets a hold go that came to nothing.
    pub(super) async fn abandon(&self, namespace: &Namespace, digest: &Digest, hold: &str) {
        let holds = self.keys.holds(namespace);
        let mut abandon = ABANDON.call(&[&holds]);
        let note = format!("{digest}{hold}");
        abandon.arg(&note);
        // What fails here is found by the sweep.
        if self.call::<Value>(&ABANDON, &abandon, &holds).await.is_ok() {
            self.release(namespace, &note).await;
        }
    }

    /// Lets go what a script noted as to be let go: digest and hold, or nothing. What fails is left to the sweep.
    pub(super) async fn release(&self, namespace: &Namespace, note: &str) {
        if note.is_empty() {
            return;
        }
        if let Err(error) = self.try_release(namespace, note).await {
            tracing::debug!(%namespace, %error, "code is let go later");
        }
    }

    async fn try_release(&self, namespace: &Namespace, note: &str) -> Result<()> {
        let holds = self.keys.holds(namespace);
        if let Some((digest, hold)) = split(note) {
            let key = self.keys.code(&digest);
            let mut release = RELEASE.call(&[&key, &self.keys.holders(&digest)]);
            release.arg(hold);
            self.call::<Value>(&RELEASE, &release, &key).await?;
        }
        let mut done = cmd("ZREM");
        done.arg(&holds).arg(format!("-{note}"));
        self.query::<Value>(&done, &holds).await.map(drop)
    }

    /// Lets go what was left behind in this namespace.
    pub(super) async fn sweep_holds(&self, namespace: &Namespace) -> Result<()> {
        let holds = self.keys.holds(namespace);
        loop {
            let mut due = DUE.call(&[&holds]);
            due.arg(SWEEP_COUNT);
            let due: Vec<String> = self.call(&DUE, &due, &holds).await?;
            for note in &due {
                self.try_release(namespace, note.get(1..).unwrap_or_default())
                    .await?;
            }
            if due.len() < SWEEP_COUNT {
                return Ok(());
            }
        }
    }

    /// The code, read in pieces and checked against its digest.
    pub(super) async fn code_of(&self, digest: &Digest) -> Result<Option<Arc<str>>> {
        let key = self.keys.code(digest);
        let read = READ.call(&[&key, &self.keys.holders(digest)]);
        let mut parts = Parts::of(self.call(&READ, &read, &key).await?, &key)?;
        if parts.is_empty() {
            return Ok(None);
        }
        let count = parts.number()?;
        let Some(mut code) = parts.maybe() else {
            return Err(corrupt(
                &key,
                "the code was deleted by hand; upload it again",
            ));
        };
        for index in 1..count {
            let mut next = cmd("HGET");
            next.arg(&key).arg(index);
            let piece: Option<Vec<u8>> = self.query(&next, &key).await?;
            code.extend(piece.unwrap_or_default());
        }
        if Digest::of(&code) != *digest {
            return Err(corrupt(
                &key,
                "the code is not what it was; upload it again",
            ));
        }
        match String::from_utf8(code) {
            Ok(code) => Ok(Some(code.into())),
            Err(_) => Err(corrupt(&key, "the code is no text")),
        }
    }
}

fn split(note: &str) -> Option<(Digest, &str)> {
    let (digest, hold) = note.split_at_checked(64)?;
    Some((digest.parse().ok()?, hold))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The answers of a batch, or the first failure among them.
pub(super) fn all(answers: Vec<crate::link::Result<Value>>, key: &str) -> Result<Vec<Value>> {
    let answers = answers.into_iter();
    answers
        .map(|answer| answer.map_err(|error| failed(error, key)))
        .collect::<std::result::Result<_, Error>>()
}
