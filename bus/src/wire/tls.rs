//! Who is trusted, and what proves this end.

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{io, path::Path, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, rustls, server};

/// Whose certificates are believed when this end connects.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

impl Trust {
    /// The authorities of a PEM file, or with an empty path those that are well known. Err: a sentence about the file.
    pub(crate) fn new(ca_file: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if ca_file.as_os_str().is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        } else {
            for certificate in certificates(ca_file)? {
                roots.add(certificate).map_err(|error| {
                    format!(
                        "a certificate of {} cannot be used: {error}",
                        ca_file.display()
                    )
                })?;
            }
        }
        let config = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(crate) async fn connect(
        &self,
        host: &str,
        tcp: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, tcp).await
    }
}

/// This end's certificate, shown to whoever connects.
#[derive(Clone)]
pub(crate) struct Identity(TlsAcceptor);

impl Identity {
    /// From PEM files. Err: a sentence about them.
    pub(crate) fn new(cert_file: &Path, key_file: &Path) -> Result<Self, String> {
        let chain = certificates(cert_file)?;
        let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| {
            format!("the key in {} cannot be read: {error}", key_file.display())
        })?;
        let config = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| {
                format!(
                    "the certificate in {} cannot be used with the key in {}: {error}",
                    cert_file.display(),
                    key_file.display()
                )
            })?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(crate) async fn accept(&self, tcp: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        self.0.accept(tcp).await
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error: rustls::pki_types::pem::Error| {
        format!(
            "the certificates in {} cannot be read: {error}",
            file.display()
        )
    };
    let all = CertificateDer::pem_file_iter(file)
        .map_err(fault)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(fault)?;
    if all.is_empty() {
        return Err(format!("there is no certificate in {}", file.display()));
    }
    Ok(all)
}
