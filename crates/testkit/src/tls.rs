//! A server with TLS before one without, and the authority that signed its certificate.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How long making the certificates may take, on a busy machine.
const OPENSSL_LIMIT_SECONDS: &str = "60";
/// Makes `authority.pem` and, signed by it, `server.pem` with `server.key`.
const MAKE: &str = "
    key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $key -days 2 -subj /CN=authority -keyout authority.key -out authority.pem
    openssl req $key -subj /CN=server -keyout server.key -out server.csr
    echo 'subjectAltName = IP:127.0.0.1' >extensions
    openssl x509 -req -in server.csr -days 2 -CA authority.pem -CAkey authority.key \\
        -CAcreateserial -extfile extensions -out server.pem
";

/// Takes connections with TLS and hands on what they say without; dropping it stops it.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    stopping: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    directory: TempDir,
}

impl TlsFront {
    /// Starts it on a thread of its own, with an authority that nobody else has.
    ///
    /// # Errors
    /// openssl makes no certificates, or no port is free.
    pub fn before(server: SocketAddr) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = make(directory.path())?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let thread = std::thread::Builder::new().name("tls".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let acceptor = TlsAcceptor::from(config);
                let serve = serve(&listener, &acceptor, server);
                stop.run_until_cancelled(serve).await.unwrap_or(Ok(()))
            })
        })?;
        Ok(Self { address, stopping, thread: Some(thread), directory })
    }

    /// Returns `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Returns the file with the authority's certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stopping.cancel();
        // A fault of it has failed the test already.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn make(directory: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    #[expect(clippy::disallowed_methods, reason = "`timeout` ends it")]
    let output = std::process::Command::new("timeout")
        .args([OPENSSL_LIMIT_SECONDS, "sh", "-euc", MAKE])
        .current_dir(directory)
        .output()?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    let certificate = CertificateDer::from_pem_slice(&fs::read(directory.join("server.pem"))?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(directory.join("server.key"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("the certificate that openssl made cannot be used")?;
    Ok(Arc::new(config))
}

async fn serve(
    listener: &tokio::net::TcpListener,
    acceptor: &TlsAcceptor,
    server: SocketAddr,
) -> anyhow::Result<()> {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that does not believe the certificate goes away here.
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect(server).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
        while connections.try_join_next().is_some() {}
    }
}
