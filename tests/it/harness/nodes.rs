//! Nodes of one cluster: real processes on one Redis.

use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Server, Tenant, eventually};

/// See the module. They end when they are dropped, or with the thread that started them.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Option<Server>>,
    folders: Vec<Arc<TempDir>>,
    configs: Vec<String>,
    spots: Vec<Spot>,
}

/// Where a node runs.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    /// How it reaches Redis.
    pub(crate) url: String,
    /// A command that runs it, if it does not run by itself.
    pub(crate) within: Vec<String>,
    /// What it listens on.
    pub(crate) listen: String,
}

impl Spot {
    /// A process on this machine, as any other.
    pub(crate) fn here(url: String) -> Self {
        Self {
            url,
            within: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
        }
    }

    /// A process on this machine whose clock goes otherwise: as `FAKETIME` says, but for the steady clock.
    #[track_caller]
    pub(crate) fn at_another_time(url: String, offset: &str) -> Self {
        let folders = std::fs::read_dir("/usr/lib").expect("a folder");
        let libraries = folders.flatten().map(|entry| entry.path());
        let library = libraries
            .flat_map(|folder| [folder.join("faketime"), folder])
            .map(|folder| folder.join("libfaketimeMT.so.1"))
            .find(|file| file.exists())
            .expect("libfaketime is installed (tests/run does it)");
        let within = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME={offset}"),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        Self {
            within: within.to_vec(),
            ..Self::here(url)
        }
    }
}

/// A node's configuration.
pub(crate) fn node_config(url: &str, role: &str, lease_s: u64, more: &str) -> String {
    format!(
        "[redis]\nurl = {url:?}\nprefix = \"faults\"\n[cluster]\nrole = {role:?}\nlease_s = {lease_s}\n{more}"
    )
}

impl Nodes {
    /// One node for each spot and role.
    #[track_caller]
    pub(crate) fn on(spots_and_roles: &[(Spot, &str)], lease_s: u64, more: &str) -> Self {
        let mut nodes = Self {
            nodes: Vec::new(),
            folders: Vec::new(),
            configs: Vec::new(),
            spots: Vec::new(),
        };
        for (spot, role) in spots_and_roles {
            nodes
                .folders
                .push(Arc::new(TempDir::new().expect("a temporary folder")));
            let config = node_config(&spot.url, role, lease_s, more);
            nodes.configs.push(config);
            nodes.spots.push(spot.clone());
            nodes.nodes.push(None);
            nodes.start_again(nodes.nodes.len() - 1);
        }
        nodes
    }

    /// One node for each role, all on the Redis at `url`.
    #[track_caller]
    pub(crate) fn start(url: &str, roles: &[&str], lease_s: u64, more: &str) -> Self {
        let spot = Spot::here(url.to_owned());
        let all: Vec<_> = roles.iter().map(|&role| (spot.clone(), role)).collect();
        Self::on(&all, lease_s, more)
    }

    /// Starts one on the folder it had; it must have ended.
    #[track_caller]
    pub(crate) fn start_again(&mut self, index: usize) {
        let (folder, config) = (&self.folders[index], &self.configs[index]);
        let spot = &self.spots[index];
        let server = Server::start_within(&spot.within, &spot.listen, folder, config);
        self.nodes[index] = Some(server);
    }

    #[track_caller]
    pub(crate) fn at(&self, index: usize) -> &Server {
        self.nodes[index].as_ref().expect("it lives")
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// kill -9.
    #[track_caller]
    pub(crate) fn kill(&mut self, index: usize) {
        self.at(index).kill();
        self.nodes[index] = None;
    }

    /// The tenant, as it is met at another node.
    pub(crate) fn tenant_at(&self, index: usize, tenant: &Tenant) -> Tenant {
        Tenant::new(self.at(index).client(), &tenant.namespace, &tenant.key)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, index: usize, signal: Signal) {
        self.at(index).signal(signal);
    }

    /// Waits until the tenant's action can be called at every node.
    #[track_caller]
    pub(crate) fn await_action(&self, tenant: &Tenant, name: &str) {
        for index in (0..self.count()).filter(|index| self.nodes[*index].is_some()) {
            eventually("the action is known to every node", || {
                let tenant = self.tenant_at(index, tenant);
                (tenant.get(&format!("actions/{name}")).status == 200).then_some(())
            });
        }
    }
}
