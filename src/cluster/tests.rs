use super::*;
use crate::link::{Batch, test_server};

#[tokio::test]
async fn nodes_see_each_other_and_who_died() {
    let (link, config) = test_server::link().await;
    let short = Config {
        lease_s: 1,
        ..Config::default()
    };
    let (a, b) = (
        Node::new(short.clone(), &config.prefix),
        Node::new(short, &config.prefix),
    );
    let facts = Member {
        runs_max: 7,
        ..Member::default()
    };
    for node in [&a, &b] {
        let mut batch = Batch::default();
        node.members.beat(node, &facts, &mut batch);
        link.run(&batch).await.unwrap();
    }
    let view = a.members.look(&link, &a).await.unwrap();
    assert_eq!(view.living.len(), 2);
    let seen = view.get(b.id()).unwrap();
    assert_eq!(seen.runs_max, 7);
    assert!(seen.lease_ends_ms > a.redis_now_ms());
    assert!(a.members.is_known_to_live(&a, b.id()));
    let asked = vec![Arc::from(b.id()), Arc::from("nobody")];
    assert_eq!(
        a.members.gone(&link, &a, asked).await.unwrap(),
        [Arc::from("nobody")]
    );
    // Only `a` renews: `b` is dead when its lease is over.
    let view = loop {
        let mut batch = Batch::default();
        a.members.beat(&a, &facts, &mut batch);
        link.run(&batch).await.unwrap();
        let view = a.members.look(&link, &a).await.unwrap();
        if view.living.len() == 1 {
            break view;
        }
    };
    assert_eq!(view.dead, [b.id()]);
    assert!(!a.members.is_known_to_live(&a, b.id()));
    assert_eq!(
        a.members
            .gone(&link, &a, vec![b.id().into()])
            .await
            .unwrap(),
        [Arc::from(b.id())]
    );
    a.members.remove(&link, b.id()).await.unwrap();
    assert!(a.members.look(&link, &a).await.unwrap().dead.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_here_before_it_ends_there() {
    let node = Node::new(Config::default(), "p");
    assert!(!node.fence.is_held());
    let asked = Instant::now();
    assert!(node.fence.extend(asked, node.config.lease()));
    let epoch = node.fence.epoch();
    assert!(node.fence.holds(epoch));
    tokio::time::advance(Duration::from_millis(4_499)).await;
    assert!(node.fence.is_held());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!node.fence.is_held());
    // What came late does not bring it back: what was held must be dropped first.
    assert!(!node.fence.extend(Instant::now(), node.config.lease()));
    node.lapse();
    assert!(node.fence.extend(Instant::now(), node.config.lease()));
    assert!(node.fence.is_held() && !node.fence.holds(epoch));
}

#[test]
fn a_node_comes_back_under_another_name() {
    let node = Node::new(Config::default(), "p");
    let before = node.name();
    node.lapse();
    assert_ne!(node.name(), before);
    assert_eq!(id_of(&node.name()), id_of(&before));
}

#[test]
fn a_secret_is_long_enough_and_comes_from_a_file_too() {
    let config = |secret: Option<&str>, file: Option<&std::path::Path>| Config {
        secret: secret.map(|text| Secret(text.to_owned())),
        secret_file: file.map(Into::into),
        ..Config::default()
    };
    assert_eq!(
        config(Some("short"), None).validate().unwrap_err().0,
        "secret"
    );
    let long = "a secret that is long";
    assert!(config(Some(long), None).validate().is_ok());
    assert!(!format!("{:?}", config(Some(long), None)).contains(long));
    let file = tempfile::NamedTempFile::new().unwrap();
    let from_file = config(None, Some(file.path()));
    assert!(from_file.secret().unwrap_err().contains("secret_file"));
    std::fs::write(file.path(), format!("{long}\n")).unwrap();
    assert_eq!(from_file.secret().unwrap().unwrap(), long);
    assert_eq!(Config::default().secret().unwrap(), None);
}
