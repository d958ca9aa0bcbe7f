//! The parser against its promises, made-up input and mutations.

use proptest::prelude::*;

use super::command::{Command, LINE_BYTES_MAX, Parsed, Storing, VALUE_BYTES_MAX, Verb, parse};
use super::words::{is_key, number, signed_number};

/// What a parser says about input, without borrowing from it.
fn told(input: &[u8]) -> String {
    match parse(input) {
        Parsed::Incomplete => "incomplete".to_owned(),
        Parsed::Bad(refusal) => {
            let reply = String::from_utf8_lossy(refusal.reply);
            format!("{} skip {:?}", reply.trim_end(), refusal.skip)
        }
        Parsed::Whole(command, taken) => match command {
            Command::Get { keys, with_version, exptime } => {
                let keys: Vec<_> = keys.map(String::from_utf8_lossy).collect();
                format!("get {keys:?} {with_version} {exptime:?} took {taken}")
            }
            command => format!("{} took {taken}", shown(&command)),
        },
    }
}

fn shown(command: &Command<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match command {
        Command::Store(Storing { verb, key, flags, exptime, data, noreply }) => {
            format!("{verb:?} {} {flags} {exptime} {:?} {noreply}", text(key), text(data))
        }
        Command::Delete { key, noreply } => format!("delete {} {noreply}", text(key)),
        Command::Count { key, delta, is_down, noreply } => {
            format!("count {} {delta} {is_down} {noreply}", text(key))
        }
        Command::Touch { key, exptime, noreply } => {
            format!("touch {} {exptime} {noreply}", text(key))
        }
        Command::Flush { delay_seconds, noreply } => format!("flush {delay_seconds} {noreply}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn commands_are_read_as_they_are_meant() {
    let cases: [(&str, &str); 20] = [
        ("get a b\r\nrest", r#"get ["a", "b"] false None took 9"#),
        ("gats -1 a\r\n", r#"get ["a"] true Some(-1) took 11"#),
        ("get  a \n", r#"get ["a"] false None took 8"#),
        ("set a 1 2 3\r\nabc\r\n", r#"Set a 1 2 "abc" false took 18"#),
        ("set a 1 2 3 noreply\r\na\r\n\r\n", r#"Set a 1 2 "a\r\n" true took 26"#),
        ("cas a 1 -2 0 9 noreply\r\n\r\n", r#"Cas(9) a 1 -2 "" true took 26"#),
        ("set a 0 0 3\r\nab", "incomplete"),
        ("set a 0 0 3\r\nabc\r", "incomplete"),
        ("set a 0 0 3\r\nabcd\r\n", "CLIENT_ERROR bad data chunk skip Some(18)"),
        ("set a 0 0 -1\r\n", "CLIENT_ERROR bad command line format skip Some(14)"),
        ("set a x 0 3\r\nabc\r\n", "CLIENT_ERROR bad command line format skip Some(18)"),
        ("set a 0 0 9999999\r\n", "SERVER_ERROR object too large for cache skip Some(10000020)"),
        ("set a 0 0 99999999999\r\n", "SERVER_ERROR object too large for cache skip None"),
        ("delete a 0 noreply\r\n", "delete a true took 20"),
        ("incr a 18446744073709551615\r\n", "count a 18446744073709551615 false false took 29"),
        (
            "incr a 18446744073709551616\r\n",
            "CLIENT_ERROR invalid numeric delta argument skip Some(29)",
        ),
        ("touch a 0\r\n", "touch a 0 false took 11"),
        ("flush_all -2\r\n", "flush 0 false took 14"),
        ("flush_all 5 noreply\r\n", "flush 5 true took 21"),
        ("\r\n", "ERROR skip Some(2)"),
    ];
    for (input, expected) in cases {
        assert_eq!(told(input.as_bytes()), expected, "{input:?}");
    }
}

#[test]
fn a_line_without_an_end_is_refused_at_its_limit() {
    let long = vec![b'a'; LINE_BYTES_MAX];
    assert_eq!(told(&long[1..]), "incomplete");
    assert_eq!(told(&long), "CLIENT_ERROR line too long skip None");
}

/// A command that is right, and what a client needs to know of it.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let key = "[!-~]{1,250}";
    let verb = prop::sample::select(vec!["set", "add", "replace", "append", "prepend"]);
    let noreply = prop::sample::select(vec!["", " noreply"]);
    let value = prop::collection::vec(any::<u8>(), 0..2000);
    prop_oneof![
        (verb, key, any::<u32>(), any::<i32>(), value, noreply.clone()).prop_map(
            |(verb, key, flags, exptime, value, noreply)| {
                let line = format!("{verb} {key} {flags} {exptime} {}{noreply}\r\n", value.len());
                [line.as_bytes(), &value, b"\r\n"].concat()
            }
        ),
        prop::collection::vec(key, 1..20)
            .prop_map(|keys| format!("gets {}\r\n", keys.join(" ")).into_bytes()),
        (key, any::<u64>(), noreply)
            .prop_map(
                |(key, delta, noreply)| format!("decr {key} {delta}{noreply}\r\n").into_bytes()
            ),
    ]
}

proptest! {
    #[test]
    fn a_command_is_read_whole_and_only_when_it_is_whole(command in command(), cut: prop::sample::Index) {
        let taken = match parse(&command) {
            Parsed::Whole(_, taken) => taken,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(taken, command.len());
        let part = &command[..cut.index(command.len())];
        prop_assert!(matches!(parse(part), Parsed::Incomplete));
        // What follows changes nothing.
        let more = [command.as_slice(), b"\x80\r\nget"].concat();
        prop_assert_eq!(told(&more), told(&command));
    }

    #[test]
    fn no_input_is_misread_or_stops_the_parser(
        mut input in command(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        tail: Vec<u8>,
    ) {
        for (place, byte) in changes {
            let place = place.index(input.len());
            input[place] = byte;
        }
        input.extend(tail);
        let mut rest = input.as_slice();
        // Each step takes something, or ends it; so a client cannot keep it busy with nothing.
        while !rest.is_empty() {
            let taken = match parse(rest) {
                Parsed::Incomplete => break,
                Parsed::Whole(command, taken) => {
                    if let Command::Store(storing) = command {
                        prop_assert!(is_key(storing.key));
                        prop_assert!(storing.data.len() <= VALUE_BYTES_MAX);
                    }
                    taken
                }
                Parsed::Bad(refusal) => {
                    prop_assert!(refusal.reply.ends_with(b"\r\n"));
                    let Some(skip) = refusal.skip else { break };
                    usize::try_from(skip).unwrap()
                }
            };
            prop_assert!(taken > 0);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    #[test]
    fn numbers_are_read_as_the_standard_library_reads_them(text in "-?[0-9]{0,22}|[ -~]{0,4}") {
        let has_sign = text.starts_with('+');
        prop_assume!(!has_sign);
        prop_assert_eq!(number(text.as_bytes()), text.parse().ok());
        let signed = text.parse::<i64>().ok().filter(|number| *number != i64::MIN);
        prop_assert_eq!(signed_number(text.as_bytes()), signed);
    }
}

#[test]
fn verbs_of_storing_are_told_apart() {
    for (name, verb) in [("set", Verb::Set), ("add", Verb::Add), ("replace", Verb::Replace)] {
        let input = format!("{name} a 0 0 0\r\n\r\n");
        let Parsed::Whole(Command::Store(storing), _) = parse(input.as_bytes()) else {
            panic!("{name}")
        };
        assert_eq!(storing.verb, verb);
    }
}
