//! Whose certificates are believed: found out at the first connection with TLS, and told in words
//! that say what to do.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// Says what is wrong with certificates that were given.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// The text holds none.
    #[error("there is no certificate in it; it must have lines `-----BEGIN CERTIFICATE-----`")]
    None,
    /// The text is damaged.
    #[error("it is no PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// What is between the lines is no certificate.
    #[error("certificate {number} of it cannot be read")]
    Certificate {
        /// Which one, from 1.
        number: usize,
        /// Why not.
        #[source]
        source: Error,
    },
}

/// Says why a server is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Distrust {
    #[error(
        "its certificate is signed by nobody whom this machine trusts; add the signer's to the \
         machine's certificates (`update-ca-certificates`), or let SSL_CERT_FILE name a file with it"
    )]
    Stranger,
    #[error(
        "its certificate is signed neither by one of the certificates that were given for it nor by \
         anybody whom this machine trusts; give that of its signer"
    )]
    OtherSigner,
    #[error(
        "this machine trusts no certificate{0}; install the package `ca-certificates`, or let \
         SSL_CERT_FILE name a file with some"
    )]
    NoCertificates(String),
}

/// Whom a client believes.
#[derive(Debug)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    /// Signers besides those of the machine.
    more: RootCertStore,
    known: OnceLock<Arc<WebPkiServerVerifier>>,
}

impl Trust {
    pub(super) const fn of_machine(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, more: RootCertStore { roots: Vec::new() }, known: OnceLock::new() }
    }

    pub(super) fn with_more(
        provider: Arc<CryptoProvider>,
        certificates: &str,
    ) -> Result<Self, CertificatesError> {
        let mut more = RootCertStore::empty();
        for (index, one) in CertificateDer::pem_slice_iter(certificates.as_bytes()).enumerate() {
            let one = one.map_err(CertificatesError::Pem)?;
            more.add(one)
                .map_err(|source| CertificatesError::Certificate { number: index + 1, source })?;
        }
        if more.is_empty() {
            return Err(CertificatesError::None);
        }
        Ok(Self { provider, more, known: OnceLock::new() })
    }

    /// Reads the machine's certificates the first time: some hundred, within milliseconds. Whether
    /// it failed is not remembered; they may be installed meanwhile.
    fn known(&self) -> Result<&Arc<WebPkiServerVerifier>, Error> {
        if let Some(known) = self.known.get() {
            return Ok(known);
        }
        let machine = rustls_native_certs::load_native_certs();
        let mut roots = self.more.clone();
        // A machine has old ones that nobody can read any more.
        let _ = roots.add_parsable_certificates(machine.certs);
        if roots.is_empty() {
            let why = machine.errors.first().map(|error| format!(" ({error})"));
            return Err(told(Distrust::NoCertificates(why.unwrap_or_default())));
        }
        let provider = Arc::clone(&self.provider);
        let known = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::Other(OtherError(Arc::new(error))))?;
        Ok(self.known.get_or_init(|| known))
    }

    /// Returns whether the machine's certificates were read.
    #[cfg(test)]
    pub(super) fn has_read(&self) -> bool {
        self.known.get().is_some()
    }

    fn name_way_out(&self, error: Error) -> Error {
        match error {
            // The signature is a bad one when the signer has the name of one that is trusted.
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) if self.more.is_empty() => told(Distrust::Stranger),
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => told(Distrust::OtherSigner),
            other => other,
        }
    }
}

/// Says in words why a server is not believed, when that is what an error is about.
pub(super) fn explain(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(why) => Some(format!("its certificate is not good: {why}")),
        Error::Other(other) if other.0.is::<Distrust>() => Some(other.to_string()),
        _ => None,
    }
}

fn told(distrust: Distrust) -> Error {
    Error::Other(OtherError(Arc::new(distrust)))
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.known()?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| self.name_way_out(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
