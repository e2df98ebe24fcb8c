use super::*;

#[tokio::test]
async fn commands_scripts_and_batches_are_answered() {
    static ADD: Script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let (link, config) = test_server::link().await;
    let key = format!("{}:n", config.prefix);
    let mut add = ADD.call(&[&key]);
    add.arg(2);
    // Twice: the server may not have known it, and does now.
    assert_eq!(link.call::<i64>(&ADD, &add).await.unwrap(), 2);
    let mut batch = Batch::default();
    batch.call(&ADD, add.clone());
    batch.push(cmd("LPUSH").arg(&key).arg(1).clone());
    batch.push(cmd("GET").arg(&key).clone());
    let answers = link.run(&batch).await.unwrap();
    assert!(matches!(answers[0], Ok(Value::Int(4))));
    assert!(
        matches!(answers[1], Err(Error::Unexpected(_))),
        "{:?}",
        answers[1]
    );
    assert!(matches!(&answers[2], Ok(Value::BulkString(text)) if text == b"4"));
}

#[tokio::test]
async fn channels_and_changes_of_keys_are_heard() {
    let (link, config) = test_server::link().await;
    let (ears, mut heard) = link.listen(vec![format!("{}:e:", config.prefix)]);
    assert_eq!(heard.recv().await, Some(Heard::Back));
    let key = format!("{}:e:a", config.prefix);
    let _: () = link.query(cmd("SET").arg(&key).arg(1)).await.unwrap();
    assert_eq!(heard.recv().await, Some(Heard::Changed(vec![key])));
    let channel = format!("{}:c", config.prefix);
    ears.subscribe(&channel);
    let mut count = 0;
    while count == 0 {
        count = link
            .query(cmd("PUBLISH").arg(&channel).arg("hello"))
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    let said = Heard::Message {
        channel,
        payload: "hello".into(),
    };
    assert_eq!(heard.recv().await, Some(said));
}

#[tokio::test]
async fn a_server_that_evicts_or_holds_another_cluster_is_refused() {
    let server = test_server::Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let config = Config {
        url: Some(server.url()),
        ..Config::default()
    };
    let refused = Link::open(&config).await.unwrap_err().to_string();
    assert!(refused.contains("noeviction"), "{refused}");
    let config = test_server::config();
    Link::open(&config).await.unwrap();
    let other = Config {
        cluster: "other".to_owned(),
        ..config
    };
    let refused = Link::open(&other).await.unwrap_err().to_string();
    assert!(refused.contains("[redis] prefix"), "{refused}");
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_one() {
    let server = test_server::Server::start(&["--requirepass", "secret"]);
    let config = Config {
        url: Some(server.url()),
        ..Config::default()
    };
    assert!(matches!(Link::open(&config).await, Err(Error::Refused(_))));
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let server = test_server::Server::start(&[]);
    let config = Config {
        url: Some(server.url()),
        ..Config::default()
    };
    let link = Link::open(&config).await.unwrap();
    let kill = cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("no")
        .clone();
    // It ends its own connection, too: whether an answer comes is chance.
    drop(link.query::<Value>(&kill).await);
    let mut answer = link.query::<String>(&cmd("PING")).await;
    while answer.is_err() {
        tokio::task::yield_now().await;
        answer = link.query::<String>(&cmd("PING")).await;
    }
    drop(server);
    assert!(matches!(
        link.query::<String>(&cmd("PING")).await,
        Err(Error::Unavailable(_))
    ));
}

#[test]
fn urls_say_what_is_wrong_with_them_and_never_the_password() {
    for (url, said) in [
        ("localhost:6379", "no scheme"),
        ("http://localhost", "scheme is not redis"),
        ("redis://u:secret@a,b", "several hosts"),
        (
            "redis+sentinel://u:secret@a:26379",
            "does not name the service",
        ),
        ("redis+cluster://a:1,b:2/3", "no numbered databases"),
        ("redis+other://a", "neither cluster nor sentinel"),
        ("redis://", "a host is missing"),
    ] {
        let config = Config {
            url: Some(url.to_owned()),
            ..Config::default()
        };
        let error = Target::parse(&config).err().unwrap().to_string();
        assert!(error.contains(said), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
