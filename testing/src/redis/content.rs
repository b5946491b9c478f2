//! What a server holds: filled in, and read back to be compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deadpool_redis::redis::{self, Value};

use super::{Server, until};

impl Server {
    /// Every type of value, times to live, functions, several databases; `mark` tells data sets
    /// apart.
    pub fn fill(&self, mark: &str, many: usize) {
        let mut connection = self.connect(0);
        let mut pipe = redis::pipe();
        for n in 0..many {
            pipe.cmd("SET").arg(format!("{mark}:{n}")).arg(n).ignore();
        }
        pipe.query::<()>(&mut connection).unwrap();
        let lines = [
            "SET {m}:string hello",
            "SET {m}:expires soon EX 86400",
            "SET {m}:gone gone PX 1",
            "RPUSH {m}:list a b c",
            "HSET {m}:hash a 1 b 2",
            "EXPIRE {m}:hash 86400",
            "SADD {m}:ints 3 1 2",
            "SADD {m}:set x y z",
            "ZADD {m}:zset 1 one 2.5 two",
            "XADD {m}:stream 1-1 field value",
            "XADD {m}:stream 2-1 field other",
            "XGROUP CREATE {m}:stream group 0",
            "XREADGROUP GROUP group me COUNT 1 STREAMS {m}:stream >",
            "PFADD {m}:hll a b c",
        ];
        let lines: Vec<String> = lines.iter().map(|l| l.replace("{m}", mark)).collect();
        self.run(0, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        self.run(7, &[&format!("SET {mark}:in7 x"), "SET common 7"]);
        let code = format!(
            "#!lua name={mark}\nredis.register_function('{mark}', function() return 1 end)"
        );
        redis::cmd("FUNCTION")
            .arg("LOAD")
            .arg(code)
            .query::<()>(&mut connection)
            .unwrap();
        // The key of one millisecond is gone for everyone from here on.
        until("the short-lived key is gone", || {
            let exists = redis::cmd("EXISTS")
                .arg(format!("{mark}:gone"))
                .query::<u8>(&mut connection);
            exists.unwrap() == 0
        });
    }

    /// Everything: by database and key its type, value and moment of expiry; the functions.
    pub fn content(&self) -> BTreeMap<String, String> {
        let mut content = BTreeMap::new();
        for database in 0..16 {
            let mut connection = self.connect(database);
            let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
            for key in keys {
                let mut ask = |name: &str| -> Value {
                    redis::cmd(name).arg(&key).query(&mut connection).unwrap()
                };
                let kind = ask("TYPE");
                let expiry = ask("PEXPIRETIME");
                // A set of strings has no order, and so no one serialised form; a stream's has
                // the moments at which its consumers were seen, which an AOF does not keep.
                let value = if key.ends_with(":set") {
                    let mut members: Vec<String> =
                        redis::from_redis_value(ask("SMEMBERS")).unwrap();
                    members.sort();
                    format!("{members:?}")
                } else if key.ends_with(":stream") {
                    let mut ask = |name: &str, more: &[&str]| -> Value {
                        let mut command = redis::cmd(name);
                        command.arg(&key).arg(more);
                        command.query(&mut connection).unwrap()
                    };
                    let (all, pending) = (ask("XRANGE", &["-", "+"]), ask("XPENDING", &["group"]));
                    format!("{all:?} {pending:?}")
                } else {
                    format!("{:?}", ask("DUMP"))
                };
                content.insert(
                    format!("{database}/{key}"),
                    format!("{kind:?} {expiry:?} {value}"),
                );
            }
        }
        let mut connection = self.connect(0);
        let functions: Value = redis::cmd("FUNCTION")
            .arg("LIST")
            .arg("WITHCODE")
            .query(&mut connection)
            .unwrap();
        content.insert("functions".to_owned(), format!("{functions:?}"));
        content
    }

    /// The files of the data directory, by path, with their content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, into);
                } else {
                    into.insert(path.clone(), std::fs::read(&path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.data(), &mut files);
        files
    }
}
