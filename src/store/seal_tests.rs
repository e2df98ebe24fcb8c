use super::*;

const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";

fn seal(keys: &str) -> Seal {
    Seal {
        keys: parse(keys).expect("keys"),
    }
}

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).expect("legal")
}

fn parameters(value: &str) -> Parameters {
    Parameters(vec![Parameter {
        key: "secret".to_owned(),
        value: Json::parse(value.as_bytes()).expect("JSON"),
        init: false,
        encryption: None,
        opened: None,
        digest: None,
    }])
}

/// As a server loads its keys.
fn load(config: &Config, folder: &Path) -> std::result::Result<Seal, String> {
    let seal = Seal::of(config)?;
    seal.check_folder(folder)?;
    Ok(seal)
}

/// As they come back from the store.
fn stored(parameters: &Parameters) -> Parameters {
    let text = serde_json::to_string(parameters).expect("JSON");
    serde_json::from_str(&text).expect("parameters")
}

#[test]
fn what_is_stored_tells_nothing_and_is_opened_again() {
    for (key, cipher) in [(ONE, "aes-256"), (TWO, "aes-128")] {
        let (seal, guest) = (seal(key), namespace("guest"));
        for value in ["\"hush hush\"", "null", "{\"a\":[1,\"hush\"]}"] {
            let mut closed = parameters(value);
            seal.close(&guest, &mut closed).expect("encrypted");
            assert_eq!(closed.0[0].encryption.as_deref(), Some(cipher));
            assert_eq!(closed.0[0].plain().map(Json::get), Some(value));
            let text = serde_json::to_string(&closed).expect("JSON");
            assert!(!text.contains("hush"), "{text}");
            let mut read = stored(&closed);
            assert_eq!(read.locked(), Some("secret"), "before it is opened");
            seal.open(&[&guest], &mut read);
            assert_eq!(read.0[0].plain().map(Json::get), Some(value));
            assert_eq!(read, closed);
        }
    }
}

#[test]
fn the_stored_value_is_in_the_form_of_openwhisk() {
    let mut closed = parameters("1");
    seal(ONE)
        .close(&namespace("guest"), &mut closed)
        .expect("encrypted");
    let text: String = serde_json::from_str(closed.0[0].value.get()).expect("a string");
    let whole = STANDARD.decode(text).expect("base64");
    assert_eq!(whole[..4], 12u32.to_be_bytes(), "length of the nonce");
    assert_eq!(whole.len(), 4 + 12 + 1 + 16, "nonce, value, tag");
    let mut again = parameters("1");
    seal(ONE)
        .close(&namespace("guest"), &mut again)
        .expect("encrypted");
    assert_ne!(again.0[0].value, closed.0[0].value, "no nonce comes twice");
}

#[test]
fn a_value_opens_nowhere_else() {
    let seal = seal(ONE);
    let mut closed = parameters("\"x\"");
    seal.close(&namespace("guest"), &mut closed)
        .expect("encrypted");
    let mut stolen = stored(&closed);
    seal.open(&[&namespace("thief")], &mut stolen);
    assert_eq!(stolen.locked(), Some("secret"), "in another namespace");
    let mut renamed = stored(&closed);
    renamed.0[0].key = "shown".to_owned();
    seal.open(&[&namespace("guest")], &mut renamed);
    assert_eq!(renamed.locked(), Some("shown"), "under another name");
    let mut found = stored(&closed);
    seal.open(&[&namespace("thief"), &namespace("guest")], &mut found);
    assert_eq!(found.locked(), None, "where either may have written it");
}

#[test]
fn a_former_key_reads_and_the_first_one_writes() {
    let guest = namespace("guest");
    let mut old = parameters("1");
    seal(ONE).close(&guest, &mut old).expect("encrypted");
    let both = seal(&format!("{TWO}\n{ONE}"));
    let mut read = stored(&old);
    both.close(&guest, &mut read).expect("encrypted");
    assert_eq!(read.0[0].plain().map(Json::get), Some("1"));
    assert_eq!(read.0[0].encryption.as_deref(), Some("aes-128"));
    let mut new = parameters("1");
    both.close(&guest, &mut new).expect("encrypted");
    assert_eq!(new.0[0].encryption.as_deref(), Some("aes-128"));
    let mut lost = stored(&old);
    seal(TWO).open(&[&guest], &mut lost);
    assert_eq!(lost.locked(), Some("secret"));
}

#[test]
fn without_a_key_nothing_changes() {
    let none = Seal::default();
    let mut given = parameters("1");
    given.0[0].encryption = Some("mine".to_owned());
    none.close(&namespace("guest"), &mut given)
        .expect("nothing to do");
    assert_eq!(given.0[0].value.get(), "1");
    assert_eq!(given.0[0].plain().map(Json::get), Some("1"));
    let entry = Bytes::from_static(b"{}");
    let id = ActivationId(7);
    assert_eq!(
        none.close_entry(id, entry.clone()).expect("as it is"),
        entry
    );
}

#[test]
fn an_entry_of_the_log_opens_under_its_own_id_and_old_ones_as_they_are() {
    let (seal, id) = (seal(ONE), ActivationId(7));
    let entry = Bytes::from_static(b"{\"secret\":1}");
    let kept = seal.close_entry(id, entry.clone()).expect("encrypted");
    assert!(!kept.windows(6).any(|part| part == b"secret"));
    assert_eq!(seal.open_entry(id, kept.clone()), entry);
    assert_eq!(seal.open_entry(ActivationId(8), kept.clone()), kept);
    assert_eq!(seal.open_entry(id, entry.clone()), entry);
}

#[test]
fn a_folder_wants_the_key_it_was_used_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |keys: &str| {
        let config = Config {
            keys: Some(keys.to_owned()),
            keys_file: None,
        };
        load(&config, folder.path())
    };
    load("").expect("never encrypted");
    load(ONE).expect("from now on");
    load(ONE).expect("again");
    for wrong in ["", TWO] {
        let refused = load(wrong).expect_err("the key is missing");
        assert!(refused.contains("WISP_ENCRYPTION_KEYS"), "{refused}");
    }
    load(&format!("{TWO} {ONE}")).expect("a new one, and the old one to read");
    load(TWO).expect("the new one is noted");
    load(ONE).expect_err("a former one alone is not enough");
}

#[test]
fn a_key_that_is_none_is_refused_without_being_repeated() {
    let config = |keys: &str| Config {
        keys: Some(keys.to_owned()),
        keys_file: None,
    };
    for bad in ["c2hvcnQ=", "not base64 at all", &format!("{ONE} x")] {
        let (key, why) = config(bad).validate().expect_err(bad);
        assert_eq!(key, "keys");
        assert!(why.contains("16 (AES-128) or 32 (AES-256)"), "{why}");
        assert!(!why.contains(bad), "{why}");
    }
    assert!(!format!("{:?}", config(ONE)).contains("AAAA"));
    config(ONE).validate().expect("a key");
}

#[test]
fn keys_are_read_from_a_file_one_in_each_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys");
    let config = Config {
        keys: None,
        keys_file: Some(file.clone()),
    };
    let missing = load(&config, folder.path()).expect_err("no file");
    assert!(missing.contains("keys_file"), "{missing}");
    fs::write(&file, "\n").expect("written");
    load(&config, folder.path()).expect_err("no key in it");
    fs::write(&file, format!("{TWO}\n{ONE}\n")).expect("written");
    let seal = load(&config, folder.path()).expect("two keys");
    assert_eq!(seal.keys.len(), 2);
}

#[test]
fn bytes_and_texts_open_where_they_were_kept_and_nowhere_else() {
    let (guest, other) = (namespace("guest"), namespace("other"));
    let (old, both, new) = (seal(ONE), seal(&format!("{TWO} {ONE}")), seal(TWO));
    let place = |namespace, what, name| Place {
        namespace,
        what,
        name,
    };
    let here = place(&guest, "values", b"k");
    let (bytes, text) = (b"\x04\0\0\0hush".to_vec(), Arc::<str>::from("\"hush\""));
    let kept = old.close_bytes(here, bytes.clone()).expect("encrypted");
    let said = old.close_text(here, Arc::clone(&text)).expect("encrypted");
    assert!(!said.contains("hush") && !kept.windows(4).any(|four| four == b"hush"));
    for seal in [&old, &both] {
        assert_eq!(seal.open_bytes(here, kept.clone()).expect("a key"), bytes);
        assert_eq!(seal.open_text(here, said.clone()).expect("a key"), text);
    }
    for elsewhere in [
        place(&other, "values", b"k"),
        place(&guest, "schedules", b"k"),
        place(&guest, "values", b"l"),
    ] {
        assert!(old.open_bytes(elsewhere, kept.clone()).is_err());
        assert!(old.open_text(elsewhere, said.clone()).is_err());
    }
    assert!(new.open_bytes(here, kept.clone()).is_err());
    assert!(Seal::default().open_text(here, said.clone()).is_err());
    assert!(old.is_current_text(&said) && !both.is_current_text(&said));
    assert!(!old.is_current_text(&text) && Seal::default().is_current_text(&text));
    // What is damaged is an error and never a panic, and what was never encrypted is as it was.
    for length in 0..kept.len() {
        drop(old.open_bytes(here, kept[..length].to_vec()));
    }
    for (length, _) in said.char_indices() {
        let (part, _) = said.split_at(length);
        drop(old.open_text(here, part.into()));
        old.is_current_text(part);
    }
    assert!(
        old.open_bytes(here, kept[..kept.len() - 1].to_vec())
            .is_err()
    );
    for seal in [&old, &Seal::default()] {
        assert_eq!(seal.open_bytes(here, bytes.clone()).expect("plain"), bytes);
        assert_eq!(seal.open_text(here, text.clone()).expect("plain"), text);
    }
    let plain = Seal::default().close_text(here, text.clone());
    assert_eq!(plain.expect("no key"), text);
}

#[test]
fn a_value_of_a_former_key_is_encrypted_with_the_one_in_use_when_it_is_written() {
    let guest = namespace("guest");
    let mut old = parameters("\"hush\"");
    assert_eq!(seal(ONE).close(&guest, &mut old).expect("encrypted"), 1);
    let mut read = stored(&old);
    let both = seal(&format!("{TWO} {ONE}"));
    assert_eq!(both.close(&guest, &mut read).expect("encrypted"), 1);
    assert_eq!(read.0[0].encryption.as_deref(), Some("aes-128"));
    let mut read = stored(&read);
    assert_eq!(both.close(&guest, &mut read).expect("encrypted"), 0);
    let mut read = stored(&read);
    seal(TWO).open(&[&guest], &mut read);
    assert_eq!(read.0[0].plain().map(Json::get), Some("\"hush\""));
}
