//! The other forms that Redis has: a replica that a sentinel makes the master, and a Redis Cluster.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::load::Load;
use crate::harness::{ECHO, Nodes, Redis, Tenant, eventually, free_port};

/// A number of a Redis's `INFO`.
fn info(redis: &Redis, name: &str) -> Option<u64> {
    let info = redis.cli(&["INFO", "replication"]);
    let mut lines = info.lines();
    lines.find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .trim()
            .parse()
            .ok()
    })
}

#[test]
fn a_fail_over_by_sentinel_loses_only_what_the_replica_had_not_got() {
    let master = Redis::start();
    let of = format!("127.0.0.1 {}", master.port);
    let replica = Redis::with(&["--appendonly", "yes", "--replicaof", &of]);
    let sentinel = Redis::sentinel(&master);
    eventually("the sentinel knows the replica", || {
        let known = sentinel.cli(&["SENTINEL", "replicas", "wisp"]);
        (known.contains(&replica.port.to_string()) && !known.contains("disconnected")).then_some(())
    });
    eventually("the replica has all", || {
        let answer = replica.cli(&["INFO", "replication"]);
        answer.contains("master_link_status:up").then_some(())
    });
    let url = format!("redis+sentinel://127.0.0.1:{}/wisp", sentinel.port);
    let nodes = Nodes::start(&url, &["front", "worker"], 2, "");
    let tenant = nodes.at(0).tenant();
    tenant.put_action("a", ECHO);
    let (load, params) = (Load::default(), json!({ "x": 1 }));
    let (safe, gone) = std::thread::scope(|scope| {
        let _running = load.running();
        scope.spawn(|| load.go_on("a", &params, Duration::from_millis(5), || tenant.clone()));
        load.await_accepted(50);
        let safe = load.ids();
        let offset = info(&master, "master_repl_offset").expect("an offset");
        eventually("the replica has it", || {
            (info(&replica, "slave_repl_offset")? >= offset).then_some(())
        });
        master.kill();
        let gone = Instant::now();
        sentinel.fail_over();
        eventually("the replica is the master", || {
            replica.cli(&["ROLE"]).starts_with("master").then_some(())
        });
        println!("the replica is the master after {:?}", gone.elapsed());
        let before = load.ids().len();
        load.await_accepted(before + 20);
        println!("service is back after {:?}", gone.elapsed());
        (safe, gone)
    });
    for id in &safe {
        tenant.awaited(id);
    }
    eventually("calls are answered", || {
        (tenant.result("a", &params).status == 200).then_some(())
    });
    let ids = load.ids();
    // Those that were accepted by the master alone may be lost; all others are not.
    let lost = || {
        ids.iter()
            .filter(|id| tenant.get(&format!("activations/{id}")).status != 200)
            .count()
    };
    eventually("few are lost", || (lost() <= 20).then_some(()));
    println!(
        "fail-over: accepted {}, of which {} had certainly been copied; lost {}, all over after {:?}",
        ids.len(),
        safe.len(),
        lost(),
        gone.elapsed()
    );
    for index in 0..nodes.count() {
        assert!(
            nodes.at(index).ended().is_none(),
            "{}",
            nodes.at(index).log()
        );
    }
}

/// A Redis Cluster of so many servers, each master with so many replicas.
#[track_caller]
fn redis_cluster(count: usize, replicas: usize) -> (Vec<Redis>, Vec<String>) {
    let servers: Vec<Redis> = (0..count)
        .map(|_| {
            let bus = free_port().to_string();
            let options = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "2000",
            ];
            let durable = ["--appendonly", "yes", "--appendfsync", "always"];
            Redis::with(&[&options[..], &durable[..]].concat())
        })
        .collect();
    let hosts: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    let replicas = replicas.to_string();
    let mut create = vec!["--cluster", "create"];
    create.extend(hosts.iter().map(String::as_str));
    create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
    let said = servers[0].cli(&create);
    eventually("the cluster is one", || {
        servers.iter().all(is_ready).then_some(())
    });
    assert!(said.contains("All 16384 slots covered"), "{said}");
    (servers, hosts)
}

fn is_ready(server: &Redis) -> bool {
    server
        .cli(&["CLUSTER", "INFO"])
        .contains("cluster_state:ok")
}

/// Which of the servers is the master of the slot that `key` is in.
fn master_of(servers: &[Redis], key: &str) -> Option<usize> {
    let slot: u32 = servers[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().ok()?;
    let has = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bounds = (first.parse::<u32>(), last.parse::<u32>());
        matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
    };
    servers.iter().position(|server| {
        let all = server.cli(&["CLUSTER", "NODES"]);
        let own = all.lines().find(|line| line.contains("myself"));
        own.is_some_and(|line| line.contains("master") && line.split(' ').skip(8).any(has))
    })
}

#[test]
fn a_fail_over_inside_a_redis_cluster_loses_only_what_the_replica_had_not_got() {
    let (mut servers, hosts) = redis_cluster(6, 1);
    eventually("every master has its replica", || {
        let replica = |server: &&Redis| {
            let answer = server.cli(&["INFO", "replication"]);
            answer.contains("master_link_status:up")
        };
        (servers.iter().filter(replica).count() == 3).then_some(())
    });
    let url = format!("redis+cluster://{}", hosts.join(","));
    let nodes = Nodes::start(&url, &["front", "worker"], 2, "");
    let tenant = nodes.at(0).tenant();
    tenant.put_action("a", ECHO);
    let (load, params) = (Load::default(), json!({ "x": 1 }));
    // The one that has the action's stream.
    let name = &tenant.namespace;
    let stream = format!("faults:q:{{{name}|{name}/a}}:s");
    let master = servers.remove(master_of(&servers, &stream).expect("a master"));
    let (safe, refused, gone) = std::thread::scope(|scope| {
        let _running = load.running();
        scope.spawn(|| load.go_on("a", &params, Duration::from_millis(5), || tenant.clone()));
        load.await_accepted(50);
        let safe = load.ids();
        // What `WAIT` would say of these: its replica has acknowledged as much as it had written then.
        let offset = info(&master, "master_repl_offset").expect("an offset");
        eventually("the replica has it", || {
            let answer = master.cli(&["INFO", "replication"]);
            let slave = answer.lines().find(|line| line.starts_with("slave0:"))?;
            let acked = slave.split("offset=").nth(1)?.split(',').next()?;
            (acked.parse::<u64>().ok()? >= offset).then_some(())
        });
        let refused = load.refused.load(std::sync::atomic::Ordering::Relaxed);
        master.kill();
        let gone = Instant::now();
        eventually("a replica is the master", || master_of(&servers, &stream));
        println!("a replica is the master after {:?}", gone.elapsed());
        let before = load.ids().len();
        load.await_accepted(before + 20);
        println!("service is back after {:?}", gone.elapsed());
        (safe, refused, gone)
    });
    for id in &safe {
        tenant.awaited(id);
    }
    eventually("calls are answered", || {
        (tenant.result("a", &params).status == 200).then_some(())
    });
    let ids = load.ids();
    let lost = || {
        let is_lost = |id: &&String| tenant.get(&format!("activations/{id}")).status != 200;
        ids.iter().filter(is_lost).count()
    };
    eventually("few are lost", || (lost() <= 20).then_some(()));
    let times_refused = load.refused.load(std::sync::atomic::Ordering::Relaxed) - refused;
    println!(
        "fail-over inside a Redis Cluster of 3 + 3: accepted {}, of which {} had certainly been copied; lost {}, \
         refused meanwhile {times_refused}, all over after {:?}",
        ids.len(),
        safe.len(),
        lost(),
        gone.elapsed()
    );
    for index in 0..nodes.count() {
        let log = nodes.at(index).log();
        assert!(nodes.at(index).ended().is_none(), "{log}");
    }
}

#[test]
fn a_redis_cluster_carries_the_life_of_actions_and_of_accepted_work() {
    let (servers, hosts) = redis_cluster(3, 0);
    let url = format!("redis+cluster://{}", hosts.join(","));
    let mut nodes = Nodes::start(&url, &["front", "worker", "worker"], 2, "");
    let load = Load::default();
    // Actions and namespaces lie on different servers.
    let tenants: Vec<Tenant> = (0..3).map(|_| nodes.at(0).tenant()).collect();
    for tenant in &tenants {
        for name in ["a", "b", "c"] {
            tenant.put_action(name, ECHO);
            let answer = tenant.result(name, &json!({ "x": name })).expect(200);
            assert_eq!(answer.json(), json!({ "x": name }));
        }
        tenant.delete("actions/c").expect(200);
        tenant.result("c", &json!({})).expect(404);
    }
    let call = |count: usize| {
        for _ in 0..count {
            load.call(&tenants[0], "b", &json!({ "x": 1 }));
        }
    };
    call(30);
    nodes.kill(1);
    call(30);
    for server in &servers {
        server.kill();
        server.start_again();
        eventually("the cluster is one again", || {
            servers.iter().all(is_ready).then_some(())
        });
        let before = load.ids().len();
        eventually("calls are accepted again", || {
            call(1);
            (load.ids().len() > before).then_some(())
        });
        call(10);
    }
    for id in load.ids() {
        tenants[0].awaited(&id);
    }
    println!(
        "a Redis Cluster each of whose servers died once: accepted {}, all recorded; refused {:?}",
        load.ids().len(),
        load.refused
    );
    for index in [0, 2] {
        assert!(
            nodes.at(index).ended().is_none(),
            "{}",
            nodes.at(index).log()
        );
    }
}
