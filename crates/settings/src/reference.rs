//! The table of settings as text for people: Markdown for the docs, TOML for `config/full.toml`.
//!
//! It never reads a configuration. Called by tests that keep the files equal to the table, and by the command line.
//! Invariant: both texts name every setting of the table, and the TOML is a configuration that loads.

use crate::presets::{PRESETS, Part};
use crate::table::{Kind, Setting, Shape, TABLE};
use crate::words::Word;
use wayfarer_engine::session::Layout;

/// What a value may be, in words.
fn bounds(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true, false".to_owned(),
        Kind::Text { shape, bytes_max } => match shape {
            Shape::Name => format!("letters, digits, `.`, `_`, `-`; up to {bytes_max} bytes"),
            Shape::Place => format!("a name or IP:PORT; up to {bytes_max} bytes"),
            Shape::Cookie => format!("a cookie's name; up to {bytes_max} bytes"),
            Shape::Header => format!("a header's name; up to {bytes_max} bytes"),
            Shape::Line => format!("text; up to {bytes_max} bytes"),
        },
        Kind::Choice { words, .. } => words().join(", "),
        Kind::Number { unit, min, max } => format!("{}, {min} to {max}", unit.name()),
        Kind::Listen { beyond_loopback: true } => "IP:PORT; port 0 = any free one".to_owned(),
        Kind::Listen { beyond_loopback: false } => "loopback IP:PORT; port 0 = any free one".to_owned(),
        Kind::ListenAt => "IP:PORT, port 0 = any free one; or unix:/PATH".to_owned(),
        Kind::Mode => "octal digits".to_owned(),
        Kind::Instance => "IP:PORT or unix:PATH".to_owned(),
        Kind::Upstream => "URL, secret".to_owned(),
        Kind::Directory => "sqlite:PATH".to_owned(),
        Kind::Secret => "text, secret".to_owned(),
        Kind::IdKey => "32 hexadecimal digits, secret".to_owned(),
        Kind::SecretFile | Kind::File => "path".to_owned(),
        Kind::Pattern => "text with {session}".to_owned(),
        Kind::Glob => "text with * and ?".to_owned(),
        Kind::Events => "letters of Ag$lshzxeKEtmdn".to_owned(),
        Kind::List => "list of tables".to_owned(),
        Kind::Sources => "a table, or a list of tables".to_owned(),
        Kind::Networks => "a list of CIDR networks".to_owned(),
        Kind::Users => "a list of users".to_owned(),
        Kind::Secrets => "text, or a list of texts; never shown".to_owned(),
    }
}

/// The table of all settings, for the docs.
pub fn reference_markdown() -> String {
    let mut out = String::from("| setting | default | what it may be | meaning |\n|---|---|---|---|\n");
    let cell = |text: &str| text.replace('|', "\\|");
    for setting in TABLE {
        let default = setting.default.map_or_else(|| "not set".to_owned(), |text| format!("`{text}`"));
        let cells = [format!("`{}`", setting.key), default, bounds(setting.kind), setting.meaning.to_owned()];
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out.push_str(
        "\nEvery setting outside a list can also be set by an environment variable: `state.listen` by `WAYFARER_STATE__LISTEN` \
         (two underscores for each dot), a list as one TOML array; an empty variable counts as not set.\n\
         A flag `section.key=value` wins over the environment, that over the file, that over the default.\n\n\
         | preset | library | keys |\n|---|---|---|\n",
    );
    for preset in PRESETS {
        let patterns: Vec<String> = preset.patterns.iter().map(|p| format!("`{}`", p.pattern)).collect();
        out.push_str(&format!("| `{}` | {} | {} |\n", preset.name, cell(preset.library), patterns.join(", ")));
    }
    out
}

/// `docs/presets.md`.
pub fn presets_markdown() -> String {
    let mut out = String::from(
        "# Presets\n\n\
         What is known of session libraries: `state.keys = [ { preset = \"connect-redis\", prefix = \"myapp:\" } ]`. This page is the table in\n\
         the program, printed. Try one with `wayfarer check -c FILE --key KEY --cookie COOKIE`.\n\n\
         - In a pattern `<name>` is an option; its default stands in the column *options*. `{session:uuid}` takes UUIDs only, and so on:\n\
         \x20 bare ids are told from other keys by their shape.\n\
         - Lock and shadow keys belong to their session and travel with it. Index keys hold several sessions and stay in the upstream Redis.\n\
         - A layout says what the variables of a value are. What cannot be divided is one variable, named `session`.\n\
         - Cookie: its default name and how the id is written in it (`http.session.codec`). What is `sealed` (encrypted, or inside other\n\
         \x20 data) cannot be read: leave `http.session` out; sessions are still found by their keys, but no fetch starts before the instance asks.\n\
         - Libraries that are not here, or ids of another shape: write patterns.\n\n\
         | preset | library | keys: layout | options | cookie: form | notes |\n|---|---|---|---|---|---|\n",
    );
    let cell = |text: &str| text.replace('|', "\\|");
    for preset in PRESETS {
        let mut keys: Vec<String> = Vec::new();
        for p in preset.patterns {
            let part = match (p.part, p.variable) {
                (Part::Values, _) => word_of(p.layout).to_owned(),
                (Part::Lock, variable) => format!("lock, variable `{}`", variable.unwrap_or_default()),
                (Part::Shadow, variable) => format!("shadow, variable `{}`", variable.unwrap_or_default()),
            };
            keys.push(format!("`{}`: {part}", p.pattern));
        }
        keys.extend(preset.index.iter().map(|i| format!("`{}`: stays upstream, {}", i.pattern.replace(":digits", ""), i.what)));
        let option = |o: &crate::presets::PresetOption| match o.default {
            Some(default) => format!("`{}` = `\"{default}\"` ({})", o.name, o.library_setting),
            None => format!("`{}`, needed ({})", o.name, o.library_setting),
        };
        let options: Vec<String> = preset.options.iter().map(option).collect();
        let cookie = format!("`{}`: {}", preset.cookie, preset.codec.map_or("sealed", Word::word));
        let cells = [
            format!("`{}`", preset.name),
            preset.library.to_owned(),
            keys.join("<br>"),
            options.join("<br>"),
            cookie,
            preset.notes.to_owned(),
        ];
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

fn word_of(layout: Layout) -> &'static str {
    Layout::WORDS.iter().find(|(_, known)| *known == layout).map_or("", |(word, _)| word)
}

/// How the default stands in TOML.
fn toml_value(setting: &Setting, text: &str) -> String {
    match setting.kind {
        Kind::Flag | Kind::Number { .. } | Kind::List | Kind::Sources => text.to_owned(),
        Kind::Networks => {
            let networks: Vec<String> = text.split(',').map(|network| format!("\"{network}\"")).collect();
            format!("[{}]", networks.join(", "))
        }
        _ => format!("\"{text}\""),
    }
}

/// What a setting without a default could be.
fn toml_example(setting: &Setting) -> String {
    let text = match setting.key {
        "http.request_ms_max" => "60000",
        "http.tls_certificate_file" => "\"/run/secrets/tls.crt\"",
        "http.tls_key_file" => "\"/run/secrets/tls.key\"",
        "http.hint_cookie" => "\"node\"",
        "http.hint_header" => "\"x-session-node\"",
        "http.hint" => "\"10.0.0.7:8080\"",
        "http.access_log" => "\"-\"",
        "http.session[].cookie" => "\"connect.sid\"",
        "http.session[].header" => "\"x-session-id\"",
        "http.session[].query" => "\"sid\"",
        "http.session[].path" => "\"/shop/{session}\"",
        "http.session[].bearer" => "\"sub\"",
        "http.session[].codec" => "\"express\"",
        "http.session[].secret" => "[\"the new one\", \"the old one\"]",
        "http.session[].secret_file" => "\"/run/secrets/session\"",
        "state.upstream" => "\"redis://127.0.0.1:6380/0\"",
        "state.upstream_file" | "state.password_file" | "admin.id_key_file" => "\"/run/secrets/wayfarer\"",
        "state.password" | "state.sentinel_password" => "\"choose one\"",
        "state.sentinel_password_file" => "\"/run/secrets/sentinel\"",
        "state.upstream_ca_file" => "\"/etc/wayfarer/ca.pem\"",
        "state.upstream_server_name" => "\"redis.internal\"",
        "state.upstream_cert_file" => "\"/etc/wayfarer/client.pem\"",
        "state.upstream_key_file" => "\"/etc/wayfarer/client.key\"",
        "redirect.upstream_port" => "6379",
        "redirect.service_users" => "[\"app\"]",
        "redirect.sidecar_user" => "\"10001\"",
        "cluster.node" => "\"a\"",
        "cluster.lost_after_ms" => "60000",
        "runtime.workers" => "2",
        "policy.variable[].name" => "\"cart_*\"",
        "policy.variable[].class" => "\"carried\"",
        "policy.variable[].impact" => "\"critical\"",
        "policy.variable[].on_lost" => "\"error\"",
        "admin.id_key" => "\"000102030405060708090a0b0c0d0e0f\"",
        "probe.listen" => "\"0.0.0.0:7302\"",
        "cluster.advertise" => "\"127.0.0.1:7310\"",
        "state.keys[].preset" => "\"flask-session\"",
        "state.keys[].pattern" => "\"cart:{session}\"",
        "state.keys[].layout" => "\"key\"",
        "state.keys[].variable" => "\"cart\"",
        "state.keys[].merge" => "\"members\"",
        "state.merge_by" => "\"request\"",
        "state.keys[].database" => "1",
        "state.keys[].prefix" => "\"myapp:\"",
        "state.keys[].namespace" => "\"spring:session\"",
        "state.keys[].instance_name" => "\"shop\"",
        "state.keys[].table" => "\"sessions\"",
        "state.keys[].version" => "\"1\"",
        "state.max_memory" => "1073741824",
        "state.notify_keyspace_events" => "\"Egx\"",
        "state.listener[].listen" => "\"unix:/run/wayfarer/state.sock\"",
        "state.listener[].sessions" => "\"all\"",
        "state.listener[].layout" => "\"opaque\"",
        _ => "\"\"",
    };
    text.to_owned()
}

/// A configuration with every setting, its meaning, its bounds and its default; what has no default is commented out.
pub fn reference_toml() -> String {
    let mut out = String::from(
        "# Every setting with its default. What has none is commented out, with an example.\n\
         # A setting can also come from the environment (state.listen: WAYFARER_STATE__LISTEN) or from a flag, which wins.\n",
    );
    let mut section = "";
    // Entries of a list are not a section of their own in this file: they are told about where the list stands.
    for setting in TABLE.iter().filter(|setting| !setting.key.contains("[]")) {
        if setting.section() != section {
            section = setting.section();
            out.push_str(&format!("\n[{section}]\n"));
        }
        out.push_str(&format!("# {} ({})\n", setting.meaning, bounds(setting.kind)));
        let entry = format!("{}[].", setting.key);
        for field in TABLE.iter().filter(|field| field.key.starts_with(&entry)) {
            let example = toml_example(field);
            out.push_str(&format!("#   {} = {example}: {} ({})\n", field.leaf(), field.meaning, bounds(field.kind)));
        }
        match setting.default {
            Some(text) => out.push_str(&format!("{} = {}\n", setting.leaf(), toml_value(setting, text))),
            None => out.push_str(&format!("# {} = {}\n", setting.leaf(), toml_example(setting))),
        }
    }
    out
}
