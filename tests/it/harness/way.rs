//! A way between one node and its Redis that can be cut, as a network is that loses every packet: nothing is refused and
//! nothing closed.
//!
//! Where root allows, the node runs in a network namespace of its own, with two pairs of virtual interfaces: one leads to Redis
//! and is cut, the other to the tests and to what guests ask. Elsewhere [`Proxy`] stands for the network.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::nodes::Spot;
use super::{Counter, Proxy, Redis, is_root};

/// See the module. What it made is removed when it is dropped.
#[derive(Debug)]
pub(crate) enum Way {
    Proxy(Proxy),
    Network(Network),
}

/// A network namespace and how it is reached.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    /// Tells its addresses from those of others.
    number: u8,
}

/// Network namespaces made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

impl Way {
    /// A way through a network of its own where this user may make one, through a proxy elsewhere; says which. With the Redis it
    /// leads to, and a counter that guests of all nodes reach.
    #[track_caller]
    pub(crate) fn through_a_network() -> (Self, Redis, Counter) {
        match Network::new() {
            Ok(network) => {
                println!(
                    "form: network namespace {} with veth pairs; packets to Redis are lost when its pair is down",
                    network.name
                );
                let durable = ["--appendonly", "yes", "--appendfsync", "always"];
                let (own, open) = (network.near(0), ["--protected-mode", "no"]);
                let reached = ["--bind", "127.0.0.1", &own];
                let redis = Redis::with(&[&durable[..], &reached, &open].concat());
                let counter = Counter::start_at(&network.near(1));
                (Self::Network(network), redis, counter)
            }
            Err(why) => {
                println!("form: proxy, because there can be no network namespace here: {why}");
                Self::through_a_proxy()
            }
        }
    }

    /// A way through a proxy.
    #[track_caller]
    pub(crate) fn through_a_proxy() -> (Self, Redis, Counter) {
        let redis = Redis::start();
        (
            Self::Proxy(Proxy::start(redis.port)),
            redis,
            Counter::start(),
        )
    }

    /// Where the node runs whose way this is.
    pub(crate) fn spot(&self, redis: &Redis) -> Spot {
        match self {
            Self::Proxy(proxy) => Spot::here(proxy.url()),
            Self::Network(network) => Spot {
                url: format!("redis://{}:{}", network.near(0), redis.port),
                within: ["ip", "netns", "exec", &network.name]
                    .map(str::to_owned)
                    .to_vec(),
                listen: format!("{}:0", network.far(1)),
            },
        }
    }

    /// From now on nothing arrives.
    #[track_caller]
    pub(crate) fn cut(&self) {
        match self {
            Self::Proxy(proxy) => proxy.block(),
            Self::Network(network) => network.set("down"),
        }
    }

    /// It is as it was.
    #[track_caller]
    pub(crate) fn heal(&self) {
        match self {
            Self::Proxy(proxy) => proxy.free(),
            Self::Network(network) => network.set("up"),
        }
    }
}

impl Network {
    fn new() -> Result<Self, String> {
        if !is_root() {
            return Err("the tests do not run as root".to_owned());
        }
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("w{}-{made}", std::process::id()),
            number: fastrand::u8(..),
        };
        ip(&["netns", "add", &network.name])?;
        // What is made from here on goes with it.
        for pair in 0..2 {
            let (near, far) = (network.interface('n', pair), network.interface('f', pair));
            let peer = ["peer", "name", &far, "netns", &network.name];
            ip(&[&["link", "add", &near, "type", "veth"][..], &peer].concat())?;
            let address = format!("{}/30", network.near(pair));
            ip(&["addr", "add", &address, "dev", &near])?;
            ip(&["link", "set", &near, "up"])?;
            let address = format!("{}/30", network.far(pair));
            ip(&["-n", &network.name, "addr", "add", &address, "dev", &far])?;
            ip(&["-n", &network.name, "link", "set", &far, "up"])?;
        }
        ip(&["-n", &network.name, "link", "set", "lo", "up"])?;
        Ok(network)
    }

    fn interface(&self, end: char, pair: u8) -> String {
        format!("{}{end}{pair}", self.name)
    }

    /// The address of the pair's end here.
    fn near(&self, pair: u8) -> String {
        format!("10.{}.{}.1", 213 + pair, self.number)
    }

    /// The address of its end in the namespace.
    fn far(&self, pair: u8) -> String {
        format!("10.{}.{}.2", 213 + pair, self.number)
    }

    #[track_caller]
    fn set(&self, state: &str) {
        let done = ip(&["link", "set", &self.interface('n', 0), state]);
        done.expect("its own interface");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(ip(&["netns", "del", &self.name]));
    }
}

/// What `ip` says when it fails.
fn ip(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("ip");
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error} (install iproute2)"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), errors.trim()))
}
