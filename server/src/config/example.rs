//! The configuration as commented TOML.

use std::fmt::Write;

use serde_json::Value;

use super::{Config, Setting};

const HEAD: &str = "\
# Configuration of tern-server, as `tern-server --print-config` prints it.
#
# Each setting can also be given in the environment, as TERN_SECTION__NAME
# (TERN_LIMITS__WATCHES=100), or as a flag (--set limits.watches=100); a flag wins over the
# environment, the environment over the file.
";

/// Writes a configuration with the documentation of every setting.
pub(super) fn render(config: &Config) -> String {
    let mut text = HEAD.to_owned();
    for (name, section) in config.sections() {
        text.push('\n');
        comment(&mut text, section.doc());
        // Writing to a string can't fail.
        let _ = writeln!(text, "[{name}]");
        for setting in section.settings() {
            render_setting(&mut text, section_default(name, setting.name), &setting);
        }
    }
    text
}

fn render_setting(text: &mut String, default: Option<Value>, setting: &Setting) {
    text.push('\n');
    comment(text, setting.doc);
    if let Some((low, high)) = setting.bounds {
        let _ = writeln!(text, "# Allowed: {low} to {high}.");
    }
    match &default {
        Some(default) if *default == setting.value => {}
        Some(default) if !default.is_null() => {
            let _ = writeln!(text, "# Default: {default}.");
        }
        _ => {}
    }
    // A JSON text, number, truth value or array of texts is one in TOML, too.
    let _ = match &setting.value {
        Value::Null => writeln!(text, "#{} = \"\"", setting.name),
        value => writeln!(text, "{} = {value}", setting.name),
    };
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{line}");
    }
}

fn section_default(section: &str, name: &str) -> Option<Value> {
    super::sources::default_of(&format!("{section}.{name}"))
}
