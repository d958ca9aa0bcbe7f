//! Writes the configuration of nginx and php-fpm.

use std::path::Path;

use flotilla_core::api::SlotSettings;
use flotilla_core::layout;
use flotilla_core::storage::SCRATCH;
use flotilla_core::template::{TemplateError, plain, render, render_each};

use super::Plan;
use crate::certificates::write_certificates;
use crate::files::{Access, FileError, write_atomic};

const NGINX: &str = include_str!("../../../../templates/nginx.conf");
const PHP_FPM: &str = include_str!("../../../../templates/php-fpm.conf");
const PHP_INI: &str = include_str!("../../../../templates/php.ini");
const MEBIBYTE: u64 = 1024 * 1024;

/// Says why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A setting cannot be put into a template.
    #[error("a setting does not fit into the configuration of nginx and PHP")]
    Template(#[from] TemplateError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Writes `nginx.conf`, `php-fpm.conf` and `php.ini` into a directory.
///
/// # Errors
/// A setting could change the meaning of a file, or a file cannot be written.
pub(super) fn write_all(
    directory: &Path,
    plan: &Plan,
    settings: &SlotSettings,
) -> Result<(), RenderError> {
    let write = |name: &str, content: String| {
        write_atomic(&directory.join(name), content.as_bytes(), Access::Public)
    };
    write("nginx.conf", nginx(plan, settings)?)?;
    write("php-fpm.conf", php_fpm(plan, settings)?)?;
    write("php.ini", php_ini(plan, settings)?)?;
    write("uncached.txt", uncached())?;
    write_certificates(directory, &settings.database_certificates)?;
    Ok(())
}

/// PHP that plugins write while they run changes at any time, and opcache does not look.
fn uncached() -> String {
    SCRATCH.iter().map(|place| format!("{}/{place}/*\n", layout::SITE)).collect()
}

fn nginx(plan: &Plan, settings: &SlotSettings) -> Result<String, TemplateError> {
    let trusted: Vec<&str> = plan.trusted.iter().map(String::as_str).collect();
    render(
        NGINX,
        &[
            ("user", plain(&plan.user)?),
            ("group", plain(&plan.group)?),
            ("listen", &plan.address.to_string()),
            ("trusted", &render_each("set_real_ip_from {{item}};", &trusted)?),
            ("trusted_hops", &render_each("{{item}} 1;", &trusted)?),
            ("timeout", &settings.php_time_limit_seconds.to_string()),
            ("body_max", &settings.body_bytes_max.to_string()),
        ],
    )
}

fn php_fpm(plan: &Plan, settings: &SlotSettings) -> Result<String, TemplateError> {
    let [machine, copy] = &plan.labels;
    render(
        PHP_FPM,
        &[
            ("user", plain(&plan.user)?),
            ("group", plain(&plan.group)?),
            ("instance", plain(machine)?),
            ("slot", plain(copy)?),
            ("timeout", &settings.php_time_limit_seconds.to_string()),
            ("workers", &settings.php_workers.to_string()),
        ],
    )
}

fn php_ini(plan: &Plan, settings: &SlotSettings) -> Result<String, TemplateError> {
    let has_certificates = !settings.database_certificates.is_empty();
    render(
        PHP_INI,
        &[
            ("ca_file", if has_certificates { layout::CERTIFICATES } else { "" }),
            ("looks_again", if plan.is_writable { "1" } else { "0" }),
            ("memory_limit", &settings.php_memory_bytes.to_string()),
            ("opcache_mib", &(settings.opcache_bytes / MEBIBYTE).to_string()),
            ("session_lifetime", &settings.session_lifetime_seconds.to_string()),
            ("timeout", &settings.php_time_limit_seconds.to_string()),
            ("upload_max", &settings.upload_bytes_max.to_string()),
            ("body_max", &settings.body_bytes_max.to_string()),
        ],
    )
}
