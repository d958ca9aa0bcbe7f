//! What a faulty file is told: every message with its line, key and way out.

use super::super::FILE_BYTES_MAX;
use super::parse;

fn faults(lines: &[&str]) -> String {
    match parse(&lines.join("\n")) {
        Ok(_) => "no fault".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_meant() {
    let told = faults(&[
        "[fleet]",
        "instanses = 3",
        "",
        "[site]",
        "instances = 3",
        "xyzzy = 1",
        "[sessions]",
        "xyzzy = 1",
    ]);
    insta::assert_snapshot!(told, @"
    flotilla.toml:2: unknown key `fleet.instanses`; did you mean `fleet.instances`?
    flotilla.toml:5: unknown key `site.instances`; did you mean `fleet.instances`?
    flotilla.toml:6: unknown key `site.xyzzy`; `[site]` has `title`, `url`, `locale`, `timezone`, `admin_user`, `admin_email`, `source`, `source_sha256`, `plugins`
    flotilla.toml:8: unknown key `sessions.xyzzy`; `[sessions]` has `backend`, `nodes`, `discovery`, `table`, `region`, `endpoint`, `memory`
    ");
}

#[test]
fn an_unknown_section_is_told_with_the_one_that_was_meant() {
    let told = faults(&["[flete]", "[xyzzy]"]);
    insta::assert_snapshot!(told, @"
    flotilla.toml:1: unknown section `[flete]`; did you mean `[fleet]`?
    flotilla.toml:2: unknown section `[xyzzy]`; there are `[site]`, `[target]`, `[fleet]`, `[wordpress]`, `[php]`, `[database]`, `[secrets]`, `[sessions]`, `[cache]`, `[media]`, `[foreman]`, `[deploy]`, `[capture]`, `[cron]`, `[balancer]`, `[log]`
    ");
    let told = faults(&["instances = 3", "xyzzy = 1", "php = 8", "[[deploy]]"]);
    insta::assert_snapshot!(told, @"
    flotilla.toml:1: `instances` stands before any section; did you mean `fleet.instances`?
    flotilla.toml:2: `xyzzy` stands before any section, and no section has such a key
    flotilla.toml:3: `php` is a section; write `[php]` and its keys below
    flotilla.toml:4: `deploy` is a section; write `[deploy]` and its keys below
    ");
}

#[test]
fn a_number_is_checked() {
    let told = faults(&[
        "[fleet]",
        "instances = 0",
        "[php]",
        "workers = '4'",
        "[database]",
        "max_connections = 99999999999999999999999999999999999999999",
        "[deploy]",
        "min_ready = 70",
        "max_error_ratio = nan",
    ]);
    insta::assert_snapshot!(told, @"
    flotilla.toml:2: `fleet.instances` must be a whole number from 1 to 100, not `0`
    flotilla.toml:4: `php.workers` must be a whole number from 1 to 256, not a text in quotes
    flotilla.toml:6: `database.max_connections` must be a whole number from 20 to 100000, not this value
    flotilla.toml:8: `deploy.min_ready` must be a number from 0 to 1, such as `0.5`, not `70`
    flotilla.toml:9: `deploy.max_error_ratio` must be a number from 0 to 1, such as `0.5`, not `nan`
    ");
}

#[test]
fn a_duration_is_checked() {
    let told = faults(&[
        "[deploy]",
        "prepare_timeout = 120",
        "hold_limit = '20 sec'",
        "drain_timeout = ''",
        "verify_window = '2h'",
        "[php]",
        "max_execution_time = '1500ms'",
        "session_lifetime = '99999999999999999999d'",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `deploy.prepare_timeout` must be a duration from `"1s"` to `"1h"`, not 120 without a unit; write a whole number and one of `ms`, `s`, `m`, `h`, `d`, such as `"30s"`
    flotilla.toml:3: `deploy.hold_limit` must be a duration from `"1s"` to `"5m"`; `sec` is not a unit; write a whole number and one of `ms`, `s`, `m`, `h`, `d`, such as `"30s"`
    flotilla.toml:4: `deploy.drain_timeout` must be a duration from `"0ms"` to `"1h"`, not an empty text; write a whole number and one of `ms`, `s`, `m`, `h`, `d`, such as `"30s"`
    flotilla.toml:5: `deploy.verify_window` must be a duration from `"0ms"` to `"1h"`, not `2h`
    flotilla.toml:7: `php.max_execution_time` must be a duration in whole seconds from `"1s"` to `"1h"`, not `1500ms`
    flotilla.toml:8: `php.session_lifetime` must be a duration in whole seconds from `"1m"` to `"30d"`, not `99999999999999999999d`
    "#);
}

#[test]
fn a_size_is_checked() {
    let told = faults(&[
        "[php]",
        "memory_limit = '256M'",
        "opcache_memory = '1MiB'",
        "upload_max_size = '1500KiB'",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `php.memory_limit` must be a size in whole MiB from `"32MiB"` to `"16GiB"`; `M` is not a unit; write a whole number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`, such as `"64MiB"`
    flotilla.toml:3: `php.opcache_memory` must be a size in whole MiB from `"64MiB"` to `"4GiB"`, not `1MiB`
    flotilla.toml:4: `php.upload_max_size` must be a size in whole MiB from `"1MiB"` to `"4GiB"`, not `1500KiB`
    "#);
}

#[test]
fn a_word_is_checked() {
    let told = faults(&[
        "[deploy]",
        "hold = 'allways'",
        "[log]",
        "level = 'maria@shop'",
        "[balancer]",
        "access_log = 'yes'",
        "[target]",
        "kind = 3",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `deploy.hold` must be one of `"auto"`, `"always"`, `"never"`, not `allways`
    flotilla.toml:4: `log.level` must be one of `"error"`, `"warn"`, `"info"`, `"debug"`, `"trace"`, not this value
    flotilla.toml:6: `balancer.access_log` must be `true` or `false`, not a text in quotes
    flotilla.toml:8: `target.kind` must be one of `"local"`, `"hosts"`, `"aws"`, not a whole number
    "#);
}

#[test]
fn each_item_of_a_list_is_checked() {
    let told = faults(&[
        "[deploy]",
        "smoke = [",
        "  '/',",
        "  'shop',",
        "  7,",
        "]",
        "[balancer]",
        "trusted_proxies = '10.0.0.0/8'",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:4: `deploy.smoke` is a list, and each of its items must be a path of the site, such as `"/shop/"`: it does not begin with `/`
    flotilla.toml:5: `deploy.smoke` is a list, and each of its items must be a path of the site, such as `"/shop/"`, not a whole number
    flotilla.toml:8: `balancer.trusted_proxies` must be a list in `[ ]`, at most 1000 long, each an IP address or a range such as `"10.0.0.0/8"`, not a text in quotes
    "#);
}

#[test]
fn an_address_is_checked() {
    let told = faults(&[
        "[site]",
        "url = 'shop.example'",
        "source = 'lastest'",
        "[foreman]",
        "listen = '9000'",
        "[balancer]",
        "listen = 'localhost:8080'",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `site.url` must be `""` or an http or https address without a path, such as `"https://shop.example"`: it has no `https://` before it
    flotilla.toml:3: `site.source` must be `"latest"`, `"debian"`, `"debian:<suite>"`, a directory, a `.zip` file or the address of one: write a directory as `"./name"`
    flotilla.toml:5: `foreman.listen` must be an address to listen on, such as `"127.0.0.1:8080"`: write an IP address, `:` and a port; an IPv6 address stands in `[ ]`
    flotilla.toml:7: `balancer.listen` must be an address to listen on, such as `"127.0.0.1:8080"`: write an IP address, `:` and a port; an IPv6 address stands in `[ ]`
    "#);
    let told = faults(&[
        "[site]",
        "url = 'https://shop.example/blog'",
        "[database]",
        "url = 'db.example'",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `site.url` must be `""` or an http or https address without a path, such as `"https://shop.example"`: it has a path
    flotilla.toml:4: `database.url` must be `""` or an address such as `"mysql://user:password@host:3306/name"`: it does not begin with `mysql://`
    "#);
}

#[test]
fn a_text_is_checked() {
    let told = faults(&[
        "[site]",
        "title = ' '",
        "locale = 'english'",
        "admin_email = 'maria'",
        "source_sha256 = 'abc'",
        "admin_user = \"a\\nb\"",
        "timezone = 'utc'",
        "[target]",
        "data_dir = ''",
        "[php]",
        "user = 'root'",
        "binary = 'php-fpm'",
        "[foreman]",
        "branch = 'a..b'",
        "[database]",
        "table_prefix = 'wp-'",
    ]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `site.title` must be a text of 1 to 200 characters: it is empty
    flotilla.toml:3: `site.locale` must be a WordPress locale, such as `"en_US"`: two or three small letters must come first
    flotilla.toml:4: `site.admin_email` must be an e-mail address, such as `"you@shop.example"`: it has no `@`
    flotilla.toml:5: `site.source_sha256` must be `""` or a SHA-256 checksum (64 of the digits 0-9 and a-f): it has another length
    flotilla.toml:6: `site.admin_user` must be a WordPress user name, without line breaks and other control characters
    flotilla.toml:7: `site.timezone` must be a time zone, such as `"UTC"` or `"Europe/Berlin"`: a capital letter must come first
    flotilla.toml:9: `target.data_dir` must be a path: it is empty
    flotilla.toml:11: `php.user` must be the name of an unprivileged user of this machine: PHP must not run as root
    flotilla.toml:12: `php.binary` must be `""` or an absolute path: it does not begin with `/`
    flotilla.toml:14: `foreman.branch` must be the name of a git branch: git refuses such a name
    flotilla.toml:16: `database.table_prefix` must be the beginning of table names, such as `"wp_"`: it has characters other than A-Z, a-z, 0-9 and `_`
    "#);
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let told = faults(&["[fleet]", "instances = 1", "instances = 2"]);
    insta::assert_snapshot!(told, @"flotilla.toml:3: duplicate key `fleet.instances`; keep one of the two");
    let told = faults(&["[fleet]", "[site]", "[fleet]"]);
    insta::assert_snapshot!(told, @"flotilla.toml:3: duplicate `fleet`; merge the two into one");
    let told = faults(&["[deploy]", "hold_limit = 20s"]);
    insta::assert_snapshot!(told, @r#"flotilla.toml:2: the value is missing, or it is a text without quotes; write texts, durations and sizes in double quotes, such as `"30s"`"#);
    let told = faults(&["[fleet", "instances = 1"]);
    insta::assert_snapshot!(told, @"flotilla.toml:1: not valid TOML: unclosed table, expected `]`");
    let told = faults(&["[site]\r", "title 'x'\r"]);
    insta::assert_snapshot!(told, @"flotilla.toml:2: not valid TOML: key with no value, expected `=`");
}

#[test]
fn the_fleet_never_needs_more_connections_than_there_are() {
    let told = faults(&["[fleet]", "instances = 20"]);
    insta::assert_snapshot!(told, @"flotilla.toml:2: `database.max_connections` is 150, but 20 instances × 4 workers × 2 slots + 4 for the workshop + 3 of `cron.runners` + 10 in reserve need 177; set `database.max_connections` to at least 177, or lower `fleet.instances` or `php.workers`");
}

#[test]
fn times_that_contain_each_other_are_compared() {
    let told = faults(&["[deploy]", "hold_limit = '5s'", "prepare_timeout = '3s'"]);
    insta::assert_snapshot!(told, @"
    flotilla.toml:2: `deploy.upgrade_timeout` must be at most `deploy.hold_limit`, because requests wait while the database is upgraded; lower the one or raise the other
    flotilla.toml:3: `deploy.smoke_timeout` must be at most `deploy.prepare_timeout`, of which it is a part; lower the one or raise the other
    ");
    let told = faults(&["[php]", "max_execution_time = '2m'"]);
    insta::assert_snapshot!(told, @"flotilla.toml:2: `balancer.upstream_timeout` must be at least `php.max_execution_time`, or the balancer gives up requests that PHP still works on; raise the one or lower the other");
}

#[test]
fn sizes_that_contain_each_other_are_compared() {
    let told = faults(&["[php]", "upload_max_size = '300MiB'"]);
    insta::assert_snapshot!(told, @"
    flotilla.toml:2: `balancer.max_body_size` (72MiB) must be more than `php.upload_max_size` (300MiB), or the balancer refuses uploads that PHP would take; raise the one or lower the other
    flotilla.toml:2: `php.memory_limit` (256MiB) must be at least `php.upload_max_size` (300MiB); raise the one or lower the other
    ");
}

#[test]
fn sessions_are_kept_in_one_place() {
    let table = ["backend = 'dynamodb'", "table = 'shop'", "region = 'eu-central-1'"];
    let nodes = "nodes = ['10.0.0.5:11211']";
    let discovery = "discovery = 'shop.cfg.euc1.cache.amazonaws.com:11211'";
    let told = |lines: &[&str]| faults(&[&["[sessions]"], lines].concat());
    assert_eq!(told(&table), "no fault");
    assert_eq!(told(&[discovery]), "no fault");
    insta::assert_snapshot!(told(&[&table[..], &[nodes]].concat()), @r#"flotilla.toml:5: `sessions.nodes` are memcached servers, but `sessions.backend = "dynamodb"` keeps sessions in a table; remove the one or the other"#);
    insta::assert_snapshot!(told(&[&table[..], &[discovery]].concat()), @r#"flotilla.toml:5: `sessions.discovery` finds memcached servers, but `sessions.backend = "dynamodb"` keeps sessions in a table; remove the one or the other"#);
    insta::assert_snapshot!(told(&[nodes, discovery]), @"flotilla.toml:3: `sessions.nodes` and `sessions.discovery` both tell which memcached servers there are; remove one of them");
    insta::assert_snapshot!(told(&table[..2]), @r#"flotilla.toml:3: `sessions.backend = "dynamodb"` needs the name of the table and where it is; set `sessions.table` and `sessions.region`"#);
    insta::assert_snapshot!(told(&["endpoint = 'http://127.0.0.1:8000'"]), @r#"flotilla.toml:2: `sessions.table`, `sessions.region` and `sessions.endpoint` are used only with `sessions.backend = "dynamodb"`; set that, or remove them"#);
}

#[test]
fn a_table_and_its_region_are_checked() {
    let told = faults(&["[sessions]", "table = 'a b'", "region = 'Frankfurt'"]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `sessions.table` must be `""` or the name of a DynamoDB table, such as `"shop-sessions"`: it has characters other than A-Z, a-z, 0-9 and `_` `.` `-`
    flotilla.toml:3: `sessions.region` must be `""` or a region of AWS, such as `"eu-central-1"`: AWS has no such names
    "#);
    let told = faults(&["[sessions]", "table = 'ab'", "region = 'eu'", "endpoint = 'localhost'"]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `sessions.table` must be `""` or the name of a DynamoDB table, such as `"shop-sessions"`: it has fewer than 3 characters
    flotilla.toml:3: `sessions.region` must be `""` or a region of AWS, such as `"eu-central-1"`: AWS has no such names
    flotilla.toml:4: `sessions.endpoint` must be `""` or an http or https address without a path, such as `"https://shop.example"`: it has no `https://` before it
    "#);
}

#[test]
fn two_parts_cannot_have_one_port() {
    let told = faults(&["[foreman]", "listen = '0.0.0.0:8080'"]);
    insta::assert_snapshot!(told, @"flotilla.toml:2: `foreman.listen` (0.0.0.0:8080) and `balancer.listen` (127.0.0.1:8080) need two different ports; change one of them");
}

#[test]
fn a_bucket_is_whole_or_flotillas_own() {
    let told = faults(&["[media]", "endpoint = 'https://s3.example'"]);
    insta::assert_snapshot!(told, @"flotilla.toml:2: `media.endpoint` and `media.access_key_id` are for a bucket of your own; name it with `media.bucket`, or remove them: the store that flotilla runs needs neither");
    let told = faults(&["[media]", "bucket = 'shop'", "access_key_id = 'AKIA'"]);
    insta::assert_snapshot!(told, @"flotilla.toml:3: `media.access_key_id` and `media.secret_access_key` belong together; set both, or neither to use the environment, the profile or the machine's role");
    let told = faults(&["[media]", "store = 'directory'", "bucket = 'shop'"]);
    insta::assert_snapshot!(told, @r#"flotilla.toml:3: `media.bucket` is used only with `media.store = "bucket"`; set that, or remove it"#);
    let told = faults(&["[media]", "bucket = 'My Shop'", "prefix = '../x'"]);
    insta::assert_snapshot!(told, @r#"
    flotilla.toml:2: `media.bucket` must be `""` or the name of a bucket, such as `"shop-media"`: it has characters other than a-z, 0-9, `.` and `-`
    flotilla.toml:3: `media.prefix` must be `""` or the beginning of names, such as `"shop/uploads/"`: it does not end with `/`
    "#);
}

#[test]
fn a_checksum_needs_a_zip() {
    let told = faults(&[
        "[site]",
        "source_sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
    ]);
    insta::assert_snapshot!(told, @"flotilla.toml:2: `site.source_sha256` is for a zip only; set `site.source` to a `.zip` file or the address of one, or remove the checksum");
}

#[test]
fn a_rule_is_silent_about_a_key_that_has_a_fault_of_its_own() {
    let told = faults(&["[fleet]", "instances = 20", "[database]", "max_connections = 'many'"]);
    insta::assert_snapshot!(told, @"flotilla.toml:4: `database.max_connections` must be a whole number from 20 to 100000, not a text in quotes");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let text = "#".repeat(FILE_BYTES_MAX + 1);
    assert_eq!(
        faults(&[&text]),
        "flotilla.toml:1: the file has more than 262144 bytes; shorten it"
    );
}
