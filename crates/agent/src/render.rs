//! Writes the configuration of a slot's nginx and php-fpm.

use std::path::Path;

use flotilla_core::api::SlotSettings;
use flotilla_core::id::InstanceName;
use flotilla_core::layout;
use flotilla_core::slot::SlotName;
use flotilla_core::storage::SCRATCH;
use flotilla_core::template::{TemplateError, plain, render, render_each};
use flotilla_host::certificates::write_certificates;
use flotilla_host::files::{Access, FileError, write_atomic};

const NGINX: &str = include_str!("../../../templates/nginx.conf");
const PHP_FPM: &str = include_str!("../../../templates/php-fpm.conf");
const PHP_INI: &str = include_str!("../../../templates/php.ini");
const MEBIBYTE: u64 = 1024 * 1024;

/// Says why a slot has no configuration.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A setting cannot be put into a template.
    #[error("a setting does not fit into the slot's configuration")]
    Template(#[from] TemplateError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whose configuration it is.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The instance.
    pub instance: &'a InstanceName,
    /// The slot.
    pub slot: SlotName,
    /// Where nginx listens.
    pub listen: std::net::SocketAddr,
    /// From where requests may come that tell the visitor's address.
    pub trusted: &'a [String],
    /// The user of nginx' and PHP's workers.
    pub user: &'a str,
    /// The user's group.
    pub group: &'a str,
}

/// Writes `nginx.conf`, `php-fpm.conf` and `php.ini` into a directory.
///
/// # Errors
/// A setting could change the meaning of a file, or a file cannot be written.
pub fn write_all(
    directory: &Path,
    owner: Owner<'_>,
    settings: &SlotSettings,
) -> Result<(), RenderError> {
    let write = |name: &str, content: String| {
        write_atomic(&directory.join(name), content.as_bytes(), Access::Public)
    };
    write("nginx.conf", nginx(owner, settings)?)?;
    write("php-fpm.conf", php_fpm(owner, settings)?)?;
    write("php.ini", php_ini(settings)?)?;
    write("uncached.txt", uncached())?;
    write_certificates(directory, &settings.database_certificates)?;
    Ok(())
}

/// PHP that plugins write while they run changes at any time, and opcache does not look.
fn uncached() -> String {
    SCRATCH.iter().map(|place| format!("{}/{place}/*\n", layout::SITE)).collect()
}

fn nginx(owner: Owner<'_>, settings: &SlotSettings) -> Result<String, TemplateError> {
    let trusted: Vec<&str> = owner.trusted.iter().map(String::as_str).collect();
    render(
        NGINX,
        &[
            ("user", plain(owner.user)?),
            ("group", plain(owner.group)?),
            ("listen", &owner.listen.to_string()),
            ("trusted", &render_each("set_real_ip_from {{item}};", &trusted)?),
            ("trusted_hops", &render_each("{{item}} 1;", &trusted)?),
            ("timeout", &settings.php_time_limit_seconds.to_string()),
            ("body_max", &settings.body_bytes_max.to_string()),
        ],
    )
}

fn php_fpm(owner: Owner<'_>, settings: &SlotSettings) -> Result<String, TemplateError> {
    render(
        PHP_FPM,
        &[
            ("user", plain(owner.user)?),
            ("group", plain(owner.group)?),
            ("instance", owner.instance.as_str()),
            ("slot", owner.slot.as_str()),
            ("timeout", &settings.php_time_limit_seconds.to_string()),
            ("workers", &settings.php_workers.to_string()),
        ],
    )
}

fn php_ini(settings: &SlotSettings) -> Result<String, TemplateError> {
    let has_certificates = !settings.database_certificates.is_empty();
    render(
        PHP_INI,
        &[
            ("ca_file", if has_certificates { layout::CERTIFICATES } else { "" }),
            ("memory_limit", &settings.php_memory_bytes.to_string()),
            ("opcache_mib", &(settings.opcache_bytes / MEBIBYTE).to_string()),
            ("session_lifetime", &settings.session_lifetime_seconds.to_string()),
            ("timeout", &settings.php_time_limit_seconds.to_string()),
            ("upload_max", &settings.upload_bytes_max.to_string()),
            ("body_max", &settings.body_bytes_max.to_string()),
        ],
    )
}
