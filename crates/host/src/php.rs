//! Our own PHP, which slots and the workshop show to php-fpm beside the site.

/// File names and contents of the scripts.
pub const SCRIPTS: [(&str, &str); 10] = [
    ("cli.php", include_str!("../../../wordpress/php/cli.php")),
    ("cron.php", include_str!("../../../wordpress/php/cron.php")),
    ("health.php", include_str!("../../../wordpress/php/health.php")),
    ("install.php", include_str!("../../../wordpress/php/install.php")),
    ("layout.php", include_str!("../../../wordpress/php/layout.php")),
    ("opcache.php", include_str!("../../../wordpress/php/opcache.php")),
    ("prepend.php", include_str!("../../../wordpress/php/prepend.php")),
    ("scripts.php", include_str!("../../../wordpress/php/scripts.php")),
    ("upgrade.php", include_str!("../../../wordpress/php/upgrade.php")),
    ("warm.php", include_str!("../../../wordpress/php/warm.php")),
];
