//! Promises of the command line where no fleet runs: what it says, where, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod sessions;
mod shell;

use insta::assert_snapshot;

use crate::shell::Shell;

#[test]
fn without_a_command_it_shows_them_all() {
    let shell = Shell::new();
    assert_snapshot!(shell.run(&["--help"]), @r#"
    exit 0
    --- stdout
    Runs a WordPress site on a fleet of small web instances as if it were one machine

    Usage: flotilla [OPTIONS] <COMMAND>

    Commands:
      init      Writes a flotilla.toml with every key explained
      up        Starts the fleet, makes the site if there is none, and comes back when it serves
      down      Stops the fleet and keeps its data
      destroy   Stops the fleet and removes its data, after asking
      deploy    Brings a revision of the code into service on every instance at one instant
      rollback  Goes back to the release before, or calls off the deploy that is under way
      releases  Lists the deploys, newest first
      captures  Lists what people changed in wp-admin, approves it or undoes it
      history   Tells who changed what in the site's code, newest first
      blame     Tells who wrote each line of a file
      status    Shows the release in service, the instances and what is under way
      logs      Prints the logs of the fleet's parts
      scale     Sets the number of instances
      cron      Tells what WordPress has scheduled, and what was run
      wp        Runs WP-CLI on the site
      config    Prints the configuration in force, without secrets
      audit     Tells which plugin or theme writes what where, what becomes of it, and what to do
      db        Opens, dumps and restores the site's database
      media     Brings uploads into the bucket, and looks whether all of them are there
      secrets   Lists, shows and replaces the site's secrets
      packages  Lists the Debian packages that are missing
      help      Print this message or the help of the given subcommand(s)

    Options:
      -C, --directory <DIR>  The site's directory: the one with flotilla.toml [env: FLOTILLA_DIRECTORY=]
                             [default: .]
      -h, --help             Print help
      -V, --version          Print version

    Start with `flotilla up` in an empty directory.
    "#);
    let bare = shell.run(&[]);
    assert!(bare.starts_with("exit 2"), "{bare}");
    assert!(bare.contains("Start with `flotilla up` in an empty directory"), "{bare}");
}

#[test]
fn an_unknown_command_or_value_is_a_fault_of_usage() {
    let shell = Shell::new();
    assert_snapshot!(shell.run(&["statsu"]), @r#"
    exit 2
    --- stderr
    error: unrecognized subcommand 'statsu'

      tip: a similar subcommand exists: 'status'

    Usage: flotilla [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "#);
    assert_snapshot!(shell.run(&["up", "--timeout", "soon"]), @r#"
    exit 2
    --- stderr
    error: invalid value 'soon' for '--timeout <SECONDS>': invalid digit found in string

    For more information, try '--help'.
    "#);
    assert_snapshot!(shell.run(&["scale", "many"]), @r#"
    exit 2
    --- stderr
    error: invalid value 'many' for '<INSTANCES>': invalid digit found in string

    For more information, try '--help'.
    "#);
}

#[test]
fn what_needs_a_fleet_says_that_there_is_none() {
    let shell = Shell::new();
    assert_snapshot!(shell.run(&["status"]), @r#"
    exit 5
    --- stderr
    error: there is no fleet in `[DIR]`

    hint: `flotilla up` starts one; -C names another directory
    "#);
    let expected = shell.run(&["status"]);
    let commands: [&[&str]; 7] = [
        &["deploy"],
        &["deploy", "main", "--force", "--no-wait", "--detach"],
        &["rollback"],
        &["releases"],
        &["scale", "3"],
        &["logs"],
        &["logs", "balancer"],
    ];
    for command in commands {
        assert_eq!(shell.run(command), expected, "{command:?}");
    }
}

#[test]
fn json_is_alone_on_standard_output_also_when_it_is_an_error() {
    let shell = Shell::new();
    assert_snapshot!(shell.run(&["status", "--json"]), @r#"
    exit 5
    --- stdout
    {"error":{"hint":"`flotilla up` starts one; -C names another directory","kind":"unavailable","message":"there is no fleet in `[DIR]`"}}
    --- stderr
    error: there is no fleet in `[DIR]`

    hint: `flotilla up` starts one; -C names another directory
    "#);
    assert_snapshot!(shell.run(&["deploy", "--json"]), @r#"
    exit 5
    --- stdout
    {"error":{"hint":"`flotilla up` starts one; -C names another directory","kind":"unavailable","message":"there is no fleet in `[DIR]`"}}
    --- stderr
    error: there is no fleet in `[DIR]`

    hint: `flotilla up` starts one; -C names another directory
    "#);
}

#[test]
fn stopping_and_removing_nothing_is_well() {
    let shell = Shell::new();
    assert_snapshot!(shell.run(&["down"]), @r#"
    exit 0
    --- stderr
    Stopping the fleet
    The fleet was not running
    "#);
    assert_snapshot!(shell.run(&["destroy"]), @r#"
    exit 0
    --- stderr
    There is nothing to remove in [DIR]
    "#);
    assert_snapshot!(shell.run(&["destroy", "--yes"]), @r#"
    exit 0
    --- stderr
    There is nothing to remove in [DIR]
    "#);
}

#[test]
fn init_writes_a_file_once_and_that_file_changes_nothing() {
    let shell = Shell::new();
    let defaults = shell.run(&["config"]);
    assert_snapshot!(shell.run(&["init"]), @r#"
    exit 0
    --- stderr
    Wrote ./flotilla.toml; now `flotilla up` starts the fleet
    "#);
    assert_eq!(shell.run(&["config"]), defaults);
    assert_snapshot!(shell.run(&["init"]), @r#"
    exit 4
    --- stderr
    error: `./flotilla.toml` is there already

    hint: edit it, or replace it with `flotilla init --force`
    "#);
    shell.write("flotilla.toml", "[fleet]\ninstances = 7\n");
    assert!(shell.run(&["config"]).contains("\ninstances = 7\n"));
    assert!(shell.run(&["init", "--force"]).starts_with("exit 0"));
    assert_eq!(shell.run(&["config"]), defaults);
}

#[test]
fn every_fault_of_the_configuration_names_its_line_its_key_and_the_way_out() {
    let shell = Shell::new();
    shell.write(
        "flotilla.toml",
        "[fleet]\ninstances = 0\ninstanses = 3\n\n[deploy]\nsmoke = [\"shop\"]\nverify_window = \"ten\"\n",
    );
    assert_snapshot!(shell.run(&["up"]), @r#"
    exit 3
    --- stderr
    error: [DIR]/flotilla.toml:2: `fleet.instances` must be a whole number from 1 to 100, not `0`
    [DIR]/flotilla.toml:3: unknown key `fleet.instanses`; did you mean `fleet.instances`?
    [DIR]/flotilla.toml:6: `deploy.smoke` is a list, and each of its items must be a path of the site, such as `"/shop/"`: it does not begin with `/`
    [DIR]/flotilla.toml:7: `deploy.verify_window` must be a duration from `"0ms"` to `"1h"`, not `ten`; write a whole number and one of `ms`, `s`, `m`, `h`, `d`, such as `"30s"`
    "#);
    shell.write("flotilla.toml", "[fleet\n");
    assert_snapshot!(shell.run(&["status"]), @r#"
    exit 3
    --- stderr
    error: [DIR]/flotilla.toml:1: not valid TOML: unclosed table, expected `]`
    "#);
}

#[test]
fn a_target_that_this_version_cannot_run_is_refused_before_anything_is_made() {
    let shell = Shell::new();
    shell.write("flotilla.toml", "[target]\nkind = \"aws\"\n");
    assert_snapshot!(shell.run(&["up"]), @r#"
    exit 3
    --- stderr
    error: `target.kind` in flotilla.toml names a target that this version cannot run

    hint: this version runs `kind = "local"`: the whole fleet on this machine
    "#);
    assert!(!shell.has(".flotilla"));
}

#[test]
fn a_directory_with_something_else_in_it_is_not_taken_for_data() {
    let shell = Shell::new();
    shell.write("flotilla.toml", "[target]\ndata_dir = \"papers\"\n");
    shell.write("papers/thesis.txt", "work");
    for command in [["destroy", "--yes"].as_slice(), &["down"], &["status"]] {
        let said = shell.run(command);
        assert!(!said.starts_with("exit 70"), "{command:?}: {said}");
    }
    assert_snapshot!(shell.run(&["destroy", "--yes"]), @r#"
    exit 3
    --- stderr
    Stopping the fleet and removing its data
    error: `[DIR]/papers` is not empty and not the data directory of a fleet

    hint: `target.data_dir` in flotilla.toml names it
    "#);
    assert!(shell.has("papers/thesis.txt"));
}

#[test]
fn the_configuration_can_be_read_as_json() {
    let shell = Shell::new();
    shell.write("flotilla.toml", "[fleet]\ninstances = 3\n");
    let told = shell.run(&["config", "--json"]);
    let (_, json) = told.split_once("--- stdout\n").unwrap();
    let read: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(
        (&read["fleet"]["instances"], &read["deploy"]["min_ready"]),
        (&3.into(), &0.7.into())
    );
}
