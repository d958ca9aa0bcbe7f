//! What every slot needs besides the code, made from the configuration and the secrets.

use std::net::SocketAddr;

use flotilla_core::api::{SessionStore, SlotSettings};
use flotilla_core::config::{Config, DatabaseTls, MediaStore};
use flotilla_core::constants::{ConstantValue, Constants};
use flotilla_core::id::Token;
use flotilla_core::layout;
use flotilla_core::media::{MediaKeys, MediaSettings};
use flotilla_core::template::{TemplateError, php_quote, render};
use sha2::{Digest, Sha256};

use crate::secrets::Secrets;

/// Bytes of a digest; memcached's keys are short, and few sites share one.
const CACHE_PREFIX_BYTES: usize = 6;
const WP_CONFIG: &str = include_str!("../../../templates/wp-config.php");

/// `MYSQLI_CLIENT_SSL` of PHP.
const CLIENT_SSL: u32 = 1 << 11;
/// `MYSQLI_CLIENT_SSL_VERIFY_SERVER_CERT` of PHP.
const CLIENT_SSL_VERIFY: u32 = 1 << 30;

/// How PHP reaches the database.
#[derive(Debug, Clone)]
pub struct DatabaseLogin {
    /// A name or an address; an IPv6 address is in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database.
    pub name: String,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Token,
    /// How the connection is protected.
    pub tls: DatabaseTls,
    /// Certificates, in PEM, that may have signed the server's, besides the machine's; often empty.
    pub certificates: String,
}

impl DatabaseLogin {
    const fn client_flags(&self) -> u32 {
        match self.tls {
            DatabaseTls::Off => 0,
            DatabaseTls::Required => CLIENT_SSL,
            DatabaseTls::Verify => CLIENT_SSL | CLIENT_SSL_VERIFY,
        }
    }
}

/// The name of the embedded store's one bucket.
pub const BUCKET: &str = "media";
/// The name of its one key.
pub const BUCKET_KEY_ID: &str = "flotilla";

/// The stores that a fleet's machines share besides the database.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    /// Where PHP sessions are kept.
    pub sessions: SessionStore,
    /// The memcached nodes of the object cache; empty when there is none.
    pub cache: Vec<SocketAddr>,
    /// The embedded store of media; `None` when there is none.
    pub bucket: Option<SocketAddr>,
}

/// What settings depend on besides the site.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// What PHP keeps its sessions and its cache in.
    pub stores: &'a Stores,
    /// The user that PHP runs as.
    pub php_user: &'a str,
}

/// Makes the settings of all slots. `constants` are those of the site, wherever they come from.
///
/// # Errors
/// A value would change the meaning of `wp-config.php`.
pub fn slot_settings(
    config: &Config,
    site_url: &str,
    login: &DatabaseLogin,
    secrets: &Secrets,
    constants: &Constants,
    place: Place<'_>,
) -> Result<SlotSettings, TemplateError> {
    let (scheme, host) = site_url.split_once("://").unwrap_or(("http", site_url));
    Ok(SlotSettings {
        wp_config: wp_config(config, site_url, login, secrets, constants, &place.stores.cache)?,
        site_host: host.to_owned(),
        site_scheme: scheme.to_owned(),
        php_user: place.php_user.to_owned(),
        php_workers: config.php.workers,
        php_memory_bytes: config.php.memory_limit.bytes(),
        opcache_bytes: config.php.opcache_memory.bytes(),
        php_time_limit_seconds: config.php.max_execution_time.as_secs(),
        upload_bytes_max: config.php.upload_max_size.bytes(),
        body_bytes_max: config.balancer.max_body_size.bytes(),
        session_lifetime_seconds: config.php.session_lifetime.as_secs(),
        session_store: place.stores.sessions.clone(),
        object_cache: config.cache.object.as_str().to_owned(),
        timezone: config.site.timezone.clone(),
        smoke: config.deploy.smoke.clone(),
        smoke_timeout_millis: u64::try_from(config.deploy.smoke_timeout.as_millis())
            .unwrap_or(u64::MAX),
        warm_scripts_max: config.deploy.warm_scripts_max,
        database_certificates: login.certificates.clone(),
        media: media_settings(config, secrets, place.stores.bucket),
    })
}

/// Says how the bucket is reached: the operator's own, or the embedded one.
#[must_use]
pub fn media_settings(
    config: &Config,
    secrets: &Secrets,
    embedded: Option<SocketAddr>,
) -> Option<MediaSettings> {
    let media = &config.media;
    if media.store == MediaStore::Directory {
        return None;
    }
    let keys = |id: &str, key: &Token| MediaKeys {
        access_key_id: id.to_owned(),
        secret_access_key: key.clone(),
    };
    let own = media.access_key_id.as_ref().zip(media.secret_access_key.as_ref());
    let (endpoint, bucket, keys) = match (&media.bucket, embedded) {
        (Some(bucket), _) => {
            (media.endpoint.clone(), bucket.clone(), own.map(|(id, key)| keys(id, key)))
        }
        (None, Some(address)) => (
            Some(format!("http://{address}")),
            BUCKET.to_owned(),
            Some(keys(BUCKET_KEY_ID, &secrets.bucket_key)),
        ),
        (None, None) => return None,
    };
    Some(MediaSettings {
        endpoint,
        region: media.region.clone(),
        bucket,
        prefix: media.prefix.clone(),
        keys,
        cache_bytes_max: media.cache_size.bytes(),
        staleness_millis: u64::try_from(media.staleness.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Names one state of the settings, so that an agent sees when they change.
#[must_use]
pub fn digest(settings: &SlotSettings) -> String {
    let text = serde_json::to_vec(settings).unwrap_or_default();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a constant's value as PHP. WordPress logs beside the code by default, where nothing can be
/// written; the slot has a log.
fn php(name: &str, value: &ConstantValue) -> String {
    match (name, value) {
        ("WP_DEBUG_LOG", ConstantValue::Switch(true)) => {
            php_quote(&format!("{}/php-error.log", layout::LOG))
        }
        (_, value) => value.php(),
    }
}

fn wp_config(
    config: &Config,
    site_url: &str,
    login: &DatabaseLogin,
    secrets: &Secrets,
    constants: &Constants,
    cache: &[SocketAddr],
) -> Result<String, TemplateError> {
    let wait = config.database.retry_timeout.min(config.php.max_execution_time / 2);
    let constants: Vec<String> = constants
        .iter()
        .map(|(name, value)| format!("define( {}, {} );", php_quote(name), php(name, value)))
        .collect();
    let salts: Vec<String> = secrets.salts.iter().map(|salt| php_quote(salt.reveal())).collect();
    let [auth, secure_auth, logged_in, nonce, auth_salt, secure_salt, logged_in_salt, nonce_salt] =
        salts.as_slice()
    else {
        return Err(TemplateError::UnknownPlaceholder("auth_key".to_owned()));
    };
    render(
        WP_CONFIG,
        &[
            ("db_name", &php_quote(&login.name)),
            ("db_user", &php_quote(&login.user)),
            ("db_password", &php_quote(login.password.reveal())),
            ("db_host", &php_quote(&format!("{}:{}", login.host, login.port))),
            ("db_flags", &login.client_flags().to_string()),
            ("db_wait", &wait.as_millis().to_string()),
            ("constants", &constants.join(" ")),
            ("table_prefix", &php_quote(&config.database.table_prefix)),
            ("auth_key", auth),
            ("secure_auth_key", secure_auth),
            ("logged_in_key", logged_in),
            ("nonce_key", nonce),
            ("auth_salt", auth_salt),
            ("secure_auth_salt", secure_salt),
            ("logged_in_salt", logged_in_salt),
            ("nonce_salt", nonce_salt),
            ("home", &php_quote(site_url)),
            ("environment_type", &php_quote("production")),
            ("workshop_key", &php_quote(workshop_key(config, secrets))),
            ("cache", &php_quote(config.cache.object.as_str())),
            ("cache_nodes", &php_quote(&joined(cache))),
            ("cache_prefix", &php_quote(&cache_prefix(config, site_url, login))),
        ],
    )
}

/// Without a workshop nothing leads there.
fn workshop_key<'a>(config: &Config, secrets: &'a Secrets) -> &'a str {
    if config.has_workshop() { secrets.workshop_key.reveal() } else { "" }
}

fn joined(nodes: &[SocketAddr]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Tells the values of this site from those of others in the same memcached. It must change neither
/// with a release nor with a secret: what one slot deletes must be deleted for all.
fn cache_prefix(config: &Config, site_url: &str, login: &DatabaseLogin) -> String {
    let host = format!("{}:{}", login.host, login.port);
    let site = [site_url, &host, &login.name, &config.database.table_prefix];
    let digest = Sha256::digest(site.join("\n"));
    digest.iter().take(CACHE_PREFIX_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(change: impl FnOnce(&mut Config, &mut DatabaseLogin, &mut Constants)) -> String {
        let mut config = Config::default();
        let mut login = DatabaseLogin {
            host: "127.0.0.1".to_owned(),
            port: 3306,
            name: "shop".to_owned(),
            user: "shop".to_owned(),
            password: Token::new("it's".to_owned()),
            tls: DatabaseTls::Off,
            certificates: String::new(),
        };
        let mut constants = Constants::new();
        change(&mut config, &mut login, &mut constants);
        let secrets = Secrets::make().unwrap();
        wp_config(&config, "http://localhost", &login, &secrets, &constants, &[]).unwrap()
    }

    #[test]
    fn the_sites_constants_are_defined_and_debugging_logs_to_the_slot() {
        let text = rendered(|_, _, constants| {
            constants.insert("WP_POST_REVISIONS".to_owned(), ConstantValue::Number(5));
            constants.insert("WP_DEBUG_LOG".to_owned(), ConstantValue::Switch(true));
        });
        assert!(text.contains("define( 'WP_POST_REVISIONS', 5 );"), "{text}");
        let log = "define( 'WP_DEBUG_LOG', '/srv/flotilla/log/php-error.log' );";
        assert!(text.contains(log), "{text}");
        assert!(text.contains("define( 'DB_PASSWORD', 'it\\'s' );"), "{text}");
    }

    #[test]
    fn the_connection_is_encrypted_as_configured_and_waits_no_longer_than_a_page_may_take() {
        let flags = |tls| rendered(|_, login, _| login.tls = tls);
        assert!(flags(DatabaseTls::Off).contains("'MYSQL_CLIENT_FLAGS', 0 )"));
        assert!(flags(DatabaseTls::Required).contains("'MYSQL_CLIENT_FLAGS', 2048 )"));
        assert!(flags(DatabaseTls::Verify).contains("'MYSQL_CLIENT_FLAGS', 1073743872 )"));
        let text = rendered(|config, _, _| {
            config.php.max_execution_time = std::time::Duration::from_secs(8);
        });
        assert!(text.contains("'FLOTILLA_DATABASE_WAIT', 4000 )"), "{text}");
    }
}
