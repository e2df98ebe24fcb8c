//! Compilers that hang, die, babble or are missing. (Good ones: everything else here, and the real binary's tests.)

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::harness::*;
use crate::sandbox::{Compiler, Config, Refused, Sandbox};

/// A sandbox whose compiler is a shell script.
fn lab_with(script: &str, change: impl FnOnce(&mut Config)) -> (Lab, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compiler");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut config = Config {
        compiler: Compiler::Process(path),
        ..config()
    };
    change(&mut config);
    (Lab::with(config), folder)
}

async fn refused(lab: &Lab) -> Refused {
    lab.sandbox
        .prepare(core("1 1", "", ECHO).into())
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_compiler_that_hangs_is_killed_at_the_time_limit() {
    let (lab, folder) = lab_with(
        "echo $$ > \"$(dirname \"$0\")/pid\"; exec sleep 60",
        |config| {
            config.compile_timeout_ms = 300;
        },
    );
    assert!(matches!(refused(&lab).await, Refused::TooCostly(_)));
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    // Killed and, by tokio, reaped: no such process, or a zombie about to go.
    for _ in 0..100 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        if stat.is_err() || stat.unwrap().contains(") Z") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the compiler lives on");
}

#[tokio::test]
async fn a_large_module_has_more_time() {
    // Longer than it may take, but for its bytes: some hundred of them.
    let script = "cat > /dev/null; sleep 0.4; printf '\\001\\005\\0\\0\\0\\0\\0\\0\\0wrong'";
    let (lab, _folder) = lab_with(script, |config| {
        config.compile_timeout_ms = 100;
        config.compile_timeout_mib_ms = 1 << 40;
    });
    assert_eq!(refused(&lab).await, Refused::Invalid("wrong".into()));
}

#[tokio::test]
async fn a_compiler_that_dies_was_too_costly() {
    let (lab, _folder) = lab_with("cat > /dev/null; kill -9 $$", |_| {});
    assert!(matches!(refused(&lab).await, Refused::TooCostly(_)));
}

#[tokio::test]
async fn a_compiler_that_was_told_to_end_says_nothing_of_the_module() {
    let (lab, _folder) = lab_with("cat > /dev/null; kill -TERM $$", |_| {});
    assert!(matches!(refused(&lab).await, Refused::Unavailable(_)));
}

#[tokio::test]
async fn what_is_sent_to_the_servers_group_does_not_reach_a_compiler() {
    // Quotes the group it is in, where that is one of its own.
    let script = "cat > /dev/null; read -r _ _ _ _ group _ < /proc/$$/stat; \
        [ $group = $$ ] && printf '\\001\\003\\0\\0\\0\\0\\0\\0\\0own'";
    let (lab, _folder) = lab_with(script, |_| {});
    assert_eq!(refused(&lab).await, Refused::Invalid("own".into()));
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_closes_refuses_what_is_being_compiled() {
    let (lab, _folder) = lab_with("exec sleep 60", |_| {});
    lab.sandbox.close();
    let refused = refused(&lab).await;
    assert!(
        matches!(&refused, Refused::Unavailable(why) if why.contains("shutting down")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_compiler_that_finds_fault_is_quoted() {
    // Verdict 1, a message of 5 bytes.
    let (lab, _folder) = lab_with(
        "cat > /dev/null; printf '\\001\\005\\0\\0\\0\\0\\0\\0\\0wrong'",
        |_| {},
    );
    assert_eq!(refused(&lab).await, Refused::Invalid("wrong".into()));
}

#[tokio::test]
async fn a_compiler_that_babbles_is_not_believed() {
    for script in [
        // An artefact of 2^56 bytes; one cut short; one that is none.
        "cat > /dev/null; printf '\\0\\0\\0\\0\\0\\0\\0\\0\\001x'",
        "cat > /dev/null; printf '\\0\\005\\0\\0\\0\\0\\0\\0\\0abc'",
        "cat > /dev/null; printf '\\0\\003\\0\\0\\0\\0\\0\\0\\0abc'",
    ] {
        let (lab, _folder) = lab_with(script, |_| {});
        assert!(
            lab.sandbox
                .prepare(core("1 1", "", ECHO).into())
                .await
                .is_err()
        );
        assert_eq!(lab.sandbox.occupancy().programs, 0);
    }
}

#[tokio::test]
async fn a_missing_compiler_and_too_many_who_wait_are_ours() {
    let lab = Lab::with(Config {
        compiler: Compiler::Process(PathBuf::from("/nowhere/wisp")),
        ..config()
    });
    assert!(matches!(refused(&lab).await, Refused::Unavailable(_)));
    let lab = Lab::with(Config {
        compile_waiting_max: 0,
        ..config()
    });
    assert!(matches!(refused(&lab).await, Refused::Unavailable(_)));
}
