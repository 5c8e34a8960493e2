//! A proxy that does nothing: pingora embedded in one thread of tokio, as in Wayfarer's HTTP face, and nothing around it. What a
//! request costs here is what a request through pingora costs at least.
//!
//! ```text
//! wayfarer-compare-bare LISTEN SERVICE
//! ```

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

struct ToService(SocketAddr);

#[async_trait]
impl ProxyHttp for ToService {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

async fn serve(listen: SocketAddr, service: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let proxy = Arc::new(http_proxy(&Arc::new(ServerConf::default()), ToService(service)));
    let (_end, shutdown) = watch::channel(false);
    let mut clients = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
        while clients.try_join_next().is_some() {}
        clients.spawn(async move {
            let mut kept = Some(Box::new(Stream::from(client)) as _);
            while let Some(stream) = kept {
                kept = proxy.process_new(stream, &shutdown).await;
            }
        });
    }
}

fn main() -> ExitCode {
    let words: Vec<SocketAddr> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [listen, service] = words[..] else {
        eprintln!("usage: wayfarer-compare-bare LISTEN SERVICE (each IP:PORT)");
        return ExitCode::from(2);
    };
    let ended = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve(listen, service)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wayfarer-compare-bare: {error}");
            ExitCode::FAILURE
        }
    }
}
