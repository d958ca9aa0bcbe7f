//! Uploads with the mounted bucket, with a directory of the machine, and with s3fs on the same bucket.
//!
//! The same WordPress takes the same picture and makes all its sizes; only where they go differs. The
//! bucket is the one that a fleet on one machine runs, so both mounts have the same server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::commit::Clone;
use super::fleet::{Fleet, Shape};
use super::http::Visitor;
use super::process::{Background, wait_until};
use super::statistics::{median, spread, table};
use super::{directory, machine, write};

const ROUNDS: u32 = 7;
/// How many pictures each takes in a round; the fastest counts, because others use the machine too.
const PICTURES: u32 = 3;
const MEBIBYTES: u32 = 64;
const MOUNT_LIMIT: Duration = Duration::from_secs(20);
const DIRECTORY: &str = "[media]\nstore = \"directory\"\n";
/// What is measured, in the plugin's words and in ours.
const MEASURES: [(&str, &str); 3] = [
    ("upload", "picture with all sizes, ms"),
    ("write", "write 64 MiB, ms"),
    ("read", "read them again, ms"),
];

/// Below the directory of media: a mount of s3fs takes no other owner, so it is not that directory itself.
const PLACE: &str = "bench";
const PLUGIN: &str = r#"<?php
add_filter( 'upload_dir', function ( $place ) {
	$place['subdir'] = '/bench';
	$place['path']   = $place['basedir'] . '/bench';
	$place['url']    = $place['baseurl'] . '/bench';
	return $place;
} );
add_action( 'init', function () {
	if ( isset( $_GET['bench-upload'] ) ) {
		foreach ( array( 'file', 'image', 'media' ) as $name ) {
			require_once ABSPATH . "wp-admin/includes/$name.php";
		}
		$drawn = get_temp_dir() . 'bench-drawn.jpg';
		if ( ! file_exists( $drawn ) ) {
			$picture = imagecreatetruecolor( 3000, 2000 );
			for ( $i = 0; $i < 4000; ++$i ) {
				$colour = imagecolorallocate( $picture, ( $i * 7 ) % 256, ( $i * 13 ) % 256, ( $i * 29 ) % 256 );
				imagefilledellipse( $picture, ( $i * 577 ) % 3000, ( $i * 331 ) % 2000, 90, 60, $colour );
			}
			imagejpeg( $picture, $drawn, 85 );
		}
		$given = wp_tempnam( 'picture.jpg' );
		copy( $drawn, $given );
		$began = hrtime( true );
		$id    = media_handle_sideload( array( 'name' => 'picture.jpg', 'tmp_name' => $given ), 0 );
		$took  = ( hrtime( true ) - $began ) / 1e6;
		$sizes = count( wp_get_attachment_metadata( $id )['sizes'] );
		wp_delete_attachment( $id, true );
		wp_send_json( array( 'upload' => $took, 'sizes' => $sizes ) );
	}
	if ( isset( $_GET['bench-file'] ) ) {
		$path  = wp_upload_dir()['path'] . '/bench.bin';
		$piece = random_bytes( 1 << 20 );
		$began = hrtime( true );
		$file  = fopen( $path, 'w' );
		for ( $i = 0; $i < (int) $_GET['bench-file']; ++$i ) {
			fwrite( $file, $piece );
		}
		fclose( $file );
		$write = ( hrtime( true ) - $began ) / 1e6;
		$began = hrtime( true );
		$bytes = 0;
		$file  = fopen( $path, 'r' );
		while ( ! feof( $file ) ) {
			$bytes += strlen( fread( $file, 1 << 20 ) );
		}
		fclose( $file );
		$read = ( hrtime( true ) - $began ) / 1e6;
		unlink( $path );
		wp_send_json( compact( 'write', 'read', 'bytes' ) );
	}
} );
"#;

/// One of those that are compared.
struct Contender {
    name: &'static str,
    fleet: Fleet,
    rounds: BTreeMap<&'static str, Vec<f64>>,
}

/// Measures and prints.
pub(crate) fn run(program: &Path, rounds: Option<u32>) -> anyhow::Result<()> {
    let shape = |name, more| Shape { name, instances: 1, workers: 2, more };
    let local = contender("a local directory", program, &shape("media-local", DIRECTORY))?;
    let ours = contender("flotilla", program, &shape("media", ""))?;
    let peer = contender("s3fs", program, &shape("media-s3fs", DIRECTORY))?;
    let mount = mount_s3fs(&ours.fleet, &peer.fleet)?;
    let mut contenders = [local, ours, peer];
    // Once unmeasured: the scripts are compiled and the picture is drawn.
    for contender in &mut contenders {
        contender.measure()?;
        contender.rounds.clear();
    }
    for number in 0..rounds.unwrap_or(ROUNDS) {
        for contender in &mut contenders {
            contender.measure()?;
        }
        eprintln!("media: round {} is done, load average {}", number + 1, machine::busy());
    }
    print(&contenders);
    let [local, ours, peer] = contenders;
    peer.fleet.stop()?;
    drop(mount);
    peer.fleet.destroy()?;
    local.fleet.destroy()?;
    ours.fleet.destroy()
}

fn contender(name: &'static str, program: &Path, shape: &Shape) -> anyhow::Result<Contender> {
    let fleet = Fleet::start(program, shape)?;
    let clone = Clone::of(&fleet.repository(), directory().join(format!("{}-clone", shape.name)))?;
    clone.push_files(&[("wp-content/mu-plugins/bench-media.php", PLUGIN)])?;
    fleet.deploy()?;
    Ok(Contender { name, fleet, rounds: BTreeMap::new() })
}

/// Puts s3fs, on the bucket of the one fleet, in the other one's directory of media.
fn mount_s3fs(bucket: &Fleet, fleet: &Fleet) -> anyhow::Result<Background> {
    let place = directory().join("media-s3fs-mount");
    std::fs::create_dir_all(&place).context("cannot make the directory of s3fs")?;
    let keys = place.join("keys");
    write(&keys, &format!("flotilla:{}\n", bucket.secret("bucket_key")?))?;
    set_private(&keys)?;
    fleet.stop()?;
    let mount_point = fleet.media().join(PLACE);
    std::fs::create_dir_all(&mount_point).context("cannot make the mount point of s3fs")?;
    let words = [
        "s3fs".to_owned(),
        "media".to_owned(),
        mount_point.to_string_lossy().into_owned(),
        "-f".to_owned(),
        "-o".to_owned(),
        format!(
            "url=http://127.0.0.1:{},use_path_request_style,passwd_file={},allow_other,umask=0000,nonempty",
            bucket.port("bucket")?,
            keys.display()
        ),
    ];
    let mount = Background::start("s3fs", &words, &place.join("s3fs.log"))?;
    wait_until("the mount of s3fs", MOUNT_LIMIT, || {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        Ok(mounts.lines().any(|line| line.starts_with("s3fs ")))
    })?;
    fleet.resume()?;
    Ok(mount)
}

fn set_private(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect `{}`", path.display()))
}

impl Contender {
    fn measure(&mut self) -> anyhow::Result<()> {
        let mut best = f64::INFINITY;
        for _ in 0..PICTURES {
            let answer = self.ask("/?bench-upload=1")?;
            let sizes = answer.get("sizes").and_then(Value::as_u64).unwrap_or_default();
            ensure!(sizes >= 5, "{} made {sizes} sizes: {answer}", self.name);
            best = best.min(number(&answer, "upload")?);
        }
        self.rounds.entry("upload").or_default().push(best);
        let answer = self.ask(&format!("/?bench-file={MEBIBYTES}"))?;
        for name in ["write", "read"] {
            self.rounds.entry(name).or_default().push(number(&answer, name)?);
        }
        Ok(())
    }

    fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let mut visitor = Visitor::reading(self.fleet.address, self.fleet.host.clone());
        let answer = visitor.get(path)?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{}: {path}: {} {text}", self.name, answer.status);
        serde_json::from_str(&text).with_context(|| format!("{}: {text}", self.name))
    }
}

fn number(answer: &Value, name: &str) -> anyhow::Result<f64> {
    let found = answer.get(name).and_then(Value::as_f64);
    found.with_context(|| format!("`{name}` is missing: {answer}"))
}

fn print(contenders: &[Contender]) {
    let rows: Vec<Vec<String>> = contenders
        .iter()
        .map(|contender| {
            let cells = MEASURES.iter().map(|(name, _)| match contender.rounds.get(name) {
                Some(values) => spread(values, 0),
                None => String::new(),
            });
            std::iter::once(contender.name.to_owned()).chain(cells).collect()
        })
        .collect();
    let header: Vec<&str> =
        std::iter::once("").chain(MEASURES.iter().map(|(_, title)| *title)).collect();
    println!("## Media: a 3000 × 2000 upload with all sizes, and one large file\n");
    println!("{}", table(&header, &rows));
    let Some(local) = contenders.first() else { return };
    for contender in contenders.iter().skip(1) {
        let ratios: Vec<String> = MEASURES
            .iter()
            .filter_map(|(name, title)| {
                let pairs = contender.rounds.get(name)?.iter().zip(local.rounds.get(name)?);
                let ratios: Vec<f64> = pairs.map(|(own, other)| own / other).collect();
                let what = title.split(',').next().unwrap_or(title);
                Some(format!("{what} {:.2}", median(&ratios)))
            })
            .collect();
        println!("{} takes as many times as long: {}.", contender.name, ratios.join(", "));
    }
    println!();
}
