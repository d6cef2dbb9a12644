//! Who may speak to whom: a token, which everybody of a cluster has, TLS by given certificates, and one version of Outskirt.
//!
//! Token and version travel in the header `user-agent`, the one that every connection of Ballista's lets us set.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballista_core::extension::EndpointOverrideFn;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use sha2::{Digest, Sha256};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig};
use tonic::{Request, Status};

use crate::error::{Error, Result};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long a connection may take to be made.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);
/// How often somebody who is silent is asked whether he is there, and how long he has for the answer.
const ALIVE: std::time::Duration = std::time::Duration::from_secs(10);

/// Files with secrets, as the command line names them.
#[derive(Debug, Clone, Default)]
pub struct SecurityFiles {
    /// A token, alone in a file.
    pub token: Option<PathBuf>,
    /// The certificate (PEM) of this machine, and its key: for those who listen.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The certificate (PEM) of the authority that signed those of the others: then everything is TLS.
    pub authority: Option<PathBuf>,
}

/// What everybody of a cluster knows.
#[derive(Clone, Default)]
pub struct Security {
    token: Option<Arc<str>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
    authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security")
            .field("token", &self.token.is_some())
            .field("tls", &self.is_tls())
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io("read", path))
}

/// Whether a key is that of a certificate; a server would only say that connections fail.
fn check_pair(certificate: &[u8], key: &[u8]) -> std::result::Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<std::result::Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| said(&error))?;
    let provider = rustls::crypto::ring::default_provider();
    let pair = CertifiedKey::from_der(chain.map_err(|error| said(&error))?, key, &provider);
    pair.map(|_| ()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "the key is another certificate's".into(),
        other => said(&other),
    })
}

/// Whether others who know the authority believe a certificate, by whatever name they know who has it.
fn check_signed(certificate: &[u8], authority: &[u8]) -> std::result::Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let chain = |bytes| CertificateDer::pem_slice_iter(bytes).collect::<std::result::Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    for root in chain(authority).map_err(|error| said(&error))? {
        roots.add(root).map_err(|error| said(&error))?;
    }
    let own = chain(certificate).map_err(|error| said(&error))?;
    let (Some((first, rest)), Ok(name)) = (own.split_first(), ServerName::try_from("localhost")) else { return Ok(()) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| said(&error))?;
    match verifier.verify_server_cert(first, rest, &name, &[], UnixTime::now()) {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ))
        | Ok(_) => Ok(()),
        Err(error) => Err(refused(&said(&error))),
    }
}

/// What is wrong with a certificate or a handshake, and what there is to do: of what rustls says.
fn refused(said: &str) -> String {
    let what = [
        ("UnknownIssuer", "its certificate is not of the authority that --tls-authority names"),
        ("certificate expired", "its certificate has expired"),
        ("certificate not valid yet", "its certificate is not valid yet, or the clock of this machine is wrong"),
        ("not valid for name", "its certificate is for another name"),
        ("InvalidContentType", "it does not speak TLS: leave --tls-authority out"),
        ("HandshakeFailure", "it speaks another TLS"),
    ];
    match what.iter().find(|(word, _)| said.contains(word)) {
        Some((_, plain)) => format!("{plain} ({said})"),
        None => said.to_owned(),
    }
}

/// Why a connection failed.
pub(super) fn why(error: &tonic::transport::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    refused(&deepest.to_string())
}

/// A file that has this.
fn pem(path: &Path, what: &str) -> Result<Vec<u8>> {
    let bytes = read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    if text.lines().any(|line| line.starts_with("-----BEGIN ") && line.ends_with(&format!("{what}-----"))) {
        return Ok(bytes);
    }
    Err(Error::Cluster { reason: format!("{} holds no {} in PEM", path.display(), what.to_lowercase()) })
}

impl Security {
    /// Read the files.
    ///
    /// Errors: a file that cannot be read; a token of other characters than letters, digits and `. _ ~ + / = -`, or of fewer than 16.
    pub fn read(files: &SecurityFiles) -> Result<Self> {
        let token = match &files.token {
            Some(path) => {
                let text = String::from_utf8_lossy(&read(path)?).trim().to_owned();
                let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~+/=-".contains(&byte));
                if !is_plain || text.len() < 16 {
                    return Err(Error::Cluster {
                        reason: format!(
                            "{} holds no token: one is of 16 or more letters, digits and . _ ~ + / = -, as 'openssl rand -hex 32' \
                             makes it",
                            path.display()
                        ),
                    });
                }
                Some(text.into())
            }
            None => None,
        };
        let certificate = match &files.certificate {
            Some((certificate, key)) => {
                let own = (pem(certificate, "CERTIFICATE")?, pem(key, "PRIVATE KEY")?);
                check_pair(&own.0, &own.1).map_err(|error| Error::Cluster {
                    reason: format!("{} and {} do not go together: {error}", certificate.display(), key.display()),
                })?;
                Some(own)
            }
            None => None,
        };
        let authority = files.authority.as_deref().map(|path| pem(path, "CERTIFICATE")).transpose()?;
        if let (Some((own, _)), Some(authority), Some((path, _))) = (&certificate, &authority, &files.certificate) {
            let wrong =
                |error: String| Error::Cluster { reason: format!("nobody would believe {}: {error}", path.display()) };
            check_signed(own, authority).map_err(wrong)?;
        }
        Ok(Self { token, certificate, authority })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.authority.is_some()
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.is_tls() { "https" } else { "http" }
    }

    /// Refuse to listen where others than this machine's programs hear, without a token and TLS.
    pub(super) fn check_address(&self, address: SocketAddr) -> Result<()> {
        let is_safe = self.token.is_some() && self.is_tls() && self.certificate.is_some();
        if is_safe || address.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::Cluster {
            reason: format!(
                "{address} can be reached from other machines: that takes --token-file, --tls-certificate, --tls-key and --tls-authority; \
                 without them a cluster listens on 127.0.0.1 alone"
            ),
        })
    }

    /// What a server shows.
    ///
    /// Errors: an authority without a certificate of one's own.
    pub(super) fn server(&self) -> Result<Option<ServerTlsConfig>> {
        match (&self.certificate, self.is_tls()) {
            (Some((certificate, key)), true) => {
                Ok(Some(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))))
            }
            (None, false) => Ok(None),
            _ => Err(Error::Cluster {
                reason: "--tls-certificate, --tls-key and --tls-authority go together for those who listen".into(),
            }),
        }
    }

    /// How connections are made.
    pub(super) fn connects(&self) -> EndpointOverrideFn {
        let token = self.token.as_deref().unwrap_or("none");
        let (agent, authority) = (format!("outskirt/{VERSION} token/{token}"), self.authority.clone());
        Arc::new(move |endpoint: Endpoint| {
            let mut endpoint = endpoint;
            if authority.is_some()
                && let Some(rest) = endpoint.uri().to_string().strip_prefix("http://")
            {
                // Ballista's scheduler calls executors so, whatever they speak
                endpoint = Endpoint::from_shared(format!("https://{rest}"))?;
            }
            endpoint = endpoint
                .user_agent(agent.clone())?
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(ALIVE)
                .keep_alive_timeout(ALIVE)
                .keep_alive_while_idle(true);
            if let Some(authority) = &authority {
                let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
                endpoint = endpoint.tls_config(tls)?;
            }
            Ok(endpoint)
        })
    }

    /// Who is let in.
    pub(super) fn guard(&self) -> Guard {
        Guard { token: self.token.as_deref().map(|token| Sha256::digest(token).into()) }
    }
}

/// Lets in whoever has the token, and is of this version.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    token: Option<[u8; 32]>,
}

impl Guard {
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Of digests: how long the comparison takes says nothing of the token.
    pub(super) fn is_token(&self, said: &str) -> bool {
        self.token.is_none_or(|token| <[u8; 32]>::from(Sha256::digest(said)) == token)
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let said = |name: &str| agent.split(' ').find_map(|word| word.strip_prefix(name)).unwrap_or_default();
        if !self.is_token(said("token/")) {
            return Err(Status::unauthenticated("the token is not the cluster's: --token-file names it"));
        }
        match said("outskirt/") {
            VERSION => Ok(request),
            "" => Err(Status::failed_precondition(format!("this is a cluster of outskirt {VERSION}"))),
            other => Err(Status::failed_precondition(format!(
                "this cluster is of outskirt {VERSION}, and whoever asks of {other}: both must be of one version"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_rustls_says_of_a_certificate_is_put_plainly() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let said = |error| refused(&rustls::Error::InvalidCertificate(error).to_string());
        let expired = said(CertificateError::ExpiredContext { time: at(20), not_after: at(10) });
        assert!(expired.starts_with("its certificate has expired (invalid peer certificate: "), "{expired}");
        let early = said(CertificateError::NotValidYetContext { time: at(10), not_before: at(20) });
        assert!(early.starts_with("its certificate is not valid yet, or the clock"), "{early}");
        let issuer = said(CertificateError::UnknownIssuer);
        assert!(issuer.starts_with("its certificate is not of the authority that --tls-authority names"), "{issuer}");
        assert_eq!(refused("Connection refused (os error 111)"), "Connection refused (os error 111)");
    }
}
