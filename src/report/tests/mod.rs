mod commands;
mod http;
