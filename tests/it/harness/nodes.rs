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
}

/// A node's configuration.
pub(crate) fn node_config(url: &str, role: &str, lease_s: u64, more: &str) -> String {
    format!(
        "[redis]\nurl = {url:?}\nprefix = \"faults\"\n[cluster]\nrole = {role:?}\nlease_s = {lease_s}\n{more}"
    )
}

impl Nodes {
    /// One node for each URL and role.
    #[track_caller]
    pub(crate) fn on(urls_and_roles: &[(String, &str)], lease_s: u64, more: &str) -> Self {
        let mut nodes = Self {
            nodes: Vec::new(),
            folders: Vec::new(),
            configs: Vec::new(),
        };
        for (url, role) in urls_and_roles {
            nodes
                .folders
                .push(Arc::new(TempDir::new().expect("a temporary folder")));
            nodes.configs.push(node_config(url, role, lease_s, more));
            nodes.nodes.push(None);
            nodes.start_again(nodes.nodes.len() - 1);
        }
        nodes
    }

    /// One node for each role, all on the Redis at `url`.
    #[track_caller]
    pub(crate) fn start(url: &str, roles: &[&str], lease_s: u64, more: &str) -> Self {
        let all: Vec<_> = roles.iter().map(|&role| (url.to_owned(), role)).collect();
        Self::on(&all, lease_s, more)
    }

    /// Starts one on the folder it had; it must have ended.
    #[track_caller]
    pub(crate) fn start_again(&mut self, index: usize) {
        let (folder, config) = (&self.folders[index], &self.configs[index]);
        self.nodes[index] = Some(Server::start_bound(folder, config));
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
