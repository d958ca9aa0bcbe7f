//! A capture says what people did, and what should be looked at.

use flotilla_core::capture::{Alarm, CaptureState};
use flotilla_foreman::capture::Request;
use flotilla_foreman::repository::Author;

use super::Bench;
use super::bench::{NOW, plugin};

#[tokio::test]
async fn a_capture_says_who_did_what() {
    let bench = Bench::new().await;
    let akismet = "wp-content/plugins/akismet";
    bench.write(&format!("{akismet}/akismet.php"), plugin("Akismet", "5.2"));
    let author = Author { name: "maria".to_owned(), email: "maria@example.org".to_owned() };
    let request = Request { author, ..Request::at(NOW) };
    let record = bench.try_take(&request).await.unwrap().unwrap();
    assert_eq!(record.subject(), "Update plugin akismet 5.1 → 5.2");
    assert_eq!((record.state, &record.parent), (CaptureState::PendingReview, &bench.first));
    let commit = bench.repository.commit(&record.revision).await.unwrap();
    assert_eq!(commit.subject, record.subject());
    assert_eq!(commit.author_name, "maria");
    assert_eq!(commit.author_email, "maria@example.org");
    assert_eq!(commit.parents.first(), Some(&bench.first));
    assert_eq!(bench.store.captures(10).await.unwrap(), [record]);

    // A main file need not have the plugin's name, and is found among others.
    bench.write("wp-content/plugins/shop/a.php", "<?php\n// Version: 9\n");
    bench.write("wp-content/plugins/shop/main.php", plugin("Shop", "3.0"));
    assert_eq!(bench.take().await.subject(), "Install plugin shop 3.0");
    bench.write("wp-content/themes/simple/functions.php", "<?php // edited\n");
    assert_eq!(bench.take().await.subject(), "Edit theme simple: functions.php");
    std::fs::remove_dir_all(bench.workshop().join(akismet)).unwrap();
    bench.write("wp-content/plugins/hello.php", plugin("Hello", "1.7.2"));
    let expected = "Delete plugin akismet; install plugin hello 1.7.2";
    let record = bench.take().await;
    assert_eq!(record.subject(), expected);
    let body = "- Delete plugin akismet\n- Install plugin hello 1.7.2";
    assert_eq!(record.message, format!("{expected}\n\n{body}"));
    crate::support::write_wordpress(&bench.workshop(), "6.8.1");
    bench.write("wp-login.php", "<?php // new\n");
    let record = bench.take().await;
    assert_eq!(record.subject(), "Update WordPress 6.1.9 → 6.8.1");
    assert_eq!(record.alarms, []);
    bench.write("wp-content/languages/de_DE.mo", "x");
    assert_eq!(bench.take().await.subject(), "Update translations");
    assert_eq!(bench.captures.take(&request).await.unwrap(), None);
}

#[tokio::test]
async fn a_capture_carries_its_alarms() {
    let bench = Bench::new().await;
    bench.write("wp-settings.php", "<?php // changed by hand\n");
    let uploads = vec![b"wp-content/uploads/2024/shell.php".to_vec()];
    let request = Request { uploads, ..Request::at(NOW) };
    let record = bench.try_take(&request).await.unwrap().unwrap();
    let expected = [
        Alarm::PhpBelowUploads {
            paths: vec!["wp-content/uploads/2024/shell.php".to_owned()],
            count: 1,
        },
        Alarm::CoreChanged { paths: vec!["wp-settings.php".to_owned()], count: 1 },
    ];
    assert_eq!(record.alarms, expected);
    let stored = bench.store.capture(record.number).await.unwrap().unwrap();
    assert_eq!(stored.alarms, expected);
}
