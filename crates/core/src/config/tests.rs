//! Promises of the configuration as a whole; what a faulty file is told is in `tests/faults.rs`.

mod faults;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::checks::CHECKS;
use super::error::ConfigErrors;
use super::keys::{Config, sections};
use super::{Cidr, DatabaseUrl, Size, Source, reference_markdown};
use crate::deploy::Policy;

const REFERENCE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("flotilla.toml", text)
}

#[test]
fn the_empty_file_is_the_default() {
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(parse("[site]\n[fleet]\n"), Ok(Config::default()));
}

#[test]
fn the_defaults_of_deploys_are_those_of_the_deploy_engine() {
    assert_eq!(Config::default().deploy.policy(), Policy::default());
}

#[test]
fn every_form_of_value_is_read() {
    let config = parse(
        r#"
            fleet.instances = 3
            site = { title = 'A "shop"', url = "https://shop.example/", source = "debian:sid" }
            [deploy]
            verify_window = "250ms"
            prepare_timeout = "5 m"
            min_ready = 1
            smoke = ["/", "/shop/?a=b"]
            [php]
            memory_limit = "1GiB"
            [balancer]
            trusted_proxies = ["10.0.0.0/8", "::1"]
        "#,
    )
    .unwrap();
    assert_eq!(config.fleet.instances, 3);
    assert_eq!(config.site.title, "A \"shop\"");
    assert_eq!(config.site_url(8080), "https://shop.example");
    assert_eq!(config.site.source, Source::Debian(Some("sid".to_owned())));
    assert_eq!(config.deploy.verify_window, Duration::from_millis(250));
    assert_eq!(config.deploy.prepare_timeout, Duration::from_secs(300));
    assert_eq!(config.deploy.min_ready.to_bits(), 1.0_f64.to_bits());
    assert_eq!(config.deploy.smoke, ["/", "/shop/?a=b"]);
    assert_eq!(config.php.memory_limit, Size::from_mebibytes(1024));
    let ranges: Vec<Cidr> = vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
    assert_eq!(config.balancer.trusted_proxies, ranges);
}

#[test]
fn without_an_address_the_site_is_on_localhost() {
    assert_eq!(Config::default().site_url(8080), "http://localhost:8080");
    assert_eq!(Config::default().site_url(80), "http://localhost");
}

#[test]
fn the_password_of_the_database_is_never_shown() {
    let good = "[database]\nurl = \"mysql://shop:hunter2@db/wp\"\n";
    let config = parse(good).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!config.effective_toml().contains("hunter2"));
    assert!(config.effective_toml().contains("mysql://shop:***@db:3306/wp"));
    assert!(config.template().contains("mysql://shop:hunter2@db:3306/wp"));
    for bad in [
        "[database]\nurl = mysql://shop:hunter2@db/wp\n",
        "[database]\nurl = \"mysql://shop:hunter2@db/wp\n",
        "[database]\nurl = \"mysql://shop:hunter2@db:x/wp\"\n",
        "[database]\nurl = [\"mysql://shop:hunter2@db/wp\"]\n",
        "[database]\nurls = \"mysql://shop:hunter2@db/wp\"\n",
        "[site]\nurl = \"mysql://shop:hunter2@db/wp\"\n",
        "[site]\nsource = \"https://shop:hunter2@db/wp\"\n",
        "[log]\nlevel = \"mysql://shop:hunter2@db/wp\"\n",
        "[log]\nrotate_size = \"mysql://shop:hunter2@db/wp\"\n",
        "[deploy]\nhold_limit = \"3mysql://shop:hunter2@db/wp\"\n",
        "url = \"mysql://shop:hunter2@db/wp\"\n",
    ] {
        let errors = parse(bad).unwrap_err();
        assert!(!format!("{errors}{errors:?}").contains("hunter2"), "{errors}");
    }
}

#[test]
fn every_key_is_documented_and_its_example_is_another_valid_value() {
    let defaults = Config::default();
    let mut names = BTreeSet::new();
    for section in sections() {
        for key in &section.keys {
            let path = format!("{}.{}", section.name, key.name);
            assert!(key.doc.trim().len() > 10, "{path}");
            // A rule between keys may refuse the example alone, but the key must take it.
            let text = format!("[{}]\n{} = {}", section.name, key.name, key.example);
            let document = toml::de::DeTable::parse(&text).unwrap();
            let table = document.get_ref().get(section.name).unwrap();
            let value = table.get_ref().get(key.name).unwrap();
            let mut config = Config::default();
            let outcome = (key.read)(&mut config, value);
            assert!(outcome.is_ok(), "{path}: {outcome:?}");
            assert_ne!((key.reveal)(&config), (key.reveal)(&defaults), "{path}");
            assert!(names.insert(path));
        }
    }
    for check in CHECKS {
        for key in check.keys {
            assert!(names.contains(*key), "a rule names the key `{key}`, which there is not");
        }
    }
}

#[test]
fn the_template_is_the_default_with_and_without_its_comments() {
    let template = Config::default().template();
    assert_eq!(parse(&template), Ok(Config::default()));
    // A key is commented out as `#key = value`, prose as `# prose`.
    let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let keys = template.lines().filter(is_key).count();
    let active = template.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
    let all: usize = sections().iter().map(|section| section.keys.len()).sum();
    assert_eq!(keys + active.count(), all);
    let uncommented: Vec<&str> = template
        .lines()
        .map(|line| if is_key(&line) { line.trim_start_matches('#') } else { line })
        .collect();
    assert_eq!(parse(&uncommented.join("\n")), Ok(Config::default()));
}

#[test]
fn the_template_begins_with_the_site() {
    let mut config = Config::default();
    config.site.url = Some("https://shop.example".to_owned());
    let template = config.template();
    let beginning: Vec<&str> = template.lines().take(18).collect();
    insta::assert_snapshot!(beginning.join("\n"), @r#"
    # The configuration of a flotilla site.
    #
    # Every key has a default. The keys below that are commented out stand at it; remove
    # the `#` before a key to change it. `flotilla config` shows the values in force.

    # The site: what it is called, where people reach it, and where its code first comes from.
    [site]

    # The title that WordPress is installed with.
    title = "My shop"

    # The address at which people reach the site, without a path.
    # Empty means `http://localhost` with the port of `balancer.listen`.
    url = "https://shop.example"

    # The language that WordPress is installed in.
    #locale = "en_US"
    "#);
}

#[test]
fn the_reference_page_is_up_to_date() {
    let written = std::fs::read_to_string(REFERENCE).unwrap_or_default();
    assert!(
        written == reference_markdown(),
        "docs/reference/configuration.md is out of date; run `cargo xtask reference`"
    );
}

#[test]
#[ignore = "writes the page that the_reference_page_is_up_to_date compares with"]
fn write_the_reference_page() {
    std::fs::write(REFERENCE, reference_markdown()).unwrap();
}

/// Texts that look like a configuration: real names, and values of all types.
fn likely_text() -> impl Strategy<Value = String> {
    let mut names: Vec<String> = vec!["nonsense".to_owned(), "a.b".to_owned()];
    let mut headers: Vec<String> = vec!["[nonsense]".to_owned(), "[[site]]".to_owned()];
    for section in sections() {
        headers.push(format!("[{}]", section.name));
        names.extend(section.keys.iter().map(|key| key.name.to_owned()));
    }
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<bool>().prop_map(|switch| switch.to_string()),
        "\"[0-9]{0,20}(ms|s|m|h|d|MiB|é)?\"",
        "\"(mysql|https?)://[a-z:@/%0-9\\[\\]é]{0,20}\"",
        any::<String>().prop_map(|text| toml::Value::String(text).to_string()),
        "\\[(\"/?[a-z0-9./]{0,9}\"|[0-9]),?\\]",
        Just("{ a = 1 }".to_owned()),
        Just("1979-05-27".to_owned()),
    ];
    let line = prop_oneof![
        1 => prop::sample::select(headers),
        4 => (prop::sample::select(names), value).prop_map(|(name, value)| format!("{name} = {value}")),
    ];
    prop::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

prop_compose! {
    /// Configurations that keep the rules between keys.
    fn any_config()(
        title in "[^\\p{Cc}]{0,50}[a-z]",
        instances in 1_u16..=100,
        workers in 1_u16..=256,
        memory in 256_u32..=16384,
        hold_millis in 15_000_u64..=300_000,
        ratio in 0.0_f64..=1.0,
        smoke in prop::collection::vec("/[!-\"$-.0-~]{0,20}", 0..5),
        password in prop::option::of("[^\\p{Cc}]{0,20}"),
        proxies in prop::collection::vec((any::<std::net::IpAddr>(), 0_u8..=32), 0..4),
        listen in any::<std::net::SocketAddrV4>(),
        is_logged in any::<bool>(),
    ) -> Config {
        let mut config = Config::default();
        config.site.title = title;
        config.fleet.instances = instances;
        config.php.workers = workers;
        config.database.max_connections = 100_000;
        config.php.memory_limit = Size::from_mebibytes(memory);
        config.deploy.hold_limit = Duration::from_millis(hold_millis);
        config.deploy.max_error_ratio = ratio;
        config.deploy.smoke = smoke;
        config.database.url = password.map(|password| DatabaseUrl {
            user: "shop@é".to_owned(),
            password: crate::id::Token::new(password),
            host: "[2001:db8::1]".to_owned(),
            port: 3307,
            name: "wp".to_owned(),
        });
        config.balancer.trusted_proxies = proxies
            .iter()
            .map(|(address, bits)| format!("{address}/{bits}").parse().unwrap())
            .collect();
        config.balancer.listen = listen.into();
        config.balancer.access_log = is_logged;
        config
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        drop(parse(&text));
    }

    #[test]
    fn no_likely_text_makes_it_panic_and_each_fault_is_in_the_file(text in likely_text()) {
        let lines = text.lines().count().max(1);
        for error in parse(&text).err().iter().flat_map(ConfigErrors::all) {
            prop_assert!((1..=lines).contains(&error.line), "{error}");
            prop_assert!(!error.message.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_template_keeps_every_value(config in any_config()) {
        prop_assert_eq!(parse(&config.template()), Ok(config));
    }

    #[test]
    fn the_values_in_force_read_back_but_for_the_password(config in any_config()) {
        let mut expected = config.clone();
        if let Some(url) = &mut expected.database.url {
            let is_empty = url.password.reveal().is_empty();
            url.password = crate::id::Token::new(if is_empty { "" } else { "***" }.to_owned());
        }
        prop_assert_eq!(parse(&config.effective_toml()), Ok(expected));
    }
}
