//! A Lua script as we call it: by its hash, loaded where it is not known.

/// The text and its SHA-1, which is how Redis knows it.
pub struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub fn new(text: &'static str) -> Script {
        Script { text, hash: ::redis::Script::new(text).get_hash().to_owned() }
    }

    /// Which lets `keys` and `arguments` be added to it.
    pub fn call(&self, keys: usize) -> ::redis::Cmd {
        let mut command = ::redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys);
        command
    }

    pub(super) fn load(&self) -> ::redis::Cmd {
        let mut command = ::redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.text);
        command
    }
}
