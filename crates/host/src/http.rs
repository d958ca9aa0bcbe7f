//! The one place where HTTP clients are made, so that all of them speak TLS in one way.
//!
//! The ways of `reqwest` itself are refused by clippy: they want a crypto provider that somebody
//! has installed for the whole process, and panic where nobody has. Here each client is handed its
//! provider. No certificate is read before the first connection with TLS, so a client that speaks
//! to this machine only costs nothing more.

mod trust;

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};

use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;

pub use trust::CertificatesError;
use trust::Trust;

/// Returns a client with the usual limits of `reqwest`.
///
/// # Errors
/// The system gives none.
pub fn client() -> reqwest::Result<Client> {
    client_builder().build()
}

/// Begins a client. With TLS, it believes whom the machine believes: the certificates that
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` name, or else the system's.
pub fn client_builder() -> ClientBuilder {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    begin(CONFIG.get_or_init(|| configure(Arc::new(Trust::of_machine(provider())))).clone())
}

/// Begins a client that also believes the signers in `certificates`, in PEM.
///
/// # Errors
/// One of them is no certificate, or there is none.
pub fn client_builder_trusting(certificates: &str) -> Result<ClientBuilder, CertificatesError> {
    Ok(begin(configure(Arc::new(Trust::with_more(provider(), certificates)?))))
}

/// Returns why the server's certificate is not good for us, and what to do, when it is that which an
/// error is about. Asking again has the same outcome.
#[must_use]
pub fn distrust(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(rustls) = inner.downcast_ref() {
            return trust::explain(rustls);
        }
        cause = match inner.downcast_ref::<io::Error>() {
            // It passes over what it wraps when it is asked for its source.
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => inner.source(),
        };
    }
    None
}

#[expect(clippy::disallowed_methods, reason = "this is where clients are made")]
fn begin(config: ClientConfig) -> ClientBuilder {
    Client::builder().tls_backend_preconfigured(config)
}

fn configure(trust: Arc<Trust>) -> ClientConfig {
    #[expect(clippy::expect_used, reason = "see the message")]
    let versions = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has suites for TLS 1.2 and 1.3");
    versions.dangerous().with_custom_certificate_verifier(trust).with_no_client_auth()
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_client_speaks_without_tls_and_reads_no_certificate_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        });
        let trust = Arc::new(Trust::of_machine(provider()));
        let client = begin(configure(Arc::clone(&trust))).no_proxy().build().unwrap();
        let response = client.get(format!("http://{address}/")).send().await.unwrap();
        assert_eq!(response.status(), 204);
        server.join().unwrap();
        assert!(!trust.has_read());
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_is_not_called_untrusted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
        });
        let client = client_builder().no_proxy().build().unwrap();
        let error = client.get(format!("https://{address}/")).send().await.unwrap_err();
        server.join().unwrap();
        assert_eq!(distrust(&error), None, "{error:?}");
    }

    #[test]
    fn certificates_that_cannot_be_read_are_told_apart() {
        let refused = |text| client_builder_trusting(text).unwrap_err().to_string();
        assert!(refused("").starts_with("there is no certificate in it"));
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(refused(damaged), "certificate 1 of it cannot be read");
        assert_eq!(refused("-----BEGIN CERTIFICATE-----\n?\n"), "it is no PEM");
    }
}
