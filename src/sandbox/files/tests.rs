//! The tree by itself: what POSIX says of files, what the account says of bytes.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::super::Grant;
use super::super::limits::{Account, Meter};
use super::*;

struct Free;

#[async_trait]
impl Grant for Free {
    fn try_grow(&self, _bytes: usize) -> bool {
        true
    }
    async fn grow(&self, _bytes: usize) -> bool {
        true
    }
}

/// An account of `limit` bytes, and the root of a tree that takes from it.
fn root_of(limit: usize) -> (Arc<Mutex<Account>>, Descriptor) {
    let account = Meter::new(limit, 0, 0, Arc::new(Free)).shared();
    let root = root(&share(Arc::clone(&account))).unwrap();
    (account, root)
}

fn new_root() -> Descriptor {
    root_of(1 << 20).1
}

const READ: Opening = Opening {
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    read: true,
    write: false,
    append: false,
};
const NEW: Opening = Opening {
    create: true,
    write: true,
    ..READ
};

fn make(root: &Descriptor, path: &str, text: &str) {
    let file = root
        .open(
            path,
            Opening {
                truncate: true,
                ..NEW
            },
        )
        .unwrap();
    assert_eq!(
        file.write_at(Some(0), text.as_bytes()),
        Ok((text.len(), text.len() as u64))
    );
}

fn text(root: &Descriptor, path: &str) -> Result<String, FileError> {
    let file = root.open(path, READ)?;
    let mut bytes = [0; 64];
    let count = file.read_at(0, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn open_error(root: &Descriptor, path: &str, how: Opening) -> FileError {
    match root.open(path, how) {
        Ok(_) => panic!("{path} can be opened"),
        Err(error) => error,
    }
}

fn names(root: &Descriptor, path: &str) -> Vec<String> {
    let tree = root.tree();
    let node = tree.find(root.node, path).unwrap();
    let all = tree.list(node, 0).unwrap();
    all.map(|line| line.name.to_string()).collect()
}

fn make_directory(root: &Descriptor, path: &str) -> Result<(), FileError> {
    root.tree().make_directory(root.node, path)
}

fn rename(root: &Descriptor, from: &str, to: &str) -> Result<(), FileError> {
    root.tree().rename((root.node, from), (root.node, to))
}

fn remove_file(root: &Descriptor, path: &str) -> Result<(), FileError> {
    root.tree().remove_file(root.node, path)
}

fn remove_directory(root: &Descriptor, path: &str) -> Result<(), FileError> {
    root.tree().remove_directory(root.node, path)
}

#[test]
fn what_is_written_is_read_wherever_it_lies() {
    let root = new_root();
    let file = root.open("a", NEW).unwrap();
    // Over the border of two chunks, with a hole before it.
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(file.write_at(Some(60_000), &bytes), Ok((100_000, 160_000)));
    let mut all = vec![1; 200_000];
    assert_eq!(file.read_at(0, &mut all), Ok(160_000));
    assert!(all[..60_000].iter().all(|byte| *byte == 0));
    assert_eq!(&all[60_000..160_000], bytes);
    assert_eq!(file.read_at(160_000, &mut all), Ok(0));
    assert_eq!(file.read_at(u64::MAX, &mut all), Ok(0));
    assert_eq!(file.write_at(None, b"end"), Ok((3, 160_003)));
    assert_eq!(
        file.write_at(Some(u64::MAX), b"end"),
        Err(FileError::TooLarge)
    );
    assert_eq!(file.set_size(u64::MAX), Err(FileError::TooLarge));
}

#[test]
fn what_was_cut_off_comes_back_as_zeros() {
    let root = new_root();
    let file = root.open("a", NEW).unwrap();
    file.write_at(Some(0), &[7; 70_000]).unwrap();
    file.set_size(10).unwrap();
    file.set_size(70_000).unwrap();
    let mut all = vec![1; 70_000];
    assert_eq!(file.read_at(0, &mut all), Ok(70_000));
    assert_eq!(all[..10], [7; 10]);
    assert!(all[10..].iter().all(|byte| *byte == 0));
}

#[test]
fn every_byte_is_the_accounts_and_comes_back_when_it_is_gone() {
    let (account, root) = root_of(1 << 20);
    let before = account.lock().held();
    let file = root.open("a", NEW).unwrap();
    let mut written = 0;
    let refused = loop {
        match file.write_at(None, &[1; 10_000]) {
            Ok((count, _)) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, FileError::NoSpace);
    assert!(written > 900_000 && written < 1 << 20, "{written}");
    let held = account.lock().held();
    assert!(held >= written && held <= 1 << 20, "{held}");
    // What is there can be read, changed and cut; a hole takes nothing.
    assert_eq!(file.write_at(Some(0), b"still").map(|done| done.0), Ok(5));
    file.set_size(4).unwrap();
    assert!(account.lock().held() < 2000);
    file.set_size(1 << 30).unwrap();
    assert!(account.lock().held() < 2000);
    assert_eq!(text(&root, "a").unwrap().len(), 64);
    drop(file);
    remove_file(&root, "a").unwrap();
    make_directory(&root, "d").unwrap();
    make(&root, "d/f", "x");
    rename(&root, "d/f", "a longer name").unwrap();
    remove_directory(&root, "d").unwrap();
    remove_file(&root, "a longer name").unwrap();
    assert_eq!(account.lock().held(), before);
}

#[test]
fn opening_obeys_its_flags() {
    let root = new_root();
    assert_eq!(open_error(&root, "a", READ), FileError::NotFound);
    make(&root, "a", "abc");
    make_directory(&root, "d").unwrap();
    let with = |change: fn(&mut Opening)| {
        let mut how = READ;
        change(&mut how);
        how
    };
    let exclusive = with(|how| (how.create, how.exclusive, how.write) = (true, true, true));
    let directory = with(|how| how.directory = true);
    let truncate = with(|how| (how.truncate, how.write) = (true, true));
    let both = with(|how| (how.create, how.directory) = (true, true));
    for (path, how, error) in [
        ("a", exclusive, FileError::Exists),
        ("a", directory, FileError::NotDirectory),
        ("a/", READ, FileError::NotDirectory),
        ("a/b", NEW, FileError::NotDirectory),
        ("b/", NEW, FileError::IsDirectory),
        ("d", NEW, FileError::IsDirectory),
        ("d", truncate, FileError::IsDirectory),
        ("b", both, FileError::Invalid),
        ("no/b", NEW, FileError::NotFound),
        ("", NEW, FileError::NotFound),
    ] {
        assert_eq!(open_error(&root, path, how), error, "{path} {how:?}");
    }
    assert!(root.open("d", directory).unwrap().is_directory());
    assert!(root.open(".", directory).unwrap().is_directory());
    drop(root.open("a", truncate).unwrap());
    assert_eq!(text(&root, "a").unwrap(), "");
    let reader = root.open("a", READ).unwrap();
    assert_eq!(
        reader.write_at(Some(0), b"x"),
        Err(FileError::BadDescriptor)
    );
    assert_eq!(root.write_at(Some(0), b"x"), Err(FileError::IsDirectory));
    assert_eq!(root.read_at(0, &mut [0]), Err(FileError::IsDirectory));
}

#[test]
fn no_path_leads_out() {
    let root = new_root();
    make_directory(&root, "d").unwrap();
    make(&root, "d/f", "in");
    for path in [
        "..",
        "../etc/passwd",
        "/etc/passwd",
        "/",
        "d/../..",
        "./../d/f",
        "d/../../d/f",
    ] {
        assert_eq!(open_error(&root, path, READ), FileError::Outside, "{path}");
        assert_eq!(
            rename(&root, "d/f", path),
            Err(FileError::Outside),
            "{path}"
        );
    }
    // Not even out of a directory further down.
    let inner = root.open("d", READ).unwrap();
    assert_eq!(text(&inner, "f").unwrap(), "in");
    assert_eq!(open_error(&inner, "../d/f", READ), FileError::Outside);
    assert_eq!(text(&root, "d/.././/d/f").unwrap(), "in");
    assert_eq!(open_error(&root, "d/\0", NEW), FileError::IllegalName);
    let long = "x".repeat(256);
    assert_eq!(open_error(&root, &long, NEW), FileError::NameTooLong);
    let long = "./".repeat(2049);
    assert_eq!(open_error(&root, &long, READ), FileError::NameTooLong);
}

#[test]
fn renaming_replaces_only_like_with_like() {
    let root = new_root();
    make(&root, "a", "a");
    make(&root, "b", "b");
    for path in ["d", "e", "e/inner"] {
        make_directory(&root, path).unwrap();
    }
    for (from, to, error) in [
        ("a", "d", FileError::IsDirectory),
        ("d", "a", FileError::NotDirectory),
        ("d", "e", FileError::NotEmpty),
        ("e", "e/inner/e", FileError::Invalid),
        ("e", "e/e", FileError::Invalid),
        ("a/", "c", FileError::NotDirectory),
        ("no", "c", FileError::NotFound),
        ("a", "no/c", FileError::NotFound),
        (".", "c", FileError::Invalid),
    ] {
        assert_eq!(rename(&root, from, to), Err(error), "{from} to {to}");
    }
    rename(&root, "a", "a").unwrap();
    rename(&root, "a", "b").unwrap();
    rename(&root, "e/inner", "d").unwrap();
    rename(&root, "b", "d/b").unwrap();
    assert_eq!(text(&root, "d/b").unwrap(), "a");
    assert_eq!(names(&root, "."), [".", "..", "e", "d"]);
    assert_eq!(names(&root, "d"), [".", "..", "b"]);
}

#[test]
fn a_file_without_a_name_lives_until_it_is_closed() {
    let (account, root) = root_of(1 << 20);
    let before = account.lock().held();
    let file = root.open("a", NEW).unwrap();
    remove_file(&root, "a").unwrap();
    assert_eq!(text(&root, "a"), Err(FileError::NotFound));
    file.write_at(Some(0), &[1; 1000]).unwrap();
    assert_eq!(file.tree().stat(file.node).unwrap().links, 0);
    drop(file);
    assert_eq!(account.lock().held(), before);

    make_directory(&root, "d").unwrap();
    let gone = root.open("d", READ).unwrap();
    remove_directory(&root, "d").unwrap();
    assert_eq!(open_error(&gone, "f", NEW), FileError::NotFound);
    assert_eq!(make_directory(&gone, "f"), Err(FileError::NotFound));
}

#[test]
fn removing_asks_for_the_right_kind() {
    let root = new_root();
    make_directory(&root, "d").unwrap();
    make(&root, "d/f", "x");
    assert_eq!(remove_file(&root, "d"), Err(FileError::IsDirectory));
    assert_eq!(remove_file(&root, "d/f/"), Err(FileError::NotDirectory));
    assert_eq!(remove_directory(&root, "d/f"), Err(FileError::NotDirectory));
    assert_eq!(remove_directory(&root, "d"), Err(FileError::NotEmpty));
    assert_eq!(remove_directory(&root, "."), Err(FileError::Invalid));
    assert_eq!(make_directory(&root, "d"), Err(FileError::Exists));
    remove_file(&root, "d/f").unwrap();
    remove_directory(&root, "d/").unwrap();
    assert_eq!(names(&root, "."), [".", ".."]);
}

#[test]
fn a_listing_survives_what_happens_meanwhile() {
    let root = new_root();
    for index in 0..10 {
        make(&root, &format!("f{index}"), "");
    }
    let mut at = 0;
    let mut seen = Vec::new();
    while let Some(line) = {
        let tree = root.tree();
        let line = tree.list(root.node, at).unwrap().next();
        drop(tree);
        line
    } {
        at = line.next;
        if !line.is_directory {
            remove_file(&root, &line.name).unwrap();
        }
        seen.push(line.name.to_string());
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert_eq!(names(&root, "."), [".", ".."]);
}

#[test]
fn numbers_are_bounded() {
    let root = root_of(64 << 20).1;
    let mut path = "d".to_owned();
    for _ in 0..DEPTH_MAX {
        make_directory(&root, &path).unwrap();
        path.push_str("/d");
    }
    assert_eq!(make_directory(&root, &path), Err(FileError::NameTooLong));
    make_directory(&root, "e").unwrap();
    make_directory(&root, "e/e").unwrap();
    let deep = path.strip_suffix("/d/d").unwrap();
    assert_eq!(
        rename(&root, "e", &format!("{deep}/e")),
        Err(FileError::NameTooLong)
    );

    let mut open = Vec::new();
    let error = loop {
        match root.open("many", NEW) {
            Ok(file) => open.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!((error, open.len()), (FileError::TooManyOpen, OPEN_MAX - 1));
    drop(open);
    let mut made = 0;
    while make_directory(&root, &format!("n{made}")).is_ok() {
        made += 1;
    }
    assert!(made < NODES_MAX && made > NODES_MAX - 100, "{made}");
}

#[test]
fn the_lowest_free_number_is_given_and_two_can_change_places() {
    let account = root_of(1 << 20).0;
    let tree = share(account);
    let mut table = Table::new(Arc::clone(&tree)).unwrap();
    assert!(table.is_first(3) && !table.is_first(4));
    let open = |table: &Table, name: &str| table.get(3).unwrap().open(name, NEW).unwrap();
    let (a, b) = (open(&table, "a"), open(&table, "b"));
    let node = b.node;
    assert_eq!((table.insert(a), table.insert(b)), (Ok(4), Ok(5)));
    table.close(4).unwrap();
    assert_eq!(table.close(4), Err(FileError::BadDescriptor));
    assert_eq!(table.close(99), Err(FileError::BadDescriptor));
    let c = open(&table, "c");
    assert_eq!(table.insert(c), Ok(4));
    assert_eq!(table.renumber(5, 7), Err(FileError::BadDescriptor));
    table.renumber(5, 4).unwrap();
    assert_eq!(table.get(4).unwrap().node, node);
    assert!(table.get(5).is_err());
    table.renumber(4, 3).unwrap();
    assert!(!table.is_first(3));
}

#[test]
fn an_offset_never_leaves_its_range() {
    let root = new_root();
    let mut file = root.open("a", NEW).unwrap();
    file.write_at(Some(0), b"12345").unwrap();
    assert_eq!(file.seek(Origin::End, -2), Ok(3));
    assert_eq!(file.seek(Origin::Here, 10), Ok(13));
    assert_eq!(file.seek(Origin::Here, -14), Err(FileError::Invalid));
    assert_eq!(file.seek(Origin::Here, i64::MAX), Err(FileError::Invalid));
    assert_eq!(file.seek(Origin::Start, i64::MIN), Err(FileError::Invalid));
    assert_eq!(file.seek(Origin::Here, 0), Ok(13));
}
