//! What a client may rely on, the same before every backend.

use crate::fleet::Gateway;

/// What is said, and all that comes back.
struct Case(&'static str, &'static str);

const CASES: [Case; 7] = [
    // Values are stored and found with their flags.
    Case(
        "set a 7 0 3\nabc\nget a\nget a b\nset a 0 0 0\n\nget a\n",
        "STORED\nVALUE a 7 3\nabc\nEND\nVALUE a 7 3\nabc\nEND\nSTORED\nVALUE a 0 0\n\nEND\n",
    ),
    // Conditions on what is there are kept.
    Case(
        "replace b 0 0 1\n1\nadd b 0 0 1\n2\nadd b 0 0 1\n3\nreplace b 0 0 1\n4\nappend b 0 0 1\n5\n\
         prepend b 0 0 1\n6\nget b\ndelete b\ndelete b\nappend b 0 0 1\n7\nget b\nadd b 0 0 1\n8\n\
         get b\n",
        "NOT_STORED\nSTORED\nNOT_STORED\nSTORED\nSTORED\nSTORED\nVALUE b 0 3\n645\nEND\nDELETED\n\
         NOT_FOUND\nNOT_STORED\nEND\nSTORED\nVALUE b 0 1\n8\nEND\n",
    ),
    // Numbers are counted as memcached counts.
    Case(
        "incr n 1\nset n 5 0 2\n99\nincr n 1\ndecr n 91\nget n\ndecr n 100\nset n 0 0 1\nx\nincr n 1\n\
         set n 0 0 20\n18446744073709551615\nincr n 2\nincr n x\n",
        "NOT_FOUND\nSTORED\n100\n9\nVALUE n 5 3\n9  \nEND\n0\nSTORED\nCLIENT_ERROR cannot increment \
         or decrement non-numeric value\nSTORED\n1\nCLIENT_ERROR invalid numeric delta argument\n",
    ),
    // What wants no answer gets none and is done all the same.
    Case(
        "set c 0 0 1 noreply\n1\nadd c 0 0 1 noreply\n2\nincr c 5 noreply\nappend c 0 0 1 noreply\n0\n\
         get c\ntouch c 0 noreply\ndelete c noreply\nverbosity 1 noreply\nget c\n",
        "VALUE c 0 2\n60\nEND\nEND\n",
    ),
    // A time beyond thirty days is a date, and a past one leaves nothing.
    Case(
        "add d 0 2678400 0\n\nget d\nset d 0 0 1\n1\nadd d 0 2678400 0\n\nset d 0 -1 1\n2\nget d\n\
         set e 0 4000000000 1\n3\nget e\ntouch e 5000\ntouch e -1\nget e\ntouch e 1\n",
        "STORED\nEND\nSTORED\nNOT_STORED\nSTORED\nEND\nSTORED\nVALUE e 0 1\n3\nEND\nTOUCHED\nTOUCHED\n\
         END\nNOT_FOUND\n",
    ),
    // Locks are granted to one, and freed by it.
    Case(
        "add memc.sess.key.lock.s 0 9 1\n1\nadd memc.sess.key.lock.s 0 9 1\n1\n\
         get memc.sess.key.lock.s\nset memc.sess.key.lock.s 0 0 1\n2\ndelete memc.sess.key.lock.s\n\
         delete memc.sess.key.lock.s\nget memc.sess.key.lock.s\n",
        "STORED\nNOT_STORED\nVALUE memc.sess.key.lock.s 0 1\n1\nEND\nCLIENT_ERROR a lock can only be \
         added, got and deleted\nDELETED\nNOT_FOUND\nEND\n",
    ),
    // What is no command is refused, and the next one understood.
    Case(
        "nonsense\nget\nset a\nset a 0 0 x\nset f 0 0 3\nabcdefg\nget f\nms a 2\nxy\nmg a v\n\
         touch a x\ndelete a 5\nincr a\nverbosity\nverbosity x\nstats noreply\n",
        "ERROR\nERROR\nERROR\nCLIENT_ERROR bad command line format\nCLIENT_ERROR bad data chunk\n\
         ERROR\nEND\nERROR\nERROR\nCLIENT_ERROR invalid exptime argument\nCLIENT_ERROR bad command \
         line format.  Usage: delete <key> [noreply]\nERROR\nERROR\nCLIENT_ERROR bad command line \
         format\nCLIENT_ERROR bad command line format\n",
    ),
];

/// Asks all of it of a gateway.
pub(crate) fn check(gateway: &Gateway) {
    for Case(said, expected) in CASES {
        let mut client = gateway.client();
        client.send(said.replace('\n', "\r\n"));
        client.send("quit\r\n");
        assert_eq!(client.rest().replace("\r\n", "\n"), expected, "after\n{said}");
    }
}
