//! Random commands: templates whose capital letters are filled in by chance, with good and bad arguments.
//!
//! It never sends a command whose reply differs between any two servers (what `COMMAND` lists, what `CLIENT ID` counts).
//!
//! | in a template | becomes |
//! |---|---|
//! | Ks Kh Kt Kz Kl, K | a key that mostly holds a string, hash, set, sorted set, list; any key |
//! | F, P | a field; fields with values |
//! | E, Q | a member or element; some of them |
//! | V | a value |
//! | N, D | an integer or none; a number with a fraction or none |
//! | S, Z | a score; scores with members |
//! | B, L | a bound of scores; a bound of members |
//! | I, C, M | an index; a count; a count that no reply is too long for |
//! | R r A a | seconds and ms from now, seconds and ms since 1970; n: an amount that is none |
//! | O, G | an offset of a byte; a pattern |

use std::time::SystemTime;

/// splitmix64
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[rustfmt::skip]
const STRINGS: &[&str] = &[
    "GET Ks", "GET Ks", "SET Ks V", "SET Ks V", "SET Ks V", "SET Ks V GET", "SET Ks V NX", "SET Ks V XX", "SET Ks V NX GET",
    "SET Ks V XX GET", "SET Ks V EX R", "SET Ks V PX r", "SET Ks V EXAT A", "SET Ks V PXAT a", "SET Ks V KEEPTTL",
    "SET Ks V KEEPTTL GET XX", "SET Ks V EX R NX GET", "SET Ks V PXAT a XX", "SET Ks V NX XX", "SET Ks V EX R KEEPTTL",
    "SET Ks V KEEPTTL EX R", "SET Ks V EX R PX r", "SET Ks V EX R EX R", "SET Ks V EX", "SET Ks V EX n", "SET Ks V PX n",
    "SET Ks V EXAT n", "SET Ks V PXAT n", "SET Ks V FOO", "SET Ks V ex R xx get", "SETEX Ks R V", "SETEX Ks n V",
    "PSETEX Ks r V", "PSETEX Ks n V", "SETNX Ks V", "GETSET Ks V", "GETDEL Ks", "GETEX Ks", "GETEX Ks EX R", "GETEX Ks PXAT a",
    "GETEX Ks EXAT A", "GETEX Ks PERSIST", "GETEX Ks EX n", "GETEX Ks EX R PERSIST", "GETEX Ks PERSIST EX R",
    "GETEX Ks KEEPTTL", "GETEX Ks NX", "GETEX Ks PERSIST PERSIST", "APPEND Ks V", "APPEND Ks V", "STRLEN Ks", "INCR Ks",
    "DECR Ks", "INCRBY Ks N", "DECRBY Ks N", "DECRBY Ks -9223372036854775808", "MGET Ks Ks K", "MGET K", "GETRANGE Ks I I",
    "GETRANGE Ks I I", "SUBSTR Ks I I", "GETRANGE Ks N N", "SETRANGE Ks O V", "SETRANGE Ks O V", "SETRANGE Ks N V",
    "INCRBYFLOAT Ks D", "INCRBYFLOAT Ks D", "SET Ks D", "MSET Ks V Ks V", "MSET K V", "MSET Ks V Ks", "MSETNX Ks V Ks V",
    "MSETNX Ks V Ks V K V", "GETBIT Ks O", "GETBIT Ks N", "SETBIT Ks O 1", "SETBIT Ks O 0", "SETBIT Ks O N", "SETBIT Ks N 1",
    "BITCOUNT Ks", "BITCOUNT Ks I I", "BITCOUNT Ks I I BIT", "BITCOUNT Ks I I BYTE", "BITCOUNT Ks I", "BITCOUNT Ks I I FOO",
    "BITCOUNT Ks I N BIT",
];

#[rustfmt::skip]
const KEYS: &[&str] = &[
    "DEL K", "DEL K K K", "UNLINK K K", "EXISTS K K K", "TOUCH K K", "TYPE K", "EXPIRE K R", "EXPIRE K n", "PEXPIRE K r",
    "EXPIREAT K A", "PEXPIREAT K a", "EXPIREAT K A NX", "EXPIREAT K A XX", "PEXPIREAT K a GT", "PEXPIREAT K a LT",
    "EXPIREAT K A GT XX", "EXPIREAT K A NX GT", "EXPIRE K R GT LT", "EXPIRE K R FOO", "PEXPIRE K n NX", "EXPIRE K R NX",
    "TTL K", "PTTL K", "EXPIRETIME K", "PEXPIRETIME K", "PERSIST K", "RENAME K K", "RENAME K K", "RENAMENX K K", "COPY K K",
    "COPY K K REPLACE", "COPY K K FOO", "OBJECT ENCODING K", "OBJECT REFCOUNT K", "OBJECT IDLETIME K", "OBJECT FREQ K",
    "OBJECT FOO K", "OBJECT ENCODING", "OBJECT ENCODING K K", "FOO K V", "foo", "PING", "PING V", "PING V V", "ECHO V", "ECHO",
    "SELECT x", "SELECT 99", "SELECT 99999999999", "SELECT 0", "SELECT 0", "SELECT 1", "SELECT 1", "AUTH x", "AUTH default V", "AUTH a b c", "HELLO 4", "HELLO x",
    "CLIENT", "CLIENT FOO", "CLIENT SETNAME a", "CLIENT GETNAME", "CLIENT SETNAME V", "CLIENT ID x", "CLIENT NO-EVICT x",
    "CONFIG", "CONFIG GET", "COMMAND FOO", "COMMAND COUNT x", "CONFIG GET save", "CONFIG GET nothing",
];

#[rustfmt::skip]
const HASHES: &[&str] = &[
    "HSET Kh P", "HSET Kh P", "HSET Kh P", "HMSET Kh P", "HSET Kh F", "HSETNX Kh F V", "HGET Kh F", "HGET Kh F",
    "HMGET Kh F F F", "HGETALL Kh", "HGETALL Kh", "HDEL Kh F", "HDEL Kh F F", "HLEN Kh", "HSTRLEN Kh F", "HKEYS Kh", "HVALS Kh",
    "HEXISTS Kh F", "HINCRBY Kh F N", "HINCRBY Kh F N", "HINCRBY Kh F x", "HINCRBYFLOAT Kh F D", "HINCRBYFLOAT Kh F D",
    "HSET Kh F D", "HRANDFIELD Kh", "HRANDFIELD Kh M", "HRANDFIELD Kh M WITHVALUES", "HRANDFIELD Kh M FOO",
    "HRANDFIELD Kh -9223372036854775808",
    "HSCAN Kh 0", "HSCAN Kh 0 MATCH G", "HSCAN Kh 0 COUNT C MATCH G", "HSCAN Kh N", "HSCAN Kh 0 FOO",
    "HSCAN Kh 0 COUNT", "HSCAN Kh 0 TYPE x",
];

#[rustfmt::skip]
const SETS: &[&str] = &[
    "SADD Kt Q", "SADD Kt Q", "SADD Kt Q", "SADD Kt Q", "SREM Kt Q", "SREM Kt E", "SMEMBERS Kt", "SMEMBERS Kt",
    "SISMEMBER Kt E", "SMISMEMBER Kt Q", "SCARD Kt", "SPOP Kt", "SPOP Kt C", "SPOP Kt C C", "SRANDMEMBER Kt", "SRANDMEMBER Kt M",
    "SRANDMEMBER Kt M M", "SMOVE Kt Kt E", "SMOVE Kt K E", "SSCAN Kt 0 COUNT 1000", "SSCAN Kt 0 MATCH G COUNT 1000", "SSCAN Kt x",
    "SSCAN Kt 0 COUNT 0", "SINTER Kt Kt", "SINTER Kt", "SUNION Kt Kt K", "SUNION Kt Kt", "SDIFF Kt Kt", "SDIFF Kt K Kt",
];

#[rustfmt::skip]
const SORTED_SETS: &[&str] = &[
    "ZADD Kz Z", "ZADD Kz Z", "ZADD Kz Z", "ZADD Kz Z", "ZADD Kz NX Z", "ZADD Kz XX Z", "ZADD Kz GT Z", "ZADD Kz LT CH Z",
    "ZADD Kz CH Z", "ZADD Kz XX GT CH Z", "ZADD Kz INCR S E", "ZADD Kz INCR NX S E", "ZADD Kz XX INCR S E", "ZADD Kz GT INCR S E",
    "ZADD Kz INCR Z", "ZADD Kz NX XX Z", "ZADD Kz GT LT Z", "ZADD Kz GT NX Z", "ZADD Kz S", "ZADD Kz NX", "ZADD Kz FOO Z",
    "ZADD Kz 0 a 0 b 0 c 0 d 0 m1 0 m2", "DEL Kz", "ZINCRBY Kz S E", "ZINCRBY Kz S E", "ZREM Kz Q", "ZREM Kz E", "ZSCORE Kz E",
    "ZSCORE Kz E", "ZMSCORE Kz Q", "ZCARD Kz", "ZCOUNT Kz B B", "ZCOUNT Kz B B", "ZLEXCOUNT Kz L L", "ZRANK Kz E", "ZREVRANK Kz E",
    "ZRANGE Kz I I", "ZRANGE Kz 0 -1", "ZRANGE Kz 0 -1 WITHSCORES", "ZRANGE Kz I I WITHSCORES", "ZRANGE Kz I I REV",
    "ZRANGE Kz I I REV WITHSCORES", "ZRANGE Kz B B BYSCORE", "ZRANGE Kz B B BYSCORE WITHSCORES LIMIT C C",
    "ZRANGE Kz B B BYSCORE REV", "ZRANGE Kz B B REV BYSCORE LIMIT C C", "ZRANGE Kz L L BYLEX", "ZRANGE Kz L L BYLEX REV",
    "ZRANGE Kz L L BYLEX LIMIT C C", "ZRANGE Kz L L BYLEX WITHSCORES", "ZRANGE Kz I I LIMIT C C", "ZRANGE Kz I I LIMIT 0 -1",
    "ZRANGE Kz I I BYSCORE BYLEX", "ZRANGE Kz I I FOO", "ZRANGE Kz N N", "ZRANGE Kz I I LIMIT 1", "ZREVRANGE Kz I I",
    "ZREVRANGE Kz I I WITHSCORES", "ZREVRANGE Kz I I REV", "ZREVRANGE Kz I I LIMIT 0 1", "ZRANGEBYSCORE Kz B B",
    "ZRANGEBYSCORE Kz B B WITHSCORES", "ZRANGEBYSCORE Kz B B LIMIT C C", "ZRANGEBYSCORE Kz -inf +inf", "ZRANGEBYSCORE Kz B B REV",
    "ZREVRANGEBYSCORE Kz B B", "ZREVRANGEBYSCORE Kz +inf -inf WITHSCORES LIMIT C C", "ZRANGEBYLEX Kz L L", "ZRANGEBYLEX Kz - +",
    "ZRANGEBYLEX Kz L L LIMIT C C", "ZRANGEBYLEX Kz L L WITHSCORES", "ZREVRANGEBYLEX Kz L L", "ZREVRANGEBYLEX Kz + -",
    "ZREMRANGEBYRANK Kz I I", "ZREMRANGEBYRANK Kz N 0", "ZREMRANGEBYSCORE Kz B B", "ZREMRANGEBYLEX Kz L L", "ZPOPMIN Kz",
    "ZPOPMIN Kz C", "ZPOPMAX Kz", "ZPOPMAX Kz C", "ZPOPMAX Kz C C", "ZSCAN Kz 0", "ZSCAN Kz 0 MATCH G", "ZSCAN Kz 0 COUNT N",
];

#[rustfmt::skip]
const LISTS: &[&str] = &[
    "LPUSH Kl Q", "LPUSH Kl Q", "RPUSH Kl Q", "RPUSH Kl Q", "RPUSH Kl Q", "LPUSHX Kl Q", "RPUSHX Kl Q", "LPOP Kl", "RPOP Kl",
    "LPOP Kl C", "RPOP Kl C", "LPOP Kl C C", "LLEN Kl", "LRANGE Kl 0 -1", "LRANGE Kl 0 -1", "LRANGE Kl I I", "LRANGE Kl N N",
    "LINDEX Kl I", "LINDEX Kl N", "LSET Kl I E", "LSET Kl N E", "LREM Kl C E", "LREM Kl I E", "LREM Kl N E", "LTRIM Kl I I",
    "LTRIM Kl N I", "LINSERT Kl BEFORE E E", "LINSERT Kl AFTER E E", "LINSERT Kl FOO E E", "LPOS Kl E", "LPOS Kl E RANK I",
    "LPOS Kl E RANK I COUNT C", "LPOS Kl E COUNT C MAXLEN C", "LPOS Kl E MAXLEN C RANK I", "LPOS Kl E COUNT N",
    "LPOS Kl E FOO 1", "LPOS Kl E RANK", "LMOVE Kl Kl LEFT RIGHT", "LMOVE Kl Kl RIGHT LEFT",
    "LMOVE Kl Kl left left", "LMOVE Kl K RIGHT RIGHT", "LMOVE Kl Kl UP LEFT", "RPOPLPUSH Kl Kl", "RPOPLPUSH Kl K",
];

/// How many keys mostly hold one type.
const KEYS_A_TYPE: usize = 3;

struct Filler<'a>(&'a mut Random);

impl Filler<'_> {
    fn key(&mut self, kind: Option<char>) -> String {
        let kind = kind.filter(|_| !self.0.chance(6)).unwrap_or_else(|| ['s', 'h', 't', 'z', 'l'][self.0.below(5)]);
        format!("{kind}{}", self.0.below(KEYS_A_TYPE))
    }

    fn value(&mut self) -> String {
        const EDGES: [&str; 8] =
            ["", "0", "-0", "01", " 1", "9223372036854775807", "-9223372036854775808", "9223372036854775808"];
        match self.0.below(8) {
            0 => self.0.pick(&EDGES).to_string(),
            1 | 2 => self.0.below(1000).to_string(),
            3 => format!("{{\"a\":{},\"b\":[1,2], \"c\" : \"x\"}}", self.0.below(10)),
            4 => "x".repeat(self.0.below(100)),
            _ => format!("v{}", self.0.below(100)),
        }
    }

    fn number(&mut self) -> String {
        const EDGES: [&str; 9] =
            ["x", "", "1.5", "9223372036854775807", "-9223372036854775808", "9223372036854775", "0", "-1", "+1"];
        match self.0.below(4) {
            0 => self.0.pick(&EDGES).to_string(),
            _ => (self.0.below(2000) as i64 - 1000).to_string(),
        }
    }

    fn fraction(&mut self) -> String {
        const EDGES: [&str; 21] = [
            "x",
            "",
            "1.5",
            "0.1",
            "-0.1",
            "10.50",
            "3.0e3",
            "1e20",
            "-1e-10",
            ".5",
            "5.",
            "inf",
            "-inf",
            "nan",
            " 1",
            "1 ",
            "-0",
            "17179869184.1",
            "1e400",
            "1.0000000000000000001",
            "123456789012345678",
        ];
        match self.0.below(3) {
            0 => self.0.pick(&EDGES).to_string(),
            1 => format!("{}.{}", self.0.below(2000) as i64 - 1000, self.0.below(1000)),
            _ => (self.0.below(100) as i64 - 50).to_string(),
        }
    }

    fn score(&mut self) -> String {
        const EDGES: [&str; 17] = [
            "x",
            "",
            "1.5",
            "0.1",
            "3.3333333",
            "1e20",
            "-1e-10",
            "inf",
            "-inf",
            "+inf",
            "nan",
            " 1",
            "-0",
            "1e308",
            "1e-320",
            "1e400",
            "123456789012345678",
        ];
        match self.0.below(4) {
            0 => self.0.pick(&EDGES).to_string(),
            _ => (self.0.below(8) as i64 - 2).to_string(),
        }
    }

    fn member(&mut self) -> String {
        const EDGES: [&str; 6] = ["", "a", "A", "-", "m1m", "\u{0}"];
        match self.0.below(10) {
            0 => self.0.pick(&EDGES).to_string(),
            1..=3 => self.0.below(12).to_string(),
            _ => format!("m{}", self.0.below(12)),
        }
    }

    fn bound(&mut self, of_members: bool) -> String {
        if of_members {
            return match self.0.below(8) {
                0 => self.0.pick(&["x", "", "-", "+", "[", "(", "-x"]).to_string(),
                1 => "-".to_string(),
                2 => "+".to_string(),
                n => format!("{}{}", if n % 2 == 0 { "[" } else { "(" }, self.member()),
            };
        }
        match self.0.below(5) {
            0 => self.0.pick(&["x", "", "-inf", "+inf", "(inf", "(", " 1", "nan", "1.5x", "(-inf"]).to_string(),
            n => format!("{}{}", if n == 1 { "(" } else { "" }, self.0.below(10) as i64 - 3),
        }
    }

    fn count(&mut self) -> String {
        match self.0.below(12) {
            0 => self.0.pick(&["x", "", "9223372036854775807", "-9223372036854775807", "1.5"]).to_string(),
            1 | 2 => (-(self.0.below(6) as i64)).to_string(),
            _ => self.0.below(9).to_string(),
        }
    }

    fn some(&mut self, mut each: impl FnMut(&mut Self) -> Vec<String>) -> Vec<String> {
        (0..=self.0.below(5)).flat_map(|_| each(self)).collect()
    }

    fn fill(&mut self, word: &str) -> Vec<String> {
        const AMOUNTS: [&str; 9] =
            ["x", "", "1.5", "0", "-1", "+1", "9223372036854775807", "-9223372036854775808", "9223372036854775"];
        const PATTERNS: [&str; 9] = ["*", "m*", "*1", "f?", "[a-m]1", "[^m]*", "", "\\m1", "f1*2"];
        let absolute_s = |random: &mut Random| match random.chance(15) {
            true => 1000,
            false => unix_ms() as usize / 1000 + 50_000 + 1000 * random.below(9),
        };
        vec![match word {
            "K" => self.key(None),
            "Ks" | "Kh" | "Kt" | "Kz" | "Kl" => self.key(word.chars().nth(1)),
            "F" => format!("f{}", self.0.below(30)),
            "P" => return self.some(|f| vec![format!("f{}", f.0.below(30)), f.value()]),
            "E" => self.member(),
            "Q" => return self.some(|f| vec![f.member()]),
            "V" => self.value(),
            "N" => self.number(),
            "D" => self.fraction(),
            "S" => self.score(),
            "Z" => return self.some(|f| vec![(f.0.below(8) as i64 - 2).to_string(), f.member()]),
            "B" => self.bound(false),
            "L" => self.bound(true),
            "I" => (self.0.below(14) as i64 - 6).to_string(),
            "C" => self.count(),
            "M" => match self.0.below(12) {
                0 => self.0.pick(&["x", "", "9223372036854775807", "1.5"]).to_string(),
                _ => (self.0.below(20) as i64 - 8).to_string(),
            },
            "O" => match self.0.below(12) {
                0 => self.0.pick(&["x", "-1", "4294967296", "99999999999999999999"]).to_string(),
                _ => self.0.below(60).to_string(),
            },
            "G" => self.0.pick(&PATTERNS).to_string(),
            "n" => self.0.pick(&AMOUNTS).to_string(),
            "R" => (1000 + self.0.below(1000)).to_string(),
            "r" => (1_000_000 + self.0.below(1_000_000)).to_string(),
            "A" => absolute_s(self.0).to_string(),
            "a" => (absolute_s(self.0) * 1000).to_string(),
            word => word.to_string(),
        }]
    }
}

/// The arguments of a random command.
pub fn command(random: &mut Random) -> Vec<String> {
    let family = [STRINGS, KEYS, HASHES, SETS, SORTED_SETS, SORTED_SETS, LISTS][random.below(7)];
    let template = random.pick(family);
    let mut words: Vec<String> = template.split(' ').flat_map(|word| Filler(random).fill(word)).collect();
    let on_keys = template.contains('K');
    if on_keys && random.chance(3) {
        words.pop();
    } else if on_keys && random.chance(3) {
        words.push(random.pick(&["x", "GET", "1"]).to_string());
    }
    if words.is_empty() {
        words.push("GET".to_string());
    }
    if random.chance(20) {
        words[0].make_ascii_lowercase();
    }
    words
}
