//! Requests by TLS, to whoever answers: as with a kubelet, the certificate may say what it likes, and the server is
//! called by its address, so that it is told no name (SNI).

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Encrypts a connection to `to`.
pub(super) fn over(
    mut stream: TcpStream,
    to: SocketAddr,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = ring::default_provider();
    let anybody = Anybody(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .context("choose versions of TLS")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), ServerName::from(to.ip())).context("begin TLS")?;
    connection.write_tls(&mut stream).with_context(|| format!("greet {to}"))?;
    // To TLS alone it would be a message that is broken.
    let mut first = [0; 5];
    let length = stream.peek(&mut first).with_context(|| format!("wait for {to}"))?;
    if length > 0 && b"HTTP/".starts_with(&first[..length]) {
        bail!("server gave HTTP response to HTTPS client");
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Takes every certificate. Signatures would prove no more than that its owner answers, whoever that is.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _revoked: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
