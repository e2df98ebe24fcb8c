use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::model::{
    Action, ActionLimits, Annotations, Code, Exec, Package, Parameters, Timestamp, Version,
};
use crate::store::suite::{name, namespace};
use crate::store::{Document, EntityKey};

/// One key space in memory whose reads can be held up after they looked.
struct Slow {
    stored: Mutex<std::collections::HashMap<String, (Document, Revision)>>,
    revisions: AtomicU64,
    reads: AtomicUsize,
    /// A read that looked waits here before it answers.
    gate: Semaphore,
}

impl Slow {
    fn new(reads_free: usize) -> Arc<Self> {
        Arc::new(Self {
            stored: Mutex::default(),
            revisions: AtomicU64::new(0),
            reads: AtomicUsize::new(0),
            gate: Semaphore::new(reads_free),
        })
    }
}

fn place(key: &EntityKey) -> String {
    format!("{key:?}")
}

#[async_trait]
impl Entities for Slow {
    async fn get(&self, key: &EntityKey) -> Result<Option<(Document, Revision)>> {
        let found = self.stored.lock().get(&place(key)).cloned();
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("open").forget();
        Ok(found)
    }

    async fn put(
        &self,
        document: Document,
        _code: Option<Arc<str>>,
        expect: Expect,
    ) -> Result<Revision> {
        let mut stored = self.stored.lock();
        let before = stored.get(&place(&document.key)).map(|(_, r)| *r);
        let is_expected = match expect {
            Expect::Absent => before.is_none(),
            Expect::Revision(revision) => before == Some(revision),
        };
        if !is_expected {
            return Err(Error::Conflict);
        }
        let revision = Revision(self.revisions.fetch_add(1, Ordering::SeqCst) + 1);
        stored.insert(place(&document.key), (document, revision));
        Ok(revision)
    }

    async fn delete(&self, key: &EntityKey, _expect: Revision) -> Result<()> {
        self.stored.lock().remove(&place(key));
        Ok(())
    }

    async fn reseal(&self, _: &EntityKey, _: Revision, _: Arc<str>) -> Result<bool> {
        Ok(false)
    }

    async fn write(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>> {
        let mut revisions = Vec::new();
        for change in changes {
            revisions.push(match change {
                Change::Put(document, expect) => Some(self.put(document, None, expect).await?),
                Change::Delete(..) | Change::Keep(..) => None,
            });
        }
        Ok(revisions)
    }

    async fn list(&self, _: &Namespace, _: &EntityFilter, _: Page) -> Result<Vec<Document>> {
        Ok(Vec::new())
    }

    async fn count(&self, _: &Namespace, _: &EntityFilter) -> Result<usize> {
        Ok(0)
    }

    async fn code(&self, _: &Digest) -> Result<Option<Arc<str>>> {
        Ok(None)
    }
}

fn fqn(text: &str) -> Fqn {
    Fqn {
        namespace: namespace("guest"),
        package: None,
        name: name(text),
    }
}

fn action(text: &str, patch: u32) -> Action {
    Action {
        fqn: fqn(text),
        version: Version(0, 0, patch),
        publish: false,
        updated: Timestamp(u64::from(patch)),
        exec: Exec::Code(Code {
            http: false,
            kind: "wasm:1".to_owned(),
            main: None,
            binary: true,
            code: Digest::of(b"code"),
            code_size: 4,
            program: Digest::of(b"program"),
        }),
        parameters: Parameters::default(),
        limits: ActionLimits::default(),
        annotations: Annotations::default(),
        revision: 0,
        reached: None,
    }
}

/// Version and revision of what the catalog says is stored.
async fn seen(catalog: &Catalog, text: &str) -> Option<(u32, Revision)> {
    match catalog.get::<Action>(&fqn(text)).await.unwrap() {
        Found::Is(action, revision) => Some((action.version.2, revision)),
        Found::Other | Found::Nothing => None,
    }
}

async fn put(catalog: &Catalog, text: &str, patch: u32, expect: Expect) -> Result<Arc<Action>> {
    let code = Some(Arc::from("code"));
    catalog.put(action(text, patch), code, expect).await
}

/// Starts a read that has looked into the store and waits at the gate.
async fn start_read(catalog: &Arc<Catalog>, slow: &Slow) -> tokio::task::JoinHandle<()> {
    let (before, reader) = (slow.reads.load(Ordering::SeqCst), Arc::clone(catalog));
    let reading = tokio::spawn(async move {
        seen(&reader, "a").await;
    });
    while slow.reads.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    reading
}

#[tokio::test]
async fn what_was_read_or_written_is_in_memory() {
    let slow = Slow::new(1);
    let catalog = Catalog::new(Arc::clone(&slow) as _, 10);
    assert!(catalog.cached::<Action>(&fqn("a")).is_none());
    put(&catalog, "a", 1, Expect::Absent).await.unwrap();
    assert_eq!(catalog.cached::<Action>(&fqn("a")).unwrap().version.2, 1);

    let other = Catalog::new(Arc::clone(&slow) as _, 10);
    assert_eq!(seen(&other, "a").await, Some((1, Revision(1))));
    assert_eq!(seen(&other, "a").await, Some((1, Revision(1))));
    assert_eq!(slow.reads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_read_that_was_overtaken_by_a_write_does_not_undo_it() {
    let slow = Slow::new(0);
    put(
        &Catalog::new(Arc::clone(&slow) as _, 10),
        "a",
        1,
        Expect::Absent,
    )
    .await
    .unwrap();
    let catalog = Arc::new(Catalog::new(Arc::clone(&slow) as _, 10));
    let reading = start_read(&catalog, &slow).await;
    put(&catalog, "a", 2, Expect::Revision(Revision(1)))
        .await
        .unwrap();
    slow.gate.add_permits(1);
    reading.await.unwrap();
    assert_eq!(seen(&catalog, "a").await, Some((2, Revision(2))));
}

#[tokio::test]
async fn a_read_that_was_overtaken_by_a_delete_does_not_bring_it_back() {
    for by_namespace in [false, true] {
        let slow = Slow::new(0);
        put(
            &Catalog::new(Arc::clone(&slow) as _, 10),
            "a",
            1,
            Expect::Absent,
        )
        .await
        .unwrap();
        let catalog = Arc::new(Catalog::new(Arc::clone(&slow) as _, 10));
        let reading = start_read(&catalog, &slow).await;
        if by_namespace {
            slow.stored.lock().clear();
            catalog.forget_namespace(&namespace("guest"));
        } else {
            let deleted = catalog.delete(&fqn("a"), Revision(1)).await;
            deleted.unwrap();
        }
        slow.gate.add_permits(2);
        reading.await.unwrap();
        assert!(catalog.cached::<Action>(&fqn("a")).is_none());
        assert_eq!(seen(&catalog, "a").await, None);
    }
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_does_not() {
    let slow = Slow::new(8);
    let catalog = Catalog::new(Arc::clone(&slow) as _, 10);
    {
        let mut writing = Box::pin(put(&catalog, "a", 1, Expect::Absent));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(writing.as_mut().poll(&mut context).is_pending());
    }
    while catalog.cached::<Action>(&fqn("a")).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.stored.lock().len(), 1);
}

#[tokio::test]
async fn a_refused_write_leaves_no_wrong_entry() {
    let slow = Slow::new(8);
    let catalog = Catalog::new(Arc::clone(&slow) as _, 10);
    put(&catalog, "a", 1, Expect::Absent).await.unwrap();
    let refused = put(&catalog, "a", 2, Expect::Absent).await;
    assert!(matches!(refused, Err(Error::Conflict)));
    assert_eq!(seen(&catalog, "a").await, Some((1, Revision(1))));
}

#[tokio::test]
async fn the_cache_keeps_its_bound_and_what_is_asked_for() {
    let slow = Slow::new(1_000);
    let catalog = Catalog::new(Arc::clone(&slow) as _, 8);
    put(&catalog, "hot", 1, Expect::Absent).await.unwrap();
    for number in 0..100 {
        assert!(catalog.cached::<Action>(&fqn("hot")).is_some());
        put(&catalog, &format!("a{number}"), 1, Expect::Absent)
            .await
            .unwrap();
        assert!(catalog.0.cached.len() <= 8);
    }
    assert!(catalog.cached::<Action>(&fqn("hot")).is_some());
    assert_eq!(catalog.0.cached.len(), 8);
}

#[tokio::test]
async fn other_entities_are_told_from_none() {
    let slow = Slow::new(8);
    let catalog = Catalog::new(Arc::clone(&slow) as _, 8);
    let package = Package {
        fqn: fqn("p"),
        version: Version::FIRST,
        publish: false,
        updated: Timestamp(1),
        parameters: Parameters::default(),
        annotations: Annotations::default(),
        binding: None,
    };
    catalog.put(package, None, Expect::Absent).await.unwrap();
    for catalog in [&catalog, &Catalog::new(Arc::clone(&slow) as _, 8)] {
        let found = catalog.get::<Action>(&fqn("p")).await.unwrap();
        assert!(matches!(found, Found::Other));
        let found = catalog.get::<Package>(&fqn("p")).await.unwrap();
        assert!(matches!(found, Found::Is(..)));
    }
    let missing = catalog.get::<Action>(&fqn("q")).await.unwrap();
    assert!(matches!(missing, Found::Nothing));
}
