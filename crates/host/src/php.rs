//! Our own PHP, which slots and the workshop show to php-fpm beside the site.

/// File names and contents of the scripts.
pub const SCRIPTS: &[(&str, &str)] = &[
    ("cache-codec.php", include_str!("../../../wordpress/php/cache-codec.php")),
    ("cache-generation.php", include_str!("../../../wordpress/php/cache-generation.php")),
    ("cache-node.php", include_str!("../../../wordpress/php/cache-node.php")),
    ("cache-object.php", include_str!("../../../wordpress/php/cache-object.php")),
    ("cache-options.php", include_str!("../../../wordpress/php/cache-options.php")),
    ("cache-pages.php", include_str!("../../../wordpress/php/cache-pages.php")),
    ("cache-shared.php", include_str!("../../../wordpress/php/cache-shared.php")),
    ("cache-store.php", include_str!("../../../wordpress/php/cache-store.php")),
    ("cache-trouble.php", include_str!("../../../wordpress/php/cache-trouble.php")),
    ("cli.php", include_str!("../../../wordpress/php/cli.php")),
    ("cron.php", include_str!("../../../wordpress/php/cron.php")),
    ("database.php", include_str!("../../../wordpress/php/database.php")),
    ("health.php", include_str!("../../../wordpress/php/health.php")),
    ("install.php", include_str!("../../../wordpress/php/install.php")),
    ("layout.php", include_str!("../../../wordpress/php/layout.php")),
    ("load.php", include_str!("../../../wordpress/php/load.php")),
    ("object-cache.php", include_str!("../../../wordpress/php/object-cache.php")),
    ("opcache.php", include_str!("../../../wordpress/php/opcache.php")),
    ("prepend.php", include_str!("../../../wordpress/php/prepend.php")),
    ("scratch.php", include_str!("../../../wordpress/php/scratch.php")),
    ("scripts.php", include_str!("../../../wordpress/php/scripts.php")),
    ("upgrade.php", include_str!("../../../wordpress/php/upgrade.php")),
    ("uploads.php", include_str!("../../../wordpress/php/uploads.php")),
    ("warm.php", include_str!("../../../wordpress/php/warm.php")),
];
