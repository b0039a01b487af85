//! The Tern server's command.

fn main() {}
