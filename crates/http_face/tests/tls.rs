//! TLS: which HTTP is agreed on, what the instance is told, certificates that change, and handshakes that fail; with curl, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "tests start tasks and read the clock as they need")]

mod support;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use support::{Counters, Face, Instance, Lines, connect, face, field, mirror, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wayfarer_http_face::{Files, names};

/// Files with a certificate, in a folder of their own.
struct Certified {
    folder: tempfile::TempDir,
    files: Files,
}

impl Certified {
    fn new() -> Certified {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        let made = Certified { folder, files };
        made.renew();
        made
    }

    /// Another certificate and key; the certificate's PEM.
    fn renew(&self) -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.replace(&self.files.certificate, &made.cert.pem());
        self.replace(&self.files.key, &made.signing_key.serialize_pem());
        made.cert.pem()
    }

    /// Another file takes the name, as where secrets are mounted.
    fn replace(&self, path: &Path, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn pem(&self) -> String {
        std::fs::read_to_string(&self.files.certificate).unwrap()
    }
}

async fn served(certified: &Certified) -> (Instance, Face) {
    let app = mirror().await;
    let files = certified.files.clone();
    let face = face(app.address, move |settings| {
        settings.tls = Some(files);
        settings.header_ms_max = 500;
        settings.connections_max = 8;
    })
    .await;
    (app, face)
}

/// A handshake that trusts `pem` alone.
async fn handshake(address: SocketAddr, pem: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    within("handshake", connector.connect(ServerName::try_from("localhost").unwrap(), socket)).await
}

fn agreed(stream: &TlsStream<TcpStream>) -> Option<String> {
    stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap())
}

#[tokio::test]
async fn the_handshake_says_which_http_follows() {
    let certified = Certified::new();
    let (_app, face) = served(&certified).await;
    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = handshake(face.address, &certified.pem(), protocols).await.unwrap();
        assert_eq!(agreed(&stream).as_deref(), protocols.first().copied());
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut seen = String::new();
        // The connection ends with the alert that says so, or this is an error.
        within("the answer", stream.read_to_string(&mut seen)).await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
        let (_, inner) = seen.split_once("\r\n\r\n").unwrap();
        assert_eq!(field(inner, "x-forwarded-proto"), Some("https"), "{seen}");
    }
    let stream = handshake(face.address, &certified.pem(), &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(agreed(&stream).as_deref(), Some("h2"));
    let (mut streams, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let request = http::Request::builder().uri("https://localhost/").body(()).unwrap();
    let (answer, _) = streams.send_request(request, true).unwrap();
    let mut body = within("an answer", answer).await.unwrap().into_body();
    let seen = String::from_utf8(within("its body", body.data()).await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!((field(&seen, "x-forwarded-proto"), field(&seen, "host")), (Some("https"), Some("localhost")), "{seen}");
    driven.abort();
}

#[tokio::test]
async fn a_changed_certificate_is_shown_and_a_broken_one_is_not() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let lines = Lines::default();
    let _logged = tracing::subscriber::set_default(lines.clone());
    let loaded = format!("{}{{outcome=loaded}}", names::CERTIFICATES_LOADED);
    let refused = format!("{}{{outcome=refused}}", names::CERTIFICATES_LOADED);
    let certified = Certified::new();
    let before = certified.pem();
    let (_app, face) = served(&certified).await;
    let mut kept = handshake(face.address, &before, &["http/1.1"]).await.unwrap();
    let after = certified.renew();
    until("it is loaded", || counters.get(&loaded) == 1).await;
    assert!(handshake(face.address, &before, &[]).await.is_err());
    assert!(handshake(face.address, &after, &[]).await.is_ok());
    // A connection from before goes on.
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    within("the answer", kept.read_to_string(&mut seen)).await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
    certified.replace(&certified.files.certificate, "no certificate");
    until("it is refused", || counters.get(&refused) == 1).await;
    std::fs::remove_file(&certified.files.key).unwrap();
    until("it is refused again", || counters.get(&refused) == 2).await;
    assert!(handshake(face.address, &after, &[]).await.is_ok());
    let said = lines.all().join("\n");
    assert!(said.contains("holds no certificate in PEM") && said.contains("the one before is kept"), "{said}");
    assert!(!said.contains("PRIVATE KEY"), "{said}");
    let again = certified.renew();
    until("the next one is loaded", || counters.get(&loaded) == 2).await;
    assert!(handshake(face.address, &again, &[]).await.is_ok());
}

#[tokio::test]
async fn handshakes_that_fail_are_counted_and_closed() {
    let counters = Counters::default();
    let _installed = metrics::set_default_local_recorder(&counters);
    let certified = Certified::new();
    let (_app, face) = served(&certified).await;
    let mut client = connect(face.address).await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.closed_after_frames().await;
    // One that begins and stops, one that says nothing.
    let mut client = connect(face.address).await;
    assert!(client.try_send(&[22, 3, 1]).await);
    client.closed().await;
    connect(face.address).await.closed().await;
    assert_eq!(counters.get(names::TLS_HANDSHAKES_FAILED), 3);
    // Beyond connections_max nobody is told anything that could not be read.
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(handshake(face.address, &certified.pem(), &["h2"]).await.unwrap());
    }
    connect(face.address).await.closed().await;
    assert_eq!(counters.get(names::CONNECTIONS_REFUSED), 1);
}

#[tokio::test]
async fn wrong_files_are_named_at_the_bind() {
    let certified = Certified::new();
    certified.replace(&certified.files.key, "no key");
    let mut settings = wayfarer_http_face::HttpFaceSettings::new(support::ANY_PORT, support::ANY_PORT);
    settings.tls = Some(certified.files.clone());
    let error = wayfarer_http_face::bind(settings, Arc::new(support::Announced::default())).await.err().unwrap();
    assert!(error.to_string().contains("tls.key holds no private key in PEM; "), "{error}");
}

/// Runs curl; what it prints is the body and, on a line of its own, version and status.
async fn curl(arguments: &[&str]) -> String {
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sS", "--max-time", "20", "--noproxy", "*", "-w", "\n%{http_version} %{http_code}"]).args(arguments);
    let output = within("curl", curl.kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn curl_speaks_each_of_them() {
    let version = std::process::Command::new("curl").arg("--version").output();
    if !version.is_ok_and(|version| String::from_utf8_lossy(&version.stdout).contains("HTTP2")) {
        eprintln!("SKIPPED: there is no curl with HTTP/2 here");
        return;
    }
    let certified = Certified::new();
    let (app, encrypted) = served(&certified).await;
    let plain = face(app.address, |_| {}).await;
    let authority = certified.files.certificate.display().to_string();
    let to = format!("localhost:{}:127.0.0.1", encrypted.address.port());
    let secure = format!("https://localhost:{}/a?b", encrypted.address.port());
    let cleartext = format!("http://{}/a?b", plain.address);
    let big = "x".repeat(300_000);
    for (arguments, expected) in [
        (vec!["--http2", "--cacert", &authority, "--resolve", &to, &secure], "2 200"),
        (vec!["--http1.1", "--cacert", &authority, "--resolve", &to, &secure], "1.1 200"),
        // It asks for an upgrade, which nobody grants, and goes on.
        (vec!["--http2", &cleartext], "1.1 200"),
        (vec!["--http2-prior-knowledge", &cleartext], "2 200"),
        (vec!["--http1.1", &cleartext], "1.1 200"),
    ] {
        for body in [None, Some("three"), Some(big.as_str())] {
            let path = certified.folder.path().join("body");
            std::fs::write(&path, body.unwrap_or_default()).unwrap();
            let data = format!("@{}", path.display());
            let mut arguments = arguments.clone();
            if body.is_some() {
                arguments.extend(["--data-binary", &data]);
            }
            let printed = curl(&arguments).await;
            assert!(printed.ends_with(&format!("\n{expected}")), "{arguments:?}: {printed:.500}");
            assert!(printed.contains(body.unwrap_or(" /a?b HTTP/1.1")), "{arguments:?}: {printed:.500}");
        }
    }
}
