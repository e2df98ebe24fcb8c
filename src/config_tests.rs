use super::*;

fn load(text: &str, environment: &Environment, flags: Vec<Setting>) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wisp.toml");
    std::fs::write(&file, text).unwrap();
    let loaded = Config::load(Some(&file), environment, flags);
    loaded.map_err(|error| {
        let folder = format!("{}/", folder.path().display());
        error.to_string().replace(&folder, "")
    })
}

fn refusal(text: &str) -> String {
    load(text, &Environment::default(), Vec::new()).expect_err("must be refused")
}

#[test]
fn the_default_file_says_exactly_the_defaults() {
    let parsed: Config = toml::from_str(DEFAULTS).unwrap();
    assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    assert_eq!(parsed.validate(), Ok(()));
}

/// serde lists what it expected, so it is asked for the fields of every section.
#[test]
fn the_default_file_mentions_every_key() {
    let expected = |text: &str| {
        let error = toml::from_str::<Config>(text).expect_err("unknown");
        let message = error.message().to_owned();
        let (_, names) = message.split_once("expected ").unwrap();
        let names = names.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    for section in expected("zz = 1") {
        let header = format!("[{section}]");
        let (_, body) = DEFAULTS
            .split_once(&header)
            .unwrap_or_else(|| panic!("no {header}"));
        let body = body.split("\n[").next().unwrap();
        for key in expected(&format!("[{section}]\nzz = 1")) {
            let said = |line: &str| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} ="))
            };
            let as_table = DEFAULTS.contains(&format!("[{section}.{key}]"));
            assert!(
                as_table || body.lines().any(said),
                "{header} does not mention {key}"
            );
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    assert_eq!(
        refusal("[server]\nlisten = \"127.0.0.1:1\"\nlisen = 3\n"),
        "wisp.toml:3: unknown field `lisen`, expected one of `listen`, `data`, `artefacts`, `compiler`, `api_host`"
    );
    let section = refusal("\n\n[sever]\n");
    assert!(
        section.starts_with("wisp.toml:3: unknown field `sever`"),
        "{section}"
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_line() {
    assert_eq!(
        refusal("[server]\nlisten = true\n"),
        "wisp.toml:2: invalid type: boolean `true`, expected socket address"
    );
    let broken = refusal("[server]\nlisten =\n");
    assert!(broken.starts_with("wisp.toml:2: "), "{broken}");
}

#[test]
fn what_only_the_whole_can_tell_is_blamed_on_who_said_it_last() {
    let file = "# mine\n[log]\nfilter = \"wisp=loud\"\n";
    let reason = "log.filter: 'wisp=loud' is no log filter: ";
    let refused = refusal(file);
    assert!(
        refused.starts_with(&format!("wisp.toml:3: {reason}")),
        "{refused}"
    );

    let environment = Environment::of([("WISP_LOG_FILTER", "wisp=loud")]);
    let refused = load("[log]\nfilter = \"info\"", &environment, Vec::new()).unwrap_err();
    let start = format!("environment variable WISP_LOG_FILTER: {reason}");
    assert!(refused.starts_with(&start), "{refused}");

    let flag = Setting::flag("--data", "server", "data", "");
    let refused = load("", &Environment::default(), vec![flag]).unwrap_err();
    assert!(
        refused.starts_with("flag --data: server.data: "),
        "{refused}"
    );
}

#[test]
fn the_environment_goes_over_the_file_and_flags_over_both() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\ndata = \"a\"\n[log]\nformat = \"json\"";
    let environment = Environment::of([
        ("WISP_SERVER_LISTEN", "127.0.0.1:2"),
        ("WISP_SERVER_DATA", "\"b\""),
        ("WISP_SYSTEM_KEY", "u:k"),
    ]);
    let flag = Setting::flag("--listen", "server", "listen", "127.0.0.1:3");
    let config = load(file, &environment, vec![flag]).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.data, Path::new("b"));
    assert_eq!(config.log.format, telemetry::Format::Json);
}

#[test]
fn a_variable_that_only_looks_like_a_number_is_text_where_text_is_wanted() {
    let environment = Environment::of([("WISP_SERVER_DATA", "2024")]);
    let config = load("", &environment, Vec::new()).unwrap();
    assert_eq!(config.server.data, Path::new("2024"));
}

#[test]
fn variables_of_a_known_section_must_be_known_others_are_only_named() {
    let environment = Environment::of([("WISP_SERVER_LISEN", "x")]);
    let refused = load("", &environment, Vec::new()).unwrap_err();
    let start = "environment variable WISP_SERVER_LISEN: unknown field `lisen`";
    assert!(refused.starts_with(start), "{refused}");

    let environment = Environment::of([("WISP_SEVER_LISTEN", "x"), ("WISP_AUTH", "u:k")]);
    assert!(load("", &environment, Vec::new()).is_ok());
    assert_eq!(environment.strangers(), ["WISP_SEVER_LISTEN"]);
}

#[test]
fn what_is_shown_says_everything_and_can_be_read_back() {
    let environment = Environment::of([("WISP_SERVER_DATA", "elsewhere")]);
    let shown = Config::show(None, &environment, Vec::new()).unwrap();
    let config: Config = toml::from_str(&shown).unwrap();
    assert_eq!(config.server.data, Path::new("elsewhere"));
    let keys = ["listen =", "data =", "format =", "filter ="];
    assert!(keys.iter().all(|key| shown.contains(key)), "{shown}");
}

#[test]
fn properties_are_where_wsk_keeps_them() {
    let named = Environment::of([("HOME", "/h"), ("WSK_CONFIG_FILE", "/p")]);
    assert_eq!(named.properties_file(), Some(PathBuf::from("/p")));
    let home = Environment::of([("HOME", "/h")]);
    assert_eq!(home.properties_file(), Some(PathBuf::from("/h/.wskprops")));
}
