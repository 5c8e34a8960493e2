//! Certificate and key files (PEM): what is shown to the other side of TLS, and what is wrong with the files.
//!
//! It reads the two files and nothing else; it opens no socket, reads no clock (an expired certificate is not noticed) and never
//! shows a byte of a key. The settings ask it whether named files can be used, the HTTP face loads what it shows its clients and
//! looks whether that changed, and whoever reaches the upstream loads what is shown there.
//!
//! | file | must hold |
//! |---|---|
//! | certificate | the own certificate, then those of the authorities between it and the root, each `BEGIN CERTIFICATE` |
//! | key | the one private key of that certificate, not encrypted: PKCS#8, RSA or SEC1; RSA, ECDSA P-256 or P-384, Ed25519 |
//!
//! Invariant: what [`Files::read`] returns is a pair: the key is that of the first certificate.

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Certificates of one chain.
const CHAIN_MAX: usize = 16;

/// Where the two files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// The chain of certificates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// [`Files::certificate`].
    Certificate,
    /// [`Files::key`].
    Key,
}

/// Why files cannot be used; nothing has been changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// In which file the mistake is.
    pub file: Which,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for Fault {}

/// By what two looks at the files are told apart; `None`: a file is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp([Option<Seen>; 2]);

/// Device, inode, size, and when it was changed (seconds, nanoseconds).
type Seen = (u64, u64, u64, i64, i64);

impl Files {
    /// Reads both, and checks that they belong together.
    pub fn read(&self) -> Result<CertifiedKey, Fault> {
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let unusable = |file, message: &str, remedy| Fault { file, message: message.to_owned(), remedy };
        let key = any_supported_type(&key).map_err(|_| {
            let remedy = "use a key of RSA (2048 bits and more), ECDSA P-256 or P-384, or Ed25519";
            unusable(Which::Key, "the private key is of a kind that cannot be used", remedy)
        })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
            Err(Error::InconsistentKeys(_)) => Err(unusable(
                Which::Key,
                "the private key is not that of the first certificate",
                "name the key with which that certificate was requested; it comes first in its file, before its authorities'",
            )),
            Err(_) => Err(unusable(
                Which::Certificate,
                "the first certificate cannot be read",
                "its text may have been cut or changed: copy the file anew",
            )),
        }
    }

    /// How the files look now, without reading them.
    pub fn stamp(&self) -> Stamp {
        let seen = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        Stamp([seen(&self.certificate), seen(&self.key)])
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |message: String, remedy| Fault { file: Which::Certificate, message, remedy };
    let text = read(path).map_err(|message| fault(message, "name a readable PEM file with the certificate chain"))?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).take(CHAIN_MAX + 1).collect();
    match chain {
        Ok(chain) if chain.len() > CHAIN_MAX => Err(fault(
            format!("{} has more than {CHAIN_MAX} certificates", path.display()),
            "leave out those that the other side has",
        )),
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if PrivateKeyDer::from_pem_slice(&text).is_ok() => Err(fault(
            format!("{} holds a private key and no certificate", path.display()),
            "name the certificate here; are the two files exchanged?",
        )),
        Ok(_) | Err(_) => Err(fault(
            format!("{} holds no certificate in PEM", path.display()),
            "it must have lines BEGIN CERTIFICATE and END CERTIFICATE (DER: convert it with `openssl x509 -inform der`)",
        )),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    let fault = |message: String, remedy| Fault { file: Which::Key, message, remedy };
    let text = read(path).map_err(|message| fault(message, "name a readable PEM file with the certificate's private key"))?;
    let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    // The older form says so in a line of its own below BEGIN, so it must be looked for first.
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        let message = format!("the private key in {} is encrypted", path.display());
        return Err(fault(message, "decrypt it with `openssl pkey`, and let nobody else read the file"));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| match has(b"BEGIN CERTIFICATE") {
        true => fault(
            format!("{} holds a certificate and no private key", path.display()),
            "name the key here; are the two files exchanged?",
        ),
        false => fault(
            format!("{} holds no private key in PEM", path.display()),
            "it must have a line BEGIN PRIVATE KEY, BEGIN RSA PRIVATE KEY or BEGIN EC PRIVATE KEY",
        ),
    })
}

/// The bytes of a file, or what is wrong with it.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {}", path.display(), error.kind());
    // A pipe or a terminal would make the start wait for ever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= FILE_BYTES_MAX => Ok(bytes),
        _ => Err(format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A fresh certificate for `name`, and its key, as PEM.
    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn outcome(certificate: &str, key: &str) -> Result<usize, (Which, String)> {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files.read().map(|pair| pair.cert.len()).map_err(|fault| {
            assert!(!fault.remedy.is_empty());
            (fault.file, fault.message.replace(&folder.path().display().to_string(), ""))
        })
    }

    #[test]
    fn a_pair_is_a_pair() {
        let ((certificate, key), (other, other_key)) = (pair("a"), pair("b"));
        assert_eq!(outcome(&certificate, &key), Ok(1));
        assert_eq!(outcome(&format!("{certificate}{other}"), &key), Ok(2));
        let (which, message) = outcome(&certificate, &other_key).unwrap_err();
        assert_eq!((which, message.as_str()), (Which::Key, "the private key is not that of the first certificate"));
        assert_eq!(outcome(&format!("{other}{certificate}"), &key).unwrap_err().0, Which::Key);
    }

    #[test]
    fn each_mistake_is_named_in_its_file() {
        let (certificate, key) = pair("a");
        for (certificate, key, file, message) in [
            (key.as_str(), key.as_str(), Which::Certificate, "/c.pem holds a private key and no certificate"),
            (&certificate, &certificate, Which::Key, "/k.pem holds a certificate and no private key"),
            ("", &key, Which::Certificate, "/c.pem holds no certificate in PEM"),
            (&certificate, "text", Which::Key, "/k.pem holds no private key in PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &key,
                Which::Certificate,
                "the first certificate cannot be read",
            ),
            (
                &certificate,
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                Which::Key,
                "the private key in /k.pem is encrypted",
            ),
            (
                &certificate,
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                Which::Key,
                "the private key is of a kind that cannot be used",
            ),
        ] {
            assert_eq!(outcome(certificate, key), Err((file, message.to_owned())));
        }
        assert_eq!(outcome(&certificate.repeat(CHAIN_MAX + 1), &key).unwrap_err().0, Which::Certificate);
        let nowhere = Files { certificate: "/nowhere/c".into(), key: "/nowhere/k".into() };
        assert_eq!(nowhere.read().unwrap_err().file, Which::Certificate);
        let folder = Files { certificate: std::env::temp_dir(), key: "/nowhere/k".into() };
        assert!(folder.read().unwrap_err().message.ends_with("is not a file"));
    }

    #[test]
    fn a_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
        let nothing = files.stamp();
        std::fs::write(&files.key, "1").unwrap();
        let one = files.stamp();
        assert_ne!(nothing, one);
        assert_eq!(one, files.stamp());
        // As secrets are changed in Kubernetes: another file takes the name.
        std::fs::write(folder.path().join("new"), "2").unwrap();
        std::fs::rename(folder.path().join("new"), &files.key).unwrap();
        assert_ne!(one, files.stamp());
    }
}
