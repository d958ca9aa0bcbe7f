//! A store in the process of the test.

use std::fs;
use std::path::Path;
use std::time::Duration;

use flotilla_bucket::{Bucket, BucketError, Limits, Options, start};
use flotilla_host::tasks::Tasks;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::client::{ACCESS_KEY, BUCKET, Client, SECRET_KEY};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Store {
    pub(crate) directory: TempDir,
    pub(crate) client: Client,
    tasks: Tasks,
    bucket: Bucket,
}

pub(crate) fn options(directory: &Path) -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        directory: directory.to_owned(),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        bucket: BUCKET.to_owned(),
        limits: Limits { free_bytes_min: 0, ..Limits::default() },
    }
}

impl Store {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Limits::default()).await.unwrap()
    }

    pub(crate) async fn start_in(directory: TempDir, limits: Limits) -> Result<Self, BucketError> {
        let tasks = Tasks::new();
        let options = Options { limits, ..options(directory.path()) };
        let bucket = start(options, &tasks).await?;
        let client = Client::new(bucket.address());
        Ok(Self { directory, client, tasks, bucket })
    }

    /// Stops the store and returns its directory.
    pub(crate) async fn stop(self) -> TempDir {
        assert!(self.tasks.shut_down(LIMIT).await);
        self.bucket.ended().await.unwrap();
        self.directory
    }
}

/// Counts the files of objects, and those that are not known yet.
pub(crate) fn count_files(directory: &Path) -> (usize, usize) {
    let shards = fs::read_dir(directory.join("content")).unwrap();
    let content = shards.map(|shard| fs::read_dir(shard.unwrap().path()).unwrap().count()).sum();
    (content, fs::read_dir(directory.join("incoming")).unwrap().count())
}

/// Waits until there are so many files of objects, and none on their way.
pub(crate) async fn wait_for_files(directory: &Path, expected: usize) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = count_files(directory);
        if seen == (expected, 0) {
            return;
        }
        assert!(Instant::now() < deadline, "there are {seen:?} files, not {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}
