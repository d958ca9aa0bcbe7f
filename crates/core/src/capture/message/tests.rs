//! What is said of changes, for every kind of them.

use super::*;

fn change(path: &str, happened: Happened) -> Change {
    Change { path: path.as_bytes().to_vec(), happened }
}

fn edited(paths: &[&str]) -> Vec<Change> {
    paths.iter().map(|path| change(path, Happened::Edited)).collect()
}

fn package(version: &str) -> Option<Package> {
    let version = (!version.is_empty()).then(|| version.to_owned());
    Some(Package { version })
}

/// Changes one file of each part and returns the first line; a version of `-` is "not there".
fn subject_of(parts: &[(&str, &str, &str)]) -> String {
    let mut packages = Packages::new();
    for (path, before, after) in parts {
        let side = |version: &str| if version == "-" { None } else { package(version) };
        let versions = Versions { before: side(before), after: side(after) };
        packages.insert(Part::of(path.as_bytes()), versions);
    }
    let paths: Vec<&str> = parts.iter().map(|(path, ..)| *path).collect();
    describe(&edited(&paths), &packages).subject
}

#[test]
fn a_message_says_what_people_did() {
    let akismet = "wp-content/plugins/akismet/akismet.php";
    let hello = "wp-content/plugins/hello.php";
    let theme = "wp-content/themes/twentytwentythree/functions.php";
    let core = "wp-includes/version.php";
    for (parts, expected) in [
        (&[(akismet, "5.1", "5.2")][..], "Update plugin akismet 5.1 → 5.2"),
        (&[(akismet, "5.2", "5.1")], "Update plugin akismet 5.2 → 5.1"),
        (&[(akismet, "", "5.2")], "Update plugin akismet to 5.2"),
        (&[(akismet, "5.1", "5.1")], "Edit plugin akismet: akismet.php"),
        (&[(akismet, "5.1", "")], "Edit plugin akismet: akismet.php"),
        (&[(hello, "-", "1.7.2")], "Install plugin hello 1.7.2"),
        (&[(hello, "-", "")], "Install plugin hello"),
        (&[(hello, "1.7.2", "-")], "Delete plugin hello"),
        (&[(hello, "1", "1")], "Edit plugin hello"),
        (&[(theme, "1.0", "1.0")], "Edit theme twentytwentythree: functions.php"),
        (&[(theme, "-", "1.0")], "Install theme twentytwentythree 1.0"),
        (&[(core, "6.1.9", "6.8.1")], "Update WordPress 6.1.9 → 6.8.1"),
        (&[(core, "-", "6.8.1")], "Install WordPress 6.8.1"),
        (&[(core, "6.8.1", "6.8.1")], "Edit WordPress: wp-includes/version.php"),
        (&[("wp-content/mu-plugins/x.php", "-", "")], "Install must-use plugin x"),
        (&[("wp-content/db.php", "", "")], "Edit drop-in db.php"),
        (&[("wp-content/languages/de_DE.mo", "", "")], "Update translations"),
        (&[("robots.txt", "", "")], "Edit robots.txt"),
        (
            &[(akismet, "5.1", "5.2"), (hello, "1", "2")],
            "Update plugins akismet 5.1 → 5.2 and hello 1 → 2",
        ),
        (
            &[(theme, "-", "1.0"), (akismet, "5.1", "5.2"), ("robots.txt", "", "")],
            "Update plugin akismet 5.1 → 5.2; install theme twentytwentythree 1.0; edit robots.txt",
        ),
    ] {
        assert_eq!(subject_of(parts), expected);
    }
}

#[test]
fn other_files_are_counted_below_the_directory_that_has_them() {
    for (paths, expected) in [
        (&["a/b/c", "a/b/d/e"][..], "Change 2 files below a/b"),
        (&["a/b/c", "a/bb/c", "a/b/d"], "Change 3 files below a"),
        (&["a/b", "c"], "Change 2 files"),
        (&["wp-content/fonts/x", "wp-content/fonts/y"], "Change 2 files below wp-content/fonts"),
        (&[], "Change empty directories"),
    ] {
        assert_eq!(describe(&edited(paths), &Packages::new()).subject, expected);
    }
    for (happened, verb) in
        [(Happened::Added, "Add"), (Happened::Edited, "Edit"), (Happened::Deleted, "Delete")]
    {
        let message = describe(&[change("robots.txt", happened)], &Packages::new());
        assert_eq!(message.text(), format!("{verb} robots.txt"));
    }
}

#[test]
fn much_at_once_is_told_in_short_and_in_full_below() {
    let names: Vec<String> =
        (0..70).map(|one| format!("wp-content/plugins/plugin-number-{one:02}/p.php")).collect();
    let mut parts: Vec<_> = names.iter().map(|name| (name.as_str(), "1.0", "1.1")).collect();
    assert_eq!(subject_of(&parts), "Update 70 plugins");
    let core = ("wp-includes/version.php", "6.1.9", "6.8.1");
    let languages = ("wp-content/languages/de_DE.mo", "", "");
    parts.extend([core, languages]);
    let expected = "Update WordPress 6.1.9 → 6.8.1; update 70 plugins; update translations";
    assert_eq!(subject_of(&parts), expected);

    let message = describe(&edited(&names.iter().map(String::as_str).collect::<Vec<_>>()), &{
        let versions = Versions { before: package("1.0"), after: package("1.1") };
        names.iter().map(|name| (Part::of(name.as_bytes()), versions.clone())).collect()
    });
    let lines: Vec<&str> = message.body.lines().collect();
    assert_eq!(lines.len(), 61);
    assert_eq!(lines[0], "- Update plugin plugin-number-00 1.0 → 1.1");
    assert_eq!(lines[60], "- and 10 more");
}

#[test]
fn a_first_line_stays_one_line_however_odd_the_names_are() {
    let name = format!("wp-content/plugins/{}\n\u{7}/p.php", "x".repeat(500));
    let message = describe(&edited(&[&name]), &Packages::new());
    assert_eq!(message.subject.lines().count(), 1);
    assert!(message.subject.chars().count() < 160, "{}", message.subject);
    let odd =
        Change { path: b"wp-content/plugins/\xff\xfe/p.php".to_vec(), happened: Happened::Added };
    assert_eq!(describe(&[odd], &Packages::new()).subject, "Edit plugin ��: p.php");
}
