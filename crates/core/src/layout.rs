//! Where things appear to PHP: one set of absolute paths for every release, slot and instance.
//!
//! A plugin may write its own absolute path into a cache that all instances share, so the path must
//! not depend on the release, the slot or the instance. These paths exist inside the mount
//! namespace of a slot only; the machine outside has no such directory.

/// The root of all paths below; everything beneath `/srv` is hidden behind it inside a slot.
pub const ROOT: &str = "/srv/flotilla";

/// The site's code, read-only: WordPress' `ABSPATH` and nginx' document root.
pub const SITE: &str = "/srv/flotilla/site";

/// The generated configuration of WordPress, one level above `ABSPATH`, where WordPress looks for it.
pub const WP_CONFIG: &str = "/srv/flotilla/wp-config.php";

/// PHP of our own that is not part of the site: health, warm-up, upgrade.
pub const PHP: &str = "/srv/flotilla/php";

/// Generated configuration of the slot's nginx and php-fpm.
pub const ETC: &str = "/srv/flotilla/etc";

/// The certificates that PHP's connections are checked with, when there are more than the machine's.
pub const CERTIFICATES: &str = "/srv/flotilla/etc/ca.pem";

/// Sockets, pid files and the mark of the slot's revision.
pub const RUN: &str = "/srv/flotilla/run";

/// The session gateway's socket, in a directory that the gateway may make anew.
pub const SESSIONS: &str = "/srv/flotilla/sessions";

/// The name of the socket in [`SESSIONS`].
pub const SESSIONS_SOCKET: &str = "php.sock";

/// Notes that PHP writes for the foreman, in the workshop only.
pub const DESK: &str = "/srv/flotilla/desk";

/// Logs of the slot.
pub const LOG: &str = "/srv/flotilla/log";

/// Uploaded media, below [`SITE`].
pub const UPLOADS: &str = "/srv/flotilla/site/wp-content/uploads";
