//! The kinds of value that several files have, each with its reading and with words for who wrote it wrongly.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::de::DeValue;

/// A value that TOML can say. The error is the rest of the violation: what is wrong, what is allowed.
pub trait FromToml: Sized {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;
}

/// What was written, for a message; never the value itself, it may be a secret.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl FromToml for String {
    fn from_toml(value: &DeValue<'_>) -> Result<String, String> {
        let text = value.as_str().ok_or_else(|| format!("{}, a string is allowed", kind(value)))?;
        Ok(text.to_owned())
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| format!("{}, true or false is allowed", kind(value)))
    }
}

impl FromToml for PathBuf {
    fn from_toml(value: &DeValue<'_>) -> Result<PathBuf, String> {
        match value.as_str() {
            Some(text) if !text.is_empty() && !text.contains('\0') => Ok(PathBuf::from(text)),
            Some(_) => Err("empty or with a NUL, a path is allowed".into()),
            None => Err(format!("{}, a path as a string is allowed", kind(value))),
        }
    }
}

impl FromToml for SocketAddr {
    fn from_toml(value: &DeValue<'_>) -> Result<SocketAddr, String> {
        let allowed = "an IP address and a port are allowed, as \"127.0.0.1:8080\" or \"[::1]:8080\"";
        let text = value.as_str().ok_or_else(|| format!("{}, {allowed}", kind(value)))?;
        text.parse().map_err(|_| format!("{text:?} is no address, {allowed}"))
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    fn from_toml(value: &DeValue<'_>) -> Result<Vec<T>, String> {
        let array = value.as_array().ok_or_else(|| format!("{}, a list is allowed", kind(value)))?;
        let mut list = Vec::with_capacity(array.len());
        for (index, element) in array.iter().enumerate() {
            list.push(T::from_toml(element.get_ref()).map_err(|message| format!("entry {}: {message}", index + 1))?);
        }
        Ok(list)
    }
}

/// A whole number from `LOW` to `HIGH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const LOW: u64, const HIGH: u64>(pub u64);

impl<const LOW: u64, const HIGH: u64> FromToml for Int<LOW, HIGH> {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let allowed = format!("a whole number from {LOW} to {HIGH} is allowed");
        let integer = value.as_integer().ok_or_else(|| format!("{}, {allowed}", kind(value)))?;
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if (LOW..=HIGH).contains(&number) => Ok(Int(number)),
            _ => Err(format!("{}, {allowed}", integer.as_str())),
        }
    }
}

/// One of a few words, in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<T>(pub T);

impl<T: DeserializeOwned> FromToml for Choice<T> {
    fn from_toml(value: &DeValue<'_>) -> Result<Choice<T>, String> {
        let word = value.as_str().ok_or_else(|| format!("{}, a word as a string is allowed", kind(value)))?;
        let json = serde_json::Value::from(word);
        // serde lists the words: "unknown variant `x`, expected `a` or `b`".
        let choice = serde_json::from_value(json).map_err(|error| error.to_string().replace("expected", "allowed:"))?;
        Ok(Choice(choice))
    }
}

/// SHA-256 of a token; the token itself is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl FromToml for TokenHash {
    fn from_toml(value: &DeValue<'_>) -> Result<TokenHash, String> {
        let text = String::from_toml(value)?;
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let hash = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        // The text is not repeated: somebody may have written the token itself.
        hash.map(TokenHash).ok_or_else(|| "not a SHA-256, 64 hex digits are allowed".to_owned())
    }
}
