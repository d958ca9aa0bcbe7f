//! Rules between keys, which a key alone cannot check.

use super::keys::Config;
use super::kind::{DatabaseTls, MediaStore, SessionBackend};
use super::source::Source;

/// Database connections that are kept free for flotilla itself: the workshop, upgrades, cron and an
/// operator.
pub const CONNECTIONS_RESERVED: u32 = 10;

/// One rule.
pub(super) struct Check {
    /// The keys it is about. The fault is told at the last of them in the file.
    pub(super) keys: &'static [&'static str],
    /// Says what is wrong, and the way out.
    pub(super) problem: fn(&Config) -> Option<String>,
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        keys: &[
            "fleet.instances",
            "php.workers",
            "capture.mode",
            "cron.runners",
            "database.max_connections",
        ],
        problem: connections_suffice,
    },
    Check { keys: &["deploy.hold_limit", "deploy.upgrade_timeout"], problem: upgrade_fits_hold },
    Check {
        keys: &["deploy.prepare_timeout", "deploy.smoke_timeout"],
        problem: smoke_fits_prepare,
    },
    Check { keys: &["php.upload_max_size", "balancer.max_body_size"], problem: upload_fits_body },
    Check { keys: &["php.upload_max_size", "php.memory_limit"], problem: upload_fits_memory },
    Check {
        keys: &["php.max_execution_time", "balancer.upstream_timeout"],
        problem: balancer_outwaits_php,
    },
    Check { keys: &["database.url", "database.tls"], problem: tls_has_an_address },
    Check { keys: &["database.tls", "database.tls_ca"], problem: certificates_are_checked },
    Check {
        keys: &["media.store", "media.bucket", "media.endpoint", "media.access_key_id"],
        problem: bucket_is_whole,
    },
    Check { keys: &["media.access_key_id", "media.secret_access_key"], problem: key_is_a_pair },
    Check { keys: &["sessions.backend", "sessions.nodes"], problem: table_has_no_nodes },
    Check { keys: &["sessions.backend", "sessions.discovery"], problem: table_has_no_cluster },
    Check { keys: &["sessions.nodes", "sessions.discovery"], problem: nodes_come_from_one_place },
    Check {
        keys: &["sessions.backend", "sessions.table", "sessions.region"],
        problem: table_has_a_name,
    },
    Check {
        keys: &["sessions.backend", "sessions.table", "sessions.region", "sessions.endpoint"],
        problem: table_is_wanted,
    },
    Check { keys: &["foreman.listen", "balancer.listen"], problem: addresses_differ },
    Check { keys: &["site.source", "site.source_sha256"], problem: checksum_has_a_zip },
];

fn connections_suffice(config: &Config) -> Option<String> {
    let (given, needed) = (config.database.max_connections, config.connections_needed());
    let (instances, workers) = (config.fleet.instances, config.php.workers);
    (given < needed).then(|| {
        format!(
            "`database.max_connections` is {given}, but {instances} instances × {workers} workers \
             × 2 slots + {} for the workshop + {} of `cron.runners` + {CONNECTIONS_RESERVED} in reserve need {needed}; \
             set `database.max_connections` to at least {needed}, or lower `fleet.instances` or \
             `php.workers`",
            if config.has_workshop() { workers } else { 0 },
            config.cron.runners
        )
    })
}

fn upgrade_fits_hold(config: &Config) -> Option<String> {
    let deploy = &config.deploy;
    (deploy.upgrade_timeout > deploy.hold_limit).then(|| {
        "`deploy.upgrade_timeout` must be at most `deploy.hold_limit`, because requests wait while \
         the database is upgraded; lower the one or raise the other"
            .to_owned()
    })
}

fn smoke_fits_prepare(config: &Config) -> Option<String> {
    let deploy = &config.deploy;
    (deploy.smoke_timeout > deploy.prepare_timeout).then(|| {
        "`deploy.smoke_timeout` must be at most `deploy.prepare_timeout`, of which it is a part; \
         lower the one or raise the other"
            .to_owned()
    })
}

fn upload_fits_body(config: &Config) -> Option<String> {
    let (upload, body) = (config.php.upload_max_size, config.balancer.max_body_size);
    (body <= upload).then(|| {
        format!(
            "`balancer.max_body_size` ({body}) must be more than `php.upload_max_size` ({upload}), \
             or the balancer refuses uploads that PHP would take; raise the one or lower the other"
        )
    })
}

fn upload_fits_memory(config: &Config) -> Option<String> {
    let (upload, memory) = (config.php.upload_max_size, config.php.memory_limit);
    (memory < upload).then(|| {
        format!(
            "`php.memory_limit` ({memory}) must be at least `php.upload_max_size` ({upload}); \
             raise the one or lower the other"
        )
    })
}

fn balancer_outwaits_php(config: &Config) -> Option<String> {
    (config.balancer.upstream_timeout < config.php.max_execution_time).then(|| {
        "`balancer.upstream_timeout` must be at least `php.max_execution_time`, or the balancer \
         gives up requests that PHP still works on; raise the one or lower the other"
            .to_owned()
    })
}

fn tls_has_an_address(config: &Config) -> Option<String> {
    (config.database.tls != DatabaseTls::Off && config.database.url.is_none()).then(|| {
        "`database.tls` is for a server of your own; set `database.url`, or remove it: the database \
         that flotilla runs is reached on this machine only"
            .to_owned()
    })
}

fn certificates_are_checked(config: &Config) -> Option<String> {
    (config.database.tls_ca.is_some() && config.database.tls != DatabaseTls::Verify).then(|| {
        "`database.tls_ca` is used only with `database.tls = \"verify\"`; set that, or remove it"
            .to_owned()
    })
}

fn bucket_is_whole(config: &Config) -> Option<String> {
    let media = &config.media;
    if media.store == MediaStore::Directory && media.bucket.is_some() {
        return Some(
            "`media.bucket` is used only with `media.store = \"bucket\"`; set that, or remove it"
                .to_owned(),
        );
    }
    (media.bucket.is_none() && (media.endpoint.is_some() || media.access_key_id.is_some())).then(
        || {
            "`media.endpoint` and `media.access_key_id` are for a bucket of your own; name it with \
             `media.bucket`, or remove them: the store that flotilla runs needs neither"
                .to_owned()
        },
    )
}

fn key_is_a_pair(config: &Config) -> Option<String> {
    let media = &config.media;
    (media.access_key_id.is_some() != media.secret_access_key.is_some()).then(|| {
        "`media.access_key_id` and `media.secret_access_key` belong together; set both, or neither \
         to use the environment, the profile or the machine's role"
            .to_owned()
    })
}

fn is_in_table(config: &Config) -> bool {
    config.sessions.backend == SessionBackend::DynamoDb
}

fn table_has_no_nodes(config: &Config) -> Option<String> {
    (is_in_table(config) && !config.sessions.nodes.is_empty()).then(|| {
        "`sessions.nodes` are memcached servers, but `sessions.backend = \"dynamodb\"` keeps \
         sessions in a table; remove the one or the other"
            .to_owned()
    })
}

fn table_has_no_cluster(config: &Config) -> Option<String> {
    (is_in_table(config) && config.sessions.discovery.is_some()).then(|| {
        "`sessions.discovery` finds memcached servers, but `sessions.backend = \"dynamodb\"` keeps \
         sessions in a table; remove the one or the other"
            .to_owned()
    })
}

fn nodes_come_from_one_place(config: &Config) -> Option<String> {
    (!config.sessions.nodes.is_empty() && config.sessions.discovery.is_some()).then(|| {
        "`sessions.nodes` and `sessions.discovery` both tell which memcached servers there are; \
         remove one of them"
            .to_owned()
    })
}

fn table_has_a_name(config: &Config) -> Option<String> {
    let sessions = &config.sessions;
    let is_named = sessions.table.is_some() && sessions.region.is_some();
    (is_in_table(config) && !is_named).then(|| {
        "`sessions.backend = \"dynamodb\"` needs the name of the table and where it is; set \
         `sessions.table` and `sessions.region`"
            .to_owned()
    })
}

fn table_is_wanted(config: &Config) -> Option<String> {
    let sessions = &config.sessions;
    let names_one =
        sessions.table.is_some() || sessions.region.is_some() || sessions.endpoint.is_some();
    (!is_in_table(config) && names_one).then(|| {
        "`sessions.table`, `sessions.region` and `sessions.endpoint` are used only with \
         `sessions.backend = \"dynamodb\"`; set that, or remove them"
            .to_owned()
    })
}

fn addresses_differ(config: &Config) -> Option<String> {
    let (foreman, balancer) = (config.foreman.listen, config.balancer.listen);
    let (one, other) = (foreman.ip(), balancer.ip());
    let overlap = one == other || one.is_unspecified() || other.is_unspecified();
    (overlap && foreman.port() != 0 && foreman.port() == balancer.port()).then(|| {
        format!(
            "`foreman.listen` ({foreman}) and `balancer.listen` ({balancer}) need two different \
             ports; change one of them"
        )
    })
}

fn checksum_has_a_zip(config: &Config) -> Option<String> {
    let is_zip = matches!(config.site.source, Source::Url(_) | Source::Zip(_));
    (config.site.source_sha256.is_some() && !is_zip).then(|| {
        "`site.source_sha256` is for a zip only; set `site.source` to a `.zip` file or the address \
         of one, or remove the checksum"
            .to_owned()
    })
}
