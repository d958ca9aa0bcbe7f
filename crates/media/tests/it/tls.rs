//! A bucket behind TLS, as those of clouds are.

use std::fs;

use flotilla_media::Options;
use flotilla_testkit::tls::TlsFront;
use nix::libc;

use crate::bench::{Bench, Instance, PATIENCE, eventually};
use crate::server::Kind;

struct Behind {
    bench: Bench,
    front: TlsFront,
}

impl Behind {
    fn new() -> Self {
        let bench = Bench::new(Kind::Ours);
        let front = TlsFront::before(bench.proxy.address()).unwrap();
        Self { bench, front }
    }

    fn options(&self, name: &str, certificates: Option<String>) -> Options {
        let mut options = self.bench.options(name);
        options.store.endpoint = Some(self.front.endpoint());
        options.store.certificates = certificates;
        options
    }
}

#[test]
fn a_bucket_behind_tls_is_used_with_the_certificate_of_its_signer() {
    let behind = Behind::new();
    let certificates = fs::read_to_string(behind.front.authority()).unwrap();
    let options = ["web-1", "web-2"].map(|name| behind.options(name, Some(certificates.clone())));
    let [one, other] = options.map(Instance::start);
    let large = vec![7; 3 * 1024 * 1024];
    fs::write(one.root().join("large"), &large).unwrap();
    assert!(fs::read(other.root().join("large")).unwrap() == large);
}

#[test]
fn a_bucket_whose_certificate_is_not_trusted_is_told_once_and_with_the_way_out() {
    let behind = Behind::new();
    let stranger = TlsFront::before(behind.bench.proxy.address()).unwrap();
    let strange = fs::read_to_string(stranger.authority()).unwrap();
    let address = behind.front.endpoint();
    for (name, certificates, why) in [
        ("machine", None, "signed by nobody whom this machine trusts; add the signer's to"),
        ("another", Some(strange), "signed neither by one of the certificates that were given"),
    ] {
        let message = format!("at `{address}/media` is not trusted: its certificate is {why}");
        let instance = Instance::start(behind.options(name, certificates));
        eventually(&message, PATIENCE, || instance.log().contains(&message).then_some(()));
        let error = fs::write(instance.root().join("a"), "a").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{name}");
        let log = instance.log();
        assert_eq!(log.matches(" ERROR ").count(), 1 + log.matches("action=").count(), "{log}");
        assert_eq!(log.matches("The media bucket cannot be used").count(), 1, "{log}");
    }
}
