//! The gateway against a memcached: whatever is said, both answer the same.
//!
//! Numbers that are counted are not got: whether memcached fills up one that became shorter depends on
//! answers that are still under way. And one thing is left out: after a wrong number in the line of a `set`, memcached takes the value for the
//! next command, and the gateway leaves it out, so that nobody can hide a command in a value.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::fleet::{Fleet, Memcached};

const COMMANDS: usize = 1200;

/// Random numbers that are the same each time for a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

fn command(random: &mut Random) -> String {
    let key = random.pick(&["a", "b", "c", "counter", "memc.sess.key.x"]);
    let item = random.pick(&["a", "b", "c", "memc.sess.key.x"]);
    let exptime = random.pick(&["0", "0", "0", "100", "-1", "2678400", "1000000000"]);
    let noreply = random.pick(&["", "", "", " noreply"]);
    let value =
        random.pick(&["", "1", "41", "18446744073709551615", "text", "spaces and\r\nlines"]);
    let length = value.len();
    let flags = random.pick(&["0", "7", "4294967295"]);
    match random.below(14) {
        0..=4 => {
            let verb = random.pick(&["set", "set", "add", "replace", "append", "prepend"]);
            format!("{verb} {key} {flags} {exptime} {length}{noreply}\r\n{value}\r\n")
        }
        5 => format!("cas {key} {flags} {exptime} {length} 999999999{noreply}\r\n{value}\r\n"),
        6 | 7 => format!("get {item} none a b\r\n"),
        8 => format!("delete {key}{noreply}\r\n"),
        9 => {
            format!(
                "incr counter {}{noreply}\r\n",
                random.pick(&["1", "10", "18446744073709551615"])
            )
        }
        10 => format!("decr counter {}{noreply}\r\n", random.pick(&["1", "10", "99999999"])),
        11 => format!("touch {key} {}{noreply}\r\n", random.pick(&["0", "100", "-1"])),
        12 => format!("gat {} {item}\r\n", random.pick(&["0", "100"])),
        _ => random
            .pick(&[
                "\r\n",
                "nonsense\r\n",
                "get\r\n",
                "set a\r\n",
                "incr a\r\n",
                "incr a x\r\n",
                "touch a x\r\n",
                "delete a 7\r\n",
                "set b 0 0 2\r\nabc\r\n",
                "delete a 0\r\n",
                "set a 0 0 x\r\n",
                "verbosity\r\n",
            ])
            .to_owned(),
    }
}

/// Says all of it and returns all that comes back.
fn answers(mut stream: impl Read + Write, said: &[String]) -> String {
    let mut text = String::new();
    for command in said {
        stream.write_all(command.as_bytes()).unwrap();
    }
    stream.write_all(b"quit\r\n").unwrap();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_gateway_answers_as_memcached_does() {
    let fleet = Fleet::start(2, 1);
    let memcached = Memcached::start(fleet.directory.path());
    for seed in 1..=3 {
        let mut random = Random(seed);
        let said: Vec<String> = (0..COMMANDS).map(|_| command(&mut random)).collect();
        // In small parts, so that a difference is seen near its cause.
        for (number, part) in said.chunks(30).enumerate() {
            let expected = answers(TcpStream::connect(&memcached.address).unwrap(), part);
            let socket =
                std::os::unix::net::UnixStream::connect(&fleet.gateways[0].socket).unwrap();
            assert_eq!(answers(socket, part), expected, "seed {seed}, part {number}: {part:#?}");
        }
    }
}
