//! Artefacts that are damaged, foreign or cannot be written.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::harness::*;
use crate::model::Digest;
use crate::sandbox::{Config, LoadError, Sandbox, Wasmtime};

/// The files under `folder`, deep.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn again(lab: &Lab) -> Arc<Wasmtime> {
    Wasmtime::new(config(), lab.folder.path()).unwrap()
}

fn kept(code: &str) -> Kept {
    Kept {
        code: Some(code.into()),
        ..Kept::default()
    }
}

/// Loads `program` in a second sandbox on the same folder; answers how often the code was asked for.
async fn loads_with(lab: &Lab, program: &Digest, code: &str) -> usize {
    let sandbox = again(lab);
    let source = kept(code);
    let loaded = sandbox.load(program, &source).await.ok().unwrap();
    let mut instance = loaded
        .instantiate(limits(), Purse::full())
        .await
        .ok()
        .unwrap()
        .instance;
    let run = instance.run(input("{\"n\":1}")).await.unwrap();
    assert_eq!(run.outcome, answered("{\"n\":1}"));
    source.asked.load(Ordering::Relaxed)
}

#[tokio::test]
async fn an_artefact_outlives_the_process_that_made_it() {
    let lab = Lab::new();
    for code in [
        core("1 1", "", ECHO),
        large("(data (i32.const 0) \"x\")", ECHO),
    ] {
        let prepared = lab.sandbox.prepare(code.as_str().into()).await.unwrap();
        assert!(prepared.compiled);
        assert!(
            !lab.sandbox
                .prepare(code.as_str().into())
                .await
                .unwrap()
                .compiled
        );
        assert!(
            !again(&lab)
                .prepare(code.as_str().into())
                .await
                .unwrap()
                .compiled
        );
        assert_eq!(loads_with(&lab, &prepared.program, &code).await, 0);
    }
}

#[tokio::test]
async fn a_damaged_artefact_is_made_again() {
    let lab = Lab::new();
    let code = core("1 1", "", ECHO);
    let program = lab
        .sandbox
        .prepare(code.as_str().into())
        .await
        .unwrap()
        .program;
    let aot = lab.folder.path().join("aot");
    let damages: [fn(&mut Vec<u8>); 6] = [
        |bytes| bytes[1000] ^= 1,
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| {
            let class = bytes.len() - 80 + 9;
            bytes[class] = 2;
        },
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.truncate(10),
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        let file = files(&aot).pop().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(loads_with(&lab, &program, &code).await, 1);
        // What it made is good again.
        assert_eq!(loads_with(&lab, &program, &code).await, 0);
    }
}

#[tokio::test]
async fn an_artefact_of_another_program_or_key_or_a_link_is_not_believed() {
    let lab = Lab::new();
    let (ours, other) = (core("1 1", "", ECHO), core("1 1", "", "(unreachable)"));
    let program = lab
        .sandbox
        .prepare(ours.as_str().into())
        .await
        .unwrap()
        .program;
    let aot = lab.folder.path().join("aot");
    let file = files(&aot).pop().unwrap();
    let good = std::fs::read(&file).unwrap();

    // Signed, but another's.
    lab.sandbox.prepare(other.as_str().into()).await.unwrap();
    let stranger = files(&aot).into_iter().find(|path| *path != file).unwrap();
    std::fs::copy(&stranger, &file).unwrap();
    assert_eq!(loads_with(&lab, &program, &ours).await, 1);

    // Signed with another service's key.
    let elsewhere = Lab::new();
    elsewhere
        .sandbox
        .prepare(ours.as_str().into())
        .await
        .unwrap();
    let foreign = files(&elsewhere.folder.path().join("aot")).pop().unwrap();
    assert_ne!(std::fs::read(&foreign).unwrap(), good);
    std::fs::copy(&foreign, &file).unwrap();
    assert_eq!(loads_with(&lab, &program, &ours).await, 1);

    // A link to good bytes.
    let aside = lab.folder.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &file).unwrap();
    assert_eq!(loads_with(&lab, &program, &ours).await, 1);
}

#[tokio::test]
async fn key_and_artefacts_are_private() {
    let lab = Lab::new();
    lab.sandbox
        .prepare(core("1 1", "", ECHO).as_str().into())
        .await
        .unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.folder.path().join("aot.key")), 0o600);
    for file in files(&lab.folder.path().join("aot")) {
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
    }
}

#[tokio::test]
async fn a_disk_that_takes_no_artefact_leaves_the_program_usable() {
    let lab = Lab::new();
    // Files where the folders of artefacts would be.
    let settings = std::fs::read_dir(lab.folder.path().join("aot"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    for shard in 0..=255_u8 {
        std::fs::write(settings.path().join(format!("{shard:02x}")), b"").unwrap();
    }
    for code in [core("1 1", "", ECHO), large("", ECHO)] {
        assert_eq!(lab.outcome(&code).await, answered("{}"));
    }
}

#[tokio::test]
async fn code_that_is_gone_or_another_is_our_fault() {
    let lab = Lab::new();
    let program = Digest::of(b"nowhere");
    assert!(matches!(
        lab.sandbox.load(&program, &Kept::default()).await,
        Err(LoadError::Host(_))
    ));
    let other = kept(&core("1 1", "", ECHO));
    assert!(matches!(
        lab.sandbox.load(&program, &other).await,
        Err(LoadError::Host(_))
    ));
}

#[tokio::test]
async fn a_forgotten_program_is_gone_from_memory_and_disk() {
    let lab = Lab::new();
    let code = core("1 1", "", ECHO);
    let program = lab
        .sandbox
        .prepare(code.as_str().into())
        .await
        .unwrap()
        .program;
    assert_eq!(lab.sandbox.occupancy().programs, 1);
    lab.sandbox.forget(&program);
    assert!(lab.sandbox.linked(&program).is_none());
    assert_eq!(lab.sandbox.occupancy().programs, 0);
    assert!(files(&lab.folder.path().join("aot")).is_empty());
    assert_eq!(loads_with(&lab, &program, &code).await, 1);
}

#[tokio::test]
async fn the_longest_untouched_programs_leave_memory_and_come_back_from_disk() {
    let lab = Lab::with(Config {
        programs_max: 4,
        ..config()
    });
    let code = |n: u32| core("1 1", &format!("(global i32 (i32.const {n}))"), ECHO);
    let mut programs = Vec::new();
    for n in 0..4 {
        programs.push(lab.sandbox.prepare(code(n).into()).await.unwrap().program);
    }
    assert!(lab.sandbox.linked(&programs[0]).is_some());
    programs.push(lab.sandbox.prepare(code(4).into()).await.unwrap().program);
    assert!(lab.sandbox.linked(&programs[0]).is_some());
    assert!(lab.sandbox.linked(&programs[1]).is_none());
    let source = Kept::default();
    assert!(lab.sandbox.load(&programs[1], &source).await.is_ok());
    assert_eq!(source.asked.load(Ordering::Relaxed), 0);
    assert!(lab.sandbox.occupancy().programs <= 4);
}

#[tokio::test]
async fn the_disk_is_bounded_and_loads_share_their_work() {
    let lab = Lab::with(Config {
        artefact_mib_max: 1,
        ..config()
    });
    for n in 0..100 {
        let code = core("1 1", &format!("(global i32 (i32.const {n}))"), ECHO);
        lab.sandbox.prepare(code.into()).await.unwrap();
    }
    let bytes: u64 = files(&lab.folder.path().join("aot"))
        .iter()
        .map(|file| std::fs::metadata(file).unwrap().len())
        .sum();
    assert!(bytes <= 1 << 20, "{bytes}");

    let code = core("1 1", "(global i32 (i32.const 1000))", ECHO);
    let program = lab
        .sandbox
        .prepare(code.as_str().into())
        .await
        .unwrap()
        .program;
    lab.sandbox.forget(&program);
    let source = kept(&code);
    let loads = (0..8).map(|_| lab.sandbox.load(&program, &source));
    let mut first = None;
    for load in join_all(loads).await {
        let loaded = Arc::as_ptr(&load.ok().unwrap()).cast::<()>();
        assert_eq!(*first.get_or_insert(loaded), loaded);
    }
}

/// Runs futures at one time.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        pending.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}
