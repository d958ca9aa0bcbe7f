//! A client that signs by itself, apart from the code that checks signatures.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, RequestBuilder, Response};
use sha2::{Digest, Sha256};

pub(crate) const ACCESS_KEY: &str = "access";
pub(crate) const SECRET_KEY: &str = "secret";
pub(crate) const BUCKET: &str = "media";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A client of one store.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address: address.to_string(), http: flotilla_host::http::client().unwrap() }
    }

    /// Returns a signed request; its body is not covered by the signature.
    ///
    /// `path` and `query` stand as they are sent: encoded, and the query sorted.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> RequestBuilder {
        let time = now();
        let day = &time[..8];
        let mut signed = vec![
            ("host", self.address.as_str()),
            ("x-amz-content-sha256", UNSIGNED),
            ("x-amz-date", time.as_str()),
        ];
        signed.extend(headers);
        signed.sort_unstable();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: Vec<String> =
            signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical =
            format!("{method}\n{path}\n{query}\n{}\n{names}\n{UNSIGNED}", lines.concat());
        let scope = format!("{day}/local/s3/aws4_request");
        let digest = hex(&Sha256::digest(canonical));
        let mut key = mac(format!("AWS4{SECRET_KEY}").as_bytes(), day);
        for step in ["local", "s3", "aws4_request"] {
            key = mac(&key, step);
        }
        let signature = hex(&mac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}")));
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("http://{}{path}{separator}{query}", self.address);
        let mut request = self.http.request(method, url).header(
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope},SignedHeaders={names},\
                 Signature={signature}"
            ),
        );
        for (name, value) in signed.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        request
    }

    pub(crate) async fn put(&self, key: &str, body: impl Into<reqwest::Body>) -> Response {
        self.put_with(key, body, &[]).await
    }

    pub(crate) async fn put_with(
        &self,
        key: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> Response {
        let path = format!("/{BUCKET}/{key}");
        self.request(Method::PUT, &path, "", headers).body(body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, key: &str) -> Response {
        let path = format!("/{BUCKET}/{key}");
        self.request(Method::GET, &path, "", &[]).send().await.unwrap()
    }

    /// Returns the body of an object; `None` when there is none.
    pub(crate) async fn read(&self, key: &str) -> Option<Vec<u8>> {
        let response = self.get(key).await;
        match response.status().as_u16() {
            200 => Some(response.bytes().await.unwrap().to_vec()),
            404 => None,
            other => {
                panic!("`{key}` was answered with {other}: {}", response.text().await.unwrap())
            }
        }
    }

    pub(crate) async fn delete(&self, key: &str) {
        let path = format!("/{BUCKET}/{key}");
        let response = self.request(Method::DELETE, &path, "", &[]).send().await.unwrap();
        assert_eq!(response.status(), 204);
    }

    /// Uploads an object in parts.
    pub(crate) async fn put_parts(&self, key: &str, parts: Vec<Vec<u8>>) -> reqwest::Result<bool> {
        let path = format!("/{BUCKET}/{key}");
        let begun = self.request(Method::POST, &path, "uploads=", &[]).send().await?.text().await?;
        let id = element(&begun, "UploadId").to_owned();
        let mut chosen = String::new();
        for (number, part) in (1..).zip(parts) {
            let query = format!("partNumber={number}&uploadId={id}");
            let answer = self.request(Method::PUT, &path, &query, &[]).body(part).send().await?;
            let Some(etag) = answer.headers().get("etag") else { return Ok(false) };
            let etag = etag.to_str().unwrap();
            chosen.push_str("<Part><PartNumber>");
            chosen.push_str(&number.to_string());
            chosen.push_str("</PartNumber><ETag>");
            chosen.push_str(etag);
            chosen.push_str("</ETag></Part>");
        }
        let document = format!("<CompleteMultipartUpload>{chosen}</CompleteMultipartUpload>");
        let query = format!("uploadId={id}");
        let answer = self.request(Method::POST, &path, &query, &[]).body(document).send().await?;
        Ok(answer.status() == 200)
    }
}

/// Returns the text of the first element with a name.
pub(crate) fn element<'a>(document: &'a str, name: &str) -> &'a str {
    let begin = document.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    begin.split_once("</").map_or("", |(text, _)| text)
}

/// Returns the code of a fault.
pub(crate) async fn code(response: Response) -> String {
    element(&response.text().await.unwrap(), "Code").to_owned()
}

fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "a client signs for the present time")]
    let time = SystemTime::now();
    assert!(time > UNIX_EPOCH);
    let text = httpdate::HttpDate::from(time).to_string();
    // `Wed, 25 Nov 2026 22:00:00 GMT`
    let words: Vec<&str> = text.split(' ').collect();
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(words[2]).unwrap() / 3 + 1;
    format!("{}{month:02}{}T{}Z", words[3], words[1], words[4].replace(':', ""))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(text.as_bytes()).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
