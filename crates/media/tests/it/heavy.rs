//! What is large, or wants programs that a shop has.

use std::fs::{self, File};
use std::io::{Read, Write};

use crate::bench::{Bench, Instance};
use crate::server::Kind;

const GIBIBYTE: u64 = 1024 * 1024 * 1024;
/// What a daemon may take however large files are, in bytes.
const MEMORY_MAX: u64 = 400 * 1024 * 1024;

#[test]
fn e2e_two_gibibytes_are_stored_and_read_with_bounded_memory() {
    let bench = Bench::new(Kind::Ours);
    let instances = bench.instances(2);
    let piece: Vec<u8> =
        (0..4 * 1024 * 1024_u32).map(|index| u8::try_from(index % 253).unwrap()).collect();
    let pieces = 2 * GIBIBYTE / 4 / 1024 / 1024;
    let mut file = File::create(instances[0].root().join("film.mp4")).unwrap();
    for _ in 0..pieces {
        file.write_all(&piece).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    let path = instances[1].root().join("film.mp4");
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 * GIBIBYTE);
    let mut file = File::open(&path).unwrap();
    let mut seen = vec![0; piece.len()];
    for _ in 0..pieces {
        file.read_exact(&mut seen).unwrap();
        assert!(seen == piece);
    }
    for instance in &instances {
        let peak = peak_memory(instance);
        println!("peak of resident memory: {} MiB", peak / 1024 / 1024);
        assert!(peak < MEMORY_MAX, "a daemon took {peak} bytes");
        let kept = bytes_of(&instance.own().join("cache"));
        assert!(kept <= 256 * 1024 * 1024 + 4 * 1024 * 1024, "the cache took {kept} bytes");
    }
}

#[test]
fn e2e_programs_of_a_shop_work() {
    let bench = Bench::new(Kind::Ours);
    let instances = bench.instances(2);
    let cases = [
        (
            "GD",
            "php -r '$i=imagecreatetruecolor(600,400); imagejpeg($i,\"gd.jpg\"); $t=imagescale(imagecreatefromjpeg(\"gd.jpg\"),150); imagepng($t,\"gd-150.png\"); print_r(getimagesize(\"gd-150.png\"));'",
        ),
        (
            "Imagick",
            "php -r '$i=new Imagick(); $i->newImage(600,400,\"red\"); $i->setImageFormat(\"jpeg\"); $i->writeImage(\"im.jpg\"); $j=new Imagick(\"im.jpg\"); $j->cropThumbnailImage(150,150); $j->writeImage(\"im-150.jpg\"); $k=new Imagick(\"im-150.jpg\"); $k->rotateImage(\"#000\",90); $k->writeImage(); echo $k->getImageWidth();'",
        ),
        (
            "ZipArchive",
            "php -r '$z=new ZipArchive(); $z->open(\"a.zip\",ZipArchive::CREATE)||exit(1); for($i=0;$i<50;$i++) $z->addFromString(\"f$i.txt\",str_repeat(\"$i\",1000)); $z->close()||exit(2); $z=new ZipArchive(); $z->open(\"a.zip\")===true||exit(3); $z->addFromString(\"more\",\"x\"); $z->close()||exit(4); $z=new ZipArchive(); $z->open(\"a.zip\"); echo $z->numFiles==51?\"ok\":exit(5);'",
        ),
        (
            "flock",
            "php -r '$f=fopen(\"lock\",\"c+\"); flock($f,LOCK_EX)||exit(1); fwrite($f,\"x\"); flock($f,LOCK_UN); fclose($f)||exit(2);'",
        ),
        (
            "touch and glob",
            "php -r 'touch(\"t1.tmp\",1000000); filemtime(\"t1.tmp\")==1000000||exit(1); count(glob(\"*.tmp\"))==1||exit(2); realpath(\"t1.tmp\")||exit(3); copy(\"t1.tmp\",\"t2.tmp\")||exit(4); rename(\"t2.tmp\",\"t3.tmp\")||exit(5); unlink(\"t1.tmp\")&&unlink(\"t3.tmp\")||exit(6); disk_free_space(\".\")>1e12||exit(7);'",
        ),
        (
            "temporary names",
            "php -r '$n=tempnam(getcwd(),\"x\"); file_put_contents($n,\"1\",LOCK_EX)===1||exit(1); file_put_contents($n,\"2\",FILE_APPEND|LOCK_EX); file_get_contents($n)===\"12\"||exit(2); unlink($n)||exit(3);'",
        ),
        (
            "tar",
            "mkdir t && cp /etc/passwd t/ && tar cf t.tar t && tar tf t.tar && rm -r t && tar xf t.tar && cmp t/passwd /etc/passwd",
        ),
        (
            "gzip, sed and sort",
            "seq -f '%g/tcp' 2000 > s && gzip s && gunzip s.gz && sed -i s/tcp/TCP/ s && sort -o s s && grep -q TCP s",
        ),
        (
            "database files",
            "python3 -c 'import sqlite3; d=sqlite3.connect(\"x.db\"); d.execute(\"create table t(a)\"); d.execute(\"insert into t values(1)\"); d.commit(); d.close(); print(sqlite3.connect(\"x.db\").execute(\"select a from t\").fetchone())'",
        ),
    ];
    for (name, script) in cases {
        let (is_good, text) = instances[0].shell(script);
        assert!(is_good, "{name}: {text}");
    }
    for name in ["gd-150.png", "im-150.jpg", "a.zip", "t.tar", "s"] {
        let read = |instance: &Instance| fs::read(instance.root().join(name)).unwrap();
        assert!(read(&instances[0]) == read(&instances[1]), "{name}");
    }
}

#[test]
fn e2e_a_directory_of_many_files_is_listed_once_each() {
    let bench = Bench::new(Kind::Ours);
    let instances = bench.instances(2);
    let (is_good, text) = instances[0]
        .shell("mkdir many && cd many && for i in $(seq 2500); do : > file-$i.jpg; done");
    assert!(is_good, "{text}");
    let mut names: Vec<_> = fs::read_dir(instances[1].root().join("many"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2500);
}

fn peak_memory(instance: &Instance) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", instance.daemon().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn bytes_of(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_of(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum()
}
