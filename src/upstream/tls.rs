//! TLS to the upstream: which servers are believed, and as whom this node comes.
//!
//! It never goes on without a certificate that it can prove, and has no setting for that. Files are read once, at the start.
//! [`super::Dialer`] makes one.
//!
//! | setting | what it is for | not set |
//! |---|---|---|
//! | `state.upstream_ca_file` | who may have signed the server's certificate | whom this machine believes |
//! | `state.upstream_server_name` | the name that the certificate must have | the host of the URL |
//! | `state.upstream_cert_file`, `_key_file` | the client certificate | none is shown |

use super::Wire;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wayfarer_certificates::{Fault, Which};
use wayfarer_settings::UpstreamTls;

/// A setting that cannot be used, as only a look at its file tells.
#[derive(Debug)]
pub struct Unfit {
    /// Which.
    pub setting: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.setting, self.message, self.remedy)
    }
}

impl From<Fault> for Unfit {
    fn from(fault: Fault) -> Unfit {
        let setting = match fault.file {
            Which::Certificate => "state.upstream_cert_file",
            Which::Key => "state.upstream_key_file",
        };
        Unfit { setting, message: fault.message, remedy: fault.remedy }
    }
}

/// See the head of this file.
pub(super) struct Tls {
    connector: TlsConnector,
    /// `None`: the host to which a connection goes.
    name: Option<ServerName<'static>>,
}

impl Tls {
    pub(super) fn new(settings: &UpstreamTls) -> Result<Tls, Unfit> {
        let name = settings.server_name.clone().map(ServerName::try_from).transpose().map_err(|_| Unfit {
            setting: "state.upstream_server_name",
            message: "no certificate can have this name".to_owned(),
            remedy: "write the name or IP address that the server's certificate has",
        })?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| Unfit {
            setting: "state.upstream",
            message: error.to_string(),
            remedy: "report this as a defect",
        })?;
        let builder = builder.with_root_certificates(roots(settings.ca_file.as_deref())?);
        let config = match &settings.client {
            None => builder.with_no_client_auth(),
            Some(files) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(files.read()?))),
        };
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Puts TLS over a connection.
    pub(super) async fn over(&self, stream: TcpStream, host: &str) -> io::Result<Wire> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        };
        let stream = self.connector.connect(name, stream).await?;
        Ok(Wire::secured(stream))
    }
}

/// Who is believed.
fn roots(file: Option<&Path>) -> Result<RootCertStore, Unfit> {
    let mut roots = RootCertStore::empty();
    let setting = "state.upstream_ca_file";
    let unfit = |message: String| Unfit { setting, message, remedy: "name a PEM file with the authority's certificates" };
    match file {
        Some(file) => {
            let wrong = |why: String| unfit(format!("{}: {why}", file.display()));
            let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
            let found = read.map_err(|error| match error {
                pem::Error::Io(error) => wrong(error.to_string()),
                _ => wrong("it is not PEM".to_owned()),
            })?;
            if found.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
            for certificate in found {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(unfit("is not set, and this machine has no certificates of authorities".to_owned()));
            }
        }
    }
    Ok(roots)
}
