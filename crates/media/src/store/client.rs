//! The client of one bucket: addresses, keys to sign with, limits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_host::http::{client_builder, client_builder_trusting};
use reqsign_aws_v4::{
    Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider,
};
use reqsign_core::{Context, FileRead, HttpSend, OsEnv, Signer};
use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::error::StoreError;
use super::key::encode_path;
use crate::options::StoreOptions;

/// How many requests may be under way at once.
const REQUESTS_MAX: usize = 64;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a transfer may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How large an answer to a search for keys may be, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 256 * 1024;

/// A bucket. Clones share connections and limits.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) http: reqwest::Client,
    pub(super) signer: Signer<Credential>,
    pub(super) bucket: String,
    pub(super) prefix: String,
    /// Everything before a key's own slash.
    pub(super) base: String,
    pub(super) breaker: Breaker,
    pub(super) requests: Semaphore,
}

impl Store {
    /// Makes a client; nothing is asked yet.
    ///
    /// # Errors
    /// The endpoint is no address, or the certificates are none.
    pub fn new(options: &StoreOptions) -> Result<Self, StoreError> {
        let base = base(options);
        let unusable = |reason: String| StoreError::Unreachable {
            bucket: options.bucket.clone(),
            address: base.clone(),
            reason,
        };
        base.parse::<http::Uri>().map_err(|error| unusable(error.to_string()))?;
        let builder = match &options.certificates {
            Some(certificates) => client_builder_trusting(certificates).map_err(|error| {
                unusable(format!("its certificates: {}", flotilla_core::error::chain(&error)))
            })?,
            None => client_builder(),
        };
        let http = builder
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STALL_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(REQUESTS_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| unusable(flotilla_core::error::chain(&error)))?;
        let context = Context::new()
            .with_env(OsEnv)
            .with_file_read(Files)
            .with_http_send(Plain { http: http.clone() });
        let request = RequestSigner::new("s3", &options.region);
        let signer = match &options.credentials {
            Some(keys) => Signer::new(
                context,
                StaticCredentialProvider::new(&keys.access_key_id, &keys.secret_access_key),
                request,
            ),
            None => Signer::new(context, DefaultCredentialProvider::builder().build(), request),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                signer,
                bucket: options.bucket.clone(),
                prefix: options.prefix.clone(),
                base,
                breaker: Breaker::default(),
                requests: Semaphore::new(REQUESTS_MAX),
            }),
        })
    }

    /// Returns how long the prefix of every key is, in bytes.
    pub(crate) fn prefix_bytes(&self) -> usize {
        self.inner.prefix.len()
    }

    /// Returns the address of an object, or of the bucket.
    pub(super) fn address(&self, key: Option<&str>) -> String {
        match key {
            Some(key) => {
                format!(
                    "{}/{}{}",
                    self.inner.base,
                    encode_path(&self.inner.prefix),
                    encode_path(key)
                )
            }
            None => format!("{}/", self.inner.base),
        }
    }

    /// Returns an object's name as copies want it.
    pub(super) fn copy_source(&self, key: &str) -> String {
        format!("/{}/{}{}", self.inner.bucket, encode_path(&self.inner.prefix), encode_path(key))
    }
}

fn base(options: &StoreOptions) -> String {
    match &options.endpoint {
        Some(endpoint) => {
            format!("{}/{}", endpoint.trim_end_matches('/'), encode_path(&options.bucket))
        }
        // Certificates are for one level of names below this.
        None if options.bucket.contains('.') => {
            format!("https://s3.{}.amazonaws.com/{}", options.region, options.bucket)
        }
        None => format!("https://{}.s3.{}.amazonaws.com", options.bucket, options.region),
    }
}

/// Reads the files that keys may lie in.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let path = PathBuf::from(path);
        tokio::fs::read(&path).await.map_err(|error| {
            reqsign_core::Error::config_invalid(format!("cannot read `{}`", path.display()))
                .with_source(error)
        })
    }
}

/// Asks the machine's metadata service and the like.
#[derive(Debug)]
struct Plain {
    http: reqwest::Client,
}

impl HttpSend for Plain {
    async fn http_send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> reqsign_core::Result<http::Response<bytes::Bytes>> {
        let failed = |error: reqwest::Error| {
            reqsign_core::Error::unexpected("cannot ask for keys").with_source(error)
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut response = self.http.execute(request).await.map_err(failed)?;
        let mut body = bytes::BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > CREDENTIALS_BYTES_MAX {
                return Err(reqsign_core::Error::unexpected("the answer with keys is too long"));
            }
        }
        let mut answer = http::Response::new(body.freeze());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = response.headers().clone();
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(endpoint: Option<&str>, bucket: &str) -> StoreOptions {
        StoreOptions {
            endpoint: endpoint.map(str::to_owned),
            region: "eu-central-1".to_owned(),
            bucket: bucket.to_owned(),
            prefix: "up loads/".to_owned(),
            credentials: None,
            certificates: None,
        }
    }

    #[tokio::test]
    async fn a_bucket_is_found_where_its_server_expects_it() {
        let cases = [
            (None, "shop", "https://shop.s3.eu-central-1.amazonaws.com"),
            (None, "a.b", "https://s3.eu-central-1.amazonaws.com/a.b"),
            (Some("http://127.0.0.1:9/"), "shop", "http://127.0.0.1:9/shop"),
        ];
        for (endpoint, bucket, address) in cases {
            assert_eq!(base(&options(endpoint, bucket)), address);
        }
        let store = Store::new(&options(Some("http://127.0.0.1:9/"), "shop")).unwrap();
        assert_eq!(store.address(Some("a")), "http://127.0.0.1:9/shop/up%20loads/a");
    }

    #[tokio::test]
    async fn certificates_that_are_none_are_refused() {
        let mut options = options(None, "shop");
        options.certificates = Some("-----BEGIN".to_owned());
        let error = Store::new(&options).unwrap_err();
        assert!(error.to_string().contains("there is no certificate in it"), "{error}");
    }

    #[tokio::test]
    async fn an_endpoint_that_is_no_address_is_refused() {
        let error = Store::new(&options(Some("not an address"), "shop")).unwrap_err();
        assert!(error.to_string().contains("`not an address/shop`"), "{error}");
    }
}
