//! Every key of `flotilla.toml`: name, type, default, limits, meaning, example.
//!
//! To add a key, add it here, then run `cargo xtask reference`. Rules between keys are in
//! `checks.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::cidr::Cidr;
use super::constants::ConstantTable;
use super::database_url::DatabaseUrl;
use super::declare::{Key, Section, configuration};
use super::kind::{
    CaptureMode, DatabaseTls, Kind, List, LogLevel, MediaStore, ObjectCache, SessionBackend,
    Switch, TargetKind, one_of,
};
use super::number::{Ratio, Size, mebibytes, millis, seconds, whole};
use super::source::Source;
use super::text::{
    Maybe, absolute_path, aws_region, branch, bucket_name, dynamodb_table, email, key_id, locale,
    node_address, object_prefix, parsed, path, region, request_path, secret, secret_key, sha256,
    socket_address, system_user, table_prefix, timezone, title, web_address, wordpress_user,
};
use crate::constants::Constants;
use crate::deploy::HoldMode;
use crate::id::Token;

/// An hour and a day in milliseconds.
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

configuration! {
    /// The site: what it is called, where people reach it, and where its code first comes from.
    site: Site {
        /// The title that WordPress is installed with.
        title: String = "My shop".to_owned() => title(), example r#""Fleet Street Books""#;
        /// The address at which people reach the site, without a path.
        /// Empty means `http://localhost` with the port of `balancer.listen`.
        url: Option<String> = None
            => Maybe(web_address()), example r#""https://shop.example""#;
        /// The language that WordPress is installed in.
        locale: String = "en_US".to_owned() => locale(), example r#""de_DE""#;
        /// The time zone that WordPress is installed with.
        timezone: String = "UTC".to_owned() => timezone(), example r#""Europe/Berlin""#;
        /// The name of the first WordPress administrator.
        admin_user: String = "admin".to_owned() => wordpress_user(), example r#""maria""#;
        /// The e-mail address of the first WordPress administrator.
        admin_email: String = "admin@example.com".to_owned()
            => email(), example r#""maria@shop.example""#;
        /// Where the code of a new site comes from; afterwards the repository holds it.
        /// `latest` is the newest WordPress from wordpress.org, `debian` the package of this
        /// machine's suite, `debian:trixie` that of another one. Anything else is a directory, a
        /// `.zip` file or the address of one; paths are relative to this file.
        source: Source = Source::Latest => parsed::<Source>(
            "`\"latest\"`, `\"debian\"`, `\"debian:<suite>\"`, a directory, a `.zip` file or the \
             address of one"
        ), example r#""./wordpress""#;
        /// The SHA-256 checksum that a zip of `site.source` must have. Empty means unchecked.
        source_sha256: Option<String> = None => Maybe(sha256()),
            example r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""#;
        /// Directories of plugins that a new site is given and that are active in it, relative to
        /// the directory of this file. A site that is made already is not changed by it.
        plugins: Vec<PathBuf> = Vec::new()
            => List { item: path(), items_max: 50 }, example r#"["./plugins/my-shop"]"#;
    }

    /// Where the fleet runs.
    target: Target {
        /// `local` runs everything on this machine, as child processes.
        /// `hosts` and `aws` are understood here, but this version cannot run them.
        kind: TargetKind = TargetKind::Local => one_of::<TargetKind>(), example r#""hosts""#;
        /// The directory that holds all data of the site, relative to this file.
        data_dir: PathBuf = ".flotilla".into() => path(), example r#""/var/lib/flotilla/shop""#;
    }

    /// The instances that serve the site.
    fleet: Fleet {
        /// How many instances there are.
        instances: u16 = 2 => whole(1, 100), example "4";
    }

    /// WordPress itself. Its `wp-config.php` is generated and the same on every instance.
    wordpress: WordPress {
        /// Constants that `wp-config.php` defines besides those of flotilla, such as the ones that a
        /// plugin asks for. They may also stand below a line `[wordpress.constants]`.
        constants: Constants = Constants::new() => ConstantTable,
            example "{ WP_POST_REVISIONS = 5, WP_MEMORY_LIMIT = \"256M\" }";
    }

    /// PHP on every instance. Both slots of an instance have a php-fpm of their own.
    php: Php {
        /// How many PHP requests a slot works on at a time.
        workers: u16 = 4 => whole(1, 256), example "8";
        /// How much memory a PHP request may take.
        memory_limit: Size = Size::from_mebibytes(256) => mebibytes(32, 16384),
            example r#""512MiB""#;
        /// How much compiled code a slot keeps. WordPress alone needs about 25 MiB, with large
        /// plugins 100 MiB; a slot that runs out of it compiles on each request.
        opcache_memory: Size = Size::from_mebibytes(192) => mebibytes(64, 4096),
            example r#""256MiB""#;
        /// How long a PHP request may take.
        max_execution_time: Duration = Duration::from_secs(60) => seconds(1, 3600),
            example r#""2m""#;
        /// The largest file that can be uploaded.
        upload_max_size: Size = Size::from_mebibytes(64) => mebibytes(1, 4096),
            example r#""128MiB""#;
        /// How long a PHP session lives without a request. Thirty days at most, because memcached
        /// takes more for a date.
        session_lifetime: Duration = Duration::from_millis(2 * DAY) => seconds(60, 30 * DAY / 1000),
            example r#""12h""#;
        /// The user that PHP runs as when flotilla is started as root.
        user: String = "www-data".to_owned() => system_user(), example r#""shop""#;
        /// The php-fpm program. Empty means the newest one that is installed.
        binary: Option<PathBuf> = None => Maybe(absolute_path()),
            example r#""/usr/sbin/php-fpm8.2""#;
    }

    /// The database.
    database: Database {
        /// The address of a MySQL or MariaDB server of your own,
        /// `mysql://user:password@host:port/name`. Empty means that flotilla runs a MariaDB itself.
        /// In a user or password, `%` and two hexadecimal digits stand for a special letter.
        url: Option<DatabaseUrl> = None => Maybe(secret(
            "an address such as `\"mysql://user:password@host:3306/name\"`",
            DatabaseUrl::reveal,
            DatabaseUrl::redacted,
        )), example r#""mysql://shop:secret@db.example:3306/shop""#;
        /// Whether the connection to the server of `database.url` is encrypted: `required` encrypts it,
        /// `verify` also makes sure that its certificate is good for the host of the address.
        tls: DatabaseTls = DatabaseTls::Off => one_of::<DatabaseTls>(), example r#""verify""#;
        /// The file with the certificates, in PEM, that may have signed the server's, relative to the
        /// directory of this file. Empty means those that this machine trusts anyway.
        tls_ca: Option<PathBuf> = None => Maybe(path()), example r#""./database-ca.pem""#;
        /// How long a page waits for a database that does not answer, as while it restarts, before it
        /// fails; never more than half of `php.max_execution_time`.
        retry_timeout: Duration = Duration::from_secs(10) => millis(0, 300_000),
            example r#""20s""#;
        /// How much of the database is kept in memory, when flotilla runs it.
        buffer_pool: Size = Size::from_mebibytes(128) => mebibytes(16, 1 << 20),
            example r#""1GiB""#;
        /// How many connections the database takes. Every PHP worker of every slot can need one.
        max_connections: u32 = 150 => whole(20, 100_000), example "500";
        /// What the names of WordPress' tables begin with.
        table_prefix: String = "wp_".to_owned() => table_prefix(), example r#""shop_""#;
    }

    /// The secrets: salts, passwords and tokens, made once and encrypted in the data directory.
    secrets: Secrets {
        /// The file with the key that opens them: 64 hexadecimal digits, made with the secrets. Empty
        /// means `secrets.key` in the data directory, so that whoever copies all of it can read them;
        /// a path elsewhere, such as a systemd credential, keeps backups unreadable.
        key_file: Option<PathBuf> = None => Maybe(path()),
            example r#""/run/credentials/flotilla/secrets.key""#;
    }

    /// The store of PHP sessions, which all instances share. Memcached keeps each session on two
    /// nodes. When the store is changed, sessions stay behind in the old one.
    sessions: Sessions {
        /// What keeps the sessions: `memcached` nodes, or a `dynamodb` table. A table loses nothing,
        /// answers within milliseconds instead of one, takes sessions of up to 400 KB, and is paid by
        /// the request.
        backend: SessionBackend = SessionBackend::Memcached
            => one_of::<SessionBackend>(), example r#""dynamodb""#;
        /// Memcached servers of your own, as `host:port`. Empty means that flotilla runs two itself.
        /// With one alone there is one copy of each session.
        nodes: Vec<String> = Vec::new() => List { item: node_address(), items_max: 64 },
            example r#"["10.0.0.5:11211", "10.0.0.6:11211"]"#;
        /// The configuration endpoint of an ElastiCache cluster for memcached, `host:port`. It tells
        /// the nodes, and every change of them is followed.
        discovery: Option<String> = None => Maybe(node_address()),
            example r#""shop.abc123.cfg.euc1.cache.amazonaws.com:11211""#;
        /// The DynamoDB table, which must be there: its key is the string `id`, and `expires` its
        /// time-to-live attribute. Who may use it is found where AWS' own tools look: in the
        /// environment that `flotilla up` is started in (`AWS_ACCESS_KEY_ID` and the like), in
        /// profiles, by the machine's role.
        table: Option<String> = None => Maybe(dynamodb_table()), example r#""shop-sessions""#;
        /// The region of the table.
        region: Option<String> = None => Maybe(aws_region()), example r#""eu-central-1""#;
        /// Where DynamoDB is, when it is not AWS' own address: a private endpoint, or an emulator.
        endpoint: Option<String> = None
            => Maybe(web_address()), example r#""http://127.0.0.1:8000""#;
        /// How much memory each node has that flotilla runs. When it is full, the sessions that were
        /// idle longest are lost.
        memory: Size = Size::from_mebibytes(64) => mebibytes(8, 65536), example r#""256MiB""#;
    }

    /// The object cache, in which WordPress keeps what it has read from the database.
    cache: Cache {
        /// Whose object cache is used: `auto` steps aside when the site's code brings one of its own
        /// (`wp-content/object-cache.php`), `on` is flotilla's in any case, `off` is not flotilla's.
        object: ObjectCache = ObjectCache::Auto => one_of::<ObjectCache>(), example r#""off""#;
        /// How much memory it has, apart from that of sessions. When it is full, what was not used
        /// for longest makes room.
        memory: Size = Size::from_mebibytes(64) => mebibytes(8, 65536), example r#""512MiB""#;
    }

    /// Media: the uploads of editors and plugins, which all instances share at once.
    media: Media {
        /// What keeps them: `bucket` is a store with S3's interface, `directory` one directory on the
        /// disk of this machine. The latter is for a fleet on one machine that has no FUSE, such as
        /// some containers; what is in the one is not in the other (`flotilla media import`).
        store: MediaStore = MediaStore::Bucket => one_of::<MediaStore>(), example r#""directory""#;
        /// The bucket of your own. Empty means that flotilla runs a store itself, on this machine.
        bucket: Option<String> = None => Maybe(bucket_name()), example r#""shop-media""#;
        /// The address of the server that has the bucket. Empty means AWS.
        endpoint: Option<String> = None => Maybe(web_address()),
            example r#""https://s3.example""#;
        /// The region of the bucket.
        region: String = "us-east-1".to_owned() => region(), example r#""eu-central-1""#;
        /// What the names of all objects begin with, so that a bucket can hold more than one site.
        prefix: String = "uploads/".to_owned() => object_prefix(), example r#""shop/uploads/""#;
        /// The name of the key that opens the bucket. Empty means the usual ways of AWS: the
        /// environment, the profile, the machine's role.
        access_key_id: Option<String> = None => Maybe(key_id()),
            example r#""AKIAIOSFODNN7EXAMPLE""#;
        /// The key itself.
        secret_access_key: Option<Token> = None => Maybe(secret_key()),
            example r#""wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY""#;
        /// How much of its disk each instance may use for what it has read from the bucket.
        cache_size: Size = Size::from_mebibytes(1024) => mebibytes(16, 1 << 20),
            example r#""10GiB""#;
        /// For how long an instance may trust what it knows of a file without asking: its name, its
        /// size, that it is still there. Whoever opens a file gets its newest content in any case.
        staleness: Duration = Duration::from_secs(1) => millis(0, 60_000), example r#""5s""#;
    }

    /// The foreman, which keeps the repository and carries out deploys.
    foreman: Foreman {
        /// Where it listens. Port 0 means a free port that is chosen once and then kept.
        listen: SocketAddr = loopback(0) => socket_address(), example r#""127.0.0.1:9000""#;
        /// The branch that is deployed.
        branch: String = "main".to_owned() => branch(), example r#""production""#;
        /// Whether a `git push` to that branch is a deploy.
        deploy_on_push: bool = true => Switch, example "false";
    }

    /// How a release is brought into service.
    deploy: Deploy {
        /// How long instances may take to prepare a release.
        prepare_timeout: Duration = Duration::from_secs(120) => millis(1000, HOUR),
            example r#""5m""#;
        /// The part of the answering instances that must be ready before the fleet moves, rounded
        /// down to whole instances but at least one: with 0.7, one of two or of three, or three of
        /// ten, may be late or broken. They are left out and join when they are ready. With 1.0 one
        /// bad instance stops every deploy.
        min_ready: f64 = 0.7 => Ratio, example "1.0";
        /// When PHP requests wait at the balancer during the cutover: `auto` when the release
        /// upgrades the database, `always`, or `never`, which runs an upgrade while the old release
        /// serves.
        hold: HoldMode = HoldMode::Auto => one_of::<HoldMode>(), example r#""always""#;
        /// How long requests may wait so. A deploy that cannot finish by then is given up.
        hold_limit: Duration = Duration::from_secs(20) => millis(1000, 300_000),
            example r#""30s""#;
        /// How long the upgrade of the database may take, within `deploy.hold_limit`.
        upgrade_timeout: Duration = Duration::from_secs(15) => millis(1000, 300_000),
            example r#""10s""#;
        /// How long the last requests of an old release may take before its slot is reused.
        drain_timeout: Duration = Duration::from_secs(30) => millis(0, HOUR), example r#""1m""#;
        /// How long a new release is watched before the deploy has succeeded; a second at most when
        /// another deploy waits behind it.
        verify_window: Duration = Duration::from_secs(10) => millis(0, HOUR), example r#""1m""#;
        /// By how much the share of failing requests may exceed that of the old release; beyond it
        /// the fleet moves back.
        max_error_ratio: f64 = 0.02 => Ratio, example "0.05";
        /// Paths that a prepared slot must answer without an error.
        smoke: Vec<String> = vec!["/".to_owned()]
            => List { item: request_path(), items_max: 50 }, example r#"["/", "/shop/"]"#;
        /// How long each of them may take.
        smoke_timeout: Duration = Duration::from_secs(10) => millis(100, 300_000),
            example r#""20s""#;
        /// How many scripts are compiled ahead in a prepared slot, those in use first.
        warm_scripts_max: u32 = 5000 => whole(0, 30_000), example "1000";
        /// After how long without a word an instance counts as unreachable.
        agent_lease: Duration = Duration::from_secs(10) => millis(1000, 600_000),
            example r#""30s""#;
    }

    /// The workshop, where wp-admin changes the site's code, and what becomes of the changes.
    capture: Capture {
        /// `auto` brings every change to all instances by itself, `review` once somebody has approved
        /// it, and with `off` there is no workshop: code comes with `git push` and `flotilla deploy`.
        mode: CaptureMode = CaptureMode::Auto => one_of::<CaptureMode>(), example r#""review""#;
        /// How long files must have been at rest before they are taken.
        settle: Duration = Duration::from_secs(1) => millis(100, 60_000), example r#""3s""#;
    }

    /// What WordPress and plugins have scheduled, which the foreman runs.
    cron: Cron {
        /// After how long due events are looked for, at the latest.
        interval: Duration = Duration::from_secs(30) => millis(1000, 60_000),
            example r#""10s""#;
        /// How many events may run at once.
        runners: u16 = 3 => whole(1, 16), example "1";
        /// How long one of them may take before it is stopped.
        run_limit: Duration = Duration::from_secs(3600) => millis(1000, 24 * HOUR),
            example r#""15m""#;
    }

    /// The balancer, which takes all requests and hands them to the instances.
    balancer: Balancer {
        /// Where it listens for visitors.
        listen: SocketAddr = loopback(8080) => socket_address(), example r#""0.0.0.0:80""#;
        /// How many threads it has. 0 means one for each core.
        threads: u16 = 0 => whole(0, 256), example "2";
        /// The proxies in front of it whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed:
        /// addresses or ranges. From everyone else these headers are dropped.
        trusted_proxies: Vec<Cidr> = Vec::new() => List {
            item: parsed::<Cidr>("an IP address or a range such as `\"10.0.0.0/8\"`"),
            items_max: 1000,
        }, example r#"["10.0.0.0/8"]"#;
        /// The largest body of a request; more than `php.upload_max_size`, because a form has other
        /// fields too.
        max_body_size: Size = Size::from_mebibytes(72) => mebibytes(1, 8192),
            example r#""160MiB""#;
        /// How long a client may take to send the head of a request.
        header_timeout: Duration = Duration::from_secs(10) => millis(100, 300_000),
            example r#""5s""#;
        /// How long a connection may be idle between two requests.
        idle_timeout: Duration = Duration::from_secs(75) => millis(100, HOUR), example r#""30s""#;
        /// How long an instance may take to begin its answer; at least `php.max_execution_time`.
        upstream_timeout: Duration = Duration::from_secs(75) => millis(100, 2 * HOUR),
            example r#""2m""#;
        /// How long a request may wait for a free PHP worker before it is answered 503.
        queue_timeout: Duration = Duration::from_secs(10) => millis(0, 300_000),
            example r#""5s""#;
        /// How often another instance is tried when one cannot be reached.
        retries: u16 = 2 => whole(0, 10), example "1";
        /// The time between two health checks of an instance.
        health_interval: Duration = Duration::from_secs(1) => millis(100, 60_000),
            example r#""5s""#;
        /// How long an instance may take to answer a health check.
        health_timeout: Duration = Duration::from_secs(2) => millis(100, 60_000),
            example r#""1s""#;
        /// Whether every request is logged.
        access_log: bool = true => Switch, example "false";
    }

    /// The logs.
    log: Log {
        /// How much flotilla itself logs.
        level: LogLevel = LogLevel::Info => one_of::<LogLevel>(), example r#""debug""#;
        /// The size at which a log file is put aside and a new one begun.
        rotate_size: Size = Size::from_mebibytes(50) => mebibytes(1, 10_240),
            example r#""200MiB""#;
        /// How many files of each log are kept beside the current one.
        keep: u16 = 3 => whole(0, 100), example "10";
    }
}
