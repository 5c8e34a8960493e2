//! A web service whose library speaks to the state face over its Unix socket, by the URL that the sidecar tells it.

use crate::harness::Cluster;
use crate::services::Service;
use crate::web::log_in;

/// Its sessions are written and read back.
pub fn is_served(service: Service) {
    if !service.is_installed() {
        return;
    }
    let mut cluster = Cluster::new(service.keys);
    cluster.codec = service.codec;
    let listen = format!("state.listen=unix:{}", cluster.folder.path().join("state.sock").display());
    let cluster = cluster.set(&[&listen, "drain.settle_ms=0", "state.password=p@ss/word"]);
    let command = service.command();
    let mut node = cluster.start("a", &command.iter().map(String::as_str).collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clients = runtime.block_on(log_in(node.http, service)).unwrap();
    assert_eq!(node.sessions(), clients.sessions.len() as u64);
    node.signal(rustix::process::Signal::TERM);
    // The last member has no place to leave them to.
    assert_eq!(node.wait_exit().code(), Some(1));
}
